"""Defaults that depend on the machine: its name, and where files belong."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from kugel_bridge.settings.values import slug_of

CONFIGURATION_FILE = Path("/etc/kugel-bridge/config.toml")


def device_id() -> str:
    """The host name, as a name that fits into a topic."""
    return slug_of(socket.gethostname().split(".")[0])


def cache_directory() -> Path:
    """Where phrases are kept: systemd's directory, else the user's."""
    return _given("CACHE_DIRECTORY") or _own("XDG_CACHE_HOME", ".cache", "/var/cache")


def queue_path() -> Path:
    """The database of what still has to be said."""
    return state_directory() / "queue.db"


def usage_path(queue: Path) -> Path:
    """The database of what the gateway's keys have used: beside the queue's."""
    return queue.parent / "usage.db"


def alerts_directory() -> Path:
    """Where the sound of stored alerts is kept."""
    return state_directory() / "alerts"


def state_directory() -> Path:
    """Where things are kept that may not be lost."""
    return _given("STATE_DIRECTORY") or _own("XDG_STATE_HOME", ".local/state", "/var/lib")


def _given(variable: str) -> Path | None:
    # systemd.exec(5): several directories are parted by a colon.
    first = os.environ.get(variable, "").split(":")[0]
    return Path(first) if first else None


def _own(variable: str, below_home: str, without_home: str) -> Path:
    # XDG base directory specification: a relative path in the variable is to be ignored.
    if (given := Path(os.environ.get(variable, ""))).is_absolute():
        return given / "kugel-bridge"
    try:
        return Path.home() / below_home / "kugel-bridge"
    except RuntimeError:  # a service account without a home
        return Path(without_home) / "kugel-bridge"
