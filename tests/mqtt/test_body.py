"""Plain text, JSON object or JSON list: how a message is told apart."""

from __future__ import annotations

import pytest

from kugel_bridge.model.errors import RejectedError
from kugel_bridge.mqtt.body import Body, read_body, read_object


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        (b"Hello", "Hello"),
        (b"  Hello \n", "Hello"),
        ("\ufeffGrüße".encode(), "Grüße"),
        (b'{"text": "a"}', {"text": "a"}),
        (b' \n{"text": "a"} ', {"text": "a"}),
        (b'["a", {"pause": 5}]', ["a", {"pause": 5}]),
        (b"{name} is at the door", "{name} is at the door"),
        (b"[door] it rings", "[door] it rings"),
        (b'{"text": "a"', '{"text": "a"'),
        (b"42", "42"),
        (b"true", "true"),
        (b'"quoted"', '"quoted"'),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b"", ""),
    ],
)
def test_without_a_content_type_it_is_guessed(payload: bytes, body: Body) -> None:
    assert read_body(payload) == body


@pytest.mark.parametrize(
    ("payload", "content_type", "body"),
    [
        (b'{"text": "a"}', "text/plain", '{"text": "a"}'),
        (b'{"text": "a"}', "text/plain; charset=utf-8", '{"text": "a"}'),
        (b'{"text": "a"}', "application/json", {"text": "a"}),
        (b'{"text": "a"}', "Application/JSON; charset=utf-8", {"text": "a"}),
        (b'"quoted"', "application/json", "quoted"),
        (b'{"text": "a"}', "x/unknown", {"text": "a"}),
    ],
)
def test_a_content_type_decides(payload: bytes, content_type: str, body: Body) -> None:
    assert read_body(payload, content_type) == body


@pytest.mark.parametrize(
    ("payload", "content_type", "reason"),
    [
        (b"\xff\xfe", None, "not valid UTF-8"),
        (b"a\x00b", None, "NUL"),
        (b'{"text": "a"', "application/json", "not JSON"),
        (b"Hello", "application/json", "not JSON"),
        (b"42", "application/json", "object, list or text"),
        (b"null", "application/json", "object, list or text"),
        (b'{"a": NaN}', None, "NaN"),
        (b'{"a": -Infinity}', None, "Infinity"),
        (b'{"a": ' + b"1" * 5000 + b"}", None, "too long"),
        (b'{"a":' * 10_000, None, "too deeply"),
        (b"[" * 60_000, None, "too deeply"),
        (b"x" * 65_537, None, "at most 65536"),
    ],
)
def test_what_cannot_be_read_is_refused(
    payload: bytes, content_type: str | None, reason: str
) -> None:
    with pytest.raises(RejectedError, match=reason):
        read_body(payload, content_type)


def test_the_largest_message_is_taken() -> None:
    assert read_body(b"x" * 65_536) == "x" * 65_536


def test_an_order_may_be_a_text_in_quotes() -> None:
    assert read_object(b'"de"') == "de"
    assert read_object(b'"') == '"'
    assert read_object(b'"a" and "b"') == '"a" and "b"'
