"""Every error row and close code of the KugelAudio API, and which of our errors each one is.

Source: API reference, "Errors". A text from the server is shown to people and never parsed.
"""

from __future__ import annotations

import dataclasses
import datetime
import email.utils
import math
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from kugel_bridge.kugelaudio.wire import (
    JsonObject,
    is_unicode,
    read_object,
    take_text,
    write_object,
)
from kugel_bridge.model.errors import (
    BridgeError,
    InvalidRequestError,
    LoopError,
    NoCreditsError,
    NoSoundError,
    ProtocolError,
    RateLimitedError,
    RetryableError,
    ServiceUnavailableError,
    UnauthorizedError,
)

MAX_RETRY_AFTER_S = 3600.0
"""A longer wish is cut to this: a slip of a proxy must not silence the cloud for days."""
RESTART_RETRY_S = 1.0
"""What the API asks for after the close codes 1012 and 1013."""
_MAX_MESSAGE_CHARACTERS = 300
CLOSE_NORMAL, CLOSE_RESTARTING, CLOSE_ELSEWHERE = 1000, 1012, 1013
"""How a socket ends that did its work; CLOSE_ROWS tells what these and others mean."""

ERRORS_BY_CODE: Mapping[str, type[BridgeError]] = {
    "VALIDATION_ERROR": InvalidRequestError,
    "MISSING_VOICE_ID": InvalidRequestError,
    "NOT_FOUND": InvalidRequestError,
    "SPEAKER_CONSENT_REQUIRED": InvalidRequestError,
    "UNAUTHORIZED": UnauthorizedError,
    "INSUFFICIENT_CREDITS": NoCreditsError,
    "RATE_LIMITED": RateLimitedError,
    "TOO_MANY_CONTEXTS": RateLimitedError,
    "MODEL_UNAVAILABLE": ServiceUnavailableError,
    "LOOP_DETECTED": LoopError,
    "INTERNAL_ERROR": ServiceUnavailableError,
    "EMPTY_AUDIO": NoSoundError,
}

ERRORS_BY_STATUS: Mapping[int, type[BridgeError]] = {
    401: UnauthorizedError,
    402: NoCreditsError,
    403: UnauthorizedError,
    408: ServiceUnavailableError,
    425: ServiceUnavailableError,
    429: RateLimitedError,
    # The API answers 501 to what it will never do; every other 5xx may pass.
    501: InvalidRequestError,
}
STATUS_BY_CODE: Mapping[str, int] = {
    "VALIDATION_ERROR": 400,
    "MISSING_VOICE_ID": 400,
    "UNAUTHORIZED": 401,
    "INSUFFICIENT_CREDITS": 402,
    "SPEAKER_CONSENT_REQUIRED": 403,
    "NOT_FOUND": 404,
    "RATE_LIMITED": 429,
    "TOO_MANY_CONTEXTS": 429,
    "INTERNAL_ERROR": 500,
    "EMPTY_AUDIO": 500,
    "MODEL_UNAVAILABLE": 503,
    "LOOP_DETECTED": 508,
}
"""What an error frame means that tells no status."""


@dataclass(frozen=True, slots=True)
class CloseRow:
    """What one WebSocket close code means for the work that was under way."""

    error: type[BridgeError]
    meaning: str
    retry_after_s: float | None = None


