"""A database file of ours: opened safely, by one process at a time, moved aside when damaged."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kugel_bridge.model.errors import StorageError
from kugel_bridge.queue.rows import SCHEMA, SCHEMA_VERSION

BUSY_TIMEOUT_S = 1.0
"""How long to wait for another program that reads the file with a lock (s)."""
CHECKPOINT_PAGES = 256
"""The log file is folded into the main file at about 1 MB."""
PAGE_BYTES = 4096
LOG_BYTES = 32 + CHECKPOINT_PAGES * (24 + PAGE_BYTES)
"""What the log takes before it is folded: it has a head, and each page in it has one."""
RESERVE_BYTES = 256 * 1024
"""Space that the main file holds in advance, for rows that come while the disk is full."""
DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_SUFFIXES = ("", "-wal", "-shm")
_ASIDE = ".aside-"


@dataclass(frozen=True, slots=True)
class Layout:
    """What a file holds."""

    schema: str
    """Statements that make the tables."""
    version: int
    setting: str
    """The key of the configuration that says where the file lies."""


QUEUE = Layout(SCHEMA, SCHEMA_VERSION, "queue.path")


class InUseError(StorageError):
    """Another process has the file."""


class DamagedError(StorageError):
    """The file cannot be used as it is, and no wait will change that."""


class Lock:
    """Keeps a second process away from the file; a killed process leaves none behind."""

    def __init__(self, path: Path, setting: str = QUEUE.setting) -> None:
        self._path, self._setting = path, setting
        self._fd: int | None = None

    def take(self) -> None:
        """Hold the lock; raises InUseError while another process does, OSError for the disk."""
        if self._fd is not None:
            return
        # A file of its own: closing any handle of the database would drop SQLite's own locks.
        name = self._path.with_name(f"{self._path.name}.lock")
        # NONBLOCK: a FIFO of that name must not hang the thread.
        how = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(name, how, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(fd)
            raise InUseError(
                f"another kugel-bridge uses {self._path}; stop it, or set {self._setting} to a"
                " file of this one's own"
            ) from error
        except OSError:
            os.close(fd)
            raise
        self._fd = fd

    def release(self) -> None:
        """Let others have it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the file, which is created but not looked at.

    Raises sqlite3.Error, OSError, or StorageError for something that is no file.
    """
    _refuse_what_hangs(path)
    # What is said in a house is nobody else's; SQLite gives its log and index the same mode.
    # Whatever is wrong with the place, SQLite tells.
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    return _connected(path.absolute().as_uri())


def prepare(connection: sqlite3.Connection, path: Path, layout: Layout = QUEUE) -> None:
    """Check the file and give it its tables; its rows are durable at COMMIT.

    Raises DamagedError for what cannot be read, StorageError for a file that belongs to another
    program, sqlite3.Error or OSError for trouble with the disk.
    """
    try:
        _check(connection, path, layout)
        # FULL: with NORMAL a power cut takes rows back that were promised.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        if _user_version(connection) == 0:
            with transaction(connection):
                for statement in layout.schema.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {layout.version}")
            _sync_folder(path.parent)
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise DamagedError(f"{path} is damaged: {error}") from error
        raise


def open_read_only(path: Path) -> sqlite3.Connection:
    """The queue file for a look, beside a running daemon or on a disk that takes no writes.

    Raises sqlite3.Error, OSError, or StorageError for a file that is not a queue of this version.
    """
    _refuse_what_hangs(path)
    uri = path.absolute().as_uri()
    try:
        return _checked(_connected(f"{uri}?mode=ro"))
    except sqlite3.OperationalError:
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise
        # Without a log nobody writes, and SQLite can do without the files that it cannot create.
        return _checked(_connected(f"{uri}?immutable=1"))


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is written inside is on the disk at the end, or nothing of it is."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has rolled back by itself after some errors, a full disk among them.
        if connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


def set_aside(path: Path, wall_s: float) -> Path:
    """Rename the file with its log, and delete all but one of those moved before.

    Returns the new name; raises OSError.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(wall_s))
    aside = path.with_name(f"{path.name}{_ASIDE}{stamp}")
    count = 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{path.name}{_ASIDE}{stamp}.{count}")
    # The log first: a main file that met the log of another would be damaged for good.
    for suffix in reversed(_SUFFIXES):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(f"{aside}{suffix}")
    earlier = [
        old
        for old in path.parent.glob(f"{path.name}{_ASIDE}*")
        if old != aside and not old.name.endswith(_SUFFIXES[1:])
    ]
    for old in sorted(earlier)[:-1]:
        for suffix in _SUFFIXES:
            Path(f"{old}{suffix}").unlink(missing_ok=True)
    _sync_folder(path.parent)
    return aside


