from __future__ import annotations

import contextlib
import dataclasses
import email.utils
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.kugelaudio.codes import (
    ERRORS_BY_CODE,
    MAX_RETRY_AFTER_S,
    STATUS_BY_CODE,
    Refusal,
    RefusedError,
    error_of_close,
    refusal_from,
    refusal_of_answer,
    retry_after_s,
)
from kugel_bridge.kugelaudio.wire import read_object
from kugel_bridge.model.errors import (
    BridgeError,
    InvalidRequestError,
    NoCreditsError,
    NoSoundError,
    ProtocolError,
    RateLimitedError,
    RetryableError,
    ServiceUnavailableError,
    UnauthorizedError,
)
from tests.kugelaudio.test_wire import JSON

NOW_S = 1_800_000_000.0


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "VALIDATION_ERROR", InvalidRequestError),
        (400, "MISSING_VOICE_ID", InvalidRequestError),
        (401, "UNAUTHORIZED", UnauthorizedError),
        (402, "INSUFFICIENT_CREDITS", NoCreditsError),
        (403, "UNAUTHORIZED", UnauthorizedError),
        (403, None, UnauthorizedError),
        (404, "NOT_FOUND", InvalidRequestError),
        (413, "VALIDATION_ERROR", InvalidRequestError),
        (422, None, InvalidRequestError),
        (429, "RATE_LIMITED", RateLimitedError),
        (429, "TOO_MANY_CONTEXTS", RateLimitedError),
        (429, None, RateLimitedError),
        (500, "INTERNAL_ERROR", ServiceUnavailableError),
        (500, "EMPTY_AUDIO", NoSoundError),
        (501, "VALIDATION_ERROR", InvalidRequestError),
        (501, None, InvalidRequestError),
        (503, "MODEL_UNAVAILABLE", ServiceUnavailableError),
        (503, "INTERNAL_ERROR", ServiceUnavailableError),
        (502, None, ServiceUnavailableError),
        (504, None, ServiceUnavailableError),
        (None, "SOMETHING_NEW", ServiceUnavailableError),
        (None, None, ServiceUnavailableError),
        (418, "SOMETHING_NEW", InvalidRequestError),
    ],
)
def test_every_error_row_has_its_class(
    status: int | None, code: str | None, kind: type[BridgeError]
) -> None:
    error = Refusal(status, code, "why", request_id="req_1").as_error()
    assert type(error) in (kind, RefusedError)
    assert isinstance(error, kind)
    assert "why" in str(error)
    assert "req_1" in str(error)


@pytest.mark.parametrize(
    ("code", "kind", "retry_after"),
    [
        (1000, ServiceUnavailableError, None),
        (1001, ServiceUnavailableError, None),
        (None, ServiceUnavailableError, None),
        (1006, ServiceUnavailableError, None),
        (1008, UnauthorizedError, None),
        (1009, InvalidRequestError, None),
        (1011, ServiceUnavailableError, None),
        (1012, ServiceUnavailableError, 1.0),
        (1013, ServiceUnavailableError, 1.0),
        (4000, ServiceUnavailableError, None),
        (4001, UnauthorizedError, None),
        (4003, NoCreditsError, None),
        (4029, RateLimitedError, None),
        (4500, ServiceUnavailableError, None),
        (1002, ProtocolError, None),
        (1007, ProtocolError, None),
        (4999, ServiceUnavailableError, None),
    ],
)
def test_every_close_code_has_its_class(
    code: int | None, kind: type[BridgeError], retry_after: float | None
) -> None:
    error = error_of_close(code, "because")
    assert type(error) is kind
    assert "because" in str(error)
    assert getattr(error, "retry_after_s", None) == retry_after


def test_retry_after_is_read_as_seconds_or_as_a_date() -> None:
    assert retry_after_s("30", now_s=NOW_S) == 30
    date = email.utils.formatdate(NOW_S + 90, usegmt=True)
    assert retry_after_s(date, now_s=NOW_S) == pytest.approx(90)


