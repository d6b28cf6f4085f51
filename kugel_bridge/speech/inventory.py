"""What lies in the cache, and what has to go first when it is full."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

HALF_LIFE_S = 30 * 86_400.0
"""A use counts half after a month: what was heard every day last winter may go in summer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """One phrase in the cache, for people."""

    digest: str
    file: str
    text: str
    language: str
    voice: str
    model: str
    speed: float
    source: str
    stored_s: float
    """Wall time (s since 1970)."""
    bytes: int
    seconds: float
    hits: int
    last_used_s: float
    """Wall time (s since 1970); when it was stored, if never since."""
    pinned: bool

    def worth(self, now_s: float) -> float:
        """Its uses, each counting less the longer ago the last one was.

        Its size does not count: what a phrase saves when it is asked for again grows with its
        length just as the room it takes does.
        """
        age_s = max(0.0, now_s - self.last_used_s)
        return float((1 + self.hits) * 0.5 ** min(100.0, age_s / HALF_LIFE_S))


@dataclass(frozen=True, slots=True)
class Use:
    """How often a phrase was played from the cache, and when last (wall time, s)."""

    hits: int = 0
    last_s: float = 0.0

    def __add__(self, other: Use) -> Use:
        return Use(self.hits + other.hits, max(self.last_s, other.last_s))

    def __str__(self) -> str:
        return f"{self.hits} {self.last_s:.0f}"

    @classmethod
    def parsed(cls, text: str) -> Use:
        """What `str` wrote; nothing for anything else."""
        try:
            hits, last_s = text.split()
            return cls(max(0, int(hits)), float(last_s))
        except ValueError:
            return cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStats:
    """Figures of the cache; counts are over the whole life of its index."""

    entries: int = 0
    pinned: int = 0
    bytes: int = 0
    max_bytes: int = 0
    hits: int = 0
    misses: int = 0
    phrases_written: int = 0
    bytes_written: int = 0
    """Everything handed to the disk for phrases and index."""
    counted_since: str = ""
    """ISO 8601; empty where that is not known. Phrases may be older: a lost index is made anew."""
    problem: str = ""
    """Why there is no cache now; empty when all is well."""


def entry_from(digest: str, file: str, about: str, use: Use, *, pinned: bool) -> CacheEntry:
    """The entry that a row of the index tells of; fields it does not tell are empty."""
    try:
        told: Mapping[str, object] = dict(json.loads(about))
    except (TypeError, ValueError, RecursionError):
        told = {}
    stored_s = _number(told.get("stored_s"))
    return CacheEntry(
        digest=digest,
        file=file,
        text=str(told.get("text", "")),
        language=str(told.get("language", "")),
        voice=str(told.get("voice", "")),
        model=str(told.get("model", "")),
        speed=_number(told.get("speed"), 1.0),
        source=str(told.get("source", "")),
        stored_s=stored_s,
        bytes=int(_number(told.get("bytes"))),
        seconds=_number(told.get("seconds")),
        hits=use.hits,
        last_used_s=max(use.last_s, stored_s),
        pinned=pinned,
    )


def least_worth(
    entries: Iterable[CacheEntry], surplus: int, now_s: float, spare: str = ""
) -> Iterator[CacheEntry]:
    """Entries to give up until `surplus` bytes are free: least used first, never a pinned one."""
    loose = [entry for entry in entries if not entry.pinned and entry.digest != spare]
    for entry in sorted(loose, key=lambda e: (e.worth(now_s), e.last_used_s)):
        if surplus <= 0:
            return
        surplus -= entry.bytes
        yield entry


def _number(value: object, default: float = 0.0) -> float:
    return float(value) if isinstance(value, int | float) else default
