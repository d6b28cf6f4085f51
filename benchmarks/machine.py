"""The machine that figures come from, as far as a reader needs it."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine() -> dict[str, str | int | float]:
    """Cores, processor, kernel, Python, and what it was busy with before; no names, no paths."""
    return {
        "cores": os.cpu_count() or 1,
        "processor": processor(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 1),
    }


def processor() -> str:
    """The name the kernel has for it; of boards, the board's."""
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    found = {name.strip(): value.strip() for name, _, value in lines}
    return found.get("model name") or found.get("Model") or platform.machine()
