"""The local engine: whichever espeak-ng there is on this machine."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import AsyncGenerator

from kugel_bridge.kugelaudio.frames import WordTimings
from kugel_bridge.model.errors import ServiceUnavailableError
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.report import SourceKind
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.espeak import MISSING, PROGRAM, EspeakSource
from kugel_bridge.speech.loader import LoaderSource
from kugel_bridge.speech.source import SpeechSource

logger = logging.getLogger(__name__)


class LocalSource:
    """The program espeak-ng, else the library of the pip extra; looked for at every utterance.

    When words sound only the library tells; it comes with the program in most systems.
    """

    kind = SourceKind.LOCAL

    def __init__(
        self,
        voice: str | None = None,
        *,
        program: str = PROGRAM,
        library: LoaderSource | None = None,
    ) -> None:
        self._program = program
        self._child = EspeakSource(voice, program=program)
        self._loader = library or LoaderSource(voice)
        self._has_told = False

    def chosen(self) -> SpeechSource | None:
        """What would speak now; None if there is nothing."""
        if shutil.which(self._program) is not None:
            return self._child
        return self._loader if self._loader.is_installed() else None

    async def stream(self, utterance: Utterance) -> AsyncGenerator[PcmChunk, None]:
        """The sound; raises ServiceUnavailableError naming what to install if there is none."""
        source = self.chosen()
        if source is None:
            raise ServiceUnavailableError(MISSING)
        async with contextlib.aclosing(source.stream(utterance)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def timed(self, utterance: Utterance) -> AsyncGenerator[PcmChunk | WordTimings, None]:
        """The same, and when its words sound; without them where the library does not work."""
        has_begun = False
        try:
            async with contextlib.aclosing(self._loader.timed(utterance)) as pieces:
                async for piece in pieces:
                    has_begun = True
                    yield piece
                return
        except ServiceUnavailableError as error:
            if has_begun or self.chosen() in (None, self._loader):
                raise
            if not self._has_told:
                logger.warning("local: no word timestamps: %s", error)
                self._has_told = True
        async with contextlib.aclosing(self.stream(utterance)) as chunks:
            async for chunk in chunks:
                yield chunk
