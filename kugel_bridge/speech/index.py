"""The index of the phrase cache: diskcache behind guards.

As it comes, diskcache unpickles what stands in its database (CVE-2025-69872) and opens any file
name found there. The `Disk` below takes names and short texts only, and reads no file at all.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diskcache
from diskcache.core import DEFAULT_SETTINGS, METADATA, MODE_BINARY, MODE_RAW

from kugel_bridge.speech.folder import PhraseFolder
from kugel_bridge.speech.owner import Owner, made_file
from kugel_bridge.speech.phrase import DIGEST

logger = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 1.0
"""How long a statement waits for another process that writes."""
PAGE_BYTES = 1024
"""A row touches four pages; with the usual 4096 bytes each new phrase would cost 18 KB of flash."""
MAX_INLINE = 64 * 1024

_FILE = "cache.db"
_SETTINGS = {
    # Nothing is counted, culled or written on a hit.
    "eviction_policy": "none",
    "cull_limit": 0,
    "size_limit": 1 << 60,
    "statistics": 0,
    "tag_index": 0,
    "sqlite_auto_vacuum": 0,
    "sqlite_cache_size": 256,
    "sqlite_journal_mode": "wal",
    # A mapped file that is truncated kills the process; a read fails with an error.
    "sqlite_mmap_size": 0,
    # A row lost in a power cut leaves a file that is found again; no sync is worth it.
    "sqlite_synchronous": 1,
    "disk_min_file_size": 0,
    "disk_pickle_protocol": 0,
}


class UnreadableRowError(Exception):
    """A row that we did not write."""


@dataclass(frozen=True, slots=True)
class FileName:
    """The name of a phrase file, as it stands in the index."""

    name: str
    size: int = 0
    """Bytes; only told to the index, not by it."""


class GuardedDisk(diskcache.Disk):  # type: ignore[misc] # diskcache has no types
    """Keeps file names and short texts in rows; never pickles, never opens a file."""

    folder: PhraseFolder | None = None

    def __init__(self, directory: str, **_: Any) -> None:
        super().__init__(directory)

    def put(self, key: object) -> tuple[str, bool]:
        if not isinstance(key, str):
            raise TypeError(f"not a key of ours: {key!r}")
        return key, True

    def get(self, key: object, raw: object) -> str:
        """The key of a row; empty for one that we did not write."""
        return key if raw and isinstance(key, str) else ""

    def store(self, value: object, read: bool, key: object = None) -> tuple[Any, ...]:
        if isinstance(value, FileName):
            return value.size, MODE_BINARY, value.name, None
        if isinstance(value, str) and len(value) <= MAX_INLINE:
            return 0, MODE_RAW, None, value
        raise TypeError(f"not a value of ours: {type(value).__name__}")

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> str | FileName:
        if mode == MODE_RAW and filename is None and isinstance(value, str):
            return value
        if mode == MODE_BINARY and isinstance(filename, str) and PhraseFolder.is_name(filename):
            return FileName(filename)
        raise UnreadableRowError(f"mode {mode!r}, file {filename!r}")

    def filename(self, key: object = None, value: object = None) -> tuple[str, str]:
        raise TypeError("files are named by the cache")

    def remove(self, name: object) -> None:
        """Called by diskcache after a row is gone."""
        if self.folder is not None and isinstance(name, str) and PhraseFolder.is_name(name):
            # What cannot be removed now is found again as an orphan.
            with contextlib.suppress(OSError):
                self.folder.remove(name)


class PhraseIndex:
    """Which file holds which phrase, who is pinned, and how often each was used.

    Every call may block on the disk or on another process. Raises whatever diskcache, SQLite and
    the system raise. Each thread that used it calls `release` before it ends.
    """

    def __init__(self, path: Path, folder: PhraseFolder) -> None:
        self._path, self._folder = path, folder
        self._cache: Any = None

    def open(self) -> None:
        """Open the index; one that is damaged or not ours is moved aside."""
        if (trouble := self._trouble()) is not None:
            self._move_aside(trouble)
        # SQLite gives its log and shared memory the owner and mode of the database.
        made_file(self._path / _FILE, Owner.of(self._path))
        # diskcache opens and closes it twice; with each last connection SQLite would fold its log
        # into the database, and delete log and shared memory only to make them again.
        with contextlib.closing(self._connection()) as connection:
            self._set_page_size(connection)
            self._cache = diskcache.Cache(
                str(self._path), timeout=LOCK_TIMEOUT_S, disk=GuardedDisk, **_SETTINGS
            )
            self._cache.disk.folder = self._folder

    def release(self) -> None:
        """Close this thread's connection."""
        if self._cache is not None:
            self._cache.close()

    @property
    def volume(self) -> int:
        """Bytes of all phrases and of the index itself."""
        return int(self._cache.volume())

    def find(self, digest: str) -> str | None:
        """The file of a phrase, None if there is none; raises UnreadableRowError."""
        file = self._cache.get(digest, read=True)
        return file.name if isinstance(file, FileName) else None

    def describe(self, digest: str) -> tuple[str, str] | None:
        """File and description of a phrase; raises UnreadableRowError."""
        file, about = self._cache.get(digest, read=True, tag=True)
        known = isinstance(file, FileName) and isinstance(about, str)
        return (file.name, about) if known else None

    def add(self, digest: str, file: FileName, about: str) -> None:
        """Let the phrase be found; a file it had before is removed."""
        self._cache.set(digest, file, tag=about)

    def drop(self, digest: str, name: str | None = None) -> bool:
        """Forget the phrase and remove its file; only if it still is `name`, where given."""
        with self._cache.transact():
            if name is not None:
                with contextlib.suppress(UnreadableRowError):
                    if self.find(digest) != name:
                        return False
            self._cache.delete(f"use:{digest}")
            return bool(self._cache.delete(digest))

    def digests(self) -> Iterator[str]:
        """All phrases, oldest first."""
        return (key for key in self._cache if DIGEST.fullmatch(key))

    def marked(self, kind: str) -> dict[str, str]:
        """What is noted under `kind` (`pin`, `use`), by digest."""
        prefix = kind + ":"
        keys = [key for key in self._cache if key.startswith(prefix)]
        return {key.removeprefix(prefix): str(self.note(key)) for key in keys}

    def note(self, key: str) -> str:
        """What is noted under a key, empty if nothing."""
        with contextlib.suppress(UnreadableRowError):
            value = self._cache.get(key, "")
            return "" if isinstance(value, FileName) else str(value)
        return ""

    def write_notes(self, notes: Mapping[str, str | None]) -> None:
        """Note all in one transaction; None takes a note away."""
        with self._cache.transact():
            for key, value in notes.items():
                if value is None:
                    self._cache.delete(key)
                else:
                    self._cache.set(key, value)

    def has(self, key: str) -> bool:
        """Whether there is a row of that key."""
        return key in self._cache

    def _trouble(self) -> str | None:
        """What is wrong with the database, None if nothing; OSError, locked: not for us to say."""
        file = self._path / _FILE
        try:
            if not stat.S_ISREG(os.lstat(file).st_mode):
                return "it is not a regular file"
        except FileNotFoundError:
            return None
        connection = self._connection()
        try:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                return str(found)
            tables = "SELECT count(*) FROM sqlite_master WHERE name IN ('Settings', 'Cache')"
            if connection.execute(tables).fetchone() == (0,):
                return None
            connection.execute("SELECT key, raw, tag, mode, filename, value FROM Cache LIMIT 1")
            # diskcache makes an attribute or a PRAGMA of every name that stands there.
            names = {name for (name,) in connection.execute("SELECT key FROM Settings")}
            strange = names - DEFAULT_SETTINGS.keys() - METADATA.keys()
            return f"settings of another kind: {strange}" if strange else None
        except sqlite3.OperationalError as error:
            if "no such" not in str(error):
                raise
            return str(error)
        except sqlite3.DatabaseError as error:
            return str(error)
        finally:
            connection.close()

    def _connection(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path / _FILE, timeout=LOCK_TIMEOUT_S)

    @staticmethod
    def _set_page_size(connection: sqlite3.Connection) -> None:
        """Give a database that is still empty small pages; diskcache would be too late for it."""
        if connection.execute("PRAGMA page_count").fetchone() == (0,):
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = wal")

    def _move_aside(self, trouble: str) -> None:
        logger.warning("cache: the index is unusable (%s); starting a new one", trouble)
        # The log and the shared memory belong to the database: they go with it.
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                old = self._path / (_FILE + suffix)
                old.replace(old.with_name(f"{_FILE}.broken{suffix}"))
