"""Sound cards by their stable names; an index changes with the order in which they wake up."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from kugel_bridge.audio.handle import Capabilities, capabilities
from kugel_bridge.model.errors import ConfigurationError

ASOUND = Path("/proc/asound")
"""Where the kernel tells of its cards (Documentation/sound/designs/procfile.rst)."""

_CARD_LINE = re.compile(r"^\s*(\d+)\s+\[(\S+)\s*\]:\s*(.*)$")
_PCM_LINE = re.compile(r"^(\d+)-\d+:.*\bplayback\b")
_INDEX = re.compile(r"""^(?:[\w.-]+:)?['"]?\d+['"]?(?:,|$)|\bCARD=['"]?\d+['"]?(?:,|$)""")


@dataclass(frozen=True, slots=True)
class Card:
    """A sound card that can play."""

    name: str
    """Stable: `alsa:<name>` in the configuration means this card wherever it is plugged in."""
    description: str
    can: Capabilities | None = None
    """None when it cannot be asked now, as while another program plays through it."""

    @property
    def device(self) -> str:
        """Its ALSA PCM, with ALSA's converter before it."""
        return f"plughw:CARD={self.name}"


def list_cards(asound: Path = ASOUND) -> list[Card]:
    """The cards of this machine that can play, in the kernel's order; asks each what it can."""
    return [
        Card(name, description, capabilities(f"hw:CARD={name}"))
        for name, description in _playing(asound)
    ]


def card_names(asound: Path = ASOUND) -> list[str]:
    """The stable names of the cards that can play; quick, no card is touched."""
    return [name for name, _ in _playing(asound)]


def resolved(device: str, names: Collection[str]) -> str:
    """The ALSA PCM behind a configured device: a card's stable name or a PCM's own name.

    Raises ConfigurationError for a card given by its index.
    """
    refuse_index(device)
    return f"plughw:CARD={device}" if device in names else device


def refuse_index(device: str) -> None:
    """Raise ConfigurationError, naming the cards there are, if `device` holds a card's index."""
    if _INDEX.search(device):
        names = ", ".join(f"alsa:{name}" for name in card_names()) or "none now"
        raise ConfigurationError(
            f"sound card {device!r} is given by its index, which changes from boot to boot:"
            f" use its name; there are: {names}"
        )


def parse_cards(text: str) -> dict[int, tuple[str, str]]:
    """Index → (name, description) from /proc/asound/cards."""
    found: dict[int, tuple[str, str]] = {}
    for line in text.splitlines():
        if match := _CARD_LINE.match(line):
            # "driver - short name": people know the card by the short name.
            _, dash, short = match[3].partition(" - ")
            found[int(match[1])] = (match[2], short if dash else match[3])
    return found


def parse_playing(text: str) -> set[int]:
    """The indexes of the cards that can play, from /proc/asound/pcm."""
    return {int(match[1]) for line in text.splitlines() if (match := _PCM_LINE.match(line))}


def _playing(asound: Path) -> Iterable[tuple[str, str]]:
    try:
        cards = parse_cards((asound / "cards").read_text(errors="replace"))
        playing = parse_playing((asound / "pcm").read_text(errors="replace"))
    except OSError:
        return []  # a kernel without sound
    return [card for index, card in cards.items() if index in playing]
