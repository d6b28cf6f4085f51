"""Whose the files of the cache are, when root works in the folder of a service's user."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Owner:
    """Who has to be able to use what is made in a folder."""

    uid: int
    gid: int

    @classmethod
    def of(cls, path: Path) -> Owner | None:
        """The user that what is made below `path` has to be given to; None = nothing to give.

        Only root can give files away, and only needs to in a folder that is not its own: the
        daemon's user could not read, or write, what root leaves there. Raises OSError.
        """
        if os.geteuid() != 0:
            return None
        while not path.exists() and path != path.parent:
            path = path.parent
        status = path.stat()
        if status.st_uid == 0 or not stat.S_ISDIR(status.st_mode):
            return None
        return cls(status.st_uid, status.st_gid)

    def take(self, fd: int) -> None:
        """Give this open file, or folder, to the owner."""
        os.fchown(fd, self.uid, self.gid)


def made_folder(path: Path) -> None:
    """Make a folder nobody else can look into, and those above it; each for its owner."""
    if path.is_dir():
        return
    made_folder(path.parent)
    owner = Owner.of(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    if owner is not None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            owner.take(fd)
        finally:
            os.close(fd)


def made_file(path: Path, owner: Owner | None) -> None:
    """Make an empty file for its owner only, unless there is something already."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except FileExistsError:
        return
    try:
        if owner is not None:
            owner.take(fd)
    finally:
        os.close(fd)
