"""What the kernel counts of a process, read from /proc."""

from __future__ import annotations

import os
from pathlib import Path


class Process:
    """One that runs, by its id; children are not counted."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")

    def memory_mb(self, name: str = "VmRSS") -> float:
        """`VmRSS` is what it has now, `VmHWM` the most that it had, `RssAnon` its own (MB)."""
        return int(_field(self._proc / "status", name)) * 1024 / 1e6

    def forget_most_memory(self) -> None:
        """Have `VmHWM` begin again with what it has now."""
        (self._proc / "clear_refs").write_text("5")

    @property
    def cpu_ms(self) -> float:
        """Processor time so far, of the threads that live (schedstat is in ns)."""
        return sum(int((task / "schedstat").read_text().split()[0]) for task in self._tasks) / 1e6

    @property
    def processor_s(self) -> float:
        """Processor time so far, of ended threads too, in the kernel's coarse ticks (s)."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def sleeps(self) -> int:
        """How often its threads went to sleep so far, and so had been woken."""
        return sum(int(_field(task / "status", "voluntary_ctxt_switches")) for task in self._tasks)

    @property
    def threads(self) -> int:
        """How many it has now."""
        return len(self._tasks)

    @property
    def written_bytes(self) -> int:
        """Bytes that it made the file system write to a device; whole pages."""
        return int(_field(self._proc / "io", "write_bytes"))

    @property
    def _tasks(self) -> list[Path]:
        return list((self._proc / "task").iterdir())


def _field(file: Path, name: str) -> str:
    lines = file.read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{name}:")).split()[1]
