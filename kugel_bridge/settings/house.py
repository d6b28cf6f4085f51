"""What is said where and how: zones, levels of urgency, quiet hours, stored texts, word lists."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from kugel_bridge.model.announcement import ALL_ZONES, OfflineRule, Priority
from kugel_bridge.settings.places import alerts_directory
from kugel_bridge.settings.sink import SinkAddress, SinkKind, parse_sink
from kugel_bridge.settings.values import (
    AsList,
    FilePath,
    Language,
    Number,
    Percent,
    Seconds,
    Section,
    Slug,
    WrongKeyError,
    check_slug,
)

Sink = Annotated[
    SinkAddress,
    PlainValidator(parse_sink),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^((alsa|wav):.+|null:?)$"}),
]
"""A `SinkAddress`, written as a string in the configuration."""


def _chime(value: Any) -> Any:
    from kugel_bridge.audio.chime import CHIMES, DEFAULT_CHIME

    if isinstance(value, str) and value.strip().lower() in ("false", "off", "no", "0"):
        value = False
    if isinstance(value, str) and value.strip().lower() in ("true", "on", "yes", "1"):
        value = True
    if isinstance(value, bool):
        return DEFAULT_CHIME if value else False
    if value not in CHIMES:
        raise ValueError(f"must be false, true or one of {', '.join(sorted(CHIMES))}")
    return value


def _keep_open(value: float) -> float:
    if -1 < value < 0:
        raise ValueError("must be -1 (always open), or at least 0")
    return value


class Zone(Section):
    """A place with a loudspeaker; the first one is the default zone."""

    sink: Sink = Field(
        default=SinkAddress(SinkKind.ALSA, "default"),
        description='Where the sound goes: "alsa:<stable card name or ALSA PCM name>" '
        '(see `kugel-bridge devices`), "wav:<file>" or "null:".',
    )
    volume: Percent = Field(default=100, description="Loudness in percent.")
    # Every millisecond here delays every announcement, and an open device needs none.
    lead_in_ms: Annotated[Number, Field(ge=0, le=5000)] = Field(
        default=0,
        description="Silence before the sound (ms), for amplifiers that wake up slowly; "
        "250 is a usual value.",
    )
    # The end is heard in full anyway: a sink is drained, never cut.
    tail_ms: Annotated[Number, Field(ge=0, le=5000)] = Field(
        default=0, description="Silence after the sound (ms), for devices that swallow the end."
    )
    keep_open_s: Annotated[Number, Field(ge=-1), AfterValidator(_keep_open)] = Field(
        default=-1.0,
        description="How long the device stays open after the last sound (s); "
        "-1 = always, 0 = close at once. An open one starts fastest, and nobody else may use it.",
    )
    chime: Annotated[Literal[False] | str, BeforeValidator(_chime)] = Field(
        default=False, description="Chime before announcements: false, true or a name."
    )


class Level(Section):
    """How announcements of one urgency are treated unless they say otherwise."""

    ttl_s: Annotated[Number, Field(gt=0)] = Field(
        default=900, description="How long an announcement stays true (s); later it is not spoken."
    )
    first_sound_s: Annotated[Number, Field(gt=0, le=300)] = Field(
        default=4,
        description="How long to wait for the cloud's first sound (s) "
        "before the next rung of the ladder is taken.",
    )
    offline: OfflineRule = Field(
        default=OfflineRule.SPEAK,
        description="While the cloud cannot be used: speak (with the local voice) "
        "or wait (for the cloud).",
    )
    dedupe_s: Seconds = Field(
        default=0, description="The same words within so many seconds are said once; 0 = off."
    )


LEVEL_DEFAULTS: Mapping[Priority, Mapping[str, float]] = {
    # Still worth hearing an hour later; nobody waits for a nicer voice when there is smoke.
    Priority.CRITICAL: {"ttl_s": 3600, "first_sound_s": 1.5},
    # Whoever rang has left after five minutes.
    Priority.HIGH: {"ttl_s": 300, "first_sound_s": 2.5},
    Priority.NORMAL: {"ttl_s": 900, "first_sound_s": 4.0},
    # The washing machine waits; so may its sentence, for the voice people know.
    Priority.LOW: {"ttl_s": 1800, "first_sound_s": 8.0},
    # "45 %" is wrong a minute later.
    Priority.STATUS: {"ttl_s": 60, "first_sound_s": 4.0},
}


def _level(priority: Priority) -> Any:
    return Field(
        default_factory=lambda: Level.model_validate(LEVEL_DEFAULTS[priority]),
        description=f"Announcements of level {priority}.",
    )


class Levels(Section):
    """`[priority.<level>]`, with each level's own defaults."""

    critical: Level = _level(Priority.CRITICAL)
    high: Level = _level(Priority.HIGH)
    normal: Level = _level(Priority.NORMAL)
    low: Level = _level(Priority.LOW)
    status: Level = _level(Priority.STATUS)

    @model_validator(mode="before")
    @classmethod
    def _own_defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        merged = dict(data)
        for level, defaults in LEVEL_DEFAULTS.items():
            if isinstance(given := data.get(level), dict):
                merged[level.value] = {**defaults, **given}
        return merged

    @property
    def by_priority(self) -> dict[Priority, Level]:
        """The rules of every level."""
        return {priority: getattr(self, priority.value) for priority in Priority}


