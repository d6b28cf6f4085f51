"""Faults on order: the gateway misbehaves, so that clients can be seen to bear it."""

from __future__ import annotations

import asyncio
import dataclasses
import email.utils
import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from kugel_bridge.gateway.cable import cable_of
from kugel_bridge.gateway.channel import Channel
from kugel_bridge.gateway.gate import refusal_response
from kugel_bridge.gateway.orders import At, Body, Do, Order, from_words, parse
from kugel_bridge.gateway.sabotage import ResponseSabotage, SocketSabotage
from kugel_bridge.kugelaudio.codes import INVALID_REQUEST, METHOD_NOT_ALLOWED, NOT_FOUND
from kugel_bridge.kugelaudio.wire import JsonObject, read_object
from kugel_bridge.model.errors import ConfigurationError, ProtocolError

logger = logging.getLogger(__name__)

PATH = "/faults"
MAX_ORDERS = 100
"""Each one costs a look at every request."""
_MAX_BODY_BYTES = 16 * 1024
_DATE_AHEAD_S = 30


@dataclass(slots=True)
class Standing:
    """An order, and what became of it so far."""

    number: int
    order: Order
    occasions: int = 0
    """How often it could have acted."""
    done: int = 0
    """How often it did."""

    def to_fields(self) -> dict[str, object]:
        """For GET /faults."""
        return {
            "id": self.number,
            "order": self.order.text,
            "occasions": self.occasions,
            "done": self.done,
        }


class Faults:
    """The orders in force."""

    def __init__(self, orders: Iterable[Order]) -> None:
        self._next = 1
        self._standing: list[Standing] = []
        for order in orders:
            self.add(order)

    @property
    def standing(self) -> Sequence[Standing]:
        """All of them, oldest first."""
        return tuple(self._standing)

    def add(self, order: Order) -> Standing:
        """One more; raises ConfigurationError when there are MAX_ORDERS."""
        if len(self._standing) >= MAX_ORDERS:
            raise ConfigurationError(f"there are {MAX_ORDERS} faults already; take some back")
        entry = Standing(self._next, order)
        self._next += 1
        self._standing.append(entry)
        logger.warning("fault %d on order: %s", entry.number, order.text)
        return entry

    def remove(self, number: int | None = None) -> int:
        """Take one back, or all; how many there were."""
        kept = [entry for entry in self._standing if number not in (None, entry.number)]
        removed = len(self._standing) - len(kept)
        self._standing = kept
        return removed

    def armed(self, path: str, at: At) -> list[Order]:
        """Count an occasion at `path`; the orders that act on it."""
        acting = []
        for entry in self._standing:
            order = entry.order
            if order.at is not at or not order.acts_on(path):
                continue
            entry.occasions += 1
            if entry.occasions > order.skip and (order.times is None or entry.done < order.times):
                entry.done += 1
                acting.append(order)
        return acting


