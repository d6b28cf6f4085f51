"""Requests and their answers, in the envelope that zigbee2mqtt made familiar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kugel_bridge.model.errors import RejectedError
from kugel_bridge.mqtt.body import read_object
from kugel_bridge.mqtt.events import json_bytes

MAX_TRANSACTION_BYTES = 1024
"""It is carried to the answer; a deeply nested one could not be written again."""


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks for."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    """An object's fields; anything else is in `value`; empty for an empty payload."""
    transaction: Any = None
    """Any JSON value, given back as it came; None if there was none."""


def parse_request(payload: bytes, content_type: str | None = None) -> Request:
    """The request in a payload: nothing, a text, or an object with an optional `transaction`.

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
    return Request({"value": body} if body else {})


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
