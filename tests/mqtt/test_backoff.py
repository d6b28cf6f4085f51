"""How long the bridge waits before it connects again."""

from __future__ import annotations

import pytest

from kugel_bridge.mqtt.backoff import Backoff
from kugel_bridge.mqtt.verdict import End


def test_waits_grow_from_a_quick_try_to_fifteen_seconds() -> None:
    backoff = Backoff(chance=lambda: 1.0)
    assert [backoff.wait_s(End.LOST, 0) for _ in range(8)] == [0.3, 1, 2, 4, 8, 15, 15, 15]


def test_jitter_never_makes_a_wait_longer_and_at_most_halves_it() -> None:
    least, most = Backoff(chance=lambda: 0.0), Backoff(chance=lambda: 1.0)
    for _ in range(10):
        low, high = least.wait_s(End.LOST, 0), most.wait_s(End.LOST, 0)
        assert low in (0, high / 2)


def test_after_a_good_connection_the_first_try_is_quick_again() -> None:
    backoff = Backoff(chance=lambda: 1.0)
    for _ in range(5):
        backoff.wait_s(End.LOST, 0)
    assert backoff.wait_s(End.LOST, 60) == 0.3


def test_a_connection_that_falls_at_once_is_no_good_one() -> None:
    backoff = Backoff(chance=lambda: 1.0)
    assert [backoff.wait_s(End.LOST, 0.5) for _ in range(4)] == [0.3, 1, 2, 4]


def test_a_refused_login_is_tried_again_slowly() -> None:
    assert 48 <= Backoff().wait_s(End.REFUSED, 0) <= 72


@pytest.mark.parametrize("lasted_s", [0, 20])
def test_two_clients_with_one_id_do_not_fight(lasted_s: float) -> None:
    backoff = Backoff(chance=lambda: 1.0)
    waits = [backoff.wait_s(End.TAKEN_OVER, lasted_s) for _ in range(7)]
    assert waits == [5, 10, 20, 40, 80, 120, 120]


def test_endless_failures_do_not_overflow() -> None:
    backoff = Backoff(chance=lambda: 1.0)
    assert {backoff.wait_s(End.LOST, 0) for _ in range(3000)} == {0.3, 1, 2, 4, 8, 15}
    assert max(backoff.wait_s(End.TAKEN_OVER, 0) for _ in range(3000)) == 120
