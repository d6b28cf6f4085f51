"""Which topics the bridge reads and writes, and what a topic means.

Everything here is text in, values out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kugel_bridge.model.errors import ConfigurationError

NAME = re.compile(r"[a-z0-9_-]{1,64}")
"""Names of devices, groups, zones and alerts: they become topics and file names."""
RESERVED_NAMES = ("group", "say")
"""No device may be called so: its topics would be those of a group or of every bridge."""
MAX_TOPIC_BYTES = 1024
"""MQTT allows 65,535; nobody means that."""
_TOLD = ("availability", "state", "event", "info", "health")
"""What a bridge writes to beside its answers."""
_SPOKEN = "the outcome would be spoken there"
_MISTAKEN = "a bridge writes there, and the outcome would be taken for what it tells"


@dataclass(frozen=True, slots=True)
class SayAddress:
    """A topic that takes announcements."""

    zones: tuple[str, ...] = ()
    """The topic's, in small letters, unchecked; empty = the default zone."""
    volume: str | None = None
    """The last level of `.../say/<volume>`, unchecked."""
    shared: bool = False
    """Whether other bridges read the topic too."""


@dataclass(frozen=True, slots=True)
class AlertAddress:
    """The topic that takes stored alerts by name."""


@dataclass(frozen=True, slots=True)
class SetAddress:
    """A topic that changes one setting."""

    name: str


@dataclass(frozen=True, slots=True)
class RequestAddress:
    """A topic that asks a question or gives an order."""

    verb: str
    """As the caller wrote it; it may have several levels."""


Address = SayAddress | AlertAddress | SetAddress | RequestAddress


class Topics:
    """The topics of one bridge."""

    def __init__(
        self,
        base: str,
        device: str,
        groups: Sequence[str] = (),
        extra: Sequence[str] = (),
        *,
        published: Iterable[str] = (),
    ) -> None:
        """`extra` are further filters read as `say`, `published` what other parts write to.

        Raises ConfigurationError for a name or filter that cannot be, and where the bridge would
        read what it writes: it would talk to itself without end.
        """
        self._base = _checked_base(base)
        self._groups = frozenset(_checked_name("device.groups", name) for name in groups)
        self._device = _checked_name("device.id", device)
        if device in RESERVED_NAMES:
            raise ConfigurationError(
                f'device.id = "{device}": this word has another meaning in the topics; '
                "choose another name"
            )
        self._root = f"{base}/{device}"
        self.availability = f"{self._root}/availability"
        self.state = f"{self._root}/state"
        self.event = f"{self._root}/event"
        self.info = f"{self._root}/info"
        self.health = f"{self._root}/health"
        self._written = (
            self.availability,
            self.state,
            self.event,
            self.info,
            self.health,
            f"{self._root}/response/#",
            *published,
        )
        self._said = (
            f"{base}/say",
            *(f"{base}/group/{group}/say" for group in sorted(self._groups)),
            f"{self._root}/say",
            f"{self._root}/say/+",
            f"{self._root}/zone/+/say",
        )
        self.requests = f"{self._root}/request/#"
        """The filter of questions and orders such as "stop", which mean this moment."""
        self._ordered = (f"{self._root}/alert", f"{self._root}/set/+", self.requests)
        self._extra = self._checked_extra(extra)

    def subscriptions(self) -> tuple[str, ...]:
        """The filters to subscribe to; no topic matches two of them.

        Where two match, a broker delivers the message twice.
        """
        return (*self._said, *self._ordered, *self._extra)

    def address_of(self, topic: str) -> Address | None:
        """What a topic means; None for one that is not ours to read."""
        if topic.startswith(f"{self._root}/"):
            own = self._own_address(topic[len(self._root) + 1 :].split("/"))
            if own is not None:
                return own
        if topic in self._said:  # what is left are the shared topics: no filter is a topic
            return SayAddress(shared=True)
        if any(matches(pattern, topic) for pattern in self._extra):
            return SayAddress()
        return None

    def response(self, verb: str) -> str:
        """Where the answer to `verb` goes, spelt as the caller did."""
        return f"{self._root}/response/{verb}"

    def why_no_reply(self, topic: str) -> str:
        """Why no outcome may be sent to `topic`; empty if it may.

        Where this bridge or a sister at the same base reads, it would be spoken, and its outcome
        again; where they write, it would be taken for what they tell.
        """
        if self.address_of(topic) is not None:
            return _SPOKEN
        levels = topic.removeprefix(f"{self._base}/").split("/")
        if topic.startswith(f"{self._base}/"):
            if "say" in levels or levels[1:2] in (["alert"], ["set"], ["request"]):
                return _SPOKEN
            if levels[1:2] == ["response"] or (len(levels) == 2 and levels[1] in _TOLD):
                return _MISTAKEN
        if any(matches(pattern, topic) for pattern in self._written):
            return _MISTAKEN
        return ""

    def _own_address(self, levels: list[str]) -> Address | None:
        match levels:
            case ["say"]:
                return SayAddress()
            case ["say", volume]:
                return SayAddress(volume=volume)
            case ["zone", zone, "say"]:
                return SayAddress(zones=(zone.lower(),))
            case ["alert"]:
                return AlertAddress()
            case ["set", name]:
                return SetAddress(name)
            case ["request", *verb] if verb:
                return RequestAddress("/".join(verb))
            case _:
                return None

    def _checked_extra(self, extra: Sequence[str]) -> tuple[str, ...]:
        kept: list[str] = []
        for pattern in extra:
            _check_filter(pattern)
            for written in self._written:
                if overlaps(pattern, written):
                    raise ConfigurationError(
                        f'mqtt.extra_topics: "{pattern}" would read "{written}", which the bridge '
                        "writes: it would talk to itself; name the topics to read exactly"
                    )
            for read in self._ordered:
                if overlaps(pattern, read):
                    raise ConfigurationError(
                        f'mqtt.extra_topics: "{pattern}" overlaps "{read}", which the bridge reads '
                        "for another purpose; remove it"
                    )
            if any(covers(read, pattern) for read in (*self._said, *kept)):
                continue  # already read
            kept = [other for other in kept if not covers(pattern, other)]
            for read in (*self._said, *kept):
                if overlaps(pattern, read):
                    raise ConfigurationError(
                        f'mqtt.extra_topics: "{pattern}" overlaps "{read}": a message on a topic '
                        "in both would arrive twice; make one of them narrower"
                    )
            kept.append(pattern)
        return tuple(kept)


