"""What a client says on /ws/tts: requests, cancelling, settings; read and written.

Source: API reference, "/ws/tts" and "Common request parameters".
"""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass
from typing import Any

from kugel_bridge.kugelaudio.codes import (
    INVALID_REQUEST,
    MISSING_VOICE,
    TEXT_REQUIRED,
    Refusal,
)
from kugel_bridge.kugelaudio.wire import (
    JsonObject,
    read_object,
    take_flag,
    take_integer,
    take_number,
    take_text,
    write_object,
)
from kugel_bridge.model.errors import ProtocolError
from kugel_bridge.model.report import SourceKind

DEFAULT_MODEL = "kugel-3.5"
# The older ids are routed to a current model (API reference, "GET /v1/models").
# fmt: off
MODEL_IDS = frozenset((
    "kugel-3.5", "kugel-3", "kugel-2.5", "kugel-2-turbo", "kugel-2", "kugel-1", "kugel-1-turbo",
))
# fmt: on
NATIVE_RATE = 24_000
"""The models' own sample rate (Hz); as a request's rate it also means "not chosen"."""
SAMPLE_RATES = frozenset({8_000, 16_000, 22_050, 24_000, 44_100})
MIN_SPEED, MAX_SPEED = 0.8, 1.2
MIN_CFG_SCALE, MAX_CFG_SCALE = 1.2, 2.5
MAX_NEW_TOKENS = 2048
MAX_HANDLE_CHARACTERS = 200
MAX_DICTIONARIES = 50
# fmt: off
LANGUAGES = frozenset((
    "de", "en", "fr", "es", "it", "pt", "nl", "pl", "sv", "da", "no", "fi", "cs",
    "hu", "ro", "el", "uk", "bg", "tr", "vi", "ar", "hi", "zh", "ja", "ko", "sk",
    "sl", "hr", "sr", "ru", "he", "fa", "ur", "bn", "ta", "yue", "th", "id", "ms",
))
# fmt: on


class Encoding(enum.StrEnum):
    """How the samples of an audio frame are stored; the names are the wire's `enc`."""

    PCM = "pcm_s16le"
    MULAW = "mulaw"
    ALAW = "alaw"

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample."""
        return 2 if self is Encoding.PCM else 1


OUTPUT_FORMATS = {
    "pcm_8000": (Encoding.PCM, 8_000),
    "pcm_16000": (Encoding.PCM, 16_000),
    "pcm_22050": (Encoding.PCM, 22_050),
    "pcm_24000": (Encoding.PCM, 24_000),
    "ulaw_8000": (Encoding.MULAW, 8_000),
    "alaw_8000": (Encoding.ALAW, 8_000),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Generation parameters that `update_settings` may change; None = as it was."""

    cfg_scale: float | None = None
    temperature: float | None = None
    speed: float | None = None
    max_new_tokens: int | None = None
    language: str | None = None
    normalize: bool | None = None

    def updated(self, other: Settings) -> Settings:
        """These settings, with those that `other` sets."""
        return dataclasses.replace(self, **other.to_fields())

    def to_fields(self) -> dict[str, Any]:
        """The JSON fields that are set."""
        return {
            item.name: value
            for item in dataclasses.fields(self)
            if (value := getattr(self, item.name)) is not None
        }


_OPTIONAL = (
    "voice_id",
    "output_format",
    "language",
    "temperature",
    "project_id",
    "dictionary_ids",
    "speaker_prefix",
)


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """One text to speak."""

    text: str
    language: str | None
    """Two or three letters; None lets the server take the voice's own, which costs time."""
    voice_id: int | str | None
    """A number or a handle."""
    model_id: str = DEFAULT_MODEL
    speed: float = 1.0
    sample_rate: int = NATIVE_RATE
    """Hz."""
    output_format: str | None = None
    word_timestamps: bool = False
    cfg_scale: float = 2.0
    temperature: float | None = None
    max_new_tokens: int = MAX_NEW_TOKENS
    normalize: bool = True
    project_id: int | None = None
    """Whose dictionaries apply; None = nobody's."""
    dictionary_ids: tuple[int, ...] | None = None
    """Those of the project that apply; None = all that are active."""
    speaker_prefix: bool | None = None
    """None leaves it to the service, which has it on."""

    @property
    def delivery(self) -> tuple[Encoding, int]:
        """The encoding and the sample rate (Hz) the sound will have."""
        if self.output_format is None:
            return Encoding.PCM, self.sample_rate
        return OUTPUT_FORMATS[self.output_format]

    def to_json(self) -> str:
        """The message as the official SDK writes it: optional fields only where they are set."""
        fields: dict[str, Any] = {
            "text": self.text,
            "model_id": self.model_id,
            "cfg_scale": self.cfg_scale,
            "max_new_tokens": self.max_new_tokens,
            "sample_rate": self.sample_rate,
            "normalize": self.normalize,
            "word_timestamps": self.word_timestamps,
            "speed": self.speed,
        }
        for name in _OPTIONAL:
            if (value := getattr(self, name)) is not None:
                fields[name] = value
        return write_object(fields)


