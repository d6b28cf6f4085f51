"""A disk of its own for tests, to be filled up and made read-only: a tmpfs, which takes root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class NoSmallDiskError(Exception):
    """This machine does not let us mount one; says why."""


class SmallDisk:
    """A mounted tmpfs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill_up(self) -> None:
        """Take all space there is."""
        fd = os.open(self._filler, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        try:
            for size in (65_536, 4_096):
                while True:
                    try:
                        os.write(fd, bytes(size))
                    except OSError:
                        break
        finally:
            os.close(fd)

    def give_back(self) -> None:
        """Free what was filled up."""
        self._filler.unlink(missing_ok=True)

    def remount(self, how: str) -> None:
        """`ro` or `rw`; refused while somebody writes to it."""
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.folder)], check=True)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A disk of that size at `folder`; raises NoSmallDiskError where that is not allowed."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    done = subprocess.run(mount, check=False, capture_output=True, text=True)
    if done.returncode:
        raise NoSmallDiskError(done.stderr.strip())
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily: a daemon that a failing test left behind must not keep it.
        subprocess.run(["umount", "-l", str(folder)], check=True)
