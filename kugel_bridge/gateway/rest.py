"""The gateway's REST endpoints, in the shapes of the API."""

from __future__ import annotations

import dataclasses
import logging

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from kugel_bridge import __version__
from kugel_bridge.gateway.engine import Engine
from kugel_bridge.gateway.gate import refusal_response
from kugel_bridge.gateway.voices import VoiceBook
from kugel_bridge.kugelaudio.catalogue import DEFAULT_PAGE, MAX_PAGE, Model
from kugel_bridge.kugelaudio.codes import (
    CATALOGUE_UNAVAILABLE,
    INVALID_REQUEST,
    VOICE_NOT_FOUND,
)
from kugel_bridge.model.errors import BridgeError

logger = logging.getLogger(__name__)

_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_MAX_DIGITS = 9

WELCOME = """\
kugel-bridge {version}: a speech server with the KugelAudio API.

Voices   GET /v1/voices, /v1/voices/<id>
Models   GET /v1/models
Speech   WebSocket /ws/tts
Health   GET /health

With the official SDK: KugelAudio(api_key="...", api_url="http://<this host>:<port>")
"""


class Rest:
    """Answers from the catalogue."""

    def __init__(self, engine: Engine, models: tuple[Model, ...]) -> None:
        self._engine = engine
        self._models = models

    def routes(self) -> list[Route]:
        """What it serves."""
        return [
            Route("/", self._welcome),
            Route("/health", self._health),
            Route("/v1/voices", self._list_voices),
            Route("/v1/voices/{ident}", self._show_voice),
            Route("/v1/models", self._list_models),
        ]

    async def _welcome(self, request: Request) -> Response:
        return PlainTextResponse(WELCOME.format(version=__version__))

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "healthy"})

    async def _list_voices(self, request: Request) -> Response:
        query = request.query_params
        limit = _whole(query.get("limit"), DEFAULT_PAGE)
        offset = _whole(query.get("offset"), 0)
        include_public = _FLAGS.get(query.get("include_public", "true").lower())
        if limit is None or not 1 <= limit <= MAX_PAGE:
            return _invalid(f"limit must be between 1 and {MAX_PAGE}")
        if offset is None:
            return _invalid("offset must be 0 or more")
        if include_public is None:
            return _invalid("include_public must be true or false")
        try:
            voices = VoiceBook(await self._engine.voices())
        except BridgeError as error:
            logger.warning("the voices cannot be had: %s", error)
            return refusal_response(CATALOGUE_UNAVAILABLE)
        page = voices.page(
            limit=limit,
            offset=offset,
            language=query.get("language"),
            category=query.get("category"),
            include_public=include_public,
        )
        return JSONResponse(page.to_fields())

    async def _show_voice(self, request: Request) -> Response:
        try:
            voice = await self._engine.voice(request.path_params["ident"])
        except BridgeError as error:
            logger.warning("the voices cannot be had: %s", error)
            return refusal_response(CATALOGUE_UNAVAILABLE)
        if voice is None:
            return refusal_response(VOICE_NOT_FOUND)
        own = {"generative_voice_description": "", "pending_verification": False}
        return JSONResponse(voice.to_fields() | own)

    async def _list_models(self, request: Request) -> Response:
        return JSONResponse({"models": [model.to_fields() for model in self._models]})


def _whole(text: str | None, default: int) -> int | None:
    if text is None:
        return default
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None


def _invalid(reason: str) -> Response:
    return refusal_response(dataclasses.replace(INVALID_REQUEST, message=reason))
