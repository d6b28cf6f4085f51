"""`kugel-bridge say`: send an announcement to the running bridge and wait for its outcome."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

from kugel_bridge.cli.announcement import add_fields, cache_policy, fields_of
from kugel_bridge.cli.parser import EXIT_NO, EXIT_OK, EXIT_WRONG, seconds
from kugel_bridge.cli.table import plain, print_json
from kugel_bridge.model.announcement import ALL_ZONES
from kugel_bridge.model.report import Outcome
from kugel_bridge.settings.load import load
from kugel_bridge.settings.tree import Settings

if TYPE_CHECKING:
    from kugel_bridge.cli.talk import Talk

DEFAULT_WAIT_S = 600.0
_OUTCOMES = {outcome.value for outcome in Outcome}


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
        type=seconds,
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
    if arguments.text == ["-"]:
        text = sys.stdin.buffer.read().decode("utf-8", "replace")
    else:
        # What is no UTF-8 on the command line arrives as half characters.
        words = " ".join(arguments.text).encode("utf-8", "surrogateescape")
        text = words.decode("utf-8", "replace")
    try:
        fields = fields_of(arguments, text.strip())
    except argparse.ArgumentTypeError as error:
        print(f"kugel-bridge say: {error}", file=sys.stderr)
        return EXIT_WRONG
    settings = load(arguments.config).settings
    if arguments.explain:
        return _explain(settings, arguments, fields)
    if arguments.local:
        from kugel_bridge.app.local import speak_locally

        outcomes = [asyncio.run(speak_locally(settings, json.dumps(fields).encode()))]
        return _told(outcomes, arguments)
    return _send(settings, arguments, fields)


def _send(settings: Settings, arguments: argparse.Namespace, fields: dict[str, Any]) -> int:
    """Send it over MQTT, and wait for its outcome in each zone."""
    from kugel_bridge.app import parts
    from kugel_bridge.cli.talk import Talk

    fields.setdefault("id", f"say-{uuid.uuid4().hex[:12]}")
    talk = Talk(
        parts.broker(settings),
        parts.topics(settings),
        settings.mqtt.base_topic,
        settings.device.id,
    )
    with talk:
        # The bridge may run with another configuration than ours.
        zones = talk.find_bridge() or list(settings.zones)
        talk.say(fields)
        if arguments.no_wait:
            if arguments.json:
                print_json({"id": fields["id"]})
            else:
                print(fields["id"])
            return EXIT_OK
        named = fields.get("zones", zones[:1])
        expected = set(zones) if ALL_ZONES in named else set(named)
        outcomes, is_complete = _awaited(talk, fields["id"], expected, arguments.timeout)
    code = _told(outcomes, arguments)
    if not is_complete:
        print(
            f"kugel-bridge: no outcome of {fields['id']} within {arguments.timeout:g} s; "
            "`kugel-bridge queue list` shows whether it still waits",
            file=sys.stderr,
        )
        return EXIT_NO
    return code


def _awaited(
    talk: Talk, announcement_id: str, expected: set[str], timeout_s: float
) -> tuple[list[dict[str, Any]], bool]:
    """The outcomes, one for each zone, and whether they are all there."""
    outcomes: dict[str, dict[str, Any]] = {}
    reasons: dict[str, str] = {}
    end_s = time.monotonic() + timeout_s
    while len(outcomes) < len(expected):
        try:
            news = talk.news(announcement_id, end_s - time.monotonic())
        except TimeoutError:
            return list(outcomes.values()), False
        zone = str(news.get("zone"))
        match news["event_type"]:
            case "offline":
                print("the bridge went offline; waiting for its return", file=sys.stderr)
            case "deferred":
                reason = str(news.get("reason"))
                if reasons.get(zone) != reason:
                    reasons[zone] = reason
                    print(f"put off in {plain(zone)}: {plain(reason)}", file=sys.stderr)
            case "rejected" if zone not in expected:  # all of them at once, before it got there
                return [news], True
            case outcome if outcome in _OUTCOMES:
                outcomes[zone] = news
    return list(outcomes.values()), True


def _told(outcomes: list[dict[str, Any]], arguments: argparse.Namespace) -> int:
    if arguments.json:
        print_json(outcomes[0] if len(outcomes) == 1 else outcomes)
    else:
        for outcome in outcomes:
            print(plain(_line(outcome)))
    is_spoken = outcomes and all(o["event_type"] == Outcome.FINISHED for o in outcomes)
    return EXIT_OK if is_spoken else EXIT_NO


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
        print(f"  cache key   {row['key'] or 'none: there is no cloud'}")
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
