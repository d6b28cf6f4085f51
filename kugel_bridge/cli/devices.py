"""`kugel-bridge devices`: the sound cards, by names that survive a reboot."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from kugel_bridge.audio.cards import Card, list_cards
from kugel_bridge.cli.parser import EXIT_NO, EXIT_OK
from kugel_bridge.cli.table import print_json, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Print them; 1 if there is none."""
    cards = list_cards()
    if arguments.json:
        print_json([dataclasses.asdict(card) for card in cards])
    elif cards:
        print(
            "\n".join(
                table(("sink", "formats", "channels", "rates (Hz)", "card"), map(_row, cards))
            )
        )
    else:
        print(
            "no sound card found; is one plugged in, and is this user in the group audio?",
            file=sys.stderr,
        )
    return EXIT_OK if cards else EXIT_NO


def _row(card: Card) -> tuple[object, ...]:
    can = card.can
    if can is None:  # another program plays through it
        return f"alsa:{card.name}", "in use", None, None, card.description
    return f"alsa:{card.name}", can.formats, can.channels, can.rates, card.description
