"""The program with a bug where it knows everything: `python -m tests.crasher run`."""

from __future__ import annotations

import sys
from collections.abc import Callable

from kugel_bridge.app.bridge import Bridge
from kugel_bridge.cli.main import main


async def crash(self: Bridge, ready: Callable[[], None] = lambda: None) -> None:
    """Fail as a bug would, with everything it knows in its text."""
    settings = self._settings
    key, password = settings.cloud.effective_key, settings.mqtt.password
    assert password is not None
    raise RuntimeError(f"a bug: {key} {password.get_secret_value()} {settings!r} {vars(self)}")


Bridge.run = crash  # type: ignore[method-assign]
sys.exit(main())
