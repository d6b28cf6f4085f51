"""Texts as the bridge would speak them, and files of phrases to have ready."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kugel_bridge.app import parts
from kugel_bridge.conductor.script import Words, script_of
from kugel_bridge.model.announcement import Announcement, TextSegment
from kugel_bridge.model.clock import SystemClock
from kugel_bridge.model.errors import RejectedError, StorageError
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.speech.alerts import AlertBook

if TYPE_CHECKING:  # checked in a child process, see settings/plain.py
    from kugel_bridge.settings.tree import Settings

_NO_ALERTS = AlertBook({})


def utterances_of(
    settings: Settings, text: str, *, language: str | None = None, voice: str | None = None
) -> list[Utterance]:
    """A text cleaned and cut as an announcement of it would be, part by part.

    Raises RejectedError if nothing is left to say.
    """
    words = parts.cleaner(settings)(text, language)
    if not words:
        raise RejectedError(f"nothing is left to say of {text[:80]!r}")
    announcement = Announcement(
        id="text",
        segments=(TextSegment(words),),
        received=SystemClock().now(),
        language=language,
        voice=voice,
        chime=False,
    )
    cues = script_of(announcement, parts.delivery(settings), _NO_ALERTS)
    return [cue.utterance for cue in cues if isinstance(cue, Words)]


def phrases_in(text: str) -> list[str]:
    """The phrases of a file: one per line, without empty lines and comments (`#`)."""
    lines = (line.strip() for line in text.removeprefix("\ufeff").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def phrases_of(file: Path) -> list[str]:
    """The phrases of that file; raises StorageError if it cannot be read."""
    try:
        return phrases_in(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise StorageError(f"{file} cannot be read: it is not UTF-8 text") from error
