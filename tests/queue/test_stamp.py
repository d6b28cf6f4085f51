from __future__ import annotations

import pytest

from kugel_bridge.model.clock import Instant
from kugel_bridge.queue.stamp import BOOT_ID_FILE, Stamp, boot_id


@pytest.mark.parametrize(
    ("saved_boot", "now_boot", "wall_s", "shift_s"),
    [
        ("a", "a", 5_000.0, 0.0),
        ("a", "a", 9_999.0, 0.0),
        ("a", "a", 1.0, 0.0),
        ("a", "b", 5_000.0, 10.0 - 800.0),
        ("a", "b", 5_060.0, 10.0 - 800.0 - 60.0),
        ("a", "b", 3.0, 10.0 - 800.0),
        ("", "", 5_060.0, 10.0 - 800.0 - 60.0),
    ],
)
def test_monotonic_times_move_only_between_boots(
    saved_boot: str, now_boot: str, wall_s: float, shift_s: float
) -> None:
    saved = Stamp(saved_boot, Instant(5_000.0, 800.0))
    assert saved.shift_s(Stamp(now_boot, Instant(wall_s, 10.0))) == shift_s


@pytest.mark.skipif(not BOOT_ID_FILE.exists(), reason="the kernel tells no boot id")
def test_the_boot_id_is_the_same_all_the_time() -> None:
    assert len(boot_id()) == 36
    assert boot_id() == boot_id()
