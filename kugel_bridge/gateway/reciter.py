"""One context of /ws/tts/multi at work: its text collected, spoken in order, and billed."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kugel_bridge.gateway.generation import FailedError, Generator, granted
from kugel_bridge.gateway.limits import Ticket
from kugel_bridge.gateway.outlet import GoneError
from kugel_bridge.gateway.textbuffer import Portion, TextBuffer
from kugel_bridge.kugelaudio.codes import (
    GENERATION_FAILED,
    MISSING_VOICE,
    RATE_LIMITED,
    TEXT_TOO_LONG,
    Refusal,
)
from kugel_bridge.kugelaudio.contexts import Context, Contexts
from kugel_bridge.kugelaudio.frames import WordTimings
from kugel_bridge.kugelaudio.messages import Usage, summed

logger = logging.getLogger(__name__)

MAX_WAITING_FLUSHES = 64
"""Each of them is owed a frame; whoever sends more does not read the answers."""
MAX_SENTENCE_CHARACTERS = 1_000
"""A sentence longer than this is spoken in parts; the official SDK asks for this length."""

Send = Callable[[str], Awaitable[None]]
"""Sends a frame; raises GoneError when the client is gone."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a context waits (s)."""

    stale_s: float = 0.5
    """For the rest of a sentence; then what there is gets spoken."""
    idle_s: float = 20.0
    """For any message, with nothing to speak; then the context ends by itself."""


PATIENCE = Patience()
"""What the API has."""


class _Mark(enum.Enum):
    FLUSH = enum.auto()
    CLOSE = enum.auto()


