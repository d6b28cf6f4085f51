"""No secret gets into the log, however it is logged."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kugel_bridge.ops.logs import configure
from kugel_bridge.ops.secrets import MASK, SecretFilter

SECRET = "ka_s3cret/+& x"


@pytest.fixture(params=["text", "json", "journal"])
def log(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What the log would show, at debug, in each format."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure("debug", request.param, secrets=[SECRET], stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)


def test_a_secret_is_masked_in_message_arguments_and_traceback(log: io.StringIO) -> None:
    logger = logging.getLogger("somewhere.deep")
    logger.info("key " + SECRET)  # noqa: G003  on purpose: in the message itself
    logger.info("key %s", SECRET)
    logger.info("%(key)s", {"key": SECRET})
    logger.info("%r", {"url": f"wss://host/?q={quote(SECRET, '')}"})
    try:
        raise ValueError(f"bad {SECRET}")
    except ValueError:
        logger.exception("it failed", stack_info=True)
    text = log.getvalue()
    assert "s3cret" not in text
    assert text.count(MASK) >= 5
    assert "ValueError" in text


@pytest.mark.parametrize(
    "line",
    [
        "> GET /ws/tts?api_key=UNKNOWN&sdk=x HTTP/1.1",
        "wss://host/ws/tts?api_key=UNKNOWN",
        "> Authorization: Bearer UNKNOWN",
        "Authorization: Basic UNKNOWN",
        "{'Authorization': 'Bearer UNKNOWN', 'X-API-Key': 'UNKNOWN'}",
        "[(b'authorization', b'Bearer UNKNOWN'), (b'x-api-key', b'UNKNOWN')]",
        '{"api_key": "UNKNOWN", "token": "UNKNOWN"}',
        "token=UNKNOWN",
        "access_token: UNKNOWN",
        "password='UNKNOWN'",
        "sent bearer UNKNOWN",
    ],
)
def test_what_looks_like_a_secret_is_masked_too(line: str) -> None:
    masked = SecretFilter().masked(line.replace("UNKNOWN", "abc-DEF_123.456~"))
    assert "DEF_123" not in masked
    assert MASK in masked


@pytest.mark.parametrize(
    "line",
    [
        "the author ization",
        "3 tokens used",
        "api key is missing",
        "key=5 voice=2",
        "cloud.api_key",
        "it holds cloud.api_key, mqtt.password, gateway.keys and everybody may read it",
    ],
)
def test_ordinary_words_are_left_alone(line: str) -> None:
    assert SecretFilter(["abc"]).masked(line) == line


def test_a_short_secret_is_masked_as_a_word_only() -> None:
    mask = SecretFilter(["abc"])
    assert mask.masked("abc, abcdef xabc") == f"{MASK}, abcdef xabc"


def test_of_two_secrets_the_longer_one_is_masked_whole() -> None:
    assert SecretFilter(["ka_123456", "eu-ka_123456"]).masked("eu-ka_123456") == MASK


def test_secrets_can_be_added_later() -> None:
    mask = SecretFilter()
    mask.add(["abcdefgh"])
    mask.add(["12345678", ""])
    assert mask.masked("abcdefgh 12345678") == f"{MASK} {MASK}"


def test_a_wrong_log_call_neither_raises_nor_leaks(log: io.StringIO) -> None:
    wrong = "%d %s"
    logging.getLogger("x").info(wrong, SECRET)
    assert "s3cret" not in log.getvalue()


@pytest.mark.parametrize(
    "spelt",
    [repr, json.dumps, lambda s: json.dumps(s, ensure_ascii=False), lambda s: repr(s.encode())],
)
def test_a_secret_is_masked_however_it_is_spelt(spelt: Callable[[str], str]) -> None:
    secret = "pä\\ss'wö\"rd\n"
    shown = SecretFilter([secret]).masked(f"refused: {spelt(secret)}.")
    assert shown in (f"refused: '{MASK}'.", f'refused: "{MASK}".', f"refused: b'{MASK}'.")


@given(st.text(), st.text(min_size=6), st.text())
def test_a_known_secret_never_survives(before: str, secret: str, after: str) -> None:
    masked = SecretFilter([secret]).masked(f"{before}{secret}{after}")
    assert secret not in masked or secret in MASK
