"""/ws/tts/multi as a server: up to 20 contexts that speak side by side on one socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from starlette.websockets import WebSocket

from kugel_bridge.gateway.generation import Generator
from kugel_bridge.gateway.inlet import heard
from kugel_bridge.gateway.limits import Limits
from kugel_bridge.gateway.outlet import GoneError, Outlet
from kugel_bridge.gateway.reciter import PATIENCE, Patience, Reciter
from kugel_bridge.kugelaudio.codes import (
    CLOSE_NORMAL,
    CLOSE_RESTARTING,
    INVALID_JSON,
    Refusal,
)
from kugel_bridge.kugelaudio.contexts import (
    CancelContexts,
    CloseContext,
    CloseSocket,
    Context,
    ContextMessage,
    ContextRefusal,
    Contexts,
    ContextText,
    closed_frame,
    final_frame,
    interrupted_frame,
    parse_context_message,
)
from kugel_bridge.kugelaudio.messages import BINARY_MESSAGE, UpdateSettings
from kugel_bridge.model.errors import ProtocolError

logger = logging.getLogger(__name__)


class MultiSocket:
    """One socket of /ws/tts/multi.

    One task reads, and one task for each context speaks; the reader alone begins and stops them.
    """

    def __init__(
        self,
        websocket: WebSocket,
        outlet: Outlet,
        generator: Generator,
        limits: Limits,
        account: str,
        draining: asyncio.Event,
        patience: Patience = PATIENCE,
    ) -> None:
        self._websocket, self._outlet = websocket, outlet
        self._generator, self._limits, self._account = generator, limits, account
        self._draining = draining
        self._patience = patience
        self._contexts = Contexts(websocket.state.request_id)
        self._reciters: dict[Context, Reciter] = {}
        """One for each context, until the last frame of it is out."""
        self._speaking: dict[Reciter, asyncio.Task[None]] = {}
        self._answering = asyncio.Lock()
        """Held from a message to its answer."""
        self._is_ending = False

    async def serve(self) -> None:
        """Talk until the socket ends; nothing goes on speaking after it."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self._leave_when_draining(), name="gateway draining")
                await self._read()
        except* GoneError:
            logger.debug("a socket with %d contexts ended", len(self._contexts))

    async def _read(self) -> None:
        """Take in messages; raises GoneError at the end of the socket, which ends all tasks."""
        while (data := await heard(self._websocket)) is not None:
            if not self._is_ending and (message := _message(data)) is not None:
                async with self._answering:
                    await self._take(message)
        raise GoneError("the client left")

    async def _take(self, message: ContextMessage) -> None:
        match message:
            case ContextText():
                await self._hear(message)
            case CloseContext():
                await self._close(message)
            case CancelContexts():
                await self._cancel(message)
            case UpdateSettings(settings):
                await self._outlet.send(self._contexts.update(settings))
            case ContextRefusal(refusal, context_id):
                await self._outlet.send(self._contexts.refuse(refusal, context_id))
            case CloseSocket():
                self._is_ending = True
                self._tasks.create_task(self._end(), name="gateway contexts' end")

    async def _hear(self, message: ContextText) -> None:
        context = self._contexts.admit(message)
        if isinstance(context, Refusal):
            await self._outlet.send(self._contexts.refuse(context, message.context_id))
            return
        if context is None:
            if message.flush:
                await self._outlet.send(final_frame(message.context_id))
            return
        reciter = self._reciters.get(context)
        if reciter is None:
            reciter = self._new(context)
            await self._outlet.send(context.created())
            self._start(reciter)
        # The single space with which clients create a context is no speech to the reciter.
        refusal = reciter.add(message.text)
        if refusal is None and message.flush:
            refusal = reciter.flush()
        if refusal is not None:
            await self._outlet.send(self._contexts.refuse(refusal, context.id))

    async def _close(self, message: CloseContext) -> None:
        context = self._contexts.find(message.context_id)
        if context is None:
            await self._outlet.send(closed_frame(message.context_id))
        elif message.immediate:
            await self._stop([self._reciters[context]])
            del self._reciters[context]
            await self._outlet.send(self._contexts.close(context))
        else:
            self._reciters[context].close()

    async def _cancel(self, message: CancelContexts) -> None:
        """Drop speech and text; the contexts stay, as a client may go on with their ids."""
        if message.context_id is None:
            chosen = [each for each in self._reciters.values() if not each.context.is_closing]
        else:
            context = self._contexts.find(message.context_id)
            chosen = [] if context is None else [self._reciters[context]]
        await self._stop(chosen)
        for reciter in chosen:
            reciter.drop()
        await self._outlet.send(interrupted_frame(message.context_id))
        for reciter in chosen:
            self._start(reciter)

    async def _end(self) -> None:
        """Let all contexts come to their ends, then the socket."""
        for reciter in self._reciters.values():
            reciter.close()
        if self._speaking:
            await asyncio.wait(self._speaking.values())
        await self._outlet.send(self._contexts.session_closed())
        await self._outlet.close(CLOSE_NORMAL)

    async def _leave_when_draining(self) -> None:
        await self._draining.wait()
        while True:
            # A message that came before is answered first.
            async with self._answering:
                busy = [each for each in self._reciters.values() if not each.is_idle.is_set()]
                if not busy:
                    if not self._is_ending:
                        await self._outlet.close(CLOSE_RESTARTING)
                    return
            await busy[0].is_idle.wait()

    def _new(self, context: Context) -> Reciter:
        reciter = self._reciters[context] = Reciter(
            context,
            self._contexts,
            self._generator,
            lambda: self._limits.begin(self._account),
            self._outlet.send,
            self._patience,
        )
        return reciter

    def _start(self, reciter: Reciter) -> None:
        self._speaking[reciter] = self._tasks.create_task(
            self._recite(reciter), name=f"gateway context {len(self._contexts)}"
        )

    async def _recite(self, reciter: Reciter) -> None:
        await reciter.run()
        del self._reciters[reciter.context], self._speaking[reciter]

    async def _stop(self, reciters: Sequence[Reciter]) -> None:
        """Return when they have ended whatever they did."""
        stopped = [self._speaking.pop(each) for each in reciters]
        for task in stopped:
            task.cancel()
        if stopped:
            await asyncio.wait(stopped)


def _message(data: str | bytes) -> ContextMessage | None:
    if isinstance(data, bytes):
        return ContextRefusal(BINARY_MESSAGE)
    try:
        return parse_context_message(data)
    except ProtocolError:
        return ContextRefusal(INVALID_JSON)
