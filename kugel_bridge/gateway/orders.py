"""Faults on order: what shall go wrong, where and when, read from one line of text.

on=/ws/tts skip=1 times=2 after=3 do=reset
"""

from __future__ import annotations

import enum
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from kugel_bridge.kugelaudio import codes
from kugel_bridge.model.errors import ConfigurationError

ANYWHERE = "any"
ALWAYS = "always"
MAX_ORDER_CHARACTERS = 2_000
"""Far more than any order needs; a line longer than this is a file given by mistake."""
_SOCKETS = "/ws/"


class At(enum.StrEnum):
    """The moment at which an order acts."""

    DOOR = "door"
    OPEN = "open"
    SOUND = "sound"
    END = "end"


class Do(enum.StrEnum):
    """What goes wrong."""

    REFUSE = "refuse"
    ERROR = "error"
    CLOSE = "close"
    RESET = "reset"
    EOF = "eof"
    DELAY = "delay"
    SLOW = "slow"
    STALL = "stall"
    DRIP = "drip"
    GARBAGE = "garbage"
    SILENCE = "silence"
    NO_FINAL = "no-final"
    TWICE = "twice"
    ENDLESS = "endless"
    FLOOD = "flood"
    HUGE = "huge"
    LATE = "late"
    EARLY = "early"


class Garbage(enum.StrEnum):
    """What a garbage frame is made of."""

    TEXT = "text"
    HTML = "html"
    TRUNCATED = "truncated"
    BINARY = "binary"
    LIST = "list"
    NESTED = "nested"
    BASE64 = "base64"
    ODD = "odd"
    EMPTY = "empty"
    RATE = "rate"
    OTHER_RATE = "other-rate"
    ENC = "enc"
    NAN = "nan"
    INDEX = "idx"


class Body(enum.StrEnum):
    """What the body of a refusal looks like."""

    JSON = "json"
    HTML = "html"
    TRUNCATED = "truncated"
    EMPTY = "empty"


RETRY_AFTER_WORDS = ("date", "nonsense", "huge")
"""Besides a number of seconds."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What the grammar allows for one `do`."""

    meaning: str
    at: tuple[At, ...]
    """Where it can act; the first is meant when none is given."""
    names: tuple[str, ...] = ()
    """Its own settings."""
    sockets_only: bool = False


_REFUSALS = (
    codes.INVALID_REQUEST,
    codes.UNAUTHORIZED,
    codes.NO_CREDITS,
    codes.FORBIDDEN,
    codes.NOT_FOUND,
    codes.TEXT_TOO_LONG,
    codes.RATE_LIMITED,
    codes.TOO_MANY_CONTEXTS,
    codes.GENERATION_FAILED,
    codes.EMPTY_AUDIO,
    codes.MODEL_UNAVAILABLE,
)
_ANY_TIME = (At.SOUND, At.DOOR, At.OPEN, At.END)

