from __future__ import annotations

import contextlib
import re
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.kugelaudio.hosts import (
    checked_key,
    http_url,
    is_address,
    is_same_server,
    socket_url,
)
from kugel_bridge.model.errors import ConfigurationError


@pytest.mark.parametrize(
    ("base", "http", "ws"),
    [
        (
            "https://api.kugelaudio.com",
            "https://api.kugelaudio.com/p",
            "wss://api.kugelaudio.com/p?",
        ),
        ("http://127.0.0.1:8780/", "http://127.0.0.1:8780/p", "ws://127.0.0.1:8780/p?"),
        ("http://[::1]:8780/base/", "http://[::1]:8780/base/p", "ws://[::1]:8780/base/p?"),
    ],
)
def test_addresses_are_made_from_the_base(base: str, http: str, ws: str) -> None:
    assert http_url(base, "/p") == http
    assert socket_url(base, "/p") == ws


@pytest.mark.parametrize(
    ("base", "host", "port", "expected"),
    [
        ("http://127.0.0.1:8780", "127.0.0.1", 8780, True),
        ("http://localhost:8780/", "127.0.0.1", 8780, True),
        ("http://[::1]:8780", "0.0.0.0", 8780, True),
        (f"http://{socket.gethostname()}:8780", "0.0.0.0", 8780, True),
        ("http://192.168.1.5:8780", "192.168.1.5", 8780, True),
        ("http://192.168.1.5:8780", "127.0.0.1", 8780, False),
        ("http://127.0.0.1:8781", "127.0.0.1", 8780, False),
        ("https://api.kugelaudio.com", "0.0.0.0", 443, False),
        ("http://localhost", "127.0.0.1", 80, True),
        ("http://[", "127.0.0.1", 80, False),
    ],
)
def test_an_address_of_our_own_is_known(base: str, host: str, port: int, expected: bool) -> None:
    assert is_same_server(base, host, port) is expected


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example", ".a"])
def test_a_name_that_cannot_be_looked_up_is_a_configuration_error(host: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(host)):
        socket_url(f"http://{host}:1", "/p")


def test_a_key_is_encoded_and_an_empty_one_left_out() -> None:
    assert socket_url("http://h", "/p", api_key="a&b=c") == "ws://h/p?api_key=a%26b%3Dc"
    assert socket_url("http://h", "/p", api_key="", model_id="m") == "ws://h/p?model_id=m"


@given(st.text())
def test_any_text_makes_an_address_or_a_configuration_error(base: str) -> None:
    with contextlib.suppress(ConfigurationError):
        assert http_url(base, "/p").startswith(("http://", "https://"))


def test_names_and_addresses_are_told_apart() -> None:
    assert is_address("http://127.0.0.1:1")
    assert is_address("http://[::1]:1/base")
    assert not is_address("https://api.kugelaudio.com")


@pytest.mark.parametrize("key", ["a b", "a\nb", "schlüssel", "\x00"])
def test_a_key_that_cannot_travel_is_refused_unseen(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        checked_key(key)
    assert key not in str(caught.value)
