"""The program with a bug where it knows everything: `python -m tests.crasher run`."""

from __future__ import annotations

import sys
from typing import Any

from kugel_bridge.__main__ import main
from kugel_bridge.app.bridge import Bridge


async def crash(self: Bridge, *_: object) -> Any:
    """Fail as a bug would, with everything it knows in its text."""
    secrets = self._settings.secrets()
    raise RuntimeError(f"a bug: {secrets} {self._settings!r} {vars(self)}")


Bridge.run = crash  # type: ignore[method-assign]
sys.exit(main())
