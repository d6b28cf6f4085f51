from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.kugelaudio.wire import (
    is_unicode,
    read_object,
    take_flag,
    take_integer,
    take_number,
    take_text,
    write_object,
)
from kugel_bridge.model.errors import ProtocolError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.text() | st.binary() | JSON.map(json.dumps))
def test_reading_raises_nothing_but_protocol_errors(text: str | bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert isinstance(read_object(text), dict)


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.booleans() | st.none()))
def test_what_was_written_is_read_back(values: dict[str, object]) -> None:
    assert read_object(write_object(values)) == values


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        '{"a": NaN}',
        '{"a": -Infinity}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"a": ' + "9" * 10_000 + "}",
        b"\xff\xfe\x00",
        b'{"a": "\xff"}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-16-le"),
        '{"a": 1}'.encode("utf-32"),
        "<html>502 Bad Gateway</html>",
    ],
)
def test_what_is_not_a_json_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(ProtocolError):
        read_object(text)


@given(JSON)
def test_fields_of_any_value_raise_nothing_but_protocol_errors(value: object) -> None:
    fields = {"x": value}
    for take in (take_text, take_number, take_integer, take_flag):
        with contextlib.suppress(ProtocolError):
            take(fields, "x")


def test_lone_surrogates_are_not_text() -> None:
    fields = read_object('{"text": "\\ud800"}')
    assert not is_unicode(fields["text"])
    with pytest.raises(ProtocolError, match="Unicode"):
        take_text(fields, "text")


def test_whole_floats_count_as_integers_and_booleans_do_not() -> None:
    assert take_integer({"sr": 24000.0}, "sr") == 24_000
    for value in (True, 0.5, "24000", 1e999):
        with pytest.raises(ProtocolError):
            take_integer({"sr": value}, "sr")