CLOSE_ROWS: Mapping[int, CloseRow] = {
    CLOSE_NORMAL: CloseRow(ServiceUnavailableError, "the service ended the connection"),
    1001: CloseRow(ServiceUnavailableError, "the service went away"),
    1002: CloseRow(ProtocolError, "protocol error"),
    1003: CloseRow(ProtocolError, "unacceptable data"),
    1006: CloseRow(ServiceUnavailableError, "the connection was lost"),
    1007: CloseRow(ProtocolError, "invalid text"),
    # Not in the API's list; other servers use it to turn a key away, so it is not asked again soon.
    1008: CloseRow(UnauthorizedError, "policy violation"),
    1009: CloseRow(InvalidRequestError, "a message was too big"),
    1011: CloseRow(ServiceUnavailableError, "server error"),
    CLOSE_RESTARTING: CloseRow(ServiceUnavailableError, "the service restarts", RESTART_RETRY_S),
    CLOSE_ELSEWHERE: CloseRow(
        ServiceUnavailableError, "the service sends us elsewhere", RESTART_RETRY_S
    ),
    4000: CloseRow(ServiceUnavailableError, "generation failed"),
    4001: CloseRow(UnauthorizedError, "the key was refused"),
    4003: CloseRow(NoCreditsError, "no credit"),
    4029: CloseRow(RateLimitedError, "too many requests"),
    4500: CloseRow(ServiceUnavailableError, "the model is down or overloaded"),
}
CLOSE_CODES: Mapping[str, int] = {
    "UNAUTHORIZED": 4001,
    "INSUFFICIENT_CREDITS": 4003,
    "RATE_LIMITED": 4029,
    "MODEL_UNAVAILABLE": 4500,
    "LOOP_DETECTED": 4500,
}
CLOSE_FAILED = 4000
_UNKNOWN_CLOSE = CloseRow(ServiceUnavailableError, "the connection was closed")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error in the API's shape: the JSON of an HTTP answer, or a frame on a socket."""

    status: int | None
    """HTTP-style status; None where the sender gave none."""
    code: str | None
    """The stable category, as `RATE_LIMITED`; None on errors from proxies."""
    message: str
    request_id: str | None = None
    retry_after_s: float | None = None

    def as_error(self) -> BridgeError:
        """The error of ours that tells whether asking again helps."""
        kind = ERRORS_BY_CODE.get(self.code or "") or _error_for_status(self.status)
        if kind is LoopError:  # which is passed on from gateway to gateway as it is
            return LoopError(self.message, retry_after_s=self.retry_after_s)
        text = f"{self.code or self.status or 'error'}: {self.message}"
        if self.request_id:
            text += f" (request {self.request_id})"
        return _built(kind, text, self.retry_after_s, self)

    @property
    def close_code(self) -> int:
        """How a socket closes that ends with it; what has no code of its own counts as failed."""
        return CLOSE_CODES.get(self.code or "", CLOSE_FAILED)

    def waiting(self, retry_after_s: float | None) -> Refusal:
        """This refusal, with a time to wait (s)."""
        return dataclasses.replace(self, retry_after_s=retry_after_s)

    def to_fields(self) -> dict[str, object]:
        """The JSON fields; the waiting time is not among them, it is the header `Retry-After`."""
        fields: dict[str, object] = {"error": self.message}
        if self.code is not None:
            fields["error_code"] = self.code
        if self.status is not None:
            fields["code"] = self.status
        if self.request_id is not None:
            fields["request_id"] = self.request_id
        return fields

    def to_json(self, context_id: str | None = None, *, request_id: str | None = None) -> str:
        """The JSON text that `refusal_from` reads back; `context_id` if one context is meant.

        `request_id` is that of the socket's upgrade.
        """
        about = {"context_id": context_id, "request_id": request_id}
        return write_object(
            self.to_fields() | {name: text for name, text in about.items() if text is not None}
        )


class RefusedError(InvalidRequestError):
    """The service will never take this request; `refusal` is what it said.

    None where the error was told again later.
    """

    def __init__(self, message: str, refusal: Refusal | None = None) -> None:
        super().__init__(message)
        self.refusal = refusal


INVALID_REQUEST = Refusal(400, "VALIDATION_ERROR", "Invalid request")
INVALID_JSON = Refusal(400, "VALIDATION_ERROR", "Invalid JSON body")
TEXT_REQUIRED = Refusal(400, "VALIDATION_ERROR", "text required")
NOTHING_TO_SPEAK = Refusal(
    400, "VALIDATION_ERROR", "text required: there is nothing in it that can be spoken"
)
MISSING_VOICE = Refusal(400, "MISSING_VOICE_ID", "voice_id is required")
UNAUTHORIZED = Refusal(401, "UNAUTHORIZED", "Unauthorized")
NO_CREDITS = Refusal(402, "INSUFFICIENT_CREDITS", "Insufficient credits")
FORBIDDEN = Refusal(403, "UNAUTHORIZED", "Forbidden")
NOT_FOUND = Refusal(404, "NOT_FOUND", "Not found")
VOICE_NOT_FOUND = Refusal(404, "NOT_FOUND", "Voice not found")
METHOD_NOT_ALLOWED = Refusal(405, "VALIDATION_ERROR", "Method not allowed")
TEXT_TOO_LONG = Refusal(413, "VALIDATION_ERROR", "Request exceeds the maximum character limit")
RATE_LIMITED = Refusal(429, "RATE_LIMITED", "Rate limit exceeded")
TOO_MANY_CONTEXTS = Refusal(
    429,
    "TOO_MANY_CONTEXTS",
    "Too many concurrent contexts (max 20); close an existing context before opening a new one.",
)
GENERATION_FAILED = Refusal(500, "INTERNAL_ERROR", "Audio generation failed")
EMPTY_AUDIO = Refusal(500, "EMPTY_AUDIO", "No audio was generated")
MODEL_UNAVAILABLE = Refusal(
    503,
    "MODEL_UNAVAILABLE",
    "The requested model is temporarily unavailable. Please try again shortly.",
)

