"""What the gateway's REST endpoints take and give, as JSON Schema."""

from __future__ import annotations

from typing import Any

from kugel_bridge.kugelaudio.catalogue import MAX_PAGE, Model
from kugel_bridge.kugelaudio.messages import (
    LANGUAGES,
    MAX_DICTIONARIES,
    MAX_HANDLE_CHARACTERS,
    MAX_NEW_TOKENS,
    MAX_SPEED,
    MIN_SPEED,
    MODEL_IDS,
    NATIVE_RATE,
    OUTPUT_FORMATS,
    SAMPLE_RATES,
)

Json = dict[str, Any]


def schemas(model: Model) -> Json:
    """Every schema that has a name; `model` sets the bounds of a request."""
    return {
        "Error": _error(),
        "Chain": _object({"chain": {"type": "array", "items": text()}}),
        "Speech": _speech(model),
        "Voice": _voice(),
        "VoiceDetails": _voice_details(),
        "VoicePage": _page("voices", ref("Voice")),
        "Models": _object({"models": {"type": "array", "items": ref("Model")}}),
        "Model": _model(),
        "Usage": _usage(),
        "UsageAnswer": _envelope(ref("Usage")),
        "UsageHistory": _envelope(_page("items", ref("Usage"))),
    }


def state(status: str) -> Json:
    """An answer that tells a state; others may be added to it."""
    return {
        "type": "object",
        "properties": {"status": choice(status)},
        "required": ["status"],
    }


def ref(name: str) -> Json:
    """A schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def text(**more: Any) -> Json:
    """A string, with further bounds."""
    return {"type": "string", **more}


def choice(*values: str) -> Json:
    """One of these strings."""
    return {"type": "string", "enum": list(values)}


def _speech(model: Model) -> Json:
    model_id = {"type": ["string", "null"], "enum": [*sorted(MODEL_IDS), None]}
    fields: Json = {
        "text": text(minLength=1, maxLength=model.max_input_characters, pattern=r"\S"),
        "voice_id": {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                text(minLength=1, maxLength=MAX_HANDLE_CHARACTERS),
            ],
            "description": "A number of /v1/voices, or a handle",
        },
        "model_id": model_id,
        "model": model_id | {"description": "The older name of model_id", "deprecated": True},
        "cfg_scale": _number(description="Cut to 1.2 to 2.5"),
        "temperature": _number(minimum=0, maximum=1),
        "max_new_tokens": _whole(minimum=1, maximum=MAX_NEW_TOKENS),
        "sample_rate": {"type": ["integer", "null"], "enum": [*sorted(SAMPLE_RATES), None]},
        "output_format": {"type": ["string", "null"], "enum": [*sorted(OUTPUT_FORMATS), None]},
        "normalize": {"type": ["boolean", "null"]},
        "language": {"type": ["string", "null"], "enum": [*sorted(LANGUAGES), None]},
        "speed": _number(minimum=MIN_SPEED, maximum=MAX_SPEED),
        "project_id": _whole(),
        "dictionary_ids": {
            "type": ["array", "null"],
            "items": {"type": "integer"},
            "maxItems": MAX_DICTIONARIES,
        },
    }
    return {
        "type": "object",
        "properties": fields,
        "required": ["text", "voice_id"],
        "additionalProperties": False,
        "not": {"required": ["model_id", "model"]},
        "allOf": [_agreeing_rates(), _dictionaries_of_a_project()],
    }


def _agreeing_rates() -> Json:
    """A rate must be that of the format; the native one counts as not chosen."""
    unchosen = {"sample_rate": {"enum": [NATIVE_RATE, None]}}
    choices = [{"output_format": {"type": "null"}}, unchosen]
    for rate in sorted({rate for _, rate in OUTPUT_FORMATS.values()} - {NATIVE_RATE}):
        formats = [name for name, (_, of) in OUTPUT_FORMATS.items() if of == rate]
        choices.append({"output_format": {"enum": formats}, "sample_rate": {"enum": [rate]}})
    return {"anyOf": [{"properties": choice} for choice in choices]}


def _dictionaries_of_a_project() -> Json:
    none: Json = {"anyOf": [{"type": "null"}, {"type": "array", "maxItems": 0}]}
    return {
        "anyOf": [
            {"properties": {"dictionary_ids": none}},
            {"properties": {"project_id": {"type": "integer"}}, "required": ["project_id"]},
        ]
    }


def _voice_fields() -> Json:
    nothing = {"type": "null"}
    return {
        "id": {"type": "integer", "minimum": 1},
        "voice_id": {"type": "integer", "minimum": 1},
        "handle": {"type": ["string", "null"]},
        "public_id": nothing,
        "name": text(),
        "description": {"type": ["string", "null"]},
        "category": {"type": ["string", "null"]},
        "sex": {"enum": ["male", "female", "neutral", None]},
        "age": {"enum": ["young", "middle_age", "middle_aged", "old", None]},
        "quality": text(),
        "supported_languages": {"type": "array", "items": text()},
        "sample_text": {"type": ["string", "null"]},
        "sample_url": nothing,
        "avatar_url": nothing,
        "is_public": {"type": "boolean"},
        "verified": {"type": "boolean"},
    }


def _voice() -> Json:
    return _object(_voice_fields())


def _voice_details() -> Json:
    own = {
        "description": text(),
        "sample_text": text(),
        "generative_voice_description": text(),
        "pending_verification": {"type": "boolean"},
    }
    return _object(_voice_fields() | own)


def _model() -> Json:
    return _object(
        {
            "id": text(),
            "model_id": text(),
            "name": text(),
            "description": text(),
            "parameters": {"type": ["string", "null"]},
            "max_input_length": {"type": "integer", "description": "Characters"},
            "sample_rate": {"type": "integer", "description": "Hz"},
        }
    )


def _usage() -> Json:
    return _object(
        {
            "period_start": text(format="date-time"),
            "period_end": text(format="date-time"),
            "requests": {"type": "integer", "minimum": 0},
            "audio_seconds": {"type": "number", "minimum": 0},
            "characters": {"type": "integer", "minimum": 0},
            "cost_cents": {"type": "number", "description": "As far as it is known"},
            "currency": choice("eur"),
        }
    )


def _error() -> Json:
    fields = {
        "error": text(description="For display; never to be parsed"),
        "error_code": text(),
        "code": {"type": "integer", "description": "The HTTP status"},
    }
    return _object(fields) | {"required": ["error", "code"]}


def _page(name: str, items: Json) -> Json:
    return _object(
        {
            name: {"type": "array", "items": items},
            "total": {"type": "integer", "minimum": 0},
            "limit": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE},
            "offset": {"type": "integer", "minimum": 0},
        }
    )


def _envelope(data: Json) -> Json:
    return _object({"data": data, "meta": _object({"request_id": text()})})


def _object(fields: Json) -> Json:
    """An object with all of these fields, and no others."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def _number(**more: Any) -> Json:
    return {"type": ["number", "null"], **more}


def _whole(**more: Any) -> Json:
    return {"type": ["integer", "null"], **more}
