"""The announcement fields as command-line options, and back as a JSON object."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any, TypeVar

from kugel_bridge.cli.parser import number
from kugel_bridge.model.announcement import CachePolicy, OfflineRule, Priority
from kugel_bridge.model.errors import RejectedError
from kugel_bridge.mqtt.choices import priority_of
from kugel_bridge.mqtt.fields import word_of

_WORDS = ("id", "voice", "language", "tag", "offline", "priority", "reply_to", "format")
_AS_THEY_ARE = ("speed", "ttl", "expires_at", "not_before", "dedupe")
_WHAT = ("text", "phrase", "segments")


_SPEED = "0.8 to 1.2; 1.0 = normal; what is slower or faster is spoken at the nearest of these"
T = TypeVar("T")


def add_fields(parser: argparse.ArgumentParser) -> None:
    """An option for every field of the payload."""
    fields = parser.add_argument_group("the announcement")
    fields.add_argument("--id", type=_id, help="your own id; the same id is spoken once")
    fields.add_argument(
        "--priority",
        type=_priority,
        metavar="LEVEL",
        help=f"{', '.join(Priority)}, or 0 to 100; a higher number is more urgent",
    )
    fields.add_argument("--voice", metavar="VOICE", help="number or handle of a voice")
    fields.add_argument("--language", metavar="CODE", help="as en or de")
    fields.add_argument("--speed", type=number, metavar="FACTOR", help=_SPEED)
    fields.add_argument("--volume", metavar="PERCENT", help="0 to 100, or +10, -5")
    fields.add_argument(
        "--zone", action="append", metavar="ZONE", help="where; may be repeated; all = everywhere"
    )
    fields.add_argument(
        "--chime",
        nargs="?",
        const=True,
        metavar="NAME",
        help="a chime before it; best as --chime=NAME",
    )
    fields.add_argument("--no-chime", action="store_true", help="no chime, whatever the zone has")
    fields.add_argument("--end-chime", nargs="?", const=True, metavar="NAME", help="one after it")
    fields.add_argument("--ttl", type=number, metavar="SECONDS", help="how long it stays true")
    fields.add_argument("--expires-at", metavar="TIME", help="until when (ISO 8601 with zone)")
    fields.add_argument("--not-before", metavar="TIME", help="not earlier than this")
    fields.add_argument("--tag", help="replaces one that waits with the same tag")
    fields.add_argument("--dedupe", type=number, metavar="SECONDS", help="say the same words once")
    fields.add_argument("--repeat", type=int, metavar="TIMES", help="say it so often")
    fields.add_argument("--repeat-pause", type=number, metavar="SECONDS", help="between repeats")
    fields.add_argument(
        "--cache", choices=["true", "false", "refresh", "only"], help="how to use the phrase cache"
    )
    fields.add_argument(
        "--offline", choices=[o.value for o in OfflineRule], help="while the cloud is away"
    )
    fields.add_argument(
        "--preempt", action="store_true", help="stop what is spoken at a lower level"
    )
    fields.add_argument("--reply-to", metavar="TOPIC", help="send the outcome there, too")
    fields.add_argument(
        "--format", choices=["text", "ssml"], help="accepted; markup is told from text anyway"
    )
    fields.add_argument("--phrase", metavar="NAME", help="a named template instead of a text")
    fields.add_argument(
        "--var", action="append", metavar="NAME=VALUE", help="a variable of the template"
    )
    fields.add_argument(
        "--segments", metavar="JSON", help="a list of segments instead of a text, as '[\"A\", ...]'"
    )


def fields_of(arguments: argparse.Namespace, text: str) -> dict[str, Any]:
    """The JSON object that the options describe; raises argparse.ArgumentTypeError."""
    _check_pairs(arguments)
    given: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in (*_WORDS, *_AS_THEY_ARE)
        if getattr(arguments, name) is not None
    }
    if text:
        given["text"] = text
    if arguments.volume is not None:
        given["volume"] = _volume(arguments.volume)
    if arguments.zone:
        given["zones"] = arguments.zone
    for name in ("chime", "end_chime"):
        if getattr(arguments, name) is not None:
            given[name] = getattr(arguments, name)
    if arguments.preempt:
        given["preempt"] = True
    if arguments.no_chime:
        given["chime"] = False
    if arguments.repeat is not None:
        pause = {} if arguments.repeat_pause is None else {"pause_s": arguments.repeat_pause}
        given["repeat"] = {"count": arguments.repeat, **pause}
    if arguments.cache is not None:
        given["cache"] = {"true": True, "false": False}.get(arguments.cache, arguments.cache)
    if arguments.phrase is not None:
        given["phrase"] = arguments.phrase
        given["vars"] = dict(_variable(item) for item in arguments.var or ())
    if arguments.segments is not None:
        given["segments"] = _segments(arguments.segments)
    _check_what(given)
    return given


def _check_what(given: dict[str, Any]) -> None:
    what = [name for name in _WHAT if name in given]
    if len(what) > 1:
        raise argparse.ArgumentTypeError(f"give only one of {', '.join(what)}")
    if what:
        return
    for name in ("chime", "end_chime"):
        if isinstance(taken := given.get(name), str):
            option = f"--{name.replace('_', '-')}"
            raise argparse.ArgumentTypeError(
                f"nothing to say: {option} took {taken!r} for the name of a chime; "
                f"write the text before {option}, or {option}=NAME"
            )
    raise argparse.ArgumentTypeError("nothing to say: give a text, --phrase or --segments")


def _check_pairs(arguments: argparse.Namespace) -> None:
    if arguments.repeat_pause is not None and arguments.repeat is None:
        raise argparse.ArgumentTypeError("--repeat-pause needs --repeat")
    if arguments.var and arguments.phrase is None:
        raise argparse.ArgumentTypeError("--var needs --phrase")


def cache_policy(arguments: argparse.Namespace) -> CachePolicy:
    """The `--cache` option as the ladder understands it."""
    chosen = arguments.cache or "true"
    return {"true": CachePolicy.USE, "false": CachePolicy.BYPASS}.get(chosen) or CachePolicy(chosen)


def _id(text: str) -> str:
    # Sent back as the bridge reads it; another one would be waited for in vain.
    return _checked(word_of, "id", text)


def _priority(text: str) -> str:
    _checked(priority_of, "priority", text)
    return text


def _checked(read: Callable[[str, object], T], field: str, text: str) -> T:
    """What the bridge would make of a field; argparse tells why it would refuse it."""
    try:
        return read(field, text)
    except RejectedError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _volume(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _variable(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"--var {item!r}: write it as name=value")
    return name, value


def _segments(text: str) -> list[Any]:
    try:
        # Python takes NaN for JSON; the bridge could not even read who sent it.
        segments = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"--segments is not JSON: {error}") from error
    if not isinstance(segments, list):
        raise argparse.ArgumentTypeError("--segments must be a JSON list")
    return segments


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")
