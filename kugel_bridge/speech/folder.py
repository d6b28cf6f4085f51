"""The folder of phrase files: opened so that nothing planted in it is followed or blocks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from kugel_bridge.speech.entry import HEADER_BYTES, MAX_BYTES, BrokenEntryError
from kugel_bridge.speech.owner import Owner, made_folder

Stamp = tuple[int, int, int]
"""Inode, size and time of change (ns)."""
_NAME = re.compile(r"[0-9a-f]{64}-[0-9a-f]{8}\.pcm")
_TEMPORARY = re.compile(r"[0-9a-f]{64}-[0-9a-f]{8}\.part")
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO would wait for its writer.
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class PhraseFolder:
    """Files named by a digest, in one folder that is kept open; every call may block on the disk.

    Raises OSError as the system does.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._owner: Owner | None = None

    def open(self) -> None:
        """Make the folder if need be, and hold it."""
        self.close()
        made_folder(self._path)
        self._owner = Owner.of(self._path)
        self._fd = os.open(self._path, _FOLDER_FLAGS)

    def close(self) -> None:
        """Let go of the folder."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @staticmethod
    def is_name(name: object) -> bool:
        """Whether it is the name of a phrase file, and nothing that leads elsewhere."""
        return isinstance(name, str) and bool(_NAME.fullmatch(name))

    @staticmethod
    def new_name(digest: str) -> str:
        """A name never used before: a phrase made anew never overwrites what is being read."""
        return f"{digest}-{secrets.token_hex(4)}.pcm"

    def read(self, name: str) -> bytes:
        """A whole file.

        Read, not mapped: a mapped file that somebody truncates, or a card that fails, would kill
        the process with SIGBUS in the middle of playing; a read fails with an error.
        Raises BrokenEntryError for anything but a regular file of a sensible size.
        """
        fd = self._opened(name)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise BrokenEntryError("not a regular file")
            if not HEADER_BYTES < status.st_size <= MAX_BYTES:
                raise BrokenEntryError(f"{status.st_size} bytes")
            data = os.read(fd, status.st_size)
            while len(data) < status.st_size and (more := os.read(fd, status.st_size - len(data))):
                data += more
            return data
        finally:
            os.close(fd)

    def stamp(self, name: str) -> Stamp | None:
        """What tells a file from others, and from itself before a change; None if it is gone."""
        try:
            status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def create(self, name: str) -> int:
        """A descriptor of a new temporary file for `name`, locked while its writer lives."""
        fd = os.open(_temporary(name), _WRITE_FLAGS, 0o600, dir_fd=self._fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._owner is not None:
                self._owner.take(fd)
        except OSError:
            os.close(fd)
            raise
        return fd

    def store(self, name: str, data: bytes) -> None:
        """Write a whole file, which is there completely or not at all."""
        fd = self.create(name)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fdatasync(fd)
                # Before it is closed: its lock keeps others from taking it for abandoned.
                self.publish(name)
        except BaseException:
            self.discard(name)
            raise

    def publish(self, name: str) -> None:
        """Give the temporary file of `name` its own name."""
        os.rename(_temporary(name), name, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def discard(self, name: str) -> None:
        """Remove the temporary file of `name`, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_temporary(name), dir_fd=self._fd)

    def remove(self, name: str) -> None:
        """Remove the file, or whatever stands in its place; nothing if it is not there."""
        if not self.is_name(name):
            raise ValueError(f"not the name of a phrase: {name!r}")
        try:
            os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            # Only an empty one: what else lies in it is not ours.
            os.rmdir(name, dir_fd=self._fd)

    def names(self) -> list[str]:
        """All phrase files."""
        with os.scandir(self._fd) as found:
            return [item.name for item in found if self.is_name(item.name)]

    def age_s(self, name: str, now_s: float) -> float:
        """Seconds since the file was written; a time in the future counts like the past."""
        return abs(now_s - os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mtime)

    def remove_stale(self, older_than_s: float, now_s: float) -> Iterator[str]:
        """Remove temporary files whose writer died; yields their names."""
        with os.scandir(self._fd) as found:
            names = [item.name for item in found if _TEMPORARY.fullmatch(item.name)]
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                if self.age_s(name, now_s) > older_than_s and self._is_abandoned(name):
                    os.unlink(name, dir_fd=self._fd)
                    yield name

    def free_bytes(self) -> int:
        """What is left on this disk for us."""
        status = os.fstatvfs(self._fd)
        return status.f_bavail * status.f_frsize

    def _opened(self, name: str) -> int:
        """A descriptor to read by; reading leaves no trace on the disk, if the file is ours."""
        try:
            # Noting when it was read would cost a page of flash a day and phrase.
            return os.open(name, _READ_FLAGS | os.O_NOATIME, dir_fd=self._fd)
        except PermissionError:
            return os.open(name, _READ_FLAGS, dir_fd=self._fd)

    def _is_abandoned(self, name: str) -> bool:
        fd = os.open(name, _READ_FLAGS, dir_fd=self._fd)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return True
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        finally:
            os.close(fd)


def _temporary(name: str) -> str:
    return name.removesuffix(".pcm") + ".part"
