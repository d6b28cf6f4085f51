"""Phrases said before, kept on disk: found at once, never trusted, never in the way."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import logging
import sqlite3
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import diskcache

from kugel_bridge.model.clock import Clock, SystemClock
from kugel_bridge.model.errors import StorageError
from kugel_bridge.speech.entry import BrokenEntryError, CachedPhrase, description
from kugel_bridge.speech.index import FileName
from kugel_bridge.speech.inventory import CacheEntry, CacheStats, Use
from kugel_bridge.speech.phrase import DIGEST, PhraseKey
from kugel_bridge.speech.recording import Made, Recording
from kugel_bridge.speech.shelf import Counts, NoRoomError, Shelf
from kugel_bridge.speech.worker import Worker

T = TypeVar("T")
logger = logging.getLogger(__name__)

LOOKUP_TIMEOUT_S = 0.25
"""A disk slower than this is worse than the cloud."""
KEEP_FREE_BYTES = 32 * 1024 * 1024
"""Left on the disk for what matters more than a cache."""
RECALL_BYTES = 2 * 1024 * 1024
"""Phrases kept in memory: about 40 s of speech, of the 40 MB the bridge may take."""
OPEN_WAIT_S = 5.0
STOP_WAIT_S = 2.0
REOPEN_S = 60.0
FLUSH_S = 3_600.0
SWEEP_S = 86_400.0
WARN_S = 3_600.0
MAX_SEEN = 4_096
MAX_UNWRITTEN_USES = 1_024

# Trouble that passes by itself: the index is as good as before.
_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE}
_PASSING_SQLITE = {"SQLITE_FULL", "SQLITE_BUSY", "SQLITE_LOCKED"}


class Admit(enum.StrEnum):
    """Which phrases are kept."""

    ALWAYS = "always"
    SECOND_USE = "second-use"


class PhraseCache:
    """The phrase cache; any trouble with it means "no cache", never an error for who speaks.

    One thread reads, so that a phrase is found while the other one waits for a slow disk to take
    a new one. `run` keeps house: it reopens after trouble, and writes down what was used.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int,
        admit: Admit = Admit.ALWAYS,
        *,
        keep_free_bytes: int = KEEP_FREE_BYTES,
        recall_bytes: int = RECALL_BYTES,
        lookup_timeout_s: float = LOOKUP_TIMEOUT_S,
        reopen_s: float = REOPEN_S,
        clock: Clock | None = None,
    ) -> None:
        self._path, self._max_bytes, self._admit = path, max_bytes, admit
        self._keep_free_bytes, self._recall_bytes = keep_free_bytes, recall_bytes
        self._lookup_timeout_s, self._reopen_s = lookup_timeout_s, reopen_s
        self._clock: Clock = clock or SystemClock()
        self._reader, self._writer = Worker("cache reader"), Worker("cache writer")
        self._shelf: Shelf | None = None
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._uses: dict[str, Use] = {}
        self._counts = Counts()
        self._problem = "not open"
        self._warned_s: float | None = None
        self._in_doubt = asyncio.Event()

    @property
    def problem(self) -> str:
        """Why there is no cache now; empty when all is well."""
        return self._problem

    async def open(self) -> None:
        """Open the cache; trouble leaves it closed, and `run` tries again."""
        self._reader.start()
        self._writer.start()
        try:
            async with asyncio.timeout(OPEN_WAIT_S):
                await self._reopen()
        except TimeoutError:
            self._fail(StorageError("the disk does not answer"))

    async def close(self) -> None:
        """Write down what was used, and let go of the files."""
        shelf, self._shelf = self._shelf, None
        if shelf is not None:
            uses, counts = self._take_counts()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_WAIT_S):
                    await self._safely(self._writer.finish(shelf.note, uses, counts))
                    await self._safely(self._writer.finish(shelf.release))
                    await self._safely(self._reader.finish(shelf.close))
        await self._reader.stop(STOP_WAIT_S)
        await self._writer.stop(STOP_WAIT_S)
        self._problem = "closed"

    async def run(self) -> None:
        """Keep house until cancelled."""
        now_s = self._now_s()
        flush_s, sweep_s, opened_s = now_s + FLUSH_S, now_s, now_s - self._reopen_s
        while True:
            now_s = self._now_s()
            doubtful = self._shelf is None or self._in_doubt.is_set()
            if doubtful and now_s >= opened_s + self._reopen_s:
                opened_s = now_s
                await self._reopen()
            if now_s >= sweep_s and self._shelf is not None:
                sweep_s = now_s + SWEEP_S
                await self._sweep()
            if now_s >= flush_s or len(self._uses) > MAX_UNWRITTEN_USES:
                flush_s = now_s + FLUSH_S
                await self.flush()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._reopen_s):
                    if self._in_doubt.is_set():
                        await asyncio.sleep(self._reopen_s)
                    await self._in_doubt.wait()

    async def lookup(self, key: PhraseKey) -> CachedPhrase | None:
        """The phrase, whole and verified; None if it is not there, or not there in time."""
        shelf, digest = self._shelf, key.digest
        found = None if shelf is None else shelf.recall.get(digest)
        # Behind a call that is already late there is nothing to wait for.
        if found is None and shelf is not None and self._reader.busy_s < self._lookup_timeout_s:
            try:
                async with asyncio.timeout(self._lookup_timeout_s):
                    found = await self._safely(self._reader.call(self._find, shelf, digest))
            except TimeoutError:
                self._fail(StorageError(f"a lookup took over {self._lookup_timeout_s} s"))
        if found is None:
            self._counts.misses += 1
            return None
        self._counts.hits += 1
        self._well()
        used = Use(1, self._clock.now().wall_s)
        known = self._uses.get(digest)
        self._uses[digest] = used if known is None else known + used
        return found

    async def contains(self, key: PhraseKey) -> bool:
        """Whether the phrase is in the index; it is neither read nor counted."""
        shelf = self._shelf
        if shelf is None:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._lookup_timeout_s):
                return bool(await self._safely(self._reader.call(shelf.has, key.digest)))
        return False

    def begin(self, key: PhraseKey, *, force: bool = False) -> Recording | None:
        """Take up a phrase that is being made; None if it will not be kept.

        `force` keeps it on its first use too, whatever the policy.
        """
        shelf = self._shelf
        if shelf is None or (not force and not self._is_admitted(key.digest)):
            return None
        return Recording(
            key,
            description(key, self._clock.now().wall_s),
            worker=self._writer,
            folder=shelf.folder,
            keep_free_bytes=self._keep_free_bytes,
            enter=self._enter,
            on_failure=self._fail,
        )

    async def pin(self, digest: str) -> bool:
        """Keep this phrase whatever else has to go; False if there is none.

        Raises StorageError, as all that follow.
        """
        return await self._demand(Shelf.pin, _checked(digest), True)

    async def unpin(self, digest: str) -> bool:
        """Let this phrase go when others are used more; False if it was not pinned."""
        return await self._demand(Shelf.pin, _checked(digest), False)

    async def entries(self) -> list[CacheEntry]:
        """All phrases, most used first."""
        entries = await self._demand(Shelf.entries, dict(self._uses))
        now_s = self._clock.now().wall_s
        return sorted(entries, key=lambda e: (-e.worth(now_s), e.text))

    async def show(self, prefix: str) -> list[CacheEntry]:
        """The phrases whose digest begins with `prefix`."""
        return [entry for entry in await self.entries() if entry.digest.startswith(prefix)]

    async def read(self, digest: str) -> CachedPhrase | None:
        """A phrase, whole and verified, without counting it as used; None if there is none.

        Raises BrokenEntryError for one that is damaged.
        """
        return await self._demand(Shelf.find, _checked(digest))

    async def adopt(self, phrase: CachedPhrase) -> bool:
        """Keep a phrase made elsewhere; False if there is one already.

        Nothing has to go for it: a full cache raises StorageError.
        """
        _checked(phrase.digest)
        return await self._demand(Shelf.adopt, phrase, self._keep_free_bytes)

    async def purge(self, digest: str | None = None, *, pinned: bool = False) -> int:
        """Remove one phrase, or all (`pinned` ones only if told so); how many went."""
        digests = None if digest is None else [_checked(digest)]
        return await self._demand(Shelf.purge, digests, pinned)

    async def stats(self) -> CacheStats:
        """Figures; without a cache only those of this run."""
        shelf = self._shelf
        counts = self._counts
        if shelf is not None:
            found = await self._safely(self._writer.call(shelf.stats, counts))
            if found is not None:
                return found
        return CacheStats(
            max_bytes=self._max_bytes,
            hits=counts.hits,
            misses=counts.misses,
            phrases_written=counts.phrases_written,
            problem=self._problem,
        )

    async def flush(self) -> None:
        """Write down what was used since the last time."""
        shelf = self._shelf
        if shelf is not None and self._counts != Counts():
            uses, counts = self._take_counts()
            await self._safely(self._writer.finish(shelf.note, uses, counts))

    def _is_admitted(self, digest: str) -> bool:
        if self._admit is Admit.ALWAYS or self._seen.pop(digest, self) is None:
            return True
        self._seen[digest] = None
        if len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        return False

    def _find(self, shelf: Shelf, digest: str) -> CachedPhrase | None:
        """In the reading thread."""
        try:
            return shelf.find(digest)
        except BrokenEntryError as error:
            logger.warning("cache: phrase %s is broken, it will be made again: %s", digest, error)
            self._writer.post(shelf.drop, digest, error.file)
            return None

    def _enter(self, file: FileName, made: Made, about: Mapping[str, object]) -> None:
        """In the writing thread."""
        shelf = self._shelf
        if shelf is None:
            raise StorageError("the cache was closed")
        shelf.enter(file, made, about, dict(self._uses))
        self._counts.phrases_written += 1
        self._well()

    async def _reopen(self) -> None:
        """Take a new shelf, and close the one before when its last reader has gone."""
        self._in_doubt.clear()
        old, self._shelf = self._shelf, None
        shelf = Shelf(self._path, self._max_bytes, self._recall_bytes)
        try:
            if old is not None:
                await self._writer.finish(old.release)
                await self._reader.finish(old.close)
            await self._opened(shelf)
        except Exception as error:  # noqa: BLE001 - whatever it is, it means "no cache"
            self._fail(error)
        else:
            self._shelf = shelf
            self._well()

    async def _opened(self, shelf: Shelf) -> None:
        try:
            await self._writer.finish(shelf.open)
        except asyncio.CancelledError:
            # It may open yet, on a disk that is only slow; then nobody would close it.
            self._writer.post(shelf.close)
            raise

    async def _sweep(self) -> None:
        shelf = self._shelf
        if shelf is None:
            return
        now_s = self._clock.now().wall_s
        for name in await self._safely(self._writer.call(shelf.orphans, now_s)) or ():
            # One at a time, so that a new phrase need not wait for all of them.
            await self._safely(self._writer.call(shelf.settle, name))

    async def _safely(self, answer: Awaitable[T]) -> T | None:
        try:
            return await answer
        except Exception as error:  # noqa: BLE001 - whatever it is, it means "no cache"
            self._fail(error)
            return None

    async def _demand(self, job: Callable[..., T], *args: Any) -> T:
        shelf = self._shelf
        if shelf is None:
            raise StorageError(f"there is no cache: {self._problem}")
        try:
            return await self._writer.finish(job, shelf, *args)
        except BrokenEntryError:
            raise  # one phrase, not the cache
        except NoRoomError as error:
            raise StorageError(str(error)) from error
        except Exception as error:
            self._fail(error)
            raise StorageError(f"the cache failed: {self._told(error)}") from error

    def _fail(self, error: Exception) -> None:
        """Say so once an hour; have the index looked at unless it is the disk that is full."""
        if isinstance(error, NoRoomError):
            logger.debug("cache: %s", error)
            return
        self._problem = self._told(error)
        passing = isinstance(error, OSError) and error.errno in _PASSING
        if isinstance(error, sqlite3.OperationalError):
            # Those that the sqlite3 module itself raises have no name.
            passing = getattr(error, "sqlite_errorname", "") in _PASSING_SQLITE
        if not passing and not isinstance(error, StorageError | diskcache.Timeout):
            self._in_doubt.set()
        now_s = self._now_s()
        often = self._warned_s is not None and now_s < self._warned_s + WARN_S
        level = logging.DEBUG if often else logging.WARNING
        if not often:
            self._warned_s = now_s
        logger.log(level, "cache: goes without: %s", self._problem)

    def _told(self, error: Exception) -> str:
        """What happened, for a person."""
        is_full = getattr(error, "errno", None) == errno.ENOSPC
        if is_full or getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
            return f"no space left for {self._path}; free some, or set cache.dir to another disk"
        return str(error) or type(error).__name__

    def _well(self) -> None:
        if self._problem:
            if self._warned_s is not None:
                logger.info("cache: works again")
            self._problem = ""

    def _take_counts(self) -> tuple[dict[str, Use], Counts]:
        taken = self._uses, self._counts
        self._uses, self._counts = {}, Counts()
        return taken

    def _now_s(self) -> float:
        return self._clock.now().monotonic_s


def _checked(digest: str) -> str:
    if not DIGEST.fullmatch(digest):
        raise StorageError(f"not the key of a phrase: {digest[:80]!r}")
    return digest
