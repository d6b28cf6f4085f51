"""Values of set/<name>."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.model.announcement import Volume
from kugel_bridge.model.errors import RejectedError
from kugel_bridge.mqtt.setting import SETTINGS, parse_setting


@pytest.mark.parametrize(
    ("name", "payload", "value"),
    [
        ("volume", b"35", Volume(35)),
        ("volume", b"0", Volume(0)),
        ("volume", b"0.5", Volume(50)),
        ("volume", b"+10", Volume(10, relative=True)),
        ("volume", b'{"volume": 35}', Volume(35)),
        ("muted", b"ON", True),
        ("muted", b"off", False),
        ("quiet", b"true", True),
        ("paused", b"0", False),
        ("paused", b'{"value": false}', False),
        ("muted", b'{"state": "ON"}', True),
        ("voice", b"anna", "anna"),
        ("voice", b"12", "12"),
        ("voice", b'"anna"', "anna"),
        ("voice", b"default", None),
        ("language", b"de-DE", "de"),
        ("language", b"None", None),
        ("chime", b"ON", True),
        ("chime", b"gong", "gong"),
        ("chime", b"none", False),
        ("log_level", b"DEBUG", "debug"),
        ("log_level", b"warn", "warning"),
    ],
)
def test_a_value_is_read(name: str, payload: bytes, value: Any) -> None:
    assert parse_setting(name, payload) == value


@pytest.mark.parametrize(
    ("name", "payload", "reason"),
    [
        ("volume", b"101", "volume"),
        ("volume", b"loud", "volume"),
        ("volume", b'{"volume": true}', "volume"),
        ("volume", b"[5]", "volume"),
        ("muted", b"maybe", "true or false"),
        ("language", b"german", "language"),
        ("log_level", b"loud", "debug, info"),
        ("chime", b"{}", "chime"),
        ("brightness", b"5", "there is no setting 'brightness'; there are volume"),
        ("muted", b"\xff", "UTF-8"),
    ],
)
def test_an_impossible_value_is_refused(name: str, payload: bytes, reason: str) -> None:
    with pytest.raises(RejectedError, match=reason):
        parse_setting(name, payload)


@given(st.sampled_from([*SETTINGS, "x"]), st.binary() | st.text().map(lambda t: t.encode()))
def test_any_payload_is_a_value_or_refused(name: str, payload: bytes) -> None:
    try:
        parse_setting(name, payload)
    except RejectedError as error:
        str(error).encode()
