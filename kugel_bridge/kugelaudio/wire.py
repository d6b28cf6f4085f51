"""JSON objects from strangers: read without surprises, fields taken with their types checked.

The standard decoder lets NaN, lone surrogates and huge nesting through or fails in its own way;
here everything that is not usable ends as a ProtocolError.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from kugel_bridge.model.errors import ProtocolError

JsonObject = Mapping[str, Any]

_QUOTED_CHARACTERS = 60
"""How much of a bad message an error quotes."""


def read_object(text: str | bytes) -> dict[str, Any]:
    """Decode one JSON object.

    Raises ProtocolError for anything else: other JSON, broken JSON, NaN, nesting beyond the
    decoder's depth, bytes that are not UTF-8.
    """
    try:
        # Given bytes, the json module would take UTF-16 and UTF-32 as well.
        value = _DECODER.decode(text.decode() if isinstance(text, bytes) else text)
    # Deep nesting exhausts the decoder's stack: hostile input, not a bug of ours.
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON: {excerpt(text)} ({type(error).__name__})") from error
    if not isinstance(value, dict):
        raise ProtocolError(f"not a JSON object: {excerpt(text)}")
    return value


def write_object(values: JsonObject) -> str:
    """Encode an object in one line; non-ASCII goes out escaped, as the official SDK does it."""
    return _ENCODER.encode(values)


def excerpt(text: str | bytes) -> str:
    """The beginning of a message, fit for a log line."""
    if isinstance(text, bytes):
        text = text[:_QUOTED_CHARACTERS].decode("utf-8", "replace")
    return ascii(text[:_QUOTED_CHARACTERS])


def take_text(values: JsonObject, name: str) -> str | None:
    """The string in field `name`, None where it is absent or null; it can be encoded as UTF-8."""
    value = values.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ProtocolError(f"{name} is not a string")
    if not is_unicode(value):
        raise ProtocolError(f"{name} is not Unicode text")
    return value


def take_number(values: JsonObject, name: str) -> float | None:
    """The finite number in field `name`, None where it is absent or null."""
    value = values.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ProtocolError(f"{name} is not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ProtocolError(f"{name} is not a finite number")
    return number


def take_integer(values: JsonObject, name: str) -> int | None:
    """The whole number in field `name`, None where it is absent or null; 24000.0 counts as one."""
    number = take_number(values, name)
    if number is None:
        return None
    value = values[name]
    if isinstance(value, int):
        return value
    if not number.is_integer():
        raise ProtocolError(f"{name} is not a whole number")
    return int(number)


def take_flag(values: JsonObject, name: str) -> bool | None:
    """The boolean in field `name`, None where it is absent or null."""
    value = values.get(name)
    if value is not None and not isinstance(value, bool):
        raise ProtocolError(f"{name} is neither true nor false")
    return value


def is_unicode(text: str) -> bool:
    """Whether the text can be encoded: JSON lets lone surrogates through, sockets do not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


# Made once: with options like these the json module would make new ones for each message.
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
