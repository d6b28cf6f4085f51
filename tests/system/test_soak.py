"""A minute in a house in which something breaks all the time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak import Plan, soak

MINUTE = Plan(seconds=60.0, announce_s=1.0, fault_s=6.0, seed=1)


@pytest.mark.timeout(150)
async def test_over_a_minute_of_faults_everything_is_said_once_and_nothing_grows(
    tmp_path: Path, simcard_library: Path
) -> None:
    found = await soak(tmp_path / "house", simcard_library, MINUTE)
    assert found["complaints"] == [], found
    assert found["announcements"] > 20
