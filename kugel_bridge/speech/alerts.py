"""Stored alerts: what has to be said when nothing else works."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kugel_bridge.audio.wav import read_wav
from kugel_bridge.model.errors import BridgeError, RejectedError, StorageError
from kugel_bridge.model.pcm import PcmChunk


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as configured: either texts by language, or a recording."""

    texts: Mapping[str, str]
    """Language → text; the key "" holds a text without a language."""
    file: Path | None = None
    """A WAV file; it wins over the texts."""

    def text_in(self, language: str) -> str:
        """The text in that language, else the one without a language, else the first."""
        for key in (language, ""):
            if key in self.texts:
                return self.texts[key]
        return next(iter(self.texts.values()))


@dataclass(frozen=True, slots=True)
class Trouble:
    """An alert that could not be given now."""

    name: str
    problem: str


class AlertBook:
    """The stored alerts by name; recordings are read once and kept in memory."""

    def __init__(self, alerts: Mapping[str, Alert]) -> None:
        self._alerts = alerts
        self._recordings: dict[str, PcmChunk] = {}

    @property
    def names(self) -> list[str]:
        """All names, in the order of the configuration."""
        return list(self._alerts)

    def words_or_sound(self, name: str, language: str) -> str | PcmChunk:
        """The alert's text in that language, or its recording.

        Raises RejectedError if there is no such alert, or its file cannot be used and it has no
        text either.
        """
        alert = self._alerts.get(name)
        if alert is None:
            known = ", ".join(self._alerts) or "none are configured"
            raise RejectedError(f"no alert {name!r}; there are: {known}")
        if alert.file is None:
            return alert.text_in(language)
        try:
            return self._recording(name, alert.file)
        except BridgeError as error:
            if alert.texts:
                return alert.text_in(language)
            raise RejectedError(f"alert {name!r} cannot be played: {error}") from error

    def texts(self, language: str) -> Iterator[tuple[str, str]]:
        """Name and text of each alert that is spoken, in that language."""
        for name, alert in self._alerts.items():
            if alert.file is None:
                yield name, alert.text_in(language)

    def troubles(self) -> list[Trouble]:
        """What is wrong with the recordings; empty when all is well."""
        found = []
        for name, alert in self._alerts.items():
            if alert.file is not None:
                try:
                    self._recording(name, alert.file)
                except BridgeError as error:
                    found.append(Trouble(name, str(error)))
        return found

    def _recording(self, name: str, file: Path) -> PcmChunk:
        if name not in self._recordings:
            sound = read_wav(file)
            if not sound.frames:
                raise StorageError(f"{file} holds no sound")
            self._recordings[name] = sound
        return self._recordings[name]
