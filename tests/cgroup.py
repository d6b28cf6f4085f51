"""A control group for tests: what a service may use up, kept by the kernel as under systemd.

Takes root and a writable hierarchy, of cgroup v2 or of its predecessor.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_NUMBERS = itertools.count()
_EMPTY_WITHIN_S = 5.0
_FILES = {
    # The figure: its file in v2, and in v1.
    "memory limit": ("memory.max", "memory.limit_in_bytes"),
    "memory peak": ("memory.peak", "memory.max_usage_in_bytes"),
    "kills": ("memory.events", "memory.oom_control"),
    "task limit": ("pids.max", "pids.max"),
    "tasks": ("pids.current", "pids.current"),
}


class NoControlGroupError(Exception):
    """This machine does not let us make one; says why."""


class ControlGroup:
    """Processes that share one bound on memory and one on tasks (processes and threads)."""

    def __init__(self, memory: Path, pids: Path, version: int) -> None:
        self._folders = {"memory": memory, "pids": pids}
        self._version = version
        script = "".join(f"echo $$ >{path}/cgroup.procs && " for path in {memory, pids})
        self.inside = ("sh", "-c", f'{script} exec "$@"', "sh")
        """A command that starts the rest of its line in the group."""

    def limit_memory(self, size: int) -> None:
        """Let the kernel kill what uses more (bytes)."""
        self._file("memory limit").write_text(str(size))

    def limit_tasks(self, count: int | None) -> None:
        """Let there be no further process or thread beyond so many; None: as many as wanted."""
        self._file("task limit").write_text("max" if count is None else str(count))

    @property
    def memory_peak(self) -> int:
        """The most it ever had, with what the kernel holds of its files (bytes)."""
        return int(self._file("memory peak").read_text())

    @property
    def killed(self) -> int:
        """How many processes the kernel killed for want of memory."""
        counts = dict(line.split() for line in self._file("kills").read_text().splitlines())
        return int(counts["oom_kill"])

    @property
    def tasks(self) -> int:
        """Processes and threads in it now."""
        return int(self._file("tasks").read_text())

    def _file(self, figure: str) -> Path:
        name = _FILES[figure][self._version == 1]
        return self._folders[name.partition(".")[0]] / name


@contextlib.contextmanager
def control_group() -> Iterator[ControlGroup]:
    """A group without bounds; raises NoControlGroupError where there can be none."""
    name = f"kugel-test-{os.getpid()}-{next(_NUMBERS)}"
    controllers = _ROOT / "cgroup.controllers"
    if controllers.exists():
        if not {"memory", "pids"} <= set(controllers.read_text().split()):
            raise NoControlGroupError("cgroup v2 without the controllers memory and pids")
        version, folders = 2, [_ROOT / name]
    elif (_ROOT / "memory").exists() and (_ROOT / "pids").exists():
        version, folders = 1, [_ROOT / "memory" / name, _ROOT / "pids" / name]
    else:
        raise NoControlGroupError("there are no control groups")
    with contextlib.ExitStack() as undo:
        try:
            if version == 2:
                (_ROOT / "cgroup.subtree_control").write_text("+memory +pids")
            for folder in folders:
                folder.mkdir()
                undo.callback(_remove, folder)
        except OSError as error:
            raise NoControlGroupError(str(error)) from error
        yield ControlGroup(folders[0], folders[-1], version)


def _remove(folder: Path) -> None:
    # A process that has ended stays in its group for a moment.
    give_up_s = time.monotonic() + _EMPTY_WITHIN_S
    while True:
        try:
            folder.rmdir()
            return
        except OSError:
            if time.monotonic() > give_up_s:
                raise
            time.sleep(0.01)
