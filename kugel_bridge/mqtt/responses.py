"""Requests and their answers, in the envelope that zigbee2mqtt made familiar."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kugel_bridge.model.errors import RejectedError
from kugel_bridge.mqtt.body import read_object
from kugel_bridge.mqtt.choices import priority_of
from kugel_bridge.mqtt.events import json_bytes
from kugel_bridge.mqtt.fields import flag_of, language_of, text_of, word_of

MAX_TRANSACTION_BYTES = 1024
"""It is carried to the answer; a deeply nested one could not be written again."""
BUTTON = "PRESS"
"""What a button of Home Assistant sends: no more than an empty payload."""
_READERS: Mapping[str, Callable[[str, object], object]] = {
    "value": text_of,
    "id": word_of,
    "tag": word_of,
    "priority": priority_of,
    "zone": lambda field, value: word_of(field, value).lower(),
    "text": text_of,
    "language": language_of,
    "voice": word_of,
    "pinned": flag_of,
}
"""Arguments that mean the same in every request, read as those of announcements are."""


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks for."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    """An object's fields; a text is in `value`, a list in `values`; empty for an empty payload."""
    transaction: Any = None
    """Any JSON value, given back as it came; None if there was none."""


def parse_request(payload: bytes, content_type: str | None = None) -> Request:
    """The request in a payload: nothing, a text, a list, or an object.

    An object may have a `transaction`.

    Raises RejectedError for what cannot be read.
    """
    body = read_object(payload, content_type)
    if isinstance(body, dict):
        transaction = body.pop("transaction", None)
        try:
            size = len(json_bytes(transaction))
        except ValueError as error:
            # 1e999 is read as infinity, which JSON cannot write.
            raise RejectedError(f"transaction: {transaction!r:.80} cannot be sent back") from error
        if size > MAX_TRANSACTION_BYTES:
            raise RejectedError(f"transaction: more than {MAX_TRANSACTION_BYTES} bytes")
        return Request(body, transaction)
    if body in ("", BUTTON):
        return Request()
    return Request({"values" if isinstance(body, list) else "value": body})


def read_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as typed values, without those that are null; raises RejectedError."""
    return {
        name: _READERS[name](name, value) if name in _READERS else value
        for name, value in arguments.items()
        if value is not None
    }


def answer_payload(data: Mapping[str, Any], transaction: Any = None) -> bytes:
    """The answer to a request that was carried out."""
    return _enveloped({"data": data, "status": "ok"}, transaction)


def error_payload(error: str, transaction: Any = None) -> bytes:
    """The answer to a request that failed, with the reason for a person."""
    return _enveloped({"data": {}, "status": "error", "error": error}, transaction)


def _enveloped(envelope: dict[str, Any], transaction: Any) -> bytes:
    if transaction is not None:
        envelope["transaction"] = transaction
    return json_bytes(envelope)