@dataclass(frozen=True, slots=True)
class Cancel:
    """Drop what is being generated."""

    def to_json(self) -> str:
        """The message."""
        return '{"cancel":true}'


@dataclass(frozen=True, slots=True)
class UpdateSettings:
    """Change the defaults of later requests on this socket."""

    settings: Settings

    def to_json(self) -> str:
        """The message."""
        return write_object({"update_settings": self.settings.to_fields()})


@dataclass(frozen=True, slots=True)
class Usage:
    """What one request cost."""

    audio_s: float
    """Generated sound, the billed unit (s)."""
    characters: int = 0
    cost_cents: float | None = None
    """Euro cents; None where the service could not tell, which is not zero."""
    currency: str | None = None
    model_id: str | None = None

    def to_fields(self) -> dict[str, Any]:
        """The JSON fields."""
        fields: dict[str, Any] = {"audio_seconds": self.audio_s, "characters": self.characters}
        fields["cost_cents"] = self.cost_cents
        if self.cost_cents is None:
            fields["cost_unavailable"] = True
        if self.currency is not None:
            fields["currency"] = self.currency
        fields["model_id"] = self.model_id
        return fields


def summed(bill: Usage | None, more: Usage | None) -> Usage | None:
    """One bill for both; where one cost is not known the sum is not, which is not zero."""
    if bill is None or more is None:
        return more if bill is None else bill
    cents = None
    if bill.cost_cents is not None and more.cost_cents is not None:
        cents = bill.cost_cents + more.cost_cents
    return Usage(
        audio_s=round(bill.audio_s + more.audio_s, 3),
        characters=bill.characters + more.characters,
        cost_cents=cents,
        currency=None if cents is None else more.currency,
        model_id=more.model_id,
    )


def broken_off(
    audio_s: float, characters: int, model_id: str, source: SourceKind | None
) -> Usage | None:
    """What a text cost that stopped after so much sound (s); None for none.

    Only who speaks for nothing (`source`) lets that be known.
    """
    if not audio_s:
        return None
    is_free = source in (SourceKind.LOCAL, SourceKind.CACHE)
    return Usage(
        round(audio_s, 3),
        characters,
        cost_cents=0.0 if is_free else None,
        currency="eur" if is_free else None,
        model_id=model_id,
    )


ClientMessage = SpeechRequest | Cancel | UpdateSettings


def parse_message(
    text: str | bytes, defaults: Settings = Settings(), model_id: str = DEFAULT_MODEL
) -> ClientMessage | Refusal:
    """Decode one message of a client on /ws/tts; unknown fields are ignored.

    A well-formed message that asks for something impossible comes back as the Refusal to answer
    with. `defaults` and `model_id` fill what a request leaves out. Raises ProtocolError for
    anything that is not a JSON object.
    """
    fields = read_object(text)
    try:
        if take_flag(fields, "cancel"):
            return Cancel()
        if "update_settings" in fields:
            return update_from(fields)
        return _parse_request(fields, defaults, model_id)
    except ProtocolError as error:
        return invalid(str(error))


def with_parameters(request: SpeechRequest, fields: JsonObject) -> SpeechRequest:
    """`request` with everything that `fields` say besides the text; null leaves things as they are.

    A socket whose configuration stays keeps a request without text to build on: there a
    sample_rate or an output_format alone takes the place of the other one. Raises ProtocolError,
    naming the field, for a value that cannot be used or contradicts another.
    """
    given: dict[str, Any] = {
        "voice_id": _voice_from(fields),
        "model_id": take_text(fields, "model_id") or take_text(fields, "model"),
        "sample_rate": take_integer(fields, "sample_rate"),
        "output_format": take_text(fields, "output_format"),
        "word_timestamps": take_flag(fields, "word_timestamps"),
        "speaker_prefix": take_flag(fields, "speaker_prefix"),
        "project_id": take_integer(fields, "project_id"),
        "dictionary_ids": _dictionaries_from(fields),
    }
    changes = {name: value for name, value in given.items() if value is not None}
    changed = dataclasses.replace(request, **changes, **settings_from(fields).to_fields())
    if changed.model_id not in MODEL_IDS:
        raise ProtocolError(
            f"model_id {changed.model_id[:40]!a} is unknown: one of {', '.join(sorted(MODEL_IDS))}"
        )
    if changed.sample_rate not in SAMPLE_RATES:
        raise ProtocolError(f"sample_rate must be one of {sorted(SAMPLE_RATES)}")
    if changed.output_format is not None:
        if changed.output_format not in OUTPUT_FORMATS:
            raise ProtocolError(f"output_format must be one of {sorted(OUTPUT_FORMATS)}")
        if changed.sample_rate not in (NATIVE_RATE, changed.delivery[1]):
            if {"sample_rate", "output_format"} <= set(changes):
                raise ProtocolError("sample_rate contradicts output_format")
            if "sample_rate" in changes:
                changed = dataclasses.replace(changed, output_format=None)
            else:
                changed = dataclasses.replace(changed, sample_rate=NATIVE_RATE)
    if changed.dictionary_ids and changed.project_id is None:
        raise ProtocolError("dictionary_ids need a project_id")
    return changed