class Quiet(Section):
    """Hours in which less is said."""

    from_: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] | None = Field(
        default=None,
        alias="from",
        description="Start of the quiet hours, local time.",
        examples=["22:00"],
    )
    to: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] | None = Field(
        default=None, description="Their end.", examples=["06:30"]
    )
    days: Annotated[list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]], AsList] = Field(
        default=[], description="Days on which they begin; none = every day.", examples=[["sat"]]
    )
    mode: Literal["hold", "drop", "soft"] = Field(
        default="hold", description="hold until the end, drop, or speak softly."
    )
    volume: Percent | None = Field(
        default=None, description="Loudness for mode soft.", examples=[30]
    )
    passes: Priority = Field(
        default=Priority.CRITICAL, description="The lowest level that is spoken anyway."
    )


def _alert_text(value: Any) -> Any:
    texts = list(value.values()) if isinstance(value, dict) else [value]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError('must be a text, or a table as { en = "Smoke!", de = "Rauch!" }')
    return value


class Alert(Section):
    """One stored alert: a text that is kept as sound, or a sound file."""

    text: Annotated[str | dict[Language, str] | None, BeforeValidator(_alert_text)] = Field(
        default=None, description="What it says, or a table language -> text.", examples=["Smoke!"]
    )
    file: FilePath | None = Field(
        default=None, description="A WAV file instead.", examples=["/etc/kugel-bridge/smoke.wav"]
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Alert:
        if (self.text is None) == (self.file is None):
            raise ValueError("needs either text or file")
        return self


class Alerts(Section):
    """Alerts kept as sound, so that they need neither internet nor a voice."""

    model_config = Section.model_config | {"extra": "allow"}
    __pydantic_extra__: dict[str, Alert] = Field(init=False)

    dir: FilePath = Field(
        default_factory=alerts_directory,
        description="Where the sound of alerts is kept; in $STATE_DIRECTORY, like the queue.",
        examples=["/var/lib/kugel-bridge/alerts"],
    )

    @model_validator(mode="after")
    def _names_fit(self) -> Alerts:
        for name in self.named:
            check_slug(name)
        return self

    @property
    def named(self) -> dict[str, Alert]:
        """The stored alerts by name, in the order of the file."""
        return dict(self.__pydantic_extra__)


def _template(value: Any) -> Any:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text")
    try:
        parts = list(string.Formatter().parse(value))
    except ValueError as error:
        raise ValueError(
            "has a brace without its partner; a variable looks like {who}, "
            "a brace that begins none is written {{ or }}"
        ) from error
    for _, name, form, conversion in parts:
        # "{a.b}" and "{a[0]}" would let a template reach into Python objects.
        if name is not None and (not name.isidentifier() or form or conversion):
            raise ValueError(f"{{{name}}} is not a variable; a variable looks like {{who}}")
    return value


class Phrase(Section):
    """A named template: `{"phrase": "<name>", "vars": {...}}` says it."""

    text: Annotated[str, BeforeValidator(_template)] = Field(
        description="What it says, with variables in braces.", examples=["{who} is at the door"]
    )
    language: Language | None = Field(default=None, description="Its language.", examples=["en"])
    voice: str | None = Field(
        default=None, coerce_numbers_to_str=True, description="Its voice.", examples=["samantha"]
    )


def _zones(value: Any) -> Any:
    if isinstance(value, dict) and ALL_ZONES in value:
        raise WrongKeyError(ALL_ZONES, "cannot be the name of a zone, it means every zone")
    return value


Zones = Annotated[
    dict[Slug, Zone], BeforeValidator(_zones), AfterValidator(lambda zones: zones or _one_zone())
]
"""Zones by name; there is always one."""


def _one_zone() -> dict[str, Zone]:
    return {"main": Zone()}
