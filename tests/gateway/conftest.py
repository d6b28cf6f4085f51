"""Fixtures of other rooms that these tests need too."""

from __future__ import annotations

from tests.queue.conftest import small_disk

__all__ = ["small_disk"]
