"""Fixtures of tests that attack the gateway, and of other rooms that these tests need too."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator

import pytest

from kugel_bridge.gateway import cable, reception
from tests.gateway.attack import FLOOD, SHORT_S
from tests.queue.conftest import small_disk

__all__ = ["small_disk"]


@pytest.fixture
def no_errors_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What clients do is no error of ours."""
    yield
    told = caplog.get_records("call")
    assert [each for each in told if each.levelno >= logging.ERROR] == []


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines that a test can wait for."""
    for name in ("HEAD_S", "BODY_S", "STUCK_S"):
        monkeypatch.setattr(reception, name, SHORT_S)
    monkeypatch.setattr(cable, "FAREWELL_S", SHORT_S)


@pytest.fixture
def many_files() -> Iterator[None]:
    """Enough descriptors for both ends of a flood."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * FLOOD + 1_000
    if 0 <= hard < wanted:
        pytest.skip(f"only {hard} open files are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
