"""A disk that is slow to sync: a library to preload, built into a test's folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

/* Hangs while the file $SLOW_WHILE is there; else takes $SLOW_MS. */
static void dawdle(void)
{
    const char *file = getenv("SLOW_WHILE"), *ms = getenv("SLOW_MS");
    if (ms)
        usleep(1000 * atoi(ms));
    while (file && access(file, F_OK) == 0)
        usleep(20000);
}

int fsync(int fd)
{
    dawdle();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

int fdatasync(int fd)
{
    dawdle();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
"""


class SlowDisk:
    """Give `environment` to a daemon; it hangs in every sync from `hang` to `heal`."""

    def __init__(self, folder: Path, *, sync_s: float = 0.0) -> None:
        folder.mkdir()
        self._library, self._sync_s = folder / "slow.so", sync_s
        self._while = folder / "hangs"
        source = folder / "slow.c"
        source.write_text(_SOURCE)
        build = ["cc", "-shared", "-fPIC", "-o", str(self._library), str(source), "-ldl"]
        subprocess.run(build, check=True, capture_output=True)

    def environment(self) -> dict[str, str]:
        """Variables of a process that shall suffer from it."""
        return {
            "LD_PRELOAD": str(self._library),
            "SLOW_MS": str(round(1000 * self._sync_s)),
            "SLOW_WHILE": str(self._while),
        }

    def hang(self) -> None:
        """From now on no sync returns."""
        self._while.touch()

    def heal(self) -> None:
        """Let them return."""
        self._while.unlink(missing_ok=True)
