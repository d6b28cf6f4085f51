"""The REST part of the gateway as an OpenAPI 3.1 document."""

from __future__ import annotations

from typing import Any

from kugel_bridge import __version__
from kugel_bridge.gateway import absent
from kugel_bridge.gateway.paging import MAX_OFFSET
from kugel_bridge.kugelaudio.catalogue import DEFAULT_PAGE, MAX_PAGE, Model
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
    Encoding,
)

Json = dict[str, Any]

_ERRORS = {
    400: "The request cannot be carried out as it stands",
    401: "No key, or none of ours",
    402: "The key's characters of this day are used up",
    403: "Without keys: asked from elsewhere",
    404: "There is no such thing",
    405: "The path does not take this method",
    408: "The body did not come in time",
    413: "Body or text too long",
    415: "The body is not JSON in UTF-8",
    429: "Too many requests; see Retry-After",
    500: "The engine failed",
    501: "Not available here",
    503: "The engine or the list of voices cannot be had now",
}


def document(model: Model) -> Json:
    """All that is served over REST, with the limits of `model`."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "kugel-bridge gateway",
            "version": __version__,
            "description": "A speech server with the KugelAudio API. Its WebSockets /ws/tts, "
            "/ws/tts/stream and /ws/tts/multi have no place in this format.",
        },
        "security": [{"bearer": []}, {"header": []}, {}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
            "headers": {
                "x-request-id": {"required": True, "schema": _text(pattern="^req_[0-9a-f]{32}$")},
                "Retry-After": {"schema": {"type": "integer", "minimum": 1}},
            },
            "schemas": {
                "Error": _error(),
                "Speech": _speech(model),
                "Voice": _voice(),
                "VoiceDetails": _voice_details(),
                "VoicePage": _page("voices", _ref("Voice")),
                "Models": _object({"models": {"type": "array", "items": _ref("Model")}}),
                "Model": _model(),
                "Usage": _usage(),
                "UsageAnswer": _envelope(_ref("Usage")),
                "UsageHistory": _envelope(_page("items", _ref("Usage"))),
            },
        },
    }


def _paths() -> Json:
    paths = _served()
    for route in absent.routes():
        path = paths.setdefault(route.path.replace("{ident}", "{id}"), {})
        for method in sorted((route.methods or set()) - {"HEAD"}):
            path.setdefault(method.lower(), _not_available(route.path))
    return paths


def _served() -> Json:
    return {
        "/": _get("What this is", "text/plain", _text(), 403, security=False),
        "/health": _get("Whether it is alive", _JSON, _state("healthy"), security=False),
        "/ready": {
            "get": _operation(
                "Whether it takes requests",
                {
                    200: _content(_JSON, _state("ready")),
                    503: _content(_JSON, _state("not_ready")),
                },
                security=False,
            )
        },
        "/metrics": _get("Figures for Prometheus", "text/plain", _text(), 401, 403),
        "/openapi.json": _get("This document", _JSON, {"type": "object"}, 401, 403),
        "/v1/tts/generate": _synthesis("Speak a text"),
        "/predict": _synthesis("The older name of /v1/tts/generate"),
        "/v1/voices": {
            "get": _operation(
                "The voices",
                {200: _content(_JSON, _ref("VoicePage"))} | _errors(400, 401, 403, 503),
                parameters=[
                    *_paging(),
                    _parameter("language", _text()),
                    _parameter("category", _text()),
                    _parameter("include_public", {"type": "boolean", "default": True}),
                ],
            ),
        },
        "/v1/voices/{id}": {
            "get": _operation(
                "One voice, by number or handle",
                {200: _content(_JSON, _ref("VoiceDetails"))} | _errors(401, 403, 404, 503),
                parameters=[_parameter("id", _text(minLength=1), place="path")],
            )
        },
        "/v1/models": _get("The models", _JSON, _ref("Models"), 401, 403),
        "/v1/usage": _get(
            "What the asking key used this month", _JSON, _ref("UsageAnswer"), 401, 403
        ),
        "/v1/usage/history": {
            "get": _operation(
                "The same for each day that had any, newest first",
                {200: _content(_JSON, _ref("UsageHistory"))} | _errors(400, 401, 403),
                parameters=_paging(),
            )
        },
        "/v1/sdk-diagnostics": {
            "post": _operation(
                "Telemetry of an SDK, thrown away",
                {204: _answer("Thrown away")} | _errors(401, 403, 408, 413),
            )
        },
    }


# --- operations -----------------------------------------------------------------------------

_JSON = "application/json"


def _get(summary: str, kind: str, schema: Json, *errors: int, security: bool = True) -> Json:
    answers = {200: _content(kind, schema)} | _errors(*errors)
    return {"get": _operation(summary, answers, security=security)}


def _not_available(path: str) -> Json:
    names = [part[1:-1] for part in path.replace("{ident}", "{id}").split("/") if part[:1] == "{"]
    parameters = [_parameter(name, _text(minLength=1), place="path") for name in names]
    status = 503 if path.startswith("/v1/dictionaries") else 501
    return _operation("Not available", _errors(401, 403, status), parameters=parameters)


def _synthesis(summary: str) -> Json:
    sound = {"schema": {"type": "string", "contentEncoding": "binary"}}
    answer = _answer(
        "The samples as they are made, without a container. A body that ends without the end of "
        "its chunked encoding is not complete.",
        {
            "X-Sample-Rate": {"required": True, "schema": {"type": "integer"}},
            "X-Audio-Format": {
                "required": True,
                "schema": _choice(*(encoding.value for encoding in Encoding)),
            },
            "X-KugelAudio-AI-Generated": {"required": True, "schema": _choice("true")},
            "X-Kugel-Bridge-Source": {"schema": _choice("local", "cache", "cloud")},
            "X-Kugel-Bridge-Fallback": {"schema": _text()},
        },
    )
    answer["content"] = {"audio/pcm": sound, "audio/basic": sound}
    errors = _errors(400, 401, 402, 403, 404, 408, 413, 415, 429, 500, 503)
    body = {"required": True, "content": {_JSON: {"schema": _ref("Speech")}}}
    return {"post": _operation(summary, {200: answer} | errors) | {"requestBody": body}}


def _operation(
    summary: str,
    answers: dict[int, Json],
    *,
    parameters: list[Json] | None = None,
    security: bool = True,
) -> Json:
    operation: Json = {
        "summary": summary,
        "responses": {str(status): answer for status, answer in sorted(answers.items())},
    }
    if parameters:
        operation["parameters"] = parameters
    if not security:
        operation["security"] = []
    return operation


def _errors(*statuses: int) -> dict[int, Json]:
    return {status: _error_answer(status) for status in statuses}


def _error_answer(status: int) -> Json:
    answer = _content(_JSON, _ref("Error"), _ERRORS[status])
    if status in (429, 503):
        answer["headers"]["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    return answer


def _content(kind: str, schema: Json, description: str = "It worked") -> Json:
    return _answer(description) | {"content": {kind: {"schema": schema}}}


def _answer(description: str, headers: Json | None = None) -> Json:
    named: Json = {"x-request-id": {"$ref": "#/components/headers/x-request-id"}}
    return {"description": description, "headers": named | (headers or {})}


def _parameter(name: str, schema: Json, place: str = "query") -> Json:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _paging() -> list[Json]:
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE}
    offset = {"type": "integer", "minimum": 0, "maximum": MAX_OFFSET, "default": 0}
    return [_parameter("limit", limit), _parameter("offset", offset)]


# --- schemas ----------------------------------------------------------------------------------


def _speech(model: Model) -> Json:
    model_id = {"type": ["string", "null"], "enum": [*sorted(MODEL_IDS), None]}
    fields: Json = {
        "text": _text(minLength=1, maxLength=model.max_input_characters, pattern=r"\S"),
        "voice_id": {
            "anyOf": [
                {"type": "integer", "minimum": 1},
                _text(minLength=1, maxLength=MAX_HANDLE_CHARACTERS),
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
        "name": _text(),
        "description": {"type": ["string", "null"]},
        "category": {"type": ["string", "null"]},
        "sex": {"enum": ["male", "female", "neutral", None]},
        "age": {"enum": ["young", "middle_age", "middle_aged", "old", None]},
        "quality": _text(),
        "supported_languages": {"type": "array", "items": _text()},
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
        "description": _text(),
        "sample_text": _text(),
        "generative_voice_description": _text(),
        "pending_verification": {"type": "boolean"},
    }
    return _object(_voice_fields() | own)


def _model() -> Json:
    return _object(
        {
            "id": _text(),
            "model_id": _text(),
            "name": _text(),
            "description": _text(),
            "parameters": {"type": ["string", "null"]},
            "max_input_length": {"type": "integer", "description": "Characters"},
            "sample_rate": {"type": "integer", "description": "Hz"},
        }
    )


def _usage() -> Json:
    return _object(
        {
            "period_start": _text(format="date-time"),
            "period_end": _text(format="date-time"),
            "requests": {"type": "integer", "minimum": 0},
            "audio_seconds": {"type": "number", "minimum": 0},
            "characters": {"type": "integer", "minimum": 0},
            "cost_cents": {"type": "number", "description": "As far as it is known"},
            "currency": _choice("eur"),
        }
    )


def _error() -> Json:
    fields = {
        "error": _text(description="For display; never to be parsed"),
        "error_code": _text(),
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
    return _object({"data": data, "meta": _object({"request_id": _text()})})


def _state(status: str) -> Json:
    return {
        "type": "object",
        "properties": {"status": _choice(status)},
        "required": ["status"],
    }


def _object(fields: Json) -> Json:
    """An object with all of these fields, and no others."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _text(**more: Any) -> Json:
    return {"type": "string", **more}


def _choice(*values: str) -> Json:
    return {"type": "string", "enum": list(values)}


def _number(**more: Any) -> Json:
    return {"type": ["number", "null"], **more}


def _whole(**more: Any) -> Json:
    return {"type": ["integer", "null"], **more}
