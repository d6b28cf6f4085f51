"""One request to speak, however it reached us."""

from __future__ import annotations

import base64
import dataclasses
import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kugel_bridge.model.clock import Instant

MAX_TEXT_CHARACTERS = 5_000
"""Longest text of one announcement, counted after cleaning."""
MAX_SEGMENTS = 64
MAX_PAYLOAD_BYTES = 64 * 1024
ALL_ZONES = "all"


class Priority(enum.StrEnum):
    """How urgent; `rank` orders the levels, 0 first."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"
    STATUS = "status"

    @property
    def rank(self) -> int:
        """0 for the most urgent level, rising."""
        return _RANKS[self]

    @property
    def preempts(self) -> bool:
        """Whether this level stops a lower one that is speaking."""
        return self in (Priority.CRITICAL, Priority.HIGH)


_RANKS = {level: rank for rank, level in enumerate(Priority)}


class CachePolicy(enum.StrEnum):
    """How an announcement uses the phrase cache."""

    USE = "use"
    BYPASS = "bypass"
    REFRESH = "refresh"
    ONLY = "only"


class OfflineRule(enum.StrEnum):
    """What to do while the cloud cannot be used."""

    SPEAK = "speak"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Volume:
    """Loudness asked for by one announcement, in percent."""

    percent: float
    """0 to 100, or the difference when `relative`."""
    relative: bool = False

    def applied_to(self, percent: float) -> float:
        """The resulting loudness, 0 to 100, where the zone has `percent`."""
        wanted = percent + self.percent if self.relative else self.percent
        return min(100.0, max(0.0, wanted))


@dataclass(frozen=True, slots=True)
class Repeat:
    """Say it `count` times, with `pause_s` seconds between."""

    count: int = 1
    pause_s: float = 1.0


@dataclass(frozen=True, slots=True)
class ReplyAddress:
    """Where a caller wants to hear the outcome."""

    topic: str
    correlation: bytes | None = None
    """MQTT 5 correlation data, copied byte for byte."""


@dataclass(frozen=True, slots=True)
class TextSegment:
    """Words; fields left None come from the announcement."""

    text: str
    voice: str | None = None
    language: str | None = None
    speed: float | None = None


@dataclass(frozen=True, slots=True)
class PauseSegment:
    """Silence of `milliseconds`."""

    milliseconds: int


@dataclass(frozen=True, slots=True)
class ChimeSegment:
    """A chime by name."""

    name: str


@dataclass(frozen=True, slots=True)
class AlertSegment:
    """A stored alert by name."""

    name: str
    text: str | None = None
    """What it says, for people; None while that is not known, and for a recording."""


Segment = TextSegment | PauseSegment | ChimeSegment | AlertSegment

_SEGMENT_KINDS: Mapping[str, type[Segment]] = {
    "text": TextSegment,
    "pause": PauseSegment,
    "chime": ChimeSegment,
    "alert": AlertSegment,
}
_KIND_OF = {kind: name for name, kind in _SEGMENT_KINDS.items()}
_SEGMENT_FIELDS = {kind: tuple(item.name for item in dataclasses.fields(kind)) for kind in _KIND_OF}


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """One request to speak, valid and cleaned; None means "as configured"."""

    id: str
    """The caller's, or one we made; given back everywhere."""
    segments: tuple[Segment, ...]
    received: Instant
    priority: Priority = Priority.NORMAL
    zones: tuple[str, ...] = ()
    """Names of zones; empty = the default zone, `("all",)` = every zone."""
    voice: str | None = None
    language: str | None = None
    speed: float | None = None
    volume: Volume | None = None
    chime: bool | str | None = None
    end_chime: bool | str | None = None
    ttl_s: float | None = None
    """Seconds it stays true, from arrival; the level's own if None."""
    expires_at_s: float | None = None
    """Wall time (s since 1970) after which it must not be spoken."""
    not_before_s: float | None = None
    """Wall time (s since 1970) before which it must not be spoken."""
    tag: str | None = None
    """A waiting announcement with the same tag is replaced by the newer one."""
    dedupe_s: float | None = None
    """The same words within so many seconds are said once; 0 = off."""
    repeat: Repeat = Repeat()
    cache: CachePolicy = CachePolicy.USE
    offline: OfflineRule | None = None
    preempt: bool = False
    """Stop lower speech even though the level alone would not."""
    reply_to: tuple[ReplyAddress, ...] = ()
    delivery: str = ""
    """Tells a redelivery of the same broker message from a new message; empty = cannot recur."""
    redelivered: bool = False
    """The broker says that it sent this message before (MQTT's DUP flag)."""
    shared: bool = False
    """Several bridges read its topic: zones that we do not have may be those of another one."""
    ignored: tuple[str, ...] = field(default=(), compare=False)
    """Fields the caller sent that mean nothing to us."""

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("an announcement needs an id")
        if not self.segments:
            raise ValueError("an announcement needs something to say")

    @property
    def text(self) -> str:
        """All its words in one line, for people and logs; a recording has its name there."""
        return " ".join(
            s.text if isinstance(s, TextSegment) else s.text or s.name
            for s in self.segments
            if isinstance(s, TextSegment | AlertSegment)
        )

    @property
    def said(self) -> str:
        """A digest of what a listener hears of it: words, chimes and alerts, in their order."""
        heard = [
            [_KIND_OF[type(s)], s.text if isinstance(s, TextSegment) else s.name]
            for s in self.segments
            if not isinstance(s, PauseSegment)
        ]
        return hashlib.blake2b(json.dumps(heard).encode(), digest_size=12).hexdigest()

    def to_json(self) -> str:
        """The announcement as one JSON object that `from_json` reads."""
        out: dict[str, Any] = {}
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if value != default:
                out[name] = value
        out["segments"] = [[_KIND_OF[type(s)], _filled_in(s)] for s in self.segments]
        out["received"] = [self.received.wall_s, self.received.monotonic_s]
        if self.volume is not None:
            out["volume"] = [self.volume.percent, self.volume.relative]
        if "repeat" in out:
            out["repeat"] = [self.repeat.count, self.repeat.pause_s]
        if self.reply_to:
            out["reply_to"] = [[r.topic, _encoded(r.correlation)] for r in self.reply_to]
        return json.dumps(out, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Announcement:
        """The announcement that `to_json` wrote.

        Raises ValueError for anything else; fields of a newer version are skipped.
        """
        try:
            raw = json.loads(text)
            values = {name: value for name, value in raw.items() if name in _DEFAULTS}
            for name, value in values.items():
                if name in _PLAIN_TYPES:
                    _check(name, value, _PLAIN_TYPES[name])
            values["segments"] = tuple(_segment(kind, fields) for kind, fields in raw["segments"])
            wall_s, monotonic_s = raw["received"]
            values["received"] = Instant(_number(wall_s), _number(monotonic_s))
            for name in ("zones", "ignored"):
                values[name] = _texts(name, raw.get(name, []))
            if "priority" in raw:
                values["priority"] = Priority(raw["priority"])
            if "volume" in raw:
                percent, relative = raw["volume"]
                _check("volume", relative, bool)
                values["volume"] = Volume(_number(percent), relative)
            if "repeat" in raw:
                count, pause_s = raw["repeat"]
                _check("repeat", count, int)
                values["repeat"] = Repeat(count, _number(pause_s))
            if "cache" in raw:
                values["cache"] = CachePolicy(raw["cache"])
            if "offline" in raw:
                values["offline"] = OfflineRule(raw["offline"])
            values["reply_to"] = tuple(_reply(*address) for address in raw.get("reply_to", ()))
            return cls(**values)
        except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as error:
            raise ValueError(f"not a stored announcement: {error}") from error


_DEFAULTS = {item.name: item.default for item in dataclasses.fields(Announcement)}
_NUMBER = int | float
_PLAIN_TYPES: Mapping[str, Any] = {
    "id": str,
    "voice": str,
    "language": str,
    "speed": _NUMBER,
    "chime": bool | str,
    "end_chime": bool | str,
    "ttl_s": _NUMBER,
    "expires_at_s": _NUMBER,
    "not_before_s": _NUMBER,
    "tag": str,
    "dedupe_s": _NUMBER,
    "preempt": bool,
    "delivery": str,
    "redelivered": bool,
    "shared": bool,
}
_SEGMENT_TYPES: Mapping[str, Any] = {
    "text": str,
    "voice": str,
    "language": str,
    "speed": _NUMBER,
    "milliseconds": int,
    "name": str,
}


def _check(name: str, value: object, kinds: Any) -> None:
    """Raise TypeError where a damaged row would otherwise fail much later, in mid-speech."""
    # True is an int to Python, but never a number of anything.
    boolean_is_wrong = isinstance(value, bool) and kinds in (int, _NUMBER)
    is_nan = isinstance(value, float) and value != value
    if boolean_is_wrong or is_nan or not isinstance(value, kinds):
        raise TypeError(f"{name} is {value!r:.40}")


def _number(value: Any) -> float:
    _check("a number", value, _NUMBER)
    return value  # type: ignore[no-any-return]  # just checked


def _texts(name: str, values: list[Any]) -> tuple[str, ...]:
    _check(name, values, list)
    for value in values:
        _check(name, value, str)
    return tuple(values)


def _filled_in(segment: Segment) -> dict[str, Any]:
    """The segment's fields, without those that are left to the announcement."""
    # Not dataclasses.asdict: it copies deeply, which made it half the cost of a stored row.
    return {
        name: value
        for name in _SEGMENT_FIELDS[type(segment)]
        if (value := getattr(segment, name)) is not None
    }


def _segment(kind: str, fields: dict[str, Any]) -> Segment:
    for name, value in fields.items():
        if value is not None:
            _check(name, value, _SEGMENT_TYPES[name])
    return _SEGMENT_KINDS[kind](**fields)


def _reply(topic: str, correlation: str | None) -> ReplyAddress:
    _check("reply_to", topic, str)
    return ReplyAddress(topic, _decoded(correlation))


def _encoded(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode("ascii")


def _decoded(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)