class Reciter:
    """Speaks the text of one context until the context is closed.

    `run` does the work and may be cancelled and run again; the other methods never wait.
    A generation lasts from the first text handed over to the end of a flush and holds one ticket.
    """

    def __init__(
        self,
        context: Context,
        contexts: Contexts,
        generator: Generator,
        begin: Callable[[], Ticket | Refusal],
        send: Send,
        patience: Patience,
    ) -> None:
        self.context = context
        self.is_idle = asyncio.Event()
        """Set while there is nothing to speak or to answer."""
        self.is_idle.set()
        self._contexts, self._generator, self._begin = contexts, generator, begin
        self._send, self._patience = send, patience
        # What waits is bounded as the text of a request is: by default ten minutes of speech.
        self._max_waiting = generator.max_characters
        self._buffer = TextBuffer(min(MAX_SENTENCE_CHARACTERS, generator.max_characters))
        self._steps: deque[Portion | _Mark] = deque()
        self._queued_characters = 0
        self._news = asyncio.Event()
        self._heard_s = self._now()
        self._stale_at_s = math.inf
        self._ticket: Ticket | None = None
        self._bill: Usage | None = None
        """Of the generation under way."""
        self._soundless = 0
        """Characters that wait for some with a sound to be billed with."""

    # --- what the client says -------------------------------------------------------------

    def add(self, text: str) -> Refusal | None:
        """Take in a piece of text; empty it only shows that the client is there."""
        waiting = self._queued_characters + self._buffer.waiting
        if waiting + len(text) > self._max_waiting:
            return TEXT_TOO_LONG
        self._heard()
        if text:
            self._stale_at_s = self._now() + self._patience.stale_s
            for portion in self._buffer.add(text):
                self._queue(portion)
        return None

    def flush(self) -> Refusal | None:
        """Speak everything, then tell that it is spoken."""
        if self._steps.count(_Mark.FLUSH) >= MAX_WAITING_FLUSHES:
            return RATE_LIMITED
        self._heard()
        self._hand_over(final=True)
        self._queue(_Mark.FLUSH)
        return None

    def close(self) -> None:
        """Speak everything, then end the context; it takes no more text from now on."""
        if not self.context.is_closing:
            self.context.is_closing = True
            self._hand_over(final=True)
            self._queue(_Mark.CLOSE)

    def drop(self) -> None:
        """Forget everything that is not spoken; not while `run` runs."""
        self._forget(self._steps)
        self._buffer.clear()
        self._stale_at_s = math.inf
        self._heard()
        self.context.broke_off()
        if self.context.is_closing:
            self._queue(_Mark.CLOSE)

    # --- what becomes of it ---------------------------------------------------------------

    async def run(self) -> None:
        """Speak until the context is closed, by the client or for its silence."""
        try:
            while (step := await self._next()) is not _Mark.CLOSE:
                if step is _Mark.FLUSH:
                    # The slot is free before the client learns that it may go on elsewhere.
                    await self._end_generation()
                    await self._send(self.context.final())
                elif (refusal := await self._failure(step)) is not None:
                    await self._end_generation()
                    self._give_up()
                    await self._send(self._contexts.refuse(refusal, self.context.id))
                self._heard()
            await self._end_generation()
            if self.context.is_final_due:
                await self._send(self.context.final())
            await self._send(self._contexts.close(self.context))
        finally:
            await self._end_generation()
            self.is_idle.set()

    async def _next(self) -> Portion | _Mark:
        """Wait for a step; stale text becomes one, and so does silence."""
        while not self._steps:
            self.is_idle.set()
            self._news.clear()
            idle_at_s = self._heard_s + self._patience.idle_s
            try:
                async with asyncio.timeout_at(min(self._stale_at_s, idle_at_s)):
                    await self._news.wait()
            except TimeoutError:
                if self._stale_at_s <= idle_at_s:
                    self._hand_over(final=False)
                else:
                    self.close()
        step = self._steps.popleft()
        if isinstance(step, Portion):
            self._queued_characters -= step.characters
        return step

    async def _failure(self, portion: Portion) -> Refusal | None:
        """Speak one text; why that did not succeed."""
        try:
            await self._speak(portion)
        except FailedError as error:
            return error.refusal
        except GoneError:
            raise
        except Exception:
            logger.exception("a text of %d characters failed", len(portion.text))
            return GENERATION_FAILED
        return None

    async def _speak(self, portion: Portion) -> None:
        if not portion.text and self._bill is None:
            self._soundless += portion.characters
            return
        characters, self._soundless = portion.characters + self._soundless, 0
        if not portion.text:
            self._pass_over(characters)
            return
        request = dataclasses.replace(self.context.request, text=portion.text)
        if request.voice_id is None:
            raise FailedError(MISSING_VOICE)
        voice = granted(await self._generator.checked(request))
        if self._ticket is None:
            self._ticket = granted(self._begin())
        granted(self._ticket.spend(characters))
        await self._send(self.context.started(portion.text, characters))
        made = await self._generator.make(
            request,
            voice,
            self._deliver,
            lambda spoken: self.context.spoken_by(spoken.source, spoken.reason),
        )
        usage = dataclasses.replace(made.usage, characters=characters)
        self._bill = summed(self._bill, usage)
        await self._send(self.context.completed(usage, gen_ms=made.gen_ms))

    def _pass_over(self, characters: int) -> None:
        """Bill characters that make no sound with those that do."""
        assert self._ticket is not None, "there is a bill"
        granted(self._ticket.spend(characters))
        model_id = self.context.request.model_id
        usage = Usage(0.0, characters, cost_cents=0.0, currency="eur", model_id=model_id)
        self._bill = summed(self._bill, usage)
        self.context.charge(usage)

    async def _deliver(self, piece: bytes | WordTimings) -> None:
        context = self.context
        await self._send(
            context.words(piece) if isinstance(piece, WordTimings) else context.audio(piece)
        )

    async def _end_generation(self) -> None:
        if self._ticket is not None:
            self._bill = summed(self._bill, self.context.unfinished())
            # On record before the client is told, and also if we are cancelled just now.
            await self._ticket.end(self._bill)
            self._ticket = self._bill = None

    def _give_up(self) -> None:
        """Drop the rest of a failed generation, up to its flush; the error has answered that."""
        self.context.broke_off()
        rest: deque[Portion | _Mark] = deque()
        while self._steps and isinstance(self._steps[0], Portion):
            rest.append(self._steps.popleft())
        self._forget(rest)
        if not self._steps:
            self._buffer.clear()
            self._stale_at_s = math.inf
        elif self._steps[0] is _Mark.FLUSH:
            self._steps.popleft()

    def _hand_over(self, *, final: bool) -> None:
        self._stale_at_s = math.inf
        if (portion := self._buffer.take(final=final)) is not None:
            self._queue(portion)

    def _queue(self, step: Portion | _Mark) -> None:
        if isinstance(step, Portion):
            self._queued_characters += step.characters
        self._steps.append(step)
        self.is_idle.clear()
        self._news.set()

    def _forget(self, steps: deque[Portion | _Mark]) -> None:
        self._queued_characters -= sum(
            step.characters for step in steps if isinstance(step, Portion)
        )
        steps.clear()

    def _heard(self) -> None:
        self._heard_s = self._now()
        # The time-out under way counts from what it knew.
        self._news.set()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