class FaultyDoor:
    """ASGI middleware that carries the orders out, and takes them at /faults."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app, self._faults = app, faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and f"{scope['path']}/".startswith(f"{PATH}/"):
            response = await self._desk(Request(scope, receive))
            await response(scope, receive, send)
        else:
            channel = Channel(cable_of(scope), send)
            for order in self._faults.armed(scope["path"], At.DOOR):
                if not await _passes(order, channel, scope, receive, send):
                    return
            if scope["type"] == "http":
                await self._answer(scope, receive, channel)
            else:
                await self._talk(scope, receive, channel)

    async def _answer(self, scope: Scope, receive: Receive, channel: Channel) -> None:
        path = scope["path"]
        sabotage = ResponseSabotage(lambda at: self._faults.armed(path, at), channel)
        await self._app(scope, receive, sabotage.take)

    async def _talk(self, scope: Scope, receive: Receive, channel: Channel) -> None:
        path = scope["path"]
        sabotage = SocketSabotage(path, lambda at: self._faults.armed(path, at), channel)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(sabotage.run(), name="gateway faults")
                await self._app(scope, receive, sabotage.take)
                # The last words of the server may still be on their way.
                ends = [
                    tasks.create_task(sabotage.done(), name="gateway faults done"),
                    tasks.create_task(channel.closed(), name="gateway faults left"),
                ]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for task in (running, *ends):
                    task.cancel()
        except ExceptionGroup as group:
            # The application's own error, as if nobody stood in between.
            raise group.exceptions[0] from None

    async def _desk(self, request: Request) -> Response:
        rest = request.scope["path"].removeprefix(PATH).removeprefix("/")
        if rest and not (rest.isascii() and rest.isdecimal() and len(rest) <= 9):
            return refusal_response(NOT_FOUND)
        match request.method:
            case "GET" if not rest:
                listed = [entry.to_fields() for entry in self._faults.standing]
                return JSONResponse({"faults": listed})
            case "POST" if not rest:
                return await self._taken(request)
            case "DELETE":
                removed = self._faults.remove(int(rest) if rest else None)
                if rest and not removed:
                    return refusal_response(NOT_FOUND)
                return JSONResponse({"removed": removed})
            case "OPTIONS":
                return Response(status_code=204, headers=_allowed(rest))
            case _:
                return refusal_response(METHOD_NOT_ALLOWED, _allowed(rest))

    async def _taken(self, request: Request) -> Response:
        try:
            order = _order_in(await _body(request))
            return JSONResponse(self._faults.add(order).to_fields(), status_code=201)
        except (ConfigurationError, ProtocolError) as error:
            return refusal_response(dataclasses.replace(INVALID_REQUEST, message=str(error)))


def _allowed(rest: str) -> dict[str, str]:
    return {"Allow": "DELETE, OPTIONS" if rest else "DELETE, GET, OPTIONS, POST"}


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY_BYTES:
            raise ProtocolError(f"a fault of more than {_MAX_BODY_BYTES} bytes")
    return body


def _order_in(body: bytes) -> Order:
    """`{"order": "on=... do=..."}`, or the words of an order as fields of the object."""
    fields = read_object(body)
    if "order" in fields:
        return parse(_whole_order(fields))
    words = {}
    for name, value in fields.items():
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ConfigurationError(f"fault {name}: must be a text or a whole number")
        words[name] = str(value)
    return from_words(words)


def _whole_order(fields: JsonObject) -> str:
    line = fields["order"]
    if not isinstance(line, str):
        raise ConfigurationError('fault order: must be a text, such as "on=/ws/tts do=stall"')
    if others := sorted(set(fields) - {"order"}):
        raise ConfigurationError(
            f"fault {others[0][:40]}: stands beside order, which is all of it; put it in there"
        )
    return line


async def _passes(
    order: Order, channel: Channel, scope: Scope, receive: Receive, send: Send
) -> bool:
    """Carry out an order at the door; False if that was all the answer there will be."""
    match order.do:
        case Do.DELAY:
            await asyncio.sleep(order.ms / 1000)
            return True
        case Do.DRIP:
            channel.rate = order.rate
            return True
        case Do.REFUSE:
            await _refuse(order, scope, receive, send)
        case Do.STALL:
            await channel.closed()
        case Do.RESET | Do.EOF:
            await channel.cut(reset=order.do is Do.RESET)
    if scope["type"] == "websocket" and order.do is not Do.REFUSE:
        # uvicorn takes an application that says nothing for a broken one.
        await send({"type": "websocket.close"})
    return False


async def _refuse(order: Order, scope: Scope, receive: Receive, send: Send) -> None:
    response = _refusal(order)
    if scope["type"] == "http":
        await response(scope, receive, send)
    else:
        websocket = WebSocket(scope, receive, send)
        await websocket.receive()
        await websocket.send_denial_response(response)


def _refusal(order: Order) -> Response:
    refusal = order.refusal
    status = refusal.status or 500
    text = json.dumps(refusal.to_fields())
    headers = {"Content-Type": "application/json"}
    match order.body:
        case Body.HTML:
            headers["Content-Type"] = "text/html"
            text = f"<html><body><h1>{status} {refusal.message}</h1></body></html>"
        case Body.TRUNCATED:
            text = text[: len(text) // 2]
        case Body.EMPTY:
            text = ""
    if order.retry_after is not None:
        headers["Retry-After"] = {
            "date": email.utils.formatdate(time.time() + _DATE_AHEAD_S, usegmt=True),
            "nonsense": "soon, perhaps",
            "huge": "999999999999999999999",
        }.get(order.retry_after, order.retry_after)
    return Response(text, status, headers)
