"""The phrase files and their index together, as one thread at a time works on them."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from kugel_bridge.speech.entry import (
    HEADER_BYTES,
    BrokenEntryError,
    CachedPhrase,
    parsed,
    written,
)
from kugel_bridge.speech.folder import PhraseFolder
from kugel_bridge.speech.index import FileName, PhraseIndex, UnreadableRowError
from kugel_bridge.speech.inventory import CacheEntry, CacheStats, Use, entry_from, least_worth
from kugel_bridge.speech.owner import made_folder
from kugel_bridge.speech.recall import Recall

logger = logging.getLogger(__name__)

ORPHAN_S = 600.0
"""Younger files may be on their way into the index, from another process too."""
STALE_S = 60.0
FULL = 0.95
"""Room is made down to this share, so that it need not be made for every phrase."""

_TOTALS = "totals"
_SINCE = "since"


class Phrase(Protocol):
    """What the index has to know of a phrase."""

    @property
    def digest(self) -> str: ...
    @property
    def seconds(self) -> float: ...


class NoRoomError(Exception):
    """What may go is less than what would have to."""


@dataclass(slots=True)
class Counts:
    """What happened since it was last written down."""

    hits: int = 0
    misses: int = 0
    phrases_written: int = 0
    bytes_written: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.hits + other.hits,
            self.misses + other.misses,
            self.phrases_written + other.phrases_written,
            self.bytes_written + other.bytes_written,
        )


class Shelf:
    """Every call may block on the disk, and raises what diskcache, SQLite and the system raise."""

    def __init__(self, path: Path, max_bytes: int, recall_bytes: int = 0) -> None:
        self._path, self._max_bytes = path, max_bytes
        self.folder = PhraseFolder(path / "phrases")
        self._index = PhraseIndex(path, self.folder)
        self.recall = Recall(self.folder, recall_bytes)
        self._written_before = 0
        self._since = ""

    def open(self) -> None:
        """Open both; what cannot be used of the index is moved aside."""
        # What is said in a house is nobody else's business.
        made_folder(self._path)
        self.folder.open()
        self._index.open()
        self._written_before = bytes_written()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._since = self._index.note(_SINCE) if self._index.note(_TOTALS) else now

    def release(self) -> None:
        """Close this thread's connection to the index."""
        self._index.release()

    def close(self) -> None:
        """Close this thread's connection, and the folder: the last call of the last thread."""
        self._index.release()
        self.folder.close()

    def find(self, digest: str) -> CachedPhrase | None:
        """The phrase, verified; raises BrokenEntryError with the file's name in `file`."""
        try:
            name = self._index.find(digest)
        except UnreadableRowError as error:
            raise BrokenEntryError(str(error)) from error
        if name is None:
            return None
        try:
            phrase = parsed(self.folder.read(name), digest)
        except BrokenEntryError as error:
            raise BrokenEntryError(str(error), name) from error
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise  # our own shortage says nothing about the entry
            # Gone, or something in its place that cannot be read (a link, a folder).
            raise BrokenEntryError(f"{error.strerror}", name) from error
        self.recall.keep(name, phrase)
        return phrase

    def adopt(self, phrase: CachedPhrase, keep_free_bytes: int) -> bool:
        """Keep a phrase made elsewhere; False if there is one already.

        Nothing has to go for it. Raises NoRoomError, also where less than `keep_free_bytes` would
        be left on the disk.
        """
        if self._index.has(phrase.digest):
            return False
        data = written(phrase)
        if self._index.volume + len(data) > self._max_bytes:
            raise NoRoomError("the cache is full; raise cache.max_mb, or purge something")
        if self.folder.free_bytes() - len(data) < keep_free_bytes:
            raise NoRoomError(
                "less is free on the disk than the cache leaves to others; free some space, or set "
                "cache.dir to another disk"
            )
        name = self.folder.new_name(phrase.digest)
        self.folder.store(name, data)
        try:
            self.enter(FileName(name, len(data)), phrase, dict(json.loads(phrase.about)), {})
        except BaseException:
            with contextlib.suppress(OSError):
                self.folder.remove(name)
            raise
        return True

    def has(self, digest: str) -> bool:
        """Whether the index knows the phrase."""
        return self._index.has(digest)

    def drop(self, digest: str, name: str | None) -> None:
        """Forget a phrase that proved broken, unless it was made anew meanwhile."""
        self._index.drop(digest, name)

    def enter(
        self, file: FileName, phrase: Phrase, about: Mapping[str, object], uses: Mapping[str, Use]
    ) -> None:
        """Let a file that is complete be found; makes room for it. Raises NoRoomError."""
        self._make_room(file.size, phrase.digest, uses)
        told = {**about, "bytes": file.size, "seconds": round(phrase.seconds, 3)}
        line = json.dumps(told, separators=(",", ":"))
        self._index.add(phrase.digest, file, line)

    def entries(self, uses: Mapping[str, Use]) -> list[CacheEntry]:
        """All phrases; `uses` are those not written down yet."""
        pinned = self._index.marked("pin")
        used = {digest: Use.parsed(text) for digest, text in self._index.marked("use").items()}
        found = []
        for digest in self._index.digests():
            with contextlib.suppress(UnreadableRowError):
                if (row := self._index.describe(digest)) is not None:
                    use = used.get(digest, Use()) + uses.get(digest, Use())
                    found.append(entry_from(digest, *row, use, pinned=digest in pinned))
        return found

    def pin(self, digest: str, wanted: bool) -> bool:
        """Pin or unpin; False if there is nothing to pin, or it was not pinned."""
        key = f"pin:{digest}"
        if wanted and not self._index.has(digest):
            return False
        was_pinned = self._index.has(key)
        if wanted != was_pinned:
            self._index.write_notes({key: "" if wanted else None})
        return wanted or was_pinned

    def purge(self, digests: Iterable[str] | None, pinned: bool) -> int:
        """Remove these phrases and their pins, or all (the pinned ones only if told so)."""
        if digests is None:
            pins = {} if pinned else self._index.marked("pin")
            digests = [digest for digest in self._index.digests() if digest not in pins]
        gone = 0
        for digest in digests:
            if self._index.drop(digest):
                gone += 1
                self._index.write_notes({f"pin:{digest}": None})
        return gone

    def note(self, uses: Mapping[str, Use], counts: Counts) -> None:
        """Write down what was used, and the figures."""
        notes: dict[str, str | None] = {}
        for digest, use in uses.items():
            if self._index.has(digest):
                before = Use.parsed(self._index.note(f"use:{digest}"))
                notes[f"use:{digest}"] = str(before + use)
        written = bytes_written()
        counts = counts + Counts(bytes_written=max(0, written - self._written_before))
        self._written_before = written
        total = self._totals() + counts
        notes[_TOTALS] = json.dumps(
            [total.hits, total.misses, total.phrases_written, total.bytes_written]
        )
        notes[_SINCE] = self._since
        self._index.write_notes(notes)

    def stats(self, counts: Counts) -> CacheStats:
        """Figures, with `counts` that are not written down yet; called by the writing thread."""
        since = max(0, bytes_written() - self._written_before)
        total = self._totals() + counts + Counts(bytes_written=since)
        return CacheStats(
            entries=sum(1 for _ in self._index.digests()),
            pinned=len(self._index.marked("pin")),
            bytes=self._index.volume,
            max_bytes=self._max_bytes,
            hits=total.hits,
            misses=total.misses,
            phrases_written=total.phrases_written,
            bytes_written=total.bytes_written,
            counted_since=self._since,
        )

    def orphans(self, now_s: float) -> list[str]:
        """Files of no row, after stale temporary files were removed."""
        for name in self.folder.remove_stale(STALE_S, now_s):
            logger.info("cache: removed %s, whose writer died", name)
        # Files first: a row that comes later can only make fewer of them orphans.
        names = self.folder.names()
        known = {entry.file for entry in self.entries({})}
        lost = []
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                if name not in known and self.folder.age_s(name, now_s) > ORPHAN_S:
                    lost.append(name)
        return lost

    def settle(self, name: str) -> None:
        """Take an orphan into the index again if it is whole and wanted; remove it otherwise.

        So a lost index costs no phrase that was paid for.
        """
        try:
            phrase = parsed(self.folder.read(name), None)
            if name.startswith(phrase.digest) and not self._index.has(phrase.digest):
                file = FileName(name, HEADER_BYTES + len(phrase.about) + len(phrase.pcm))
                self.enter(file, phrase, dict(json.loads(phrase.about)), {})
                logger.info("cache: found phrase %s again", phrase.digest[:12])
                return
        except (BrokenEntryError, NoRoomError, OSError, TypeError, ValueError) as error:
            logger.debug("cache: %s: %s", name, error)
        self.folder.remove(name)

    def _make_room(self, size: int, digest: str, uses: Mapping[str, Use]) -> None:
        surplus = self._index.volume + size - self._max_bytes
        if surplus <= 0:
            return
        surplus += int((1 - FULL) * self._max_bytes)
        entries = self.entries(uses)
        # "Now" is when something was last used: a wrong clock cannot age all of it at once.
        now_s = max((entry.last_used_s for entry in entries), default=0.0)
        for entry in least_worth(entries, surplus, now_s, spare=digest):
            logger.debug("cache: phrase %s has to go", entry.digest[:12])
            self._index.drop(entry.digest)
        if self._index.volume + size > self._max_bytes:
            raise NoRoomError("the rest of the cache is pinned")

    def _totals(self) -> Counts:
        try:
            return Counts(*(int(number) for number in json.loads(self._index.note(_TOTALS))))
        except (TypeError, ValueError):
            return Counts()


def bytes_written() -> int:
    """Bytes this thread has handed to the system to write (Linux, proc(5)); 0 where unknown."""
    try:
        for line in Path("/proc/thread-self/io").read_text("ascii").splitlines():
            if line.startswith("wchar:"):
                return int(line.partition(":")[2])
    except (OSError, ValueError):
        pass
    return 0