def matches(pattern: str, topic: str) -> bool:
    """Whether a subscription to `pattern` receives `topic` (MQTT 5.0, section 4.7)."""
    if topic.startswith("$") and pattern[:1] in ("+", "#"):
        return False
    return covers(pattern, topic)


def covers(wide: str, narrow: str) -> bool:
    """Whether every topic that matches the filter `narrow` matches `wide` too."""
    wides, narrows = wide.split("/"), narrow.split("/")
    for index, level in enumerate(wides):
        if level == "#":
            return True
        if index >= len(narrows) or narrows[index] == "#":
            return False
        if level not in ("+", narrows[index]):
            return False
    # "a/#" also matches "a", so a shorter filter ending in "#" was handled above; equal lengths
    # are left, and a longer narrow one is not covered.
    return len(wides) == len(narrows)


def overlaps(one: str, other: str) -> bool:
    """Whether some topic matches both filters."""
    return _overlap(one.split("/"), other.split("/"))


def _overlap(one: list[str], other: list[str]) -> bool:
    if one[:1] == ["#"] or other[:1] == ["#"]:
        return True
    if not one or not other:
        # "a/#" matches "a" itself.
        return one == other
    if one[0] != other[0] and "+" not in (one[0], other[0]):
        return False
    return _overlap(one[1:], other[1:])


def is_publishable(topic: str) -> bool:
    """Whether a message may be sent to `topic`: a caller chose it."""
    return (
        topic != ""
        and not topic.startswith("$")
        and not any(c in "+#" or c < " " for c in topic)
        and _is_utf8(topic)
        and len(topic.encode()) <= MAX_TOPIC_BYTES
    )


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _checked_name(key: str, name: str) -> str:
    if not NAME.fullmatch(name):
        raise ConfigurationError(f'{key}: "{name}" must be 1 to 64 of a-z, 0-9, _ and -')
    return name


def _checked_base(base: str) -> str:
    levels = base.split("/")
    if not is_publishable(base) or not all(levels) or any(level.isspace() for level in levels):
        raise ConfigurationError(
            f'mqtt.base_topic: "{base}" must be a topic without wildcards, '
            'as "kugel" or "house/voice"'
        )
    return base


def _check_filter(pattern: str) -> None:
    levels = pattern.split("/")
    wrong = (
        not pattern
        or pattern.startswith("$")
        or any(c < " " for c in pattern)
        or len(pattern.encode("utf-8", "replace")) > MAX_TOPIC_BYTES
        or "#" in levels[:-1]
        or any(c in level and level != c for level in levels for c in "+#")
    )
    if wrong:
        raise ConfigurationError(f'mqtt.extra_topics: "{pattern}" is not a topic or topic filter')
