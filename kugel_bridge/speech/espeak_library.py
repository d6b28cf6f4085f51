"""The espeak-ng library behind two pipes: a program that `loader.py` runs, and its packets.

Started as `python -I -S espeak_library.py NAME DATA [NAME DATA]...`: libraries to try and their
data directories (empty = the library's own). Standard input has a job per line, in JSON; standard
output has for each one packets: a letter, a length, a payload (`PACKET`). Calls and numbers are
those of espeak-ng's header speak_lib.h. Nothing of kugel_bridge is imported: a child starts in the
time that Python and ctypes take.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys
from typing import Any

PACKET = struct.Struct("<cI")
PLACE = struct.Struct("<iii")
"""Of a word or the end of a clause: frame, character from 1 on, length."""
RATE = struct.Struct("<i")

OPENED, SOUND, WORD, CLAUSE_END, DONE, NO_VOICE, FAILED, NO_LIBRARY = (
    b"O", b"S", b"W", b"E", b"D", b"V", b"F", b"L",
)  # fmt: skip

_SYNCHRONOUS = 2
_DONT_EXIT = 0x8000
_UTF8 = 1
_SSML = 0x10
_END_PAUSE = 0x1000
_PACE = 1
_OK = 0
_EVENT_NONE, _EVENT_WORD, _EVENT_END = 0, 1, 5


class _Event(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_int),
        ("unique", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def main(arguments: list[str]) -> None:
    """Open the first library that works, and do the jobs until there is no more input."""
    library = _opened(arguments)
    if library is None:
        _write(NO_LIBRARY, b"")
        return
    for line in sys.stdin.buffer:
        _say(library, json.loads(line))


def _opened(arguments: list[str]) -> Any:
    for name, data in zip(arguments[::2], arguments[1::2], strict=True):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        rate = library.espeak_Initialize(
            _SYNCHRONOUS, 0, data.encode() if data else None, _DONT_EXIT
        )
        if rate > 0:
            _write(OPENED, RATE.pack(rate))
            return library
    return None


def _say(library: Any, job: dict[str, Any]) -> None:
    def take(samples: Any, count: int, events: Any) -> int:
        """Called by the library; 0 lets it go on."""
        number = 0
        while events[number].kind != _EVENT_NONE:
            event = events[number]
            if event.kind in (_EVENT_WORD, _EVENT_END):
                place = PLACE.pack(event.sample, event.text_position, event.length)
                _write(WORD if event.kind == _EVENT_WORD else CLAUSE_END, place)
            number += 1
        if samples and count > 0:
            _write(SOUND, ctypes.string_at(samples, count * 2))
        return 0

    if library.espeak_SetVoiceByName(job["voice"].encode()) != _OK:
        _write(NO_VOICE, b"")
        return
    callback = _CALLBACK(take)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetParameter(_PACE, job["pace"], 0)
    text = job["text"].encode()
    flags = _UTF8 | _END_PAUSE | (_SSML if job["is_ssml"] else 0)
    result = library.espeak_Synth(text, len(text) + 1, 0, 0, 0, flags, None, None)
    _write(DONE if result == _OK else FAILED, b"")


def _write(kind: bytes, payload: bytes) -> None:
    sys.stdout.buffer.write(PACKET.pack(kind, len(payload)) + payload)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
