"""Filling the phrase cache: from the cloud, and from and for other machines."""

from __future__ import annotations

import argparse
import contextlib
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from kugel_bridge.app import parts
from kugel_bridge.app.local import running_ladder
from kugel_bridge.app.texts import phrases_in, phrases_of, utterances_of
from kugel_bridge.cli.parser import EXIT_NO, EXIT_OK
from kugel_bridge.cli.table import plain, print_json
from kugel_bridge.model.errors import BridgeError, ConfigurationError, RejectedError, StorageError
from kugel_bridge.settings.tree import Settings
from kugel_bridge.speech.archive import Fate, Member, packed, unpacked
from kugel_bridge.speech.cache import PhraseCache
from kugel_bridge.speech.ladder import Ladder

STANDARD = "-"
"""Standard input or output in place of a file."""


async def warmed(cache: PhraseCache, settings: Settings, arguments: argparse.Namespace) -> int:
    """Fetch phrases into the cache; a line for each, and a sum."""
    parts.check_cloud(settings)
    phrases = _phrases(settings, arguments.file)
    rows: list[dict[str, Any]] = []
    async with running_ladder(settings, cache) as ladder:
        for text in dict.fromkeys(phrases):
            row = await _warmed_one(ladder, settings, arguments, text)
            rows.append(row)
            if not arguments.json:
                because = f": {plain(row['reason'])}" if row["reason"] else ""
                print(f"{row['result']:<8} {plain(text)}{because}", flush=True)
    counts = Counter(row["result"] for row in rows)
    told = {name: counts[name] for name in ("made", "present", "failed")}
    told["characters"] = sum(row["characters"] for row in rows)
    if arguments.json:
        print_json({**told, "phrases": rows})
    else:
        print(
            f"{told['made']} made, {told['present']} present, {told['failed']} failed; "
            f"{told['characters']} characters sent to the cloud"
        )
    return EXIT_NO if told["failed"] else EXIT_OK


async def exported(cache: PhraseCache, settings: Settings, arguments: argparse.Namespace) -> int:
    """Write every phrase to one file."""
    digests = [entry.digest for entry in await cache.entries()]
    counts: Counter[Fate] = Counter()
    # With the archive on standard output, whatever is for people goes to the other one.
    out = sys.stderr if arguments.file == STANDARD else sys.stdout
    broken: list[Member] = []
    with _target(arguments.file) as file:
        async with contextlib.aclosing(packed(cache, digests, file)) as members:
            async for member in members:
                counts[member.fate] += 1
                if member.fate is Fate.BROKEN:
                    broken.append(member)
                    _complain(member)
    if arguments.json:
        print_json({"exported": counts[Fate.TAKEN], "broken": _named(broken)}, out)
    else:
        where = "standard output" if arguments.file == STANDARD else arguments.file
        print(f"{_phrases_count(counts[Fate.TAKEN])} exported to {where}", file=out)
    return EXIT_NO if broken else EXIT_OK


async def imported(cache: PhraseCache, settings: Settings, arguments: argparse.Namespace) -> int:
    """Take in what `exported` wrote; what is there already is kept."""
    counts: Counter[Fate] = Counter()
    broken: list[Member] = []
    with _source(arguments.file) as file:
        try:
            async with contextlib.aclosing(unpacked(cache, file)) as members:
                async for member in members:
                    counts[member.fate] += 1
                    if member.fate is Fate.BROKEN:
                        broken.append(member)
                        _complain(member)
        except RejectedError as error:
            where = "standard input" if arguments.file == STANDARD else arguments.file
            raise RejectedError(f"{where}: {error}") from error
        finally:
            # Also before an error is told: what came until then is kept.
            if not counts:
                pass  # the error says it all
            elif arguments.json:
                told = {fate.value: counts[fate] for fate in (Fate.TAKEN, Fate.PRESENT)}
                print_json({**told, "broken": _named(broken)})
            else:
                print(
                    f"{_phrases_count(counts[Fate.TAKEN])} taken, {counts[Fate.PRESENT]} were "
                    f"there already, {counts[Fate.BROKEN]} skipped"
                )
    return EXIT_NO if broken else EXIT_OK


def _phrases(settings: Settings, given: str | None) -> list[str]:
    if given == STANDARD:
        return phrases_in(sys.stdin.buffer.read().decode("utf-8", "replace"))
    file = settings.cache.warm if given is None else Path(given)
    if file is None:
        raise ConfigurationError("cache.warm is not set; set it, or name a file of phrases")
    return phrases_of(file)


async def _warmed_one(
    ladder: Ladder, settings: Settings, arguments: argparse.Namespace, text: str
) -> dict[str, Any]:
    row: dict[str, Any] = {"text": text, "result": "failed", "characters": 0, "reason": None}
    try:
        utterances = utterances_of(
            settings, text, language=arguments.language, voice=arguments.voice
        )
        report = await ladder.warm(utterances, pin=arguments.pin)
    except BridgeError as error:
        return row | {"reason": str(error)}
    row["characters"] = report.characters
    if report.failed or report.left:
        return row | {"reason": report.failed[0][1] if report.failed else "no cloud"}
    return row | {"result": "made" if report.made else "present"}


@contextlib.contextmanager
def _target(name: str) -> Iterator[BinaryIO]:
    """Where an archive goes: complete, or not at all; for its owner only."""
    if name == STANDARD:
        if sys.stdout.isatty():
            raise RejectedError("standard output is a terminal; name a file, or redirect it")
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    file = Path(name).expanduser().resolve()
    try:
        if file.exists() and not stat.S_ISREG(file.stat().st_mode):
            with file.open("wb") as out:  # a device or a pipe is written to, not replaced
                yield out
            return
        fresh = file.with_name(f".{file.name}.{os.getpid()}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(fresh, flags, 0o600), "wb") as out:
                yield out
            fresh.replace(file)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{name} cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _source(name: str) -> Iterator[BinaryIO]:
    if name == STANDARD:
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).expanduser().open("rb")
    except OSError as error:
        raise StorageError(f"{name} cannot be read: {error.strerror or error}") from error
    with file:
        yield file


def _complain(member: Member) -> None:
    print(f"skipped {plain(member.name[:100])}: {plain(member.reason)}", file=sys.stderr)


def _named(broken: list[Member]) -> list[dict[str, str]]:
    return [{"name": member.name, "reason": member.reason} for member in broken]


def _phrases_count(count: int) -> str:
    return f"{count} phrase{'' if count == 1 else 's'}"
