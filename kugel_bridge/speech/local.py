"""The local engine: whichever espeak-ng there is on this machine."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncGenerator

from kugel_bridge.model.errors import ServiceUnavailableError
from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.report import SourceKind
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.espeak import MISSING, PROGRAM, EspeakSource
from kugel_bridge.speech.loader import LoaderSource
from kugel_bridge.speech.source import SpeechSource


class LocalSource:
    """The program espeak-ng, else the library of the pip extra; looked for at every utterance."""

    kind = SourceKind.LOCAL

    def __init__(self, voice: str | None = None, *, program: str = PROGRAM) -> None:
        self._program = program
        self._child, self._loader = EspeakSource(voice, program=program), LoaderSource(voice)

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