@pytest.mark.parametrize("header", [None, "", "soon", "-5", "nan", "inf", "1 2 3", "Mon, 99 Foo"])
def test_a_nonsensical_retry_after_is_ignored(header: str | None) -> None:
    assert retry_after_s(header, now_s=NOW_S) is None


def test_a_huge_retry_after_is_capped_and_a_past_date_ignored() -> None:
    assert retry_after_s("99999999999", now_s=NOW_S) == MAX_RETRY_AFTER_S
    assert retry_after_s("9" * 400, now_s=NOW_S) in (None, MAX_RETRY_AFTER_S)
    assert retry_after_s("Thu, 01 Jan 1970 00:00:00 GMT", now_s=NOW_S) is None


@given(st.text())
def test_any_retry_after_gives_a_sane_wait_or_none(header: str) -> None:
    wait = retry_after_s(header, now_s=NOW_S)
    assert wait is None or 0 <= wait <= MAX_RETRY_AFTER_S


def test_the_answer_of_a_refused_upgrade_keeps_its_header() -> None:
    body = b'{"error": "Rate limit exceeded", "error_code": "RATE_LIMITED", "code": 429}'
    error = refusal_of_answer(429, body, retry_after="7", now_s=NOW_S).as_error()
    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == 7


def test_html_from_a_proxy_is_judged_by_its_status() -> None:
    error = refusal_of_answer(502, b"<html>oops</html>", retry_after=None, now_s=NOW_S).as_error()
    assert isinstance(error, ServiceUnavailableError)
    assert "html" not in str(error)


@pytest.mark.parametrize(
    "fields",
    [
        {"error": {"code": "RATE_LIMITED", "message": "slow down"}},
        {"detail": "slow down", "error_code": "RATE_LIMITED"},
        {"detail": [{"msg": "slow down", "loc": ["body"]}], "error_code": "RATE_LIMITED"},
    ],
)
def test_older_shapes_of_errors_are_understood(fields: dict[str, object]) -> None:
    refusal = refusal_from(fields)
    assert refusal.code == "RATE_LIMITED"
    assert refusal.message == "slow down"


@given(st.binary() | JSON.map(lambda v: json.dumps(v).encode()), st.integers(100, 599))
def test_any_answer_becomes_an_error_that_can_be_printed(body: bytes, status: int) -> None:
    error = refusal_of_answer(status, body, now_s=NOW_S).as_error()
    str(error).encode()
    if isinstance(error, RetryableError) and error.retry_after_s is not None:
        assert 0 <= error.retry_after_s <= MAX_RETRY_AFTER_S


@given(
    st.none() | st.integers(400, 599),
    st.none() | st.sampled_from(["RATE_LIMITED", "NEW"]),
    st.text("abc ü", min_size=1).filter(lambda t: t.strip() == t and t),
)
def test_a_written_refusal_is_read_back(status: int | None, code: str | None, text: str) -> None:
    refusal = Refusal(status, code, text)
    known = dataclasses.replace(refusal, status=status or STATUS_BY_CODE.get(code or ""))
    assert refusal_from(read_object(refusal.to_json())) == known


@given(JSON)
def test_any_object_can_be_read_as_an_error(value: object) -> None:
    for name in ("error", "detail", "code", "error_code", "request_id", "retry_after"):
        with contextlib.suppress(ProtocolError):
            str(refusal_from({"error": "x", name: value}).as_error()).encode()


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"error_code": "NOT_FOUND"}, 404),
        ({"error_code": "NOT_FOUND", "code": 410}, 410),
        *[({"error_code": "VALIDATION_ERROR", "code": code}, 400) for code in (101, 200, 204, 399)],
        ({"error_code": "VALIDATION_ERROR", "code": 600}, 400),
        ({"error_code": "VALIDATION_ERROR", "code": True}, 400),
        ({"error_code": "SOMETHING_NEW", "code": 200}, None),
        ({"code": 418}, 418),
    ],
)
def test_an_error_frame_has_the_status_of_an_error(
    fields: dict[str, object], status: int | None
) -> None:
    assert refusal_from({"error": "why", **fields}).status == status


def test_every_error_code_has_a_status() -> None:
    assert set(STATUS_BY_CODE) == set(ERRORS_BY_CODE)
