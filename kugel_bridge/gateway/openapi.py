"""The REST part of the gateway as an OpenAPI 3.1 document."""

from __future__ import annotations

from kugel_bridge import __version__
from kugel_bridge.gateway import absent
from kugel_bridge.gateway.chain import VIA, VIA_PATTERN
from kugel_bridge.gateway.paging import MAX_OFFSET
from kugel_bridge.gateway.schemas import Json, choice, ref, schemas, state, text
from kugel_bridge.kugelaudio.catalogue import DEFAULT_PAGE, MAX_PAGE, Model
from kugel_bridge.kugelaudio.messages import Encoding

_ERRORS = {
    400: "The request cannot be carried out as it stands",
    401: "No key, or none of ours",
    402: "The key's characters of this day are used up",
    403: "Without keys: asked from elsewhere",
    404: "There is no such thing",
    405: "The path does not take this method",
    413: "Body or text too long",
    415: "The body is not JSON in UTF-8",
    429: "Too many requests; see Retry-After",
    500: "The engine failed",
    501: "Not available here",
    503: "The engine or the list of voices cannot be had now",
    508: "The gateways ask each other in a circle",
}


def document(model: Model, *, has_keys: bool = False) -> Json:
    """All that is served over REST, with the limits of `model`; `has_keys` if it asks for one."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "kugel-bridge gateway",
            "version": __version__,
            "description": "A speech server with the KugelAudio API. Its WebSockets /ws/tts, "
            "/ws/tts/stream and /ws/tts/multi have no place in this format.",
        },
        "security": [{"bearer": []}, {"header": []}, *([] if has_keys else [{}])],
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
            "headers": {
                "x-request-id": {"required": True, "schema": text(pattern="^req_[0-9a-f]{32}$")},
                "Retry-After": {"schema": {"type": "integer", "minimum": 1}},
            },
            "schemas": schemas(model),
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
        "/": _get("What this is", "text/plain", text(), security=False),
        "/health": _get("Whether it is alive", _JSON, state("healthy"), security=False),
        "/ready": {
            "get": _operation(
                "Whether it takes requests",
                {
                    200: _content(_JSON, state("ready")),
                    503: _content(_JSON, state("not_ready")),
                },
                security=False,
            )
        },
        "/metrics": _get("Figures for Prometheus", "text/plain", text(), 401, 403),
        "/chain": {
            "get": _operation(
                "The gateways one behind the other, from this one on",
                {200: _content(_JSON, ref("Chain"))} | _errors(400, 401, 403, 508),
                parameters=[_parameter(VIA, text(pattern=VIA_PATTERN), place="header")],
            )
        },
        "/openapi.json": _get("This document", _JSON, {"type": "object"}, 401, 403),
        "/v1/tts/generate": _synthesis("Speak a text"),
        "/predict": _synthesis("The older name of /v1/tts/generate"),
        "/v1/voices": {
            "get": _operation(
                "The voices",
                {200: _content(_JSON, ref("VoicePage"))} | _errors(400, 401, 403, 503),
                parameters=[
                    *_paging(),
                    _parameter("language", text(pattern="^[^_-]")),
                    _parameter("category", text()),
                    _parameter("include_public", {"type": "boolean", "default": True}),
                ],
            ),
        },
        "/v1/voices/{id}": {
            "get": _operation(
                "One voice, by number or handle",
                {200: _content(_JSON, ref("VoiceDetails"))} | _errors(401, 403, 404, 503),
                parameters=[_parameter("id", text(minLength=1), place="path")],
            )
        },
        "/v1/models": _get("The models", _JSON, ref("Models"), 401, 403),
        "/v1/usage": _get(
            "What the asking key used this month", _JSON, ref("UsageAnswer"), 401, 403
        ),
        "/v1/usage/history": {
            "get": _operation(
                "The same for each day that had any, newest first",
                {200: _content(_JSON, ref("UsageHistory"))} | _errors(400, 401, 403),
                parameters=_paging(),
            )
        },
        "/v1/sdk-diagnostics": {
            "post": _operation(
                "Telemetry of an SDK, thrown away",
                {204: _answer("Thrown away")} | _errors(401, 403, 413),
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
    parameters = [_parameter(name, text(minLength=1), place="path") for name in names]
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
                "schema": choice(*(encoding.value for encoding in Encoding)),
            },
            "X-KugelAudio-AI-Generated": {"required": True, "schema": choice("true")},
            "X-Kugel-Bridge-Source": {"schema": choice("local", "cache", "cloud")},
            "X-Kugel-Bridge-Fallback": {"schema": text()},
        },
    )
    answer["content"] = {"audio/pcm": sound, "audio/basic": sound}
    errors = _errors(400, 401, 402, 403, 404, 413, 415, 429, 500, 503)
    body = {"required": True, "content": {_JSON: {"schema": ref("Speech")}}}
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
    answer = _content(_JSON, ref("Error"), _ERRORS[status])
    if status in (429, 503, 508):
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