KINDS: Mapping[Do, Kind] = {
    Do.REFUSE: Kind(
        "answer the upgrade or the request with an HTTP error",
        (At.DOOR,),
        ("status", "error_code", "retry_after", "body"),
    ),
    Do.ERROR: Kind(
        "send an error frame in place of the rest of the sound",
        (At.SOUND, At.OPEN, At.END),
        ("status", "error_code"),
        sockets_only=True,
    ),
    Do.CLOSE: Kind(
        "close with a close frame", (At.SOUND, At.OPEN, At.END), ("code", "reason"), True
    ),
    Do.RESET: Kind("cut the connection with a TCP reset", _ANY_TIME),
    Do.EOF: Kind("end the connection without a close frame", _ANY_TIME),
    Do.DELAY: Kind("wait once", (At.SOUND, At.DOOR, At.OPEN), ("ms",)),
    Do.SLOW: Kind("wait before every frame of sound", (At.SOUND,), ("ms",)),
    Do.STALL: Kind("send nothing more; pings are still answered", _ANY_TIME),
    Do.DRIP: Kind("let so many bytes per second through", (At.SOUND, At.DOOR), ("rate",)),
    Do.GARBAGE: Kind("spoil one frame of sound", (At.SOUND,), ("kind",), True),
    Do.SILENCE: Kind("leave out the sound", (At.SOUND,)),
    Do.NO_FINAL: Kind("leave out the frames that end the work", (At.END,), (), True),
    Do.TWICE: Kind("send the frames that end the work twice", (At.END,), (), True),
    Do.ENDLESS: Kind("repeat a frame of sound without end", (At.SOUND,)),
    Do.FLOOD: Kind(
        "put in so much sound, as fast as the client takes it", (At.SOUND,), ("seconds",)
    ),
    Do.HUGE: Kind("send one frame of so many bytes", (At.SOUND,), ("bytes",), True),
    Do.LATE: Kind(
        "send frames of sound after the end or the interruption", (At.END,), ("frames",), True
    ),
    Do.EARLY: Kind("send frames of sound before any were asked for", (At.OPEN,), ("frames",), True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One fault. `text` gives the line that `parse` reads back."""

    do: Do
    on: str = ANYWHERE
    """A path, the beginning of paths with `*` at its end, or `any`."""
    at: At
    skip: int = 0
    """So many occasions pass unharmed first."""
    times: int | None = None
    """Occasions it acts on; None = always."""
    after: int = 0
    """Frames of sound (or pieces of a body) that come through first; not with `after_bytes`."""
    after_bytes: int | None = None
    """Bytes that come through first."""
    status: int | None = None
    """None: the one that belongs to the error code, or the kind's own."""
    error_code: str | None = None
    """None: the one that belongs to the status."""
    retry_after: str | None = None
    body: Body = Body.JSON
    code: int = 1011
    reason: str = ""
    ms: int = 1_000
    rate: int = 10
    """Bytes per second."""
    kind: Garbage = Garbage.TEXT
    seconds: int = 600
    bytes: int = 2 * 1024 * 1024
    frames: int = 3

    def acts_on(self, path: str) -> bool:
        """Whether the path is one that is meant."""
        if KINDS[self.do].sockets_only and not path.startswith(_SOCKETS):
            return False
        if self.on == ANYWHERE:
            return True
        if self.on.endswith("*"):
            return path.startswith(self.on[:-1])
        return path == self.on

    @property
    def refusal(self) -> codes.Refusal:
        """The error that is sent."""
        usual = codes.MODEL_UNAVAILABLE if self.do is Do.REFUSE else codes.GENERATION_FAILED
        for known in _REFUSALS:
            if self.status is not None and known.status == self.status:
                usual = known
                break
            if self.status is None and known.code == self.error_code:
                usual = known
                break
        status = usual.status if self.status is None else self.status
        code = self.error_code or (usual.code if usual.status == status else None)
        return codes.Refusal(
            status, code, usual.message if usual.code == code else "A fault on order"
        )

    @property
    def text(self) -> str:
        """The line, without what is taken for granted."""
        words = [f"on={self.on}", f"do={self.do}"]
        if self.at is not KINDS[self.do].at[0]:
            words.append(f"at={self.at}")
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name in ("do", "on", "at", "after_bytes") or value == field.default:
                continue
            words.append(f"{name}={shlex.quote(str(value))}")
        if self.after_bytes is not None:
            words.append(f"after={self.after_bytes}b")
        return " ".join(words)


def parse(line: str) -> Order:
    """Read an order; raises ConfigurationError, which names the word and the remedy."""
    if len(line) > MAX_ORDER_CHARACTERS:
        raise ConfigurationError(
            f"a fault of {len(line)} characters: at most {MAX_ORDER_CHARACTERS} are read"
        )
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise ConfigurationError(f"fault {line!r}: {error}; mend the quotes") from error
    given: dict[str, str] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign:
            raise ConfigurationError(f"fault {line!r}: {word!r} must look like name=value")
        if name in given:
            raise ConfigurationError(f"fault {line!r}: {name} is given twice; give it once")
        given[name] = value
    return from_words(given)


def from_words(given: Mapping[str, str]) -> Order:
    """The order made of names and values; raises ConfigurationError as `parse` does."""
    if "do" not in given:
        raise ConfigurationError(f"a fault needs do=, one of {', '.join(Do)}")
    do = _do("do", given["do"])
    kind = KINDS[do]
    known = (*_COMMON, *kind.names)
    values: dict[str, Any] = {"at": kind.at[0]}
    for name, text in given.items():
        if name not in known:
            raise ConfigurationError(f"fault {name}={text!r}: do={do} knows {', '.join(known)}")
        if name == "after":
            values |= _after(name, text)
        else:
            values[name] = _READERS[name](name, text)
    order = Order(**values)
    if order.at not in kind.at:
        raise ConfigurationError(f"fault at={order.at}: do={do} acts at {', '.join(kind.at)}")
    if order.at is not At.SOUND and "after" in given:
        raise ConfigurationError("fault after=: counts sound, so it needs at=sound; leave it out")
    prefix = order.on.removesuffix("*")
    is_for_sockets = order.on == ANYWHERE or prefix.startswith(_SOCKETS)
    needs_socket = kind.sockets_only or order.at is At.OPEN
    if needs_socket and not (is_for_sockets or _SOCKETS.startswith(prefix)):
        what = f"do={do}" if kind.sockets_only else "at=open"
        raise ConfigurationError(
            f"fault on={order.on!r}: {what} is for WebSockets, whose paths begin with {_SOCKETS}"
        )
    is_page = do is Do.REFUSE and order.body is not Body.JSON
    if order.status is not None and order.status < _FIRST_ERROR and not is_page:
        raise ConfigurationError(
            f"fault status={order.status}: is no error; {_FIRST_ERROR} to 599 are, "
            "and do=refuse takes any with another body, such as body=html"
        )
    return order


# --- reading one value --------------------------------------------------------------------

_Reader = Callable[[str, str], Any]


def _wrong(name: str, text: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"fault {name}={text!r}: must be {remedy}")


def _one_of(words: type[enum.StrEnum]) -> _Reader:
    def read(name: str, text: str) -> enum.StrEnum:
        try:
            return words(text)
        except ValueError:
            raise _wrong(name, text, f"one of {', '.join(words)}") from None

    return read


def _whole(least: int, most: int) -> _Reader:
    def read(name: str, text: str) -> int:
        if re.fullmatch(r"[0-9]{1,10}", text) and least <= int(text) <= most:
            return int(text)
        raise _wrong(name, text, f"a number from {least} to {most}")

    return read


def _path(name: str, text: str) -> str:
    if text == ANYWHERE or (re.fullmatch(r"/[!-~]*", text) and "*" not in text[:-1]):
        return text
    raise _wrong(name, text, f"a path such as /ws/tts, one with * at its end, or {ANYWHERE}")


def _times(name: str, text: str) -> int | None:
    return None if text == ALWAYS else int(_whole(1, _MANY)(name, text))


def _after(name: str, text: str) -> dict[str, int]:
    number = _whole(0, _MANY)
    if text.endswith("b"):
        return {"after_bytes": number(name, text[:-1])}
    return {"after": number(name, text)}


def _error_code(name: str, text: str) -> str:
    if re.fullmatch(r"[A-Z][A-Z_]{0,63}", text):
        return text
    raise _wrong(name, text, "a code such as RATE_LIMITED")


def _retry_after(name: str, text: str) -> str:
    if text in RETRY_AFTER_WORDS or re.fullmatch(r"[0-9]{1,9}", text):
        return text
    raise _wrong(name, text, f"a number of seconds or one of {', '.join(RETRY_AFTER_WORDS)}")


def _close_code(name: str, text: str) -> int:
    code = int(_whole(1000, 4999)(name, text))
    # RFC 6455, 7.4: the others may not be sent.
    if code in (1004, 1005, 1006) or 1015 <= code <= 2999:
        raise _wrong(name, text, "1000 to 1014 or 3000 to 4999 without 1004 to 1006 (try do=eof)")
    return code


def _reason(name: str, text: str) -> str:
    if text.isprintable() and len(text.encode()) <= _REASON_BYTES:
        return text
    raise _wrong(name, text, f"printable and at most {_REASON_BYTES} bytes long")


_do = _one_of(Do)
_COMMON = ("do", "on", "at", "skip", "times", "after")
_MANY = 1_000_000_000
_FIRST_ERROR = 400
_REASON_BYTES = 123
"""RFC 6455, 5.5: a control frame holds 125 bytes, two of them the code."""
_READERS: Mapping[str, _Reader] = {
    "do": _do,
    "on": _path,
    "at": _one_of(At),
    "skip": _whole(0, _MANY),
    "times": _times,
    "status": _whole(200, 599),
    "error_code": _error_code,
    "retry_after": _retry_after,
    "body": _one_of(Body),
    "code": _close_code,
    "reason": _reason,
    "ms": _whole(0, 3_600_000),
    "rate": _whole(1, 10_000_000),
    "kind": _one_of(Garbage),
    "seconds": _whole(1, 3_600),
    "bytes": _whole(1, 64 * 1024 * 1024),
    "frames": _whole(1, 1_000),
}
