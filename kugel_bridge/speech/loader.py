"""espeak-ng as a library, from the pip extra espeakng-loader: for machines without apt.

It is GPL-3.0 code in our own process, therefore an extra and never the first choice; calls after
the espeak-ng header speak_lib.h.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib.util
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any

from kugel_bridge.model.errors import ServiceUnavailableError, TooSlowError
from kugel_bridge.model.pcm import PcmChunk, PcmFormat
from kugel_bridge.model.report import SourceKind
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.espeak import FIRST_SOUND_TIMEOUT_S, MISSING, STALL_TIMEOUT_S
from kugel_bridge.speech.espeak_voice import FALLBACK, speakable, voice_for, words_per_minute
from kugel_bridge.speech.worker import Worker

MODULE = "espeakng_loader"
MAX_BYTES = 64 * 1024 * 1024
"""Of one utterance, held until it is played: 25 minutes."""

_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_UTF8 = 1
_RATE = 1
_OK = 0
_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class LoaderSource:
    """Speaks through the library, in a thread of its own; the same sound as `EspeakSource`.

    The library has one state per process: utterances of several zones are made one after the
    other, which takes milliseconds each.
    """

    kind = SourceKind.LOCAL

    def __init__(
        self,
        voice: str | None = None,
        *,
        first_sound_timeout_s: float = FIRST_SOUND_TIMEOUT_S,
        stall_timeout_s: float = STALL_TIMEOUT_S,
    ) -> None:
        self._voice = voice
        self._first_sound_timeout_s = first_sound_timeout_s
        self._stall_timeout_s = stall_timeout_s

    @staticmethod
    def is_installed() -> bool:
        """Whether the extra is there."""
        return importlib.util.find_spec(MODULE) is not None

    async def stream(self, utterance: Utterance) -> AsyncGenerator[PcmChunk, None]:
        """The sound as the library makes it; raises ServiceUnavailableError, TooSlowError."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[PcmChunk | Exception | None] = asyncio.Queue()
        stopped = threading.Event()

        def give(piece: PcmChunk | Exception | None) -> None:
            # The loop may be gone when the library comes to its end.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        voice = voice_for(utterance.language, self._voice)
        text, pace = speakable(utterance.text), words_per_minute(utterance.speed)
        _THREAD.start()
        _THREAD.post(_LIBRARY.say, text, voice, pace, give, stopped)
        limit_s = self._first_sound_timeout_s
        try:
            while True:
                try:
                    async with asyncio.timeout(limit_s):
                        piece = await pieces.get()
                except TimeoutError as error:
                    raise TooSlowError(f"espeak-ng gave nothing for {limit_s} s") from error
                if piece is None:
                    return
                if isinstance(piece, Exception):
                    raise ServiceUnavailableError(str(piece)) from piece
                limit_s = self._stall_timeout_s
                yield piece
        finally:
            stopped.set()


class _Library:
    """The loaded library; used by one thread only."""

    def __init__(self) -> None:
        self._library: Any = None
        self._format = PcmFormat(22_050)
        self._callback: Any = None

    def say(
        self,
        text: str,
        voice: str,
        pace: int,
        give: Callable[[PcmChunk | Exception | None], None],
        stopped: threading.Event,
    ) -> None:
        """Give the sound piece by piece, then None, or the error."""
        if stopped.is_set():
            return
        try:
            self._load()
            self._synthesise(text, voice, pace, give, stopped)
        except Exception as error:  # noqa: BLE001 - crosses the border to the waiting task
            give(error)
        else:
            give(None)

    def _load(self) -> None:
        if self._library is not None:
            return
        try:
            import espeakng_loader
        except ImportError as error:
            raise ServiceUnavailableError(MISSING) from error
        library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DONT_EXIT)
        if rate <= 0:
            raise ServiceUnavailableError(f"the espeak-ng library does not start: {rate}")
        self._format = PcmFormat(rate)
        self._library = library

    def _synthesise(
        self,
        text: str,
        voice: str,
        pace: int,
        give: Callable[[PcmChunk | Exception | None], None],
        stopped: threading.Event,
    ) -> None:
        made = 0

        def take(samples: Any, count: int, _: Any) -> int:
            """Called by the library; 1 stops it."""
            nonlocal made
            if samples and count > 0:
                made += count * self._format.frame_bytes
                give(PcmChunk(self._format, ctypes.string_at(samples, count * 2)))
            return int(stopped.is_set() or made > MAX_BYTES)

        library = self._library
        # The library keeps the address only: the object has to live as long as the call.
        self._callback = _CALLBACK(take)
        library.espeak_SetSynthCallback(self._callback)
        if (
            library.espeak_SetVoiceByName(voice.encode()) != _OK
            and library.espeak_SetVoiceByName(FALLBACK.encode()) != _OK
        ):
            raise ServiceUnavailableError(f"espeak-ng has no voice {voice!r}")
        library.espeak_SetParameter(_RATE, pace, 0)
        data = text.encode()
        result = library.espeak_Synth(data, len(data) + 1, 0, 0, 0, _UTF8, None, None)
        if result != _OK:
            raise ServiceUnavailableError(f"espeak-ng failed: {result}")
        if not made and not stopped.is_set():
            raise ServiceUnavailableError("espeak-ng made no sound")


_LIBRARY = _Library()
_THREAD = Worker("espeak-ng")
