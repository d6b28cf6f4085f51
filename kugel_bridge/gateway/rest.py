"""The gateway's catalogue and its pages about itself."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from kugel_bridge import __version__
from kugel_bridge.gateway import metrics, openapi
from kugel_bridge.gateway.chain import VIA, Chain, via_of
from kugel_bridge.gateway.engine import Engine
from kugel_bridge.gateway.gate import refusal_response
from kugel_bridge.gateway.generation import refusal_for
from kugel_bridge.gateway.metrics import Metrics
from kugel_bridge.gateway.paging import page_of
from kugel_bridge.gateway.voices import VoiceBook
from kugel_bridge.kugelaudio.catalogue import Model, Voice
from kugel_bridge.kugelaudio.codes import CATALOGUE_UNAVAILABLE, VOICE_NOT_FOUND, Refusal
from kugel_bridge.kugelaudio.messages import invalid
from kugel_bridge.model.errors import BridgeError, LoopError

logger = logging.getLogger(__name__)

_FLAGS = {"true": True, "1": True, "false": False, "0": False}

WELCOME = """\
kugel-bridge {version}: a speech server with the KugelAudio API.

Speech   POST /v1/tts/generate (or /predict); WebSocket /ws/tts, /ws/tts/stream, /ws/tts/multi
Voices   GET /v1/voices, /v1/voices/<id>
Models   GET /v1/models
Usage    GET /v1/usage, /v1/usage/history
About    GET /health, /ready, /chain, /metrics, /openapi.json

With the official SDK: KugelAudio(api_key="...", api_url="http://<this host>:<port>")
The manual is docs/gateway.md of kugel-bridge, the REST part in a machine's words /openapi.json.
"""


class Rest:
    """Answers from the catalogue, and about the server."""

    def __init__(
        self,
        engine: Engine,
        models: tuple[Model, ...],
        metrics: Metrics,
        chain: Chain,
        *,
        has_keys: bool = False,
    ) -> None:
        self._engine, self._chain, self._has_keys = engine, chain, has_keys
        self._models = models
        self._metrics = metrics
        self._book = VoiceBook(())
        self._is_draining = False

    def drain(self) -> None:
        """Tell that the server ends."""
        self._is_draining = True

    def routes(self) -> list[Route]:
        """What it serves."""
        return [
            Route("/", self._welcome),
            Route("/health", self._health),
            Route("/ready", self._ready),
            Route("/metrics", self._figures),
            Route("/openapi.json", self._openapi),
            Route("/chain", self._show_chain),
            Route("/v1/voices", self._list_voices),
            Route("/v1/voices/{ident}", self._show_voice),
            Route("/v1/models", self._list_models),
        ]

    async def _welcome(self, request: Request) -> Response:
        return PlainTextResponse(WELCOME.format(version=__version__))

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "healthy"})

    async def _ready(self, request: Request) -> Response:
        status = "not_ready" if self._is_draining else "ready"
        return JSONResponse(
            {"status": status, "model_path": self._models[0].id, "multi_model": False},
            status_code=503 if self._is_draining else 200,
        )

    async def _figures(self, request: Request) -> Response:
        return Response(self._metrics.text(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(openapi.document(self._models[0], has_keys=self._has_keys))

    async def _show_chain(self, request: Request) -> Response:
        via = via_of(request.headers.get(VIA))
        if isinstance(via, Refusal):
            return refusal_response(via)
        try:
            return JSONResponse({"chain": await self._chain.behind(via)})
        except LoopError as error:
            return refusal_response(refusal_for(error))

    async def _list_voices(self, request: Request) -> Response:
        query = request.query_params
        page = page_of(query)
        if isinstance(page, Refusal):
            return refusal_response(page)
        include_public = _FLAGS.get(query.get("include_public", "true").lower())
        if include_public is None:
            return refusal_response(invalid("include_public must be true or false"))
        language = query.get("language")
        if language is not None:
            # As in requests, where a locale tag is cut to its first part (API reference, 9.3).
            language = re.split("[-_]", language)[0].lower()
            if not language:
                return refusal_response(invalid("language is empty: two or three letters, or none"))
        try:
            voices = self._book_of(await self._engine.voices())
        except BridgeError as error:
            logger.warning("the voices cannot be had: %s", error)
            return refusal_response(CATALOGUE_UNAVAILABLE)
        found = voices.page(
            limit=page.limit,
            offset=page.offset,
            language=language,
            category=query.get("category"),
            include_public=include_public,
        )
        return JSONResponse(found.to_fields())

    def _book_of(self, voices: Sequence[Voice]) -> VoiceBook:
        # The same voices nearly always; to look thousands of them up anew would hold up sound.
        if self._book.voices != (listed := tuple(voices)):
            self._book = VoiceBook(listed)
        return self._book

    async def _show_voice(self, request: Request) -> Response:
        try:
            voice = await self._engine.voice(request.path_params["ident"])
        except BridgeError as error:
            logger.warning("the voices cannot be had: %s", error)
            return refusal_response(CATALOGUE_UNAVAILABLE)
        if voice is None:
            return refusal_response(VOICE_NOT_FOUND)
        own = {"generative_voice_description": "", "pending_verification": False}
        # The list may leave these out; here the SDK expects a text.
        texts = {
            "description": voice.description or "",
            "sample_text": voice.sample_text or "",
        }
        return JSONResponse(voice.to_fields() | own | texts)

    async def _list_models(self, request: Request) -> Response:
        return JSONResponse({"models": [model.to_fields() for model in self._models]})
