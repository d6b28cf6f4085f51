"""The body of a message told apart: plain text, a JSON object, or a JSON list."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from kugel_bridge.model.announcement import MAX_PAYLOAD_BYTES
from kugel_bridge.model.errors import RejectedError

Body = str | dict[str, Any] | list[Any]

JSON_TYPE = "application/json"
TEXT_TYPE = "text/plain"


class _ImpossibleNumberError(ValueError):
    """NaN or Infinity: valid for Python, not for JSON."""


def read_body(payload: bytes, content_type: str | None = None) -> Body:
    """The text, object or list in `payload`.

    Without a content type (MQTT 5) what looks and parses like a JSON object or list is one, and
    everything else is text. Raises RejectedError for what is neither.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise RejectedError(
            f"the message has {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES} are taken"
        )
    try:
        # The codec that knows the mark takes four times as long.
        text = payload.decode().removeprefix("\ufeff").strip()
    except UnicodeDecodeError as error:
        raise RejectedError(f"the message is not valid UTF-8 (byte {error.start})") from error
    if "\x00" in text:
        raise RejectedError("the message holds a NUL character; remove it")
    if content_type is not None:
        kind = content_type.split(";", 1)[0].strip().lower()
        if kind == TEXT_TYPE:
            return text
        if kind == JSON_TYPE or kind.endswith("+json"):
            return _declared_json(text)
    if text[:1] in ("{", "["):
        try:
            value = _parsed(text)
        except json.JSONDecodeError:
            return text
        if isinstance(value, dict | list):
            return value
    return text


def read_object(payload: bytes, content_type: str | None = None) -> Body:
    """Like `read_body`; a JSON text in quotes is taken as that text too."""
    body = read_body(payload, content_type)
    if isinstance(body, str) and body[:1] == '"' == body[-1:] and len(body) > 1:
        try:
            value = _parsed(body)
        except json.JSONDecodeError:
            return body
        if isinstance(value, str):
            return value
    return body


def _declared_json(text: str) -> Body:
    try:
        value = _parsed(text)
    except json.JSONDecodeError as error:
        raise RejectedError(
            f"the message says it is {JSON_TYPE}, but is not JSON: {error}"
        ) from error
    if not isinstance(value, str | dict | list):
        raise RejectedError("the message must be a JSON object, list or text")
    return value


def _parsed(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        raise
    except _ImpossibleNumberError as error:
        raise RejectedError(f"the message holds {error}, which is no JSON number") from error
    # Python refuses integers of more than 4300 digits, and runs out of stack on deep nesting.
    except ValueError as error:
        raise RejectedError("the message holds a number that is too long") from error
    except RecursionError as error:
        raise RejectedError("the message is nested too deeply") from error


def _refuse_constant(name: str) -> NoReturn:
    raise _ImpossibleNumberError(name)


# Made once: with such an option the json module would make a new one for each message.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
