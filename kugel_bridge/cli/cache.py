"""`kugel-bridge cache`: the stored phrases, also while the daemon uses them."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from kugel_bridge.app.local import opened_cache
from kugel_bridge.cli.choice import (
    SHOWN_DIGITS,
    add_choice,
    add_voice,
    chosen_entries,
    named,
    wrong_use,
)
from kugel_bridge.cli.parser import EXIT_NO, EXIT_OK, EXIT_WRONG
from kugel_bridge.cli.stock import exported, imported, warmed
from kugel_bridge.cli.table import facts, plain, print_json, table
from kugel_bridge.model.errors import RejectedError
from kugel_bridge.ops import logs
from kugel_bridge.settings.load import load
from kugel_bridge.settings.tree import Settings
from kugel_bridge.speech.cache import PhraseCache
from kugel_bridge.speech.entry import BrokenEntryError
from kugel_bridge.speech.inventory import CacheEntry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The nine things it does."""
    verbs = parser.add_subparsers(
        dest="verb",
        required=True,
        metavar="list|show|stats|warm|pin|unpin|purge|export|import",
    )
    verbs.add_parser(
        "list", json=True, help="all phrases, most used first", examples="kugel-bridge cache list"
    )
    show = verbs.add_parser(
        "show",
        json=True,
        help="everything about one phrase",
        examples='kugel-bridge cache show 3f9a\nkugel-bridge cache show --text "Dinner is ready"',
    )
    add_choice(show)
    verbs.add_parser(
        "stats", json=True, help="how full it is, hits and misses, and since when they are counted"
    )
    warm = verbs.add_parser(
        "warm",
        json=True,
        help="fetch phrases ahead of need, without playing them",
        examples="kugel-bridge cache warm phrases.txt\n"
        'echo "Dinner is ready" | kugel-bridge cache warm - --pin',
    )
    warm.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="a phrase per line, # for comments; - = standard input (default: cache.warm)",
    )
    add_voice(warm)
    warm.add_argument("--pin", action="store_true", help="and keep them whatever else has to go")
    for verb, purpose in (
        ("pin", "keep phrases whatever else has to go"),
        ("unpin", "let pinned phrases go again"),
    ):
        pin = verbs.add_parser(
            verb,
            json=True,
            help=purpose,
            examples=f"kugel-bridge cache {verb} 3f9a\n"
            f'kugel-bridge cache {verb} --text "Dinner is ready"',
        )
        add_choice(pin)
    purge = verbs.add_parser(
        "purge",
        json=True,
        help="remove phrases",
        examples='kugel-bridge cache purge 3f9a\nkugel-bridge cache purge --text "Diner is ready"\n'
        "kugel-bridge cache purge --all",
    )
    add_choice(purge)
    purge.add_argument("--all", action="store_true", help="every phrase that is not pinned")
    purge.add_argument("--pinned", action="store_true", help="pinned ones too")
    export = verbs.add_parser(
        "export",
        json=True,
        help="write all phrases to one file (tar)",
        examples="kugel-bridge cache export phrases.tar\n"
        "kugel-bridge cache export - | ssh attic kugel-bridge cache import -",
    )
    export.add_argument("file", metavar="FILE", help="where to; - = standard output")
    take = verbs.add_parser(
        "import",
        json=True,
        help="take in what `export` wrote, here or on another machine",
        examples="kugel-bridge cache import phrases.tar",
    )
    take.add_argument("file", metavar="FILE", help="where from; - = standard input")
    parser.epilog = (
        "It works beside a running daemon, which sees every change at once; hits of the last hour\n"
        "may not be counted yet.\n"
        "examples:\n"
        "  kugel-bridge cache list\n"
        "  kugel-bridge cache warm phrases.txt --pin\n"
        "exit code: 0 done; 1 there is no such phrase, or something failed; 2 wrong use"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do one of them."""
    settings = load(arguments.config).settings
    # Its trouble is told by the one line that ends the command.
    logs.configure("error", "text", secrets=settings.secrets)
    if (wrong := wrong_use(arguments)) is not None:
        print(f"kugel-bridge cache {arguments.verb}: {wrong}", file=sys.stderr)
        return EXIT_WRONG
    return asyncio.run(_done(settings, arguments))


async def _done(settings: Settings, arguments: argparse.Namespace) -> int:
    async with opened_cache(settings) as cache:
        return await _VERBS[arguments.verb](cache, settings, arguments)


async def _list(cache: PhraseCache, settings: Settings, arguments: argparse.Namespace) -> int:
    entries = await cache.entries()
    if arguments.json:
        print_json([_plain(entry) for entry in entries])
    elif entries:
        head = ("digest", "seconds", "KB", "hits", "pinned", "language", "voice", "text")
        print("\n".join(table(head, map(_row, entries))))
    else:
        print("the cache is empty")
    return EXIT_OK


async def _show(cache: PhraseCache, settings: Settings, arguments: argparse.Namespace) -> int:
    code = EXIT_OK
    shown: list[dict[str, Any]] = []
    for entry in await chosen_entries(cache, settings, arguments):
        told = _plain(entry) | {"path": str(settings.cache.dir / "phrases" / entry.file)}
        try:
            phrase = await cache.read(entry.digest)
            told["problem"] = None if phrase else "it has gone meanwhile"
            if phrase is not None:
                told["rate"], told["channels"] = phrase.format.rate, phrase.format.channels
        except BrokenEntryError as error:
            told["problem"] = str(error)
        code = EXIT_NO if told["problem"] else code
        shown.append(told)
    if arguments.json:
        print_json(shown[0] if len(shown) == 1 else shown)
    else:
        print("\n\n".join("\n".join(facts(told)) for told in shown))
    return code


async def _stats(cache: PhraseCache, settings: Settings, arguments: argparse.Namespace) -> int:
    stats = await cache.stats()
    if arguments.json:
        print_json(dataclasses.asdict(stats))
    else:
        asked = stats.hits + stats.misses
        share = f" ({100 * stats.hits / asked:.0f} %)" if asked else ""
        told = {
            "phrases": stats.entries,
            "pinned": stats.pinned,
            "size": f"{stats.bytes / 1e6:.1f} of {stats.max_bytes / 1e6:.0f} MB",
            "hits": f"{stats.hits}{share}",
            "misses": stats.misses,
            "phrases written": stats.phrases_written,
            "bytes written": f"{stats.bytes_written / 1e6:.1f} MB",
            "counted since": stats.counted_since,
            "folder": settings.cache.dir,
        }
        print("\n".join(facts(told)))
    return EXIT_OK


async def _pin(cache: PhraseCache, settings: Settings, arguments: argparse.Namespace) -> int:
    is_pin = arguments.verb == "pin"
    entries = await chosen_entries(cache, settings, arguments)
    for entry in entries:
        await (cache.pin if is_pin else cache.unpin)(entry.digest)
        if not arguments.json:
            print(f"{entry.digest[:SHOWN_DIGITS]}  {arguments.verb}ned  {plain(entry.text)}")
    if arguments.json:
        print_json([{"digest": e.digest, "text": e.text, "pinned": is_pin} for e in entries])
    return EXIT_OK


async def _purge(cache: PhraseCache, settings: Settings, arguments: argparse.Namespace) -> int:
    if arguments.all:
        count = await cache.purge(pinned=arguments.pinned)
    else:
        chosen = await chosen_entries(cache, settings, arguments)
        pinned = [entry for entry in chosen if entry.pinned]
        if pinned and not arguments.pinned:
            raise RejectedError(f"{named(pinned)}: pinned; unpin first, or say --pinned")
        count = sum([await cache.purge(entry.digest) for entry in chosen])
    if arguments.json:
        print_json({"purged": count})
    else:
        print(f"{count} {'phrase' if count == 1 else 'phrases'} removed")
    return EXIT_OK


_VERBS: dict[str, Callable[[PhraseCache, Settings, argparse.Namespace], Awaitable[int]]] = {
    "list": _list,
    "show": _show,
    "stats": _stats,
    "warm": warmed,
    "pin": _pin,
    "unpin": _pin,
    "purge": _purge,
    "export": exported,
    "import": imported,
}


def _row(entry: CacheEntry) -> tuple[object, ...]:
    return (
        entry.digest[:SHOWN_DIGITS],
        f"{entry.seconds:.1f}",
        round(entry.bytes / 1000),
        entry.hits,
        entry.pinned,
        entry.language,
        entry.voice,
        entry.text,
    )


def _plain(entry: CacheEntry) -> dict[str, Any]:
    told = dataclasses.asdict(entry)
    for name in ("stored", "last_used"):
        told[name] = _moment(told.pop(f"{name}_s"))
    return told


def _moment(wall_s: float) -> str | None:
    try:
        return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None  # a damaged row
