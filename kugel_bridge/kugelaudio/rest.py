"""The REST side of the service, for commands and the dashboard: voices, models, usage."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
import urllib.parse
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from kugel_bridge import __version__
from kugel_bridge.kugelaudio.catalogue import (
    MAX_PAGE,
    AccountUsage,
    Model,
    Voice,
    models_from,
    usage_from,
    voice_from,
    voice_page_from,
)
from kugel_bridge.kugelaudio.codes import RefusedError, refusal_of_answer
from kugel_bridge.kugelaudio.discretion import Discretion
from kugel_bridge.kugelaudio.hosts import checked_key, http_url
from kugel_bridge.kugelaudio.wire import read_object
from kugel_bridge.model.errors import (
    BridgeError,
    ConfigurationError,
    ProtocolError,
    ServiceUnavailableError,
    TooSlowError,
)

if TYPE_CHECKING:
    import httpx

MAX_ANSWER_BYTES = 4 * 1024 * 1024
MAX_VOICES = 5_000
"""A list that goes on beyond this is not one."""


class Catalogue:
    """Asks one service what it has; every call is one attempt within `timeout_s` in all (s).

    The methods raise a BridgeError; the key appears in none of them.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        timeout_s: float,
        *,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._base_url = base_url
        self._key = checked_key(api_key)
        self._discretion = Discretion(api_key)
        http_url(base_url, "")  # an unusable address is told here, not at the first call
        self._timeout_s = timeout_s
        self._ssl_context = ssl_context

    async def voices(self, language: str | None = None) -> list[Voice]:
        """All voices, or those that speak `language`."""
        voices: list[Voice] = []
        query = {} if language is None else {"language": language}
        async with self._session() as client:
            while len(voices) < MAX_VOICES:
                answer = await self._get(
                    client, "/v1/voices", limit=MAX_PAGE, offset=len(voices), **query
                )
                page = voice_page_from(answer)
                voices.extend(page.voices)
                if not page.voices or len(voices) >= page.total:
                    break
        return voices

    async def voice(self, ident: int | str) -> Voice | None:
        """One voice by number or handle, also one that the list leaves out."""
        path = f"/v1/voices/{urllib.parse.quote(str(ident), safe='')}"
        try:
            async with self._session() as client:
                return voice_from(await self._get(client, path))
        except RefusedError as error:
            if error.refusal is not None and error.refusal.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def models(self) -> list[Model]:
        """The models that the service lists; older ones may still be asked for."""
        async with self._session() as client:
            return list(models_from(await self._get(client, "/v1/models")))

    async def usage(self) -> AccountUsage:
        """What the account has used; ProtocolError where the service tells it in another form."""
        async with self._session() as client:
            return usage_from(await self._get(client, "/v1/usage"))

    async def chain(self, headers: Mapping[str, str], timeout_s: float) -> list[str]:
        """The gateways one behind the other that begin there; for gateways only."""
        try:
            async with asyncio.timeout(timeout_s), self._session() as client:
                client.headers.update(headers)
                names = (await self._get(client, "/chain")).get("chain")
        except TimeoutError as error:
            raise TooSlowError(f"no answer within {timeout_s:g} s") from error
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ProtocolError("no list of gateways in the answer")
        return names

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[httpx.AsyncClient]:
        # 50 ms of import that the daemon never needs.
        import httpx

        headers = {"Accept": "application/json", "User-Agent": f"kugel-bridge/{__version__}"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            # httpx limits each read, not the answer: a slow drip would last for ever.
            async with asyncio.timeout(self._timeout_s):
                if self._ssl_context is None:
                    self._ssl_context = await asyncio.to_thread(ssl.create_default_context)
                async with httpx.AsyncClient(
                    headers=headers,
                    timeout=self._timeout_s,
                    verify=self._ssl_context,
                    # As for the sockets: no proxy and no key from the environment.
                    trust_env=False,
                ) as client:
                    yield client
        except (TimeoutError, httpx.TimeoutException) as error:
            raise TooSlowError(f"no answer within {self._timeout_s:g} s") from error
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"cloud.base_url {self._base_url!r} is no address") from error
        except (httpx.HTTPError, OSError) as error:
            raise ServiceUnavailableError(f"the service cannot be reached: {error}") from error
        except BridgeError as error:
            self._discretion.keep(error)
            raise

    async def _get(
        self, client: httpx.AsyncClient, path: str, **query: str | int
    ) -> dict[str, Any]:
        """The JSON object behind `path`."""
        async with client.stream("GET", http_url(self._base_url, path), params=query) as response:
            body = await _limited_body(response)
        if response.status_code != HTTPStatus.OK:
            raise refusal_of_answer(
                response.status_code,
                body,
                retry_after=response.headers.get("Retry-After"),
                request_id=response.headers.get("x-request-id"),
                now_s=time.time(),
            ).as_error()
        return read_object(body)


async def _limited_body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise ProtocolError("the answer is too long")
    return bytes(body)