def settings_from(fields: JsonObject) -> Settings:
    """The settings among `fields`, in their ranges; raises ProtocolError, naming the field."""
    settings = Settings(
        cfg_scale=take_number(fields, "cfg_scale"),
        temperature=take_number(fields, "temperature"),
        speed=take_number(fields, "speed"),
        max_new_tokens=take_integer(fields, "max_new_tokens"),
        language=take_text(fields, "language"),
        normalize=take_flag(fields, "normalize"),
    )
    if settings.temperature is not None and not 0 <= settings.temperature <= 1:
        raise ProtocolError("temperature must be between 0 and 1")
    if settings.speed is not None and not MIN_SPEED <= settings.speed <= MAX_SPEED:
        raise ProtocolError(f"speed must be between {MIN_SPEED} and {MAX_SPEED}")
    if settings.max_new_tokens is not None and not 1 <= settings.max_new_tokens <= MAX_NEW_TOKENS:
        raise ProtocolError(f"max_new_tokens must be between 1 and {MAX_NEW_TOKENS}")
    if settings.language is not None and settings.language not in LANGUAGES:
        raise ProtocolError("language is not supported: two or three letters, as in 'de'")
    if settings.cfg_scale is not None:
        # The one value that the API clamps instead of refusing.
        clamped = min(MAX_CFG_SCALE, max(MIN_CFG_SCALE, settings.cfg_scale))
        settings = dataclasses.replace(settings, cfg_scale=clamped)
    return settings


def update_from(message: JsonObject) -> UpdateSettings | Refusal:
    """A message with `update_settings`, the same on all sockets: some of the six, nothing else."""
    for name in ("text", "flush"):
        if message.get(name):
            return invalid(f"{name} beside update_settings: send it in a message of its own")
    fields = message["update_settings"]
    if not isinstance(fields, dict):
        return invalid("update_settings is not an object")
    known = {item.name for item in dataclasses.fields(Settings)}
    if fixed := sorted(set(fields) - known):
        # Also sent for fields nobody knows: the sender has to learn that they had no effect.
        return invalid(f"{fixed[0][:40]!a} cannot be changed on an open socket")
    try:
        settings = settings_from(fields)
    except ProtocolError as error:
        return invalid(str(error))
    return UpdateSettings(settings) if settings.to_fields() else invalid("no setting given")


def invalid(reason: str) -> Refusal:
    """A refused message, with what was wrong with it."""
    return dataclasses.replace(INVALID_REQUEST, message=f"Invalid request: {reason}")


def _parse_request(
    fields: JsonObject, defaults: Settings, model_id: str
) -> SpeechRequest | Refusal:
    text = take_text(fields, "text")
    if text is None or not text.strip():
        return TEXT_REQUIRED
    plain = dataclasses.replace(SpeechRequest(text, None, None, model_id), **defaults.to_fields())
    request = with_parameters(plain, fields)
    return MISSING_VOICE if request.voice_id is None else request


def _voice_from(fields: JsonObject) -> int | str | None:
    if fields.get("voice_id") == "":
        return None
    if isinstance(fields.get("voice_id"), str):
        handle = take_text(fields, "voice_id")
        if handle and len(handle) > MAX_HANDLE_CHARACTERS:
            raise ProtocolError("voice_id is too long")
        return handle
    number = take_integer(fields, "voice_id")
    if number is not None and number < 1:
        raise ProtocolError("voice_id must be positive")
    return number


def _dictionaries_from(fields: JsonObject) -> tuple[int, ...] | None:
    found = fields.get("dictionary_ids")
    if found is None:
        return None
    # A boolean is an integer to Python.
    if not isinstance(found, list) or not all(type(number) is int for number in found):
        raise ProtocolError("dictionary_ids must be a list of numbers")
    if len(found) > MAX_DICTIONARIES:
        raise ProtocolError(f"dictionary_ids may name {MAX_DICTIONARIES} at most")
    return tuple(found)


BINARY_MESSAGE = invalid("a binary message, where the API takes text only")
