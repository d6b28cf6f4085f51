"""What this process has open, to see that nothing is left over."""

from __future__ import annotations

from pathlib import Path


def open_files() -> frozenset[tuple[str, str]]:
    """The descriptors of this process with what each is.

    Compare sets, not counts: what an earlier test left for the garbage collector may be closed
    in between, and must neither excuse a leak nor look like one.
    """
    found = set()
    for entry in list(Path("/proc/self/fd").iterdir()):
        try:
            found.add((entry.name, str(entry.readlink())))
        except FileNotFoundError:
            continue  # the descriptor that read the directory
    return frozenset(found)