LOOP_DETECTED = Refusal(508, "LOOP_DETECTED", "The gateways ask each other in a circle")
CATALOGUE_UNAVAILABLE = Refusal(503, "INTERNAL_ERROR", "voice catalog temporarily unavailable")


def refusal_from(fields: JsonObject, *, status: int | None = None) -> Refusal:
    """Read an error object: the current shape, the older nested one, or FastAPI's `detail`.

    Never raises: whatever an error looks like, it stays an error.
    """
    message: object = fields.get("error")
    code: object = fields.get("error_code")
    if isinstance(message, dict):
        code = code or message.get("code")
        message = message.get("message")
    if not message:
        message = fields.get("message") or fields.get("detail")
    if isinstance(message, list):
        message = "; ".join(
            str(m.get("msg", m)) if isinstance(m, dict) else str(m) for m in message
        )
    code = code if isinstance(code, str) and code and is_unicode(code) else None
    if status is None:
        inner = fields.get("code")
        is_error = isinstance(inner, int) and 400 <= inner <= 599
        status = inner if is_error else STATUS_BY_CODE.get(code or "")
    request_id = fields.get("request_id")
    return Refusal(
        status=status,
        code=code,
        message=_printable(message) or _phrase(status),
        request_id=request_id if isinstance(request_id, str) and is_unicode(request_id) else None,
        retry_after_s=_sane_wait(fields.get("retry_after")),
    )


def refusal_of_answer(
    status: int,
    body: bytes,
    *,
    retry_after: str | None = None,
    request_id: str | None = None,
    now_s: float,
) -> Refusal:
    """Read the answer of a refused HTTP request or upgrade; the body may be anything, even HTML.

    `retry_after` and `request_id` are the headers, `now_s` the wall time (s since 1970).
    """
    try:
        fields = read_object(body)
        refusal = refusal_from(fields, status=status)
        request_id = request_id or take_text(fields, "request_id")
    except ProtocolError:
        refusal = Refusal(status, None, _phrase(status))
    waiting = retry_after_s(retry_after, now_s=now_s)
    return Refusal(
        status=status,
        code=refusal.code,
        message=refusal.message,
        request_id=_printable(request_id) or None,
        retry_after_s=refusal.retry_after_s if waiting is None else waiting,
    )


def error_of_close(code: int | None, reason: str = "") -> BridgeError:
    """Our error for a socket that closed before its work was done; None = no close frame."""
    row = CLOSE_ROWS.get(1006 if code is None else code, _UNKNOWN_CLOSE)
    text = f"{row.meaning} (close code {code or 1006}"
    printable = _printable(reason)
    return _built(
        row.error, f"{text}: {printable})" if printable else f"{text})", row.retry_after_s
    )


def retry_after_s(header: str | None, *, now_s: float) -> float | None:
    """The wait (s) a `Retry-After` header asks for: seconds or an HTTP date (RFC 9110, 10.2.3).

    None for nonsense and for times past; never more than MAX_RETRY_AFTER_S.
    """
    if header is None:
        return None
    header = header.strip()
    try:
        return _sane_wait(float(header))
    except ValueError:
        pass
    try:
        moment = email.utils.parsedate_to_datetime(header)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return _sane_wait(moment.timestamp() - now_s)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _sane_wait(seconds: object) -> float | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    # An integer beyond what a float holds would overflow in isfinite.
    if isinstance(seconds, float) and not math.isfinite(seconds):
        return None
    return float(min(seconds, MAX_RETRY_AFTER_S)) if seconds >= 0 else None


def _error_for_status(status: int | None) -> type[BridgeError]:
    if status is None:
        return ServiceUnavailableError
    if (known := ERRORS_BY_STATUS.get(status)) is not None:
        return known
    return InvalidRequestError if 400 <= status <= 499 else ServiceUnavailableError


def _built(
    kind: type[BridgeError], text: str, retry_after: float | None, refusal: Refusal | None = None
) -> BridgeError:
    if kind is InvalidRequestError and refusal is not None:
        return RefusedError(text, refusal)
    if issubclass(kind, RetryableError):
        return kind(text, retry_after_s=retry_after)
    return kind(text)


def _phrase(status: int | None) -> str:
    try:
        return HTTPStatus(status or 0).phrase
    except ValueError:
        return "refused without a reason"


def _printable(message: object) -> str:
    if not isinstance(message, str):
        return ""
    cut = message[:_MAX_MESSAGE_CHARACTERS]
    return "".join(c if c.isprintable() else " " for c in cut).strip()
