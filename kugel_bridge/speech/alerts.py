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


class AlertBook:
    """The stored alerts by name; recordings are read once and kept in memory."""

    def __init__(self, alerts: Mapping[str, Alert]) -> None:
        self._alerts = alerts
        self._recordings: dict[str, PcmChunk] = {}
        self._problems = {
            name: f"{alert.file} is not read yet" for name, alert in alerts.items() if alert.file
        }

    @property
    def names(self) -> list[str]:
        """All names, in the order of the configuration."""
        return list(self._alerts)

    @property
    def problems(self) -> Mapping[str, str]:
        """Name → why its recording cannot be played; empty when all is well."""
        return self._problems

    def load(self) -> None:
        """Read the recordings that are not in memory yet.

        For a thread: one has up to 64 MiB, and its disk may hang.
        """
        problems = {}
        for name in list(self._problems):
            file = self._alerts[name].file
            assert file is not None, "others have no recording"
            try:
                sound = read_wav(file)
                if not sound.frames:
                    raise StorageError(f"{file} holds no sound")
                self._recordings[name] = sound
            except BridgeError as error:
                problems[name] = str(error)
        self._problems = problems

    def text_of(self, name: str, language: str) -> str | None:
        """The alert's text in that language; None for a recording without words.

        Raises RejectedError if there is no such alert.
        """
        alert = self._alerts.get(name)
        if alert is None:
            known = ", ".join(self._alerts) or "none are configured"
            raise RejectedError(f"no alert {name!r}; there are: {known}")
        return alert.text_in(language) if alert.texts else None

    def words_or_sound(self, name: str, language: str) -> str | PcmChunk:
        """The alert's text in that language, or its recording.

        Raises RejectedError if there is no such alert, and StorageError if its recording cannot
        be played and it has no text either.
        """
        text = self.text_of(name, language)
        if (sound := self._recordings.get(name)) is not None:
            return sound
        if text is None:
            raise StorageError(f"alert {name!r} cannot be played: {self._problems[name]}")
        return text

    def texts(self, language: str) -> Iterator[tuple[str, str]]:
        """Name and text of each alert that is spoken, in that language."""
        for name, alert in self._alerts.items():
            if alert.file is None:
                yield name, alert.text_in(language)