def reserve_space(connection: sqlite3.Connection, path: Path) -> None:
    """Make file and log large enough to take some rows when nothing else fits on the disk.

    What an earlier run has reserved is not written again.
    """
    # No space for it, or another trouble, which the next write meets: go on without.
    with contextlib.suppress(OSError):
        _reserve_log(path)
    with contextlib.suppress(sqlite3.Error):
        _reserve_pages(connection)


def _reserve_pages(connection: sqlite3.Connection) -> None:
    # Or dropping the table would copy it to a temporary file before.
    connection.execute("PRAGMA temp_store = MEMORY")
    # One that was killed left it behind; without it this writes nothing.
    connection.execute("DROP TABLE IF EXISTS reserve")
    free_pages = connection.execute("PRAGMA freelist_count").fetchone()[0]
    if free_pages * PAGE_BYTES >= RESERVE_BYTES / 2:
        return
    with transaction(connection):
        connection.execute("CREATE TABLE reserve (space BLOB)")
        connection.execute("INSERT INTO reserve VALUES (zeroblob(?))", (RESERVE_BYTES,))
    with transaction(connection):
        connection.execute("DROP TABLE reserve")
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _reserve_log(path: Path) -> None:
    """Give the log all its room, without writing anything.

    SQLite deletes the log at each end. It takes only what has its checksums for pages.
    """
    how = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(path.with_name(path.name + "-wal"), how)
    try:
        os.posix_fallocate(fd, 0, LOG_BYTES)
    finally:
        os.close(fd)


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says that the file itself is broken."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in DAMAGE


def explained(error: Exception, path: Path) -> str:
    """What is wrong with the disk, for a person."""
    if isinstance(error, StorageError):
        return str(error)
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_FULL":
        return f"no space left for {path}"
    if name.startswith("SQLITE_READONLY"):
        return f"{path} cannot be written: the disk or the file is read-only"
    if name == "SQLITE_BUSY":
        return f"{path} is locked by another program"
    return f"{path} cannot be used: {error}"


def _refuse_what_hangs(path: Path) -> None:
    """SQLite would wait for ever at a FIFO for somebody to write into it."""
    with contextlib.suppress(FileNotFoundError):
        kind = path.stat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise StorageError(f"{path} is not a file; move it out of the way")


def _connected(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    connection.row_factory = sqlite3.Row
    # Damaged text must spoil its row only, not the reading of all rows.
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    return connection


def _checked(connection: sqlite3.Connection) -> sqlite3.Connection:
    try:
        if _user_version(connection) != SCHEMA_VERSION:
            raise StorageError("the file is not a queue of this version of kugel-bridge")
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path, layout: Layout) -> None:
    version = _user_version(connection)
    if version > layout.version:
        raise DamagedError(f"{path} was written by a newer kugel-bridge (format {version})")
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if version == 0 and tables:
        raise StorageError(f"{path} is the database of another program; set {layout.setting}")
    verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if verdict != "ok":
        raise DamagedError(f"{path} is damaged: {verdict}")


def _user_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _sync_folder(folder: Path) -> None:
    """Make new names in the folder survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
