"""/ws/tts/stream as a server: reads on while it speaks, turn after turn."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
from dataclasses import dataclass, field
from functools import partial

from starlette.websockets import WebSocket

from kugel_bridge.gateway.generation import FailedError, Generator, granted
from kugel_bridge.gateway.inlet import MAX_WAITING, heard
from kugel_bridge.gateway.limits import Limits
from kugel_bridge.gateway.outlet import GoneError, Outlet
from kugel_bridge.gateway.textbuffer import Portion, TextBuffer
from kugel_bridge.kugelaudio.codes import (
    CLOSE_NORMAL,
    CLOSE_RESTARTING,
    GENERATION_FAILED,
    RATE_LIMITED,
    Refusal,
)
from kugel_bridge.kugelaudio.frames import WordTimings
from kugel_bridge.kugelaudio.turn import Turn
from kugel_bridge.kugelaudio.turns import (
    Added,
    Answered,
    Begun,
    Completed,
    Dropped,
    Event,
    Failed,
    Leaving,
    TurnIntake,
)

logger = logging.getLogger(__name__)

IDLE_S = 5.0
"""A turn without new text ends after it, also while sound is made of what came before: it bounds
how long a client that forgot its turn keeps others from a slot."""


class StreamSocket:
    """One socket of /ws/tts/stream."""

    def __init__(
        self,
        websocket: WebSocket,
        outlet: Outlet,
        generator: Generator,
        limits: Limits,
        account: str,
        draining: asyncio.Event,
        *,
        idle_s: float = IDLE_S,
    ) -> None:
        self._websocket, self._outlet = websocket, outlet
        self._generator, self._limits, self._account = generator, limits, account
        self._draining = draining
        self._idle_s = idle_s
        self._request_id: str = websocket.state.request_id
        self._intake = TurnIntake(
            max_characters=generator.max_characters, request_id=self._request_id
        )
        self._waiting: asyncio.Queue[_Script | str | None] = asyncio.Queue(MAX_WAITING)
        """Turns, frames between them, and None: the end of the socket."""
        self._newest: _Script | None = None
        """That takes text."""
        self._performed: _Script | None = None
        self._speaking: asyncio.Task[None] | None = None
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def serve(self) -> None:
        """Talk until the socket ends."""
        async with asyncio.TaskGroup() as tasks:
            parts = [
                tasks.create_task(self._read(), name="gateway messages"),
                tasks.create_task(self._work(tasks), name="gateway turns"),
                tasks.create_task(self._leave_when_draining(), name="gateway draining"),
            ]
            try:
                await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in [*parts, *([self._speaking] if self._speaking else [])]:
                    task.cancel()

    async def _read(self) -> None:
        """Take in messages until the socket ends, and notice when none come."""
        while True:
            try:
                async with asyncio.timeout_at(self._next_deadline()):
                    message = await heard(self._websocket)
            except TimeoutError:
                events = self._quiet_events()
            else:
                if message is None:
                    return
                events = self._intake.receive(message)
            try:
                for each in events:
                    await self._apply(each)
            except asyncio.QueueFull:
                await self._outlet.say(RATE_LIMITED.to_json(request_id=self._request_id))
                await self._outlet.close(RATE_LIMITED.close_code)
                return

    def _next_deadline(self) -> float | None:
        """When silence means something; never, unless a turn waits for text."""
        script = self._newest
        return None if script is None else min(script.stale_at, script.idle_at)

    def _quiet_events(self) -> list[Event]:
        now, script = asyncio.get_running_loop().time(), self._newest
        if script is None or script.idle_at <= now:
            return self._intake.expire()
        if script.stale_at <= now:
            script.stale_at = math.inf
            script.speak(script.buffer.take(final=False))
        return []

    async def _apply(self, event: Event) -> None:
        match event:
            case Begun(turn):
                self._newest = _Script(turn)
                self._put(self._newest)
            case Added(turn, text):
                script = self._newest
                assert script is not None
                script.speak(*script.buffer.add(text))
                now = asyncio.get_running_loop().time()
                script.idle_at = now + self._idle_s
                script.stale_at = now + turn.config.flush_timeout_ms / 1000
            case Completed():
                if (script := self._no_more_text()) is not None:
                    script.speak(script.buffer.take(final=True))
                    script.portions.put_nowait(None)
            case Failed(_, refusal):
                if (script := self._no_more_text()) is not None:
                    script.refusal = refusal
                    if script is self._performed and self._speaking is not None:
                        self._speaking.cancel()
            case Dropped(frame):
                self._no_more_text()
                await self._drop()
                await self._outlet.say(frame)
            case Answered(frame, is_urgent=True):
                await self._outlet.say(frame)
            case Answered(frame):
                self._put(frame)
            case Leaving():
                self._put(None)

    def _put(self, item: _Script | str | None) -> None:
        self._waiting.put_nowait(item)
        self._is_idle.clear()

    def _no_more_text(self) -> _Script | None:
        script, self._newest = self._newest, None
        return script

    async def _drop(self) -> None:
        """End all turns; nothing of them follows."""
        while not self._waiting.empty():
            self._waiting.get_nowait()
        if self._speaking is not None:
            self._speaking.cancel()
            await asyncio.wait([self._speaking])
        if self._performed is None:
            self._is_idle.set()

    async def _work(self, tasks: asyncio.TaskGroup) -> None:
        """Say and do what waits, in its order, until the socket has to close."""
        while True:
            item = await self._waiting.get()
            if isinstance(item, _Script):
                lives_on = await self._perform(item, tasks)
            else:
                lives_on = await self._between_turns(item)
            if not lives_on:
                return
            if self._draining.is_set():
                await self._outlet.close(CLOSE_RESTARTING)
                return
            if self._waiting.empty():
                self._is_idle.set()

    async def _between_turns(self, frame: str | None) -> bool:
        if frame is None:
            await self._outlet.close(CLOSE_NORMAL)
            return False
        await self._outlet.say(frame)
        return True

    async def _perform(self, script: _Script, tasks: asyncio.TaskGroup) -> bool:
        """Speak one turn to its end; whether the socket lives on."""
        if script.refusal is None:
            self._performed = script
            self._speaking = tasks.create_task(self._speak(script), name="gateway speech")
            await asyncio.wait([self._speaking])
            self._performed = self._speaking = None
        if script.refusal is not None:
            await self._outlet.say(script.turn.refuse(script.refusal))
            await self._outlet.close(script.refusal.close_code)
            return False
        if not script.turn.is_ended:
            script.turn.drop()
        return True

    async def _speak(self, script: _Script) -> None:
        try:
            await self._spoken(script)
        except FailedError as error:
            script.refusal = error.refusal
        except GoneError:
            logger.debug("a client left in the middle of a turn")
        except Exception:
            logger.exception("a turn of %d characters failed", script.turn.characters)
            script.refusal = GENERATION_FAILED

    async def _spoken(self, script: _Script) -> None:
        turn = script.turn
        request = turn.config.request
        voice = granted(await self._generator.checked(request))
        ticket = granted(self._limits.begin(self._account))
        try:
            while (portion := await script.portions.get()) is not None:
                granted(ticket.spend(portion.characters))
                if not portion.text:
                    turn.pass_over(portion.characters)
                    continue
                await self._outlet.send(turn.start(portion.text, portion.characters))
                made = await self._generator.make(
                    dataclasses.replace(request, text=portion.text),
                    voice,
                    partial(self._deliver, turn),
                    lambda spoken: turn.spoken_by(spoken.source, spoken.reason),
                )
                await self._outlet.send(turn.complete(made.usage, gen_ms=made.gen_ms))
            await self._outlet.send(turn.finish())
        finally:
            # On record before the client is told, and also the sound of a turn that was lost.
            await ticket.end(turn.usage)
        await self._outlet.send(turn.close())

    async def _deliver(self, turn: Turn, piece: bytes | WordTimings) -> None:
        await self._outlet.send(
            turn.words(piece) if isinstance(piece, WordTimings) else turn.audio(piece)
        )

    async def _leave_when_draining(self) -> None:
        await self._draining.wait()
        await self._is_idle.wait()
        await self._outlet.close(CLOSE_RESTARTING)


@dataclass(slots=True, eq=False)
class _Script:
    """What is to be spoken of one turn."""

    turn: Turn
    buffer: TextBuffer = field(init=False)
    portions: asyncio.Queue[Portion | None] = field(default_factory=asyncio.Queue)
    """None = that was all. The limit on a turn's text bounds it."""
    refusal: Refusal | None = None
    """Why the turn fails."""
    stale_at: float = math.inf
    """When what waits is spoken (s, the event loop's clock)."""
    idle_at: float = math.inf
    """When the turn ends for want of text."""

    def __post_init__(self) -> None:
        self.buffer = TextBuffer(self.turn.config.max_buffer_length)

    def speak(self, *portions: Portion | None) -> None:
        """Put portions in line behind those before."""
        for portion in portions:
            if portion is not None:
                self.portions.put_nowait(portion)
