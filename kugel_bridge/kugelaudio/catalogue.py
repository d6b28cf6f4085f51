"""Voices, models and usage as the REST endpoints tell them; read by the client, written by us.

Source: API reference, "REST endpoints"; the shape of the usage answers is not published, and ours
is the one our own gateway serves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from kugel_bridge.kugelaudio.wire import (
    JsonObject,
    take_flag,
    take_integer,
    take_number,
    take_text,
)
from kugel_bridge.model.errors import ProtocolError

MAX_PAGE = 100
DEFAULT_PAGE = 20
SEXES = frozenset({"male", "female", "neutral"})
AGES = frozenset({"young", "middle_age", "middle_aged", "old"})
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Voice:
    """One entry of the catalogue."""

    id: int
    """What to send as `voice_id`; 0 only for one of which nothing but the handle is known."""
    name: str
    handle: str | None = None
    """May be sent in place of the number."""
    languages: tuple[str, ...] = ()
    sex: str | None = None
    """One of SEXES, or what a service has thought of since."""
    age: str | None = None
    """One of AGES; likewise."""
    description: str | None = None
    category: str | None = None
    quality: str = "mid"
    sample_text: str | None = None
    is_public: bool = False
    verified: bool = False

    def to_fields(self) -> dict[str, Any]:
        """The JSON object of the voice list.

        Where the official SDK would fail at one value, and lose the whole list, it tells none.
        """
        return {
            "id": self.id,
            "voice_id": self.id,
            "handle": self.handle,
            "public_id": None,
            "name": self.name,
            "description": self.description,
            "category": self.category,
            "sex": self.sex if self.sex in SEXES else None,
            "age": self.age if self.age in AGES else None,
            "quality": self.quality,
            "supported_languages": list(self.languages),
            "sample_text": self.sample_text,
            "sample_url": None,
            "avatar_url": None,
            "is_public": self.is_public,
            "verified": self.verified,
        }


@dataclass(frozen=True, slots=True)
class VoicePage:
    """A part of the list of voices."""

    voices: tuple[Voice, ...]
    total: int
    limit: int
    offset: int

    def to_fields(self) -> dict[str, Any]:
        """The JSON object of the answer."""
        return {
            "voices": [voice.to_fields() for voice in self.voices],
            "total": self.total,
            "limit": self.limit,
            "offset": self.offset,
        }


@dataclass(frozen=True, slots=True)
class Model:
    """A speech model."""

    id: str
    name: str
    description: str = ""
    max_input_characters: int = 5000
    sample_rate: int = 24_000
    """Hz."""

    def to_fields(self) -> dict[str, Any]:
        """The JSON object of the model list."""
        return {
            "id": self.id,
            "model_id": self.id,
            "name": self.name,
            "description": self.description,
            "parameters": None,
            "max_input_length": self.max_input_characters,
            "sample_rate": self.sample_rate,
        }


@dataclass(frozen=True, slots=True)
class AccountUsage:
    """What an account has used in a period; None = the service does not say."""

    period_start: str | None
    """ISO 8601."""
    period_end: str | None
    requests: int | None
    audio_s: float | None
    characters: int | None
    cost_cents: float | None
    currency: str | None

    def to_fields(self) -> dict[str, Any]:
        """The JSON object of the answer."""
        return {
            "period_start": self.period_start,
            "period_end": self.period_end,
            "requests": self.requests,
            "audio_seconds": self.audio_s,
            "characters": self.characters,
            "cost_cents": self.cost_cents,
            "currency": self.currency,
        }


def voice_from(fields: JsonObject) -> Voice:
    """Read one voice; raises ProtocolError without a positive id and a name."""
    number = take_integer(fields, "id")
    name = take_text(fields, "name")
    if number is None or number < 1 or name is None:
        raise ProtocolError("a voice without id or name")
    languages = fields.get("supported_languages")
    return Voice(
        id=number,
        name=name,
        handle=take_text(fields, "handle"),
        languages=tuple(x for x in languages if isinstance(x, str))
        if isinstance(languages, list)
        else (),
        sex=take_text(fields, "sex"),
        age=take_text(fields, "age"),
        description=take_text(fields, "description"),
        category=take_text(fields, "category"),
        quality=take_text(fields, "quality") or "mid",
        sample_text=take_text(fields, "sample_text"),
        is_public=take_flag(fields, "is_public") or False,
        verified=take_flag(fields, "verified") or False,
    )


def voice_page_from(fields: JsonObject) -> VoicePage:
    """Read a page of voices; raises ProtocolError for anything else."""
    voices = _items(fields, "voices", voice_from)
    total = take_integer(fields, "total")
    return VoicePage(
        voices,
        total=len(voices) if total is None else total,
        limit=take_integer(fields, "limit") or DEFAULT_PAGE,
        offset=take_integer(fields, "offset") or 0,
    )


def model_from(fields: JsonObject) -> Model:
    """Read one model; raises ProtocolError without an id."""
    ident = take_text(fields, "id") or take_text(fields, "model_id")
    if not ident:
        raise ProtocolError("a model without id")
    return Model(
        id=ident,
        name=take_text(fields, "name") or ident,
        description=take_text(fields, "description") or "",
        max_input_characters=take_integer(fields, "max_input_length") or 5000,
        sample_rate=take_integer(fields, "sample_rate") or 24_000,
    )


def models_from(fields: JsonObject) -> tuple[Model, ...]:
    """Read the list of models; raises ProtocolError for anything else."""
    return _items(fields, "models", model_from)


def usage_from(fields: JsonObject) -> AccountUsage:
    """Read an account's usage, with or without the envelope of `data` and `meta`.

    Raises ProtocolError where none of the fields is known.
    """
    if isinstance(inside := fields.get("data"), dict):
        fields = inside
    usage = AccountUsage(
        period_start=take_text(fields, "period_start"),
        period_end=take_text(fields, "period_end"),
        requests=take_integer(fields, "requests"),
        audio_s=take_number(fields, "audio_seconds"),
        characters=take_integer(fields, "characters"),
        cost_cents=take_number(fields, "cost_cents"),
        currency=take_text(fields, "currency"),
    )
    if usage.audio_s is None and usage.characters is None and usage.requests is None:
        raise ProtocolError("the service tells its usage in a form we do not know")
    return usage


def _items(
    fields: Mapping[str, Any], name: str, read: Callable[[JsonObject], _T]
) -> tuple[_T, ...]:
    items = fields.get(name)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ProtocolError(f"no list of {name} in the answer")
    return tuple(read(item) for item in items)
