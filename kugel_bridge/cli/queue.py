"""`kugel-bridge queue`: what still has to be said."""

from __future__ import annotations

import argparse
from typing import Any

from kugel_bridge.app import parts
from kugel_bridge.cli.parser import EXIT_OK, count
from kugel_bridge.cli.table import print_json, table
from kugel_bridge.cli.talk import Talk
from kugel_bridge.model.errors import ServiceUnavailableError
from kugel_bridge.queue.stored import clear_stored, stored_entries
from kugel_bridge.settings.load import load
from kugel_bridge.settings.tree import Settings

_HEAD = ("id", "zone", "priority", "state", "text")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """list or clear."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    shown = verbs.add_parser("list", help="what speaks and what waits, in order", json=True)
    shown.add_argument("--limit", type=count, default=100, metavar="N", help="rows (default 100)")
    verbs.add_parser("clear", help="end everything that waits as skipped", json=True)
    parser.epilog = (
        "A running bridge is asked over MQTT; without one, its file is read or cleared.\n"
        "examples:\n  kugel-bridge queue list\n  kugel-bridge queue clear"
    )


def run(arguments: argparse.Namespace) -> int:
    """Ask the bridge, or look into its file."""
    settings = load(arguments.config).settings
    if arguments.verb == "list":
        return _list(settings, arguments)
    asked = _ask(settings, "clear", {})
    cleared = clear_stored(settings.queue.path) if asked is None else int(asked["cleared"])
    if arguments.json:
        print_json({"cleared": cleared})
    else:
        print(f"{cleared} announcement{'' if cleared == 1 else 's'} cleared")
    return EXIT_OK


def _list(settings: Settings, arguments: argparse.Namespace) -> int:
    answer = _ask(settings, "queue", {"limit": arguments.limit})
    rows = _stored(settings, arguments.limit) if answer is None else answer["announcements"]
    if arguments.json:
        print_json(rows)
    elif rows:
        cells = [tuple(row.get(name) for name in _HEAD) for row in rows]
        print("\n".join(table(_HEAD, cells)))
    else:
        print("nothing waits")
    return EXIT_OK


def _ask(settings: Settings, verb: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """The running bridge's answer; None if none runs."""
    talk = Talk(
        parts.broker(settings),
        parts.topics(settings),
        settings.mqtt.base_topic,
        settings.device.id,
    )
    try:
        with talk:
            talk.find_bridge()
            return talk.request(verb, arguments)
    except ServiceUnavailableError:
        return None


def _stored(settings: Settings, limit: int) -> list[dict[str, Any]]:
    entries = stored_entries(settings.queue.path)
    return [
        {
            "id": entry.announcement.id,
            "zone": entry.zone,
            "priority": entry.announcement.priority.value,
            "state": "stored",
            "text": entry.announcement.text[:200],
        }
        for entry in sorted(entries, key=lambda entry: entry.order)[:limit]
    ]
