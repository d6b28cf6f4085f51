"""Faults on the way out of one connection: what the server says, and what arrives of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from starlette.types import Message

from kugel_bridge.gateway import garbage
from kugel_bridge.gateway.channel import Arm, Channel, Work
from kugel_bridge.gateway.garbage import Fields
from kugel_bridge.gateway.orders import At, Do, Order

MAX_WAITING = 64
"""Messages between the server and a fault that holds them up; then the server has to wait too."""
_STREAM_PATH = "/ws/tts/stream"
_ENDS = ("final", "interrupted", "error", "session_closed", "context_closed")


class SocketSabotage:
    """Stands between one socket's server side and its connection.

    The server hands its messages over and goes on; they leave, later, through `run`.
    """

    def __init__(self, path: str, arm: Arm, channel: Channel) -> None:
        self._is_stream = path == _STREAM_PATH
        self._arm, self._channel = arm, channel
        self._queue: asyncio.Queue[Message] = asyncio.Queue(MAX_WAITING)
        self._works: dict[str | None, Work] = {}
        self._is_over = False

    async def take(self, message: Message) -> None:
        """A message of the server; raises OSError, as ASGI has it, when nobody is there."""
        if self._is_over:
            raise OSError("the connection has ended")
        await self._queue.put(message)

    async def run(self) -> None:
        """Pass the messages on, until cancelled."""
        while True:
            message = await self._queue.get()
            if not self._is_over:
                try:
                    await self._pass(message)
                except (OSError, RuntimeError):
                    # What uvicorn raises at a send after the client left or the socket was closed.
                    self._is_over = True
            self._queue.task_done()

    async def done(self) -> None:
        """Return when everything taken has left."""
        await self._queue.join()

    async def _pass(self, message: Message) -> None:
        if message["type"] == "websocket.accept":
            await self._channel.send(message)
            for order in self._arm(At.OPEN):
                if order.do is Do.EARLY:
                    await self._say(garbage.silence(number) for number in range(order.frames))
                else:
                    await self._strike(order, None)
        elif message["type"] == "websocket.send" and message.get("text"):
            await self._frame(message, json.loads(message["text"]))
        else:
            await self._channel.send(message)

    async def _frame(self, message: Message, fields: Fields) -> None:
        context = fields.get("context_id")
        work = self._works.get(context)
        if "audio" in fields:
            if work is None:
                work = self._works[context] = Work([*self._arm(At.SOUND), *self._arm(At.END)])
            await self._sound(work, message, fields)
        elif work is None:
            await self._channel.send(message)
        elif any(fields.get(key) for key in _ENDS):
            await self._end(work, message, fields)
        elif not work.is_muted:
            await self._channel.send(message)

    async def _sound(self, work: Work, message: Message, fields: Fields) -> None:
        text: str = message["text"]
        work.last = fields
        for number, order in enumerate(work.orders):
            if self._is_over or work.is_muted:
                return
            if not work.due(order, len(text)):
                continue
            if order.do is Do.SILENCE:
                return
            if order.do is Do.SLOW:
                await asyncio.sleep(order.ms / 1000)
            elif number not in work.done:
                work.done.add(number)
                message = await self._spoil(order, work, message, fields)
        if not (self._is_over or work.is_muted):
            await self._channel.send(message)
            work.frames += 1
            work.bytes += len(text)

    async def _spoil(self, order: Order, work: Work, message: Message, fields: Fields) -> Message:
        match order.do:
            case Do.GARBAGE:
                junk = garbage.spoiled(order.kind, fields)
                return _text(junk) if isinstance(junk, str) else _binary(junk)
            case Do.HUGE:
                return _text(garbage.huge(fields, order.bytes))
            case Do.ENDLESS:
                await self._say(garbage.more(fields, None))
            case Do.FLOOD:
                await self._say(garbage.more(fields, order.seconds))
            case Do.RESET | Do.EOF:
                left = 0 if order.after_bytes is None else order.after_bytes - work.bytes
                self._is_over = True
                await self._channel.cut(reset=order.do is Do.RESET, part=message, size=left)
            case _:
                await self._strike(order, work, fields.get("context_id"))
        return message

    async def _end(self, work: Work, message: Message, fields: Fields) -> None:
        is_last = not (self._is_stream and fields.get("final"))
        kinds = {order.do for order in work.orders if order.at is At.END}
        if not (work.is_muted or Do.NO_FINAL in kinds):
            await self._channel.send(message)
            if Do.TWICE in kinds:
                await self._channel.send(message)
        if not is_last:
            return
        context = fields.get("context_id")
        self._works.pop(context, None)
        if work.is_muted:
            return
        self._channel.rate = None
        for order in work.orders:
            if order.at is not At.END:
                continue
            if order.do is Do.LATE and work.last is not None:
                await self._say([json.dumps(work.last)] * order.frames)
            else:
                await self._strike(order, None, context)

    async def _strike(self, order: Order, work: Work | None, context: str | None = None) -> None:
        """Do what needs no frame to be done to."""
        match order.do:
            case Do.ERROR:
                await self._say([order.refusal.to_json(context)])
                if work is not None:
                    work.is_muted = True
            case Do.CLOSE:
                self._is_over = True
                await self._channel.send(
                    {"type": "websocket.close", "code": order.code, "reason": order.reason}
                )
            case Do.RESET | Do.EOF:
                self._is_over = True
                await self._channel.cut(reset=order.do is Do.RESET)
            case Do.DELAY:
                await asyncio.sleep(order.ms / 1000)
            case Do.STALL:
                await self._channel.closed()
            case Do.DRIP:
                self._channel.rate = order.rate

    async def _say(self, texts: Iterable[str]) -> None:
        for text in texts:
            await self._channel.send(_text(text))
            # A client that reads as fast as we send would leave nobody else a turn.
            await asyncio.sleep(0)


class ResponseSabotage:
    """Stands between an HTTP answer and its connection; there is nobody else to wait for."""

    def __init__(self, arm: Arm, channel: Channel) -> None:
        self._work = Work([*arm(At.SOUND), *arm(At.END)])
        self._channel = channel
        self._is_over = False

    async def take(self, message: Message) -> None:
        """Pass on one message of the answer."""
        if self._is_over:
            return
        if message["type"] == "http.response.start":
            changes = {Do.ENDLESS, Do.FLOOD, Do.SILENCE}
            if any(order.do in changes for order in self._work.orders):
                # The length that was announced would not be kept.
                kept = [item for item in message["headers"] if item[0] != b"content-length"]
                message = {**message, "headers": kept}
        elif message.get("body"):
            message = await self._spoiled(message)
        if not self._is_over:
            await self._channel.send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            await self._end()

    async def _spoiled(self, message: Message) -> Message:
        work, body = self._work, message["body"]
        for number, order in enumerate(work.orders):
            if not work.due(order, len(body)):
                continue
            if order.do is Do.SLOW:
                await asyncio.sleep(order.ms / 1000)
            elif order.do is Do.SILENCE:
                message = {**message, "body": b""}
            elif number not in work.done:
                work.done.add(number)
                await self._strike(order, body)
            if self._is_over:
                break
        work.frames += 1
        work.bytes += len(body)
        return message

    async def _strike(self, order: Order, body: bytes) -> None:
        match order.do:
            case Do.RESET | Do.EOF:
                self._is_over = True
                left = 0 if order.after_bytes is None else order.after_bytes - self._work.bytes
                if left > 0:
                    await self._channel.send(_piece(body[:left]))
                await self._channel.cut(reset=order.do is Do.RESET)
            case Do.DELAY:
                await asyncio.sleep(order.ms / 1000)
            case Do.STALL:
                await self._channel.closed()
            case Do.DRIP:
                self._channel.rate = order.rate
            case Do.ENDLESS:
                while not self._channel.is_closed:
                    await self._channel.send(_piece(body))
                    # A client that reads as fast as we send would leave nobody else a turn.
                    await asyncio.sleep(0)
            case Do.FLOOD:
                # As PCM of 24 kHz, the usual answer.
                for _ in range(order.seconds * 48_000 // len(body)):
                    if self._channel.is_closed:
                        return
                    await self._channel.send(_piece(body))
                    await asyncio.sleep(0)

    async def _end(self) -> None:
        for order in self._work.orders:
            if order.at is At.END and order.do in (Do.RESET, Do.EOF):
                await self._channel.cut(reset=order.do is Do.RESET)


def _text(text: str) -> dict[str, Any]:
    return {"type": "websocket.send", "text": text}


def _binary(data: bytes) -> dict[str, Any]:
    return {"type": "websocket.send", "bytes": data}


def _piece(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}
