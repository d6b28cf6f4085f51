"""Requests and answers in zigbee2mqtt's envelope."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.model.announcement import Priority
from kugel_bridge.model.errors import RejectedError
from kugel_bridge.mqtt.responses import (
    Request,
    answer_payload,
    error_payload,
    parse_request,
    read_arguments,
)


@pytest.mark.parametrize(
    ("payload", "request_"),
    [
        (b"", Request()),
        (b"door-17", Request({"value": "door-17"})),
        (b'"door-17"', Request({"value": "door-17"})),
        (b'{"id": "door-17"}', Request({"id": "door-17"})),
        (b'{"id": "a", "transaction": 5}', Request({"id": "a"}, 5)),
        (b'{"transaction": {"a": [1]}}', Request({}, {"a": [1]})),
        (b'["a"]', Request({"values": ["a"]})),
        (b"PRESS", Request()),
    ],
)
def test_a_request_is_read(payload: bytes, request_: Request) -> None:
    assert parse_request(payload) == request_


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"id": 7, "tag": 5}, {"id": "7", "tag": "5"}),
        ({"priority": 50}, {"priority": Priority.NORMAL}),
        (
            {"priority": "Urgent", "zone": " Attic"},
            {"priority": Priority.CRITICAL, "zone": "attic"},
        ),
        (
            {"pinned": "no", "language": "de-DE", "voice": 3},
            {"pinned": False, "language": "de", "voice": "3"},
        ),
        ({"id": None, "limit": 5, "phrases": ["a"]}, {"limit": 5, "phrases": ["a"]}),
    ],
)
def test_arguments_are_read_as_fields_of_announcements_are(
    given: dict[str, Any], read: dict[str, Any]
) -> None:
    assert read_arguments(given) == read


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"text": 5}, "text: 5 is not possible; give a text in quotes"),
        ({"value": ["a"]}, "value: "),
        ({"id": ""}, "id: '' is not possible"),
        ({"priority": "loud"}, "give one of critical, high"),
        ({"pinned": "perhaps"}, "pinned: 'perhaps' is not possible; give true or false"),
    ],
)
def test_an_argument_that_cannot_be_is_refused_by_name(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(RejectedError, match=re.escape(reason)):
        read_arguments(given)


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
