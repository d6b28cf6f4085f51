"""Which stored phrases a person means: by the beginning of a digest, or by what they say."""

from __future__ import annotations

import argparse

from kugel_bridge.app import parts
from kugel_bridge.app.texts import utterances_of
from kugel_bridge.cli.table import plain
from kugel_bridge.model.errors import RejectedError
from kugel_bridge.settings.tree import Settings
from kugel_bridge.speech.cache import PhraseCache
from kugel_bridge.speech.inventory import CacheEntry

SHOWN_DIGITS = 12
"""Digits of a digest in tables: as few as a person can copy, as many as never meet."""
_NAMED = 5
"""Candidates named in an error."""


def add_choice(parser: argparse.ArgumentParser) -> None:
    """PREFIX... and --text."""
    parser.add_argument(
        "prefixes", nargs="*", metavar="PREFIX", help="how its digest begins, as `list` shows it"
    )
    parser.add_argument("--text", metavar="TEXT", help="the phrase that says this, instead")
    add_voice(parser)


def add_voice(parser: argparse.ArgumentParser) -> None:
    """--language and --voice of a phrase."""
    parser.add_argument("--language", metavar="CODE", help="as en; instead of cloud.language")
    parser.add_argument(
        "--voice", metavar="VOICE", help="number or handle; instead of cloud.voice_id"
    )


def wrong_use(arguments: argparse.Namespace) -> str | None:
    """What is wrong with the choice of phrases; None if nothing, or if there is none to make."""
    if "prefixes" not in arguments:
        return None
    given = [bool(arguments.prefixes), arguments.text is not None]
    if arguments.verb == "purge":
        if not any(given) and not arguments.all:
            return "name phrases by PREFIX or --text, or say --all"
        given.append(arguments.all)
    if not any(given):
        return "name the phrase by PREFIX or --text"
    return "too many choices: give either PREFIX, --text or --all" if sum(given) > 1 else None


async def chosen_entries(
    cache: PhraseCache, settings: Settings, arguments: argparse.Namespace
) -> list[CacheEntry]:
    """The phrases a person named; raises RejectedError for what is none, or more than one."""
    entries = await cache.entries()
    if arguments.text is None:
        return [_only(entries, prefix) for prefix in dict.fromkeys(arguments.prefixes)]
    parts.check_cloud(settings)
    source = parts.cloud_source(settings, parts.cloud_client(settings))
    assert source is not None
    utterances = utterances_of(
        settings, arguments.text, language=arguments.language, voice=arguments.voice
    )
    by_digest = {entry.digest: entry for entry in entries}
    found = [by_digest.get(source.key(utterance).digest) for utterance in utterances]
    chosen = [entry for entry in found if entry is not None]
    if len(chosen) < len(found):
        raise RejectedError(
            f"{plain(arguments.text[:80])!r} is not in the cache, at least not in this voice and "
            "language; `kugel-bridge cache list` shows what is"
        )
    return chosen


def _only(entries: list[CacheEntry], prefix: str) -> CacheEntry:
    found = [entry for entry in entries if prefix and entry.digest.startswith(prefix.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        raise RejectedError(f"{prefix} is not enough, {len(found)} begin so: {named(found)}")
    raise RejectedError(
        f"no phrase has a digest that begins with {plain(prefix)!r}; `kugel-bridge cache list` "
        "shows them"
    )


def named(entries: list[CacheEntry]) -> str:
    """Some of them, for an error."""
    names = [f"{e.digest[:SHOWN_DIGITS]} ({plain(e.text[:40])})" for e in entries[:_NAMED]]
    return ", ".join(names) + (", ..." if len(entries) > _NAMED else "")
