"""Requests and answers in zigbee2mqtt's envelope."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.model.errors import RejectedError
from kugel_bridge.mqtt.responses import Request, answer_payload, error_payload, parse_request


@pytest.mark.parametrize(
    ("payload", "request_"),
    [
        (b"", Request()),
        (b"door-17", Request({"value": "door-17"})),
        (b'"door-17"', Request({"value": "door-17"})),
        (b'{"id": "door-17"}', Request({"id": "door-17"})),
        (b'{"id": "a", "transaction": 5}', Request({"id": "a"}, 5)),
        (b'{"transaction": {"a": [1]}}', Request({}, {"a": [1]})),
        (b'["a"]', Request({"value": ["a"]})),
    ],
)
def test_a_request_is_read(payload: bytes, request_: Request) -> None:
    assert parse_request(payload) == request_


@pytest.mark.parametrize("transaction", ["a", 5, 0, False, {"a": 1}, [1, None], "ä"])
def test_a_transaction_comes_back_unchanged(transaction: Any) -> None:
    request = parse_request(json.dumps({"transaction": transaction}).encode())
    answer = json.loads(answer_payload({"healthy": True}, request.transaction))
    assert answer == {"data": {"healthy": True}, "status": "ok", "transaction": transaction}


@pytest.mark.parametrize("transaction", ["1e999", '{"a": [-1e999]}', '"' + "x" * 2_000 + '"'])
def test_a_transaction_that_cannot_be_sent_back_is_refused(transaction: str) -> None:
    with pytest.raises(RejectedError, match="transaction"):
        parse_request(f'{{"transaction": {transaction}}}'.encode())


def test_without_a_transaction_there_is_none_in_the_answer() -> None:
    assert json.loads(answer_payload({})) == {"data": {}, "status": "ok"}


def test_an_error_has_no_data() -> None:
    assert json.loads(error_payload("no such verb", "t")) == {
        "data": {},
        "status": "error",
        "error": "no such verb",
        "transaction": "t",
    }


def test_a_transaction_that_is_too_long_is_refused() -> None:
    with pytest.raises(RejectedError, match="transaction"):
        parse_request(b'{"transaction": "' + b"x" * 2000 + b'"}')


@given(st.binary() | st.text(alphabet='{}[]"transcio:,1').map(str.encode))
def test_any_payload_is_a_request_or_refused(payload: bytes) -> None:
    try:
        request = parse_request(payload)
    except RejectedError:
        return
    answer_payload({}, request.transaction)
