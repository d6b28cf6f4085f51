"""The verbs of `request/<verb>` that ask about the cloud, the cache and the bridge itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kugel_bridge.conductor.controls import Answer, Arguments, Verb, limit_of
from kugel_bridge.model.announcement import CachePolicy
from kugel_bridge.model.errors import RejectedError
from kugel_bridge.model.utterance import Utterance
from kugel_bridge.queue.store import QueueStore
from kugel_bridge.speech.alerts import AlertBook
from kugel_bridge.speech.cache import PhraseCache
from kugel_bridge.speech.ladder import Ladder

if TYPE_CHECKING:  # without a cloud they are not loaded
    from kugel_bridge.kugelaudio.rest import Catalogue
    from kugel_bridge.speech.cloud import CloudSource

MAX_WARMED = 500
"""Phrases of one `cache/warm` request."""
USAGE_DAYS = 31
_PHRASE = ("text", "value", "language", "voice")


class Verbs:
    """Answers questions; nothing here speaks or changes what is said."""

    def __init__(
        self,
        *,
        store: QueueStore,
        ladder: Ladder,
        cache: PhraseCache | None,
        cloud: CloudSource | None,
        alerts: AlertBook,
        make_catalogue: Callable[[], Catalogue],
        utterances: Callable[[str, Arguments], list[Utterance]],
        load_alerts: Callable[[], Awaitable[None]],
        health: Callable[[], Mapping[str, Any]],
        trouble: Callable[[], str],
    ) -> None:
        """`load_alerts` reads their recordings again where that failed, `trouble` what is wrong."""
        self._store, self._ladder, self._alerts = store, ladder, alerts
        self._cache, self._cloud = cache, cloud
        self._make_catalogue, self._utterances = make_catalogue, utterances
        self._load_alerts, self._health, self._trouble = load_alerts, health, trouble

    def by_name(self) -> dict[str, Verb]:
        """All verbs, by name."""
        return {
            "history": Verb(self._history, ("limit",)),
            "voices": Verb(self._voices, ("language", "value")),
            "usage": Verb(self._usage),
            "cache/stats": Verb(self._cache_stats),
            "cache/warm": Verb(self._cache_warm, ("phrases", "values", *_PHRASE)),
            "cache/purge": Verb(self._cache_purge, (*_PHRASE, "pinned")),
            "cache/pin": Verb(self._cache_pin, (*_PHRASE, "pinned")),
            "alerts/check": Verb(self._alerts_check),
            "health_check": Verb(self._health_check),
            "explain": Verb(self._explain, _PHRASE),
        }

    async def _history(self, arguments: Arguments) -> Answer:
        return {
            "announcements": [_history_row(r) for r in self._store.history(limit_of(arguments))]
        }

    async def _voices(self, arguments: Arguments) -> Answer:
        language = arguments.get("language", arguments.get("value"))
        voices = await self._make_catalogue().voices(language)
        return {"voices": [dataclasses.asdict(voice) for voice in voices]}

    async def _usage(self, arguments: Arguments) -> Answer:
        days = self._store.usage(USAGE_DAYS)
        return {"days": [dataclasses.asdict(day) | {"day": str(day.day)} for day in days]}

    async def _cache_stats(self, arguments: Arguments) -> Answer:
        return dataclasses.asdict(await self._need_cache().stats())

    async def _cache_warm(self, arguments: Arguments) -> Answer:
        self._need_cache()
        given = (arguments.get(name) for name in ("phrases", "values", "text", "value"))
        texts = next((texts for texts in given if texts is not None), None)
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(isinstance(t, str) and t for t in texts):
            raise RejectedError(f"phrases is {texts!r}; give a list of texts")
        if len(texts) > MAX_WARMED:
            raise RejectedError(f"{len(texts)} phrases; at most {MAX_WARMED} at a time")
        wanted = [u for text in texts for u in self._utterances(text, arguments)]
        warmed = await self._ladder.warm(wanted)
        return dataclasses.asdict(warmed)

    async def _cache_purge(self, arguments: Arguments) -> Answer:
        cache = self._need_cache()
        text = arguments.get("text", arguments.get("value"))
        if text is not None:
            if not text.strip():
                raise RejectedError(f"text is {text!r}; give the phrase, or nothing for every one")
            gone = [await cache.purge(d) for d in self._digests(text, arguments)]
            return {"purged": sum(gone)}
        return {"purged": await cache.purge(pinned=arguments.get("pinned", False))}

    async def _cache_pin(self, arguments: Arguments) -> Answer:
        cache = self._need_cache()
        text = arguments.get("text", arguments.get("value"))
        if not text:
            raise RejectedError("name the phrase: text")
        digests = self._digests(text, arguments)
        pinned: bool = arguments.get("pinned", True)
        change = cache.pin if pinned else cache.unpin
        done = [await change(digest) for digest in digests]
        if not all(done):
            raise RejectedError(f"{text[:80]!r} is not in the cache; warm it first")
        return {"pinned": pinned, "phrases": len(done)}

    async def _alerts_check(self, arguments: Arguments) -> Answer:
        await self._load_alerts()
        troubles = self._alerts.problems
        rows = []
        for name in self._alerts.names:
            row: Answer = {"name": name, "ready": name not in troubles}
            if name in troubles:
                row["problem"] = troubles[name]
            rows.append(row)
        return {"alerts": rows}

    async def _health_check(self, arguments: Arguments) -> Answer:
        trouble = self._trouble()
        return {"healthy": not trouble, "problem": trouble or None, **self._health()}

    async def _explain(self, arguments: Arguments) -> Answer:
        text = arguments.get("text", arguments.get("value"))
        if not text or not text.strip():
            raise RejectedError("name the text to explain: text")
        return {"parts": await explained(self._ladder, self._utterances(text, arguments))}

    def _digests(self, text: str, arguments: Arguments) -> list[str]:
        if self._cloud is None:
            raise RejectedError("no cloud is configured, so nothing of it is in the cache")
        return [self._cloud.key(u).digest for u in self._utterances(text, arguments)]

    def _need_cache(self) -> PhraseCache:
        if self._cache is None:
            raise RejectedError("the phrase cache is switched off (cache.max_mb = 0)")
        return self._cache


async def explained(
    ladder: Ladder,
    utterances: list[Utterance],
    *,
    cache: CachePolicy = CachePolicy.USE,
) -> list[Answer]:
    """What would be said, from which source, and what it would cost, part by part."""
    rows = []
    for utterance in utterances:
        plan = await ladder.explain(utterance, cache=cache)
        rows.append(
            {
                "text": plan.text,
                "language": utterance.language,
                "voice": utterance.voice,
                "key": plan.digest or None,
                "source": plan.source.value if plan.source else None,
                "characters": plan.characters,
                "reason": plan.reason or None,
            }
        )
    return rows


def _history_row(report: Any) -> Answer:
    return {
        "id": report.announcement.id,
        "zone": report.zone,
        "outcome": report.event.value,
        "at": datetime.fromtimestamp(report.at.wall_s, UTC).isoformat(timespec="milliseconds"),
        "reason": report.reason or None,
        "source": report.source.value if report.source else None,
        "text": report.announcement.text[:200],
    }
