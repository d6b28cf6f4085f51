"""The local engine as a rung of the ladder, loaded after the daemon is ready."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncGenerator, Callable

from kugel_bridge.model.pcm import PcmChunk
from kugel_bridge.model.report import SourceKind
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.source import SpeechSource


class LocalRung:
    """A local engine that `make` builds; its modules are a tenth of what a start would load."""

    kind = SourceKind.LOCAL

    def __init__(self, make: Callable[[], SpeechSource]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._engine: SpeechSource | None = None

    @property
    def engine(self) -> SpeechSource:
        """The engine itself; the first time it is loaded, which takes 20 ms and more."""
        with self._lock:
            if self._engine is None:
                self._engine = self._make()
            return self._engine

    def load_aside(self) -> None:
        """Load it in a thread of its own, so that the first words do not have to wait for it."""
        with contextlib.suppress(RuntimeError):  # without a thread it is loaded when it is needed
            threading.Thread(target=lambda: self.engine, name="local engine").start()

    def stream(self, utterance: Utterance) -> AsyncGenerator[PcmChunk, None]:
        """The engine's sound; raises what it raises."""
        return self.engine.stream(utterance)
