from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.kugelaudio.standing import MAX_BACKOFF_S, PAUSE_S, Standing
from kugel_bridge.model.errors import (
    BridgeError,
    InvalidRequestError,
    NoCreditsError,
    NoSoundError,
    RateLimitedError,
    ServiceUnavailableError,
    UnauthorizedError,
)
from kugel_bridge.model.status import CloudStatus

DOWN = ServiceUnavailableError("down")
LIMITED = RateLimitedError("slow down", retry_after_s=30)


def standing(jitter: float = 1.0) -> Standing:
    return Standing(lambda: jitter)


def test_nothing_is_known_at_first_and_asking_makes_sense() -> None:
    it = standing()
    assert it.status is None
    assert it.objection(0) is None


def test_backoff_doubles_up_to_its_cap_and_starts_anew_after_a_success() -> None:
    it = standing()
    waits = []
    for _ in range(9):
        it.failed(DOWN, 0, connecting=True)
        waits.append(it.wait_s(0))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    it.spoke()
    it.failed(DOWN, 0)
    assert it.wait_s(0) == 1


def test_a_socket_that_opens_but_does_not_last_keeps_the_backoff_growing() -> None:
    it = standing()
    for wait in (1, 2, 4):
        it.failed(DOWN, 0, connecting=True)
        assert it.wait_s(0) == wait
        it.connected()
        assert it.status is CloudStatus.OK
    it.settled()
    it.failed(DOWN, 0, connecting=True)
    assert it.wait_s(0) == 1


@given(st.floats(0, 1), st.integers(1, 5000))
def test_jitter_shortens_a_wait_by_at_most_half(jitter: float, failures: int) -> None:
    it = standing(jitter)
    for _ in range(failures):
        it.failed(DOWN, 0)
    assert 0.5 <= it.wait_s(0) <= MAX_BACKOFF_S


def test_the_wish_of_the_service_wins_over_backoff() -> None:
    it = standing(0.0)
    it.failed(LIMITED, 100)
    assert it.wait_s(100) == 30
    error = it.objection(120)
    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == 10
    assert it.objection(130) is None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnauthorizedError("no"), CloudStatus.UNAUTHORIZED),
        (NoCreditsError("no"), CloudStatus.NO_CREDITS),
    ],
)
def test_what_a_person_has_to_mend_pauses_for_a_quarter_of_an_hour(
    error: BridgeError, status: CloudStatus
) -> None:
    it = standing()
    it.failed(error, 0)
    assert it.status is status
    assert it.wait_s(0) == PAUSE_S
    assert type(it.objection(1)) is type(error)
    assert it.objection(PAUSE_S) is None


def test_an_open_socket_does_not_undo_a_verdict_on_requests() -> None:
    it = standing()
    it.failed(NoCreditsError("no"), 0)
    it.connected()
    assert it.status is CloudStatus.NO_CREDITS
    it.spoke()
    assert it.status is CloudStatus.OK


def test_an_open_socket_undoes_a_refused_upgrade() -> None:
    it = standing()
    it.failed(UnauthorizedError("no"), 0, connecting=True)
    it.connected()
    assert it.status is CloudStatus.OK


def test_a_rate_limit_lapses_by_itself() -> None:
    it = standing(0.0)
    it.connected()
    it.failed(LIMITED, 0)
    it.lapse(29)
    assert it.status is CloudStatus.LIMITED
    it.lapse(30)
    assert it.status is CloudStatus.OK


def test_a_request_that_was_bad_in_itself_changes_nothing() -> None:
    it = standing()
    it.connected()
    it.failed(InvalidRequestError("no such voice"), 0)
    it.failed(NoSoundError("the service sent no sound"), 0)
    assert it.status is CloudStatus.OK
    assert it.objection(0) is None


def test_a_wish_for_no_wait_at_all_makes_no_storm_of_upgrades() -> None:
    it = standing()
    for wait in (1, 2, 4):
        it.failed(ServiceUnavailableError("down", retry_after_s=0), 0, connecting=True)
        assert it.wait_s(0) == wait


def test_a_wish_is_kept_a_little_longer_than_asked() -> None:
    it = standing(jitter=1.0)
    it.failed(LIMITED, 0, connecting=True)
    assert it.wait_s(0) == pytest.approx(33)


def test_an_objection_is_known_for_what_it_is_until_something_else_fails() -> None:
    it = standing()
    it.failed(LIMITED, 0)
    objection = it.objection(0)
    assert objection is not None
    assert it.knows(objection)
    assert it.knows(LIMITED)
    assert not it.knows(RateLimitedError("slow down"))
    it.failed(DOWN, 0)
    assert not it.knows(objection)
    it.spoke()
    assert not it.knows(DOWN)
