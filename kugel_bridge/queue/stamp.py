"""When a row was written, so that its times mean the same after a restart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kugel_bridge.model.clock import Instant

BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
"""A new random text at every boot of the kernel (random(4))."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """A moment on both clocks, and the boot that the monotonic clock counts from."""

    boot_id: str
    """Empty = unknown, and then never the same as another."""
    at: Instant

    def shift_s(self, now: Stamp) -> float:
        """What to add to monotonic times of this stamp to have them on the clock of `now` (s).

        Within one boot nothing: the clock is the same, whatever became of the wall clock. After a
        reboot the wall clock tells how long the machine was off; one that went back tells nothing.
        """
        if self.boot_id and self.boot_id == now.boot_id:
            return 0.0
        off_s = max(0.0, now.at.wall_s - self.at.wall_s)
        return now.at.monotonic_s - self.at.monotonic_s - off_s


def boot_id() -> str:
    """The id of this boot; empty where the kernel tells none."""
    try:
        return BOOT_ID_FILE.read_text("ascii").strip()
    except OSError:
        return ""
