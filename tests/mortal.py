"""`kugel-bridge`, run with a death or a broken disk at a chosen point: tests start it as a process.

    python -m tests.mortal --config FILE run

What the program leaves behind changes only where it calls out: SQLite, files, the broker, the
card. Each such call is a checkpoint, numbered in the order in which they happen. The environment
tells what to do at one of them:

    MORTAL_DIE_AT=N      kill -9 just before the N-th call
    MORTAL_FAIL_AT=N     the N-th storage call fails, once
    MORTAL_FAIL_FROM=N   it and all storage calls after it fail
    MORTAL_NOTES=FILE    a line with the name of each checkpoint
"""

from __future__ import annotations

import errno
import functools
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client

from kugel_bridge.__main__ import main
from kugel_bridge.audio.alsa import AlsaSink


class Fate:
    """Counts the checkpoints, and strikes at the chosen one."""

    def __init__(self) -> None:
        self._die_at = int(os.environ.get("MORTAL_DIE_AT", "0"))
        self._fail_at = int(os.environ.get("MORTAL_FAIL_AT", "0"))
        self._fail_from = int(os.environ.get("MORTAL_FAIL_FROM", "0"))
        notes = os.environ.get("MORTAL_NOTES")
        self._notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if notes else None
        self._calls = self._storage_calls = 0
        self._lock = threading.Lock()

    def call(self, name: str) -> None:
        """A checkpoint that is not storage."""
        with self._lock:
            self._calls += 1
            self._note(name)
            if self._calls == self._die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    def storage_call(self, name: str, error: Callable[[], Exception]) -> None:
        """A checkpoint that may fail with `error`."""
        self.call(name)
        with self._lock:
            self._storage_calls += 1
            number = self._storage_calls
        if number == self._fail_at or 0 < self._fail_from <= number:
            raise error()

    def _note(self, name: str) -> None:
        if self._notes is not None:
            _REAL_WRITE(self._notes, f"{name}\n".encode())


_REAL_WRITE = os.write
FATE = Fate()


def no_space() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device (made up)")


def broken_disk() -> sqlite3.OperationalError:
    return sqlite3.OperationalError("disk I/O error (made up)")


def watched(owner: Any, name: str, before: Callable[[], None]) -> None:
    """Have `before` called ahead of a function of a module or class."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        before()
        return real(*arguments, **options)

    setattr(owner, name, wrapper)


def verb(statement: str) -> str:
    """The first word, of a statement that may be empty."""
    return (statement.split() or ["nothing"])[0]


class WatchedConnection(sqlite3.Connection):
    """A database each of whose calls is a checkpoint."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        FATE.storage_call(f"sqlite {verb(arguments[0])}", broken_disk)
        return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        FATE.storage_call(f"sqlite {verb(arguments[0])} many", broken_disk)
        return super().executemany(*arguments)

    def commit(self) -> None:
        FATE.storage_call("sqlite commit", broken_disk)
        super().commit()


def watch() -> None:
    """Make every call out a checkpoint."""
    real_connect = sqlite3.connect

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        FATE.storage_call("sqlite connect", broken_disk)
        return real_connect(*arguments, **{"factory": WatchedConnection, **options})

    sqlite3.connect = connect
    for name in ("open", "write", "fsync", "fdatasync", "rename", "replace", "unlink", "mkdir"):
        watched(os, name, functools.partial(FATE.storage_call, f"os.{name}", no_space))
    for name in ("publish", "ack", "subscribe"):
        watched(Client, name, functools.partial(FATE.call, f"mqtt {name}"))
    for name in ("open", "write", "drain", "close"):
        watched(AlsaSink, name, functools.partial(FATE.call, f"card {name}"))


if __name__ == "__main__":
    watch()
    sys.exit(main())
