"""`kugel-bridge say`: send an announcement to the running bridge and wait for its outcome."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import uuid
from typing import Any

from kugel_bridge.cli.announcement import add_fields, cache_policy, fields_of
from kugel_bridge.cli.parser import EXIT_NO, EXIT_OK
from kugel_bridge.cli.table import print_json
from kugel_bridge.settings.load import load
from kugel_bridge.settings.tree import Settings

DEFAULT_WAIT_S = 600.0
FINISHED = "finished"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The text, and how to say it."""
    parser.add_argument(
        "text", nargs="*", metavar="TEXT", help="what to say; - reads it from stdin"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--local", action="store_true", help="play here, without a broker or daemon")
    how.add_argument(
        "--explain",
        action="store_true",
        help="show the cleaned text, cache key, source and cost; say nothing",
    )
    how.add_argument("--no-wait", action="store_true", help="do not wait for the outcome")
    parser.add_argument(
        "--timeout",
        type=float,
        default=DEFAULT_WAIT_S,
        metavar="SECONDS",
        help=f"how long to wait for the outcome (default {DEFAULT_WAIT_S:g})",
    )
    add_fields(parser)
    parser.epilog = (
        "examples:\n"
        '  kugel-bridge say "Dinner is ready"\n'
        '  kugel-bridge say "The door is open" --priority high --volume 60 --zone hall\n'
        '  kugel-bridge say --local "Is this loudspeaker alive?"\n'
        "exit code: 0 it was spoken; 1 it was not; 2 wrong use"
    )


def run(arguments: argparse.Namespace) -> int:
    """Say it, or explain how it would be said."""
    text = sys.stdin.read() if arguments.text == ["-"] else " ".join(arguments.text)
    try:
        fields = fields_of(arguments, text)
    except argparse.ArgumentTypeError as error:
        print(f"kugel-bridge say: {error}", file=sys.stderr)
        return 2
    settings = load(arguments.config).settings
    if arguments.explain:
        return _explain(settings, arguments, fields)
    if arguments.local:
        from kugel_bridge.app.local import speak_locally

        outcomes = [asyncio.run(speak_locally(settings, json.dumps(fields).encode()))]
    else:
        found = _send(settings, arguments, fields)
        if found is None:
            return EXIT_OK
        outcomes = found
    if arguments.json:
        print_json(outcomes[0] if len(outcomes) == 1 else outcomes)
    else:
        for outcome in outcomes:
            print(_line(outcome))
    return EXIT_OK if all(o["event_type"] == FINISHED for o in outcomes) else EXIT_NO


def _send(
    settings: Settings, arguments: argparse.Namespace, fields: dict[str, Any]
) -> list[dict[str, Any]] | None:
    """Send it over MQTT; one outcome for each zone, or None when not waiting."""
    from kugel_bridge.app import parts
    from kugel_bridge.cli.talk import Talk
    from kugel_bridge.model.errors import ServiceUnavailableError

    fields.setdefault("id", f"say-{uuid.uuid4().hex[:12]}")
    topics = parts.topics(settings)
    talk = Talk(parts.broker(settings), topics, settings.mqtt.base_topic, settings.device.id)
    zones = fields.get("zones") or [settings.default_zone]
    expected = len(settings.zones) if "all" in zones else len(set(zones))
    with talk:
        talk.find_bridge()
        talk.say(fields)
        if arguments.no_wait:
            print(fields["id"])
            return None
        outcomes: list[dict[str, Any]] = []
        try:
            while len(outcomes) < expected:
                outcomes.append(talk.outcome(arguments.timeout))
                if outcomes[-1]["event_type"] == "rejected":
                    break  # it never reached the zones
        except TimeoutError as error:
            raise ServiceUnavailableError(
                f"no outcome of {fields['id']} within {arguments.timeout:g} s; "
                "`kugel-bridge queue list` shows whether it still waits"
            ) from error
    return outcomes


def _explain(settings: Settings, arguments: argparse.Namespace, fields: dict[str, Any]) -> int:
    from kugel_bridge.app.local import explain_locally

    policy = cache_policy(arguments)
    rows = asyncio.run(explain_locally(settings, json.dumps(fields).encode(), policy))
    if arguments.json:
        print_json(rows)
        return EXIT_OK
    for number, row in enumerate(rows, 1):
        head = f"part {number} of {len(rows)}: " if len(rows) > 1 else ""
        print(f"{head}{row['text']}")
        print(f"  language    {row['language']}")
        print(f"  voice       {row['voice'] or 'as configured'}")
        print(f"  cache key   {row['key']}")
        print(f"  source      {row['source']}{_because(row['reason'])}")
        print(f"  characters  {row['characters']} sent to the cloud")
    return EXIT_OK


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""


def _line(outcome: dict[str, Any]) -> str:
    facts = [f"{outcome['event_type']} in {outcome['zone']}"]
    if outcome.get("source"):
        facts.append(f"from {outcome['source']}")
    if outcome.get("first_sound_ms") is not None:
        facts.append(f"first sound after {outcome['first_sound_ms']} ms")
    if outcome.get("duration_ms"):
        facts.append(f"{outcome['duration_ms'] / 1000:.1f} s long")
    if outcome.get("reason"):
        facts.append(outcome["reason"])
    return ", ".join(facts)
