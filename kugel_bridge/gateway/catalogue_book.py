"""The voices of the service behind the gateway: asked for when needed, and remembered."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from kugel_bridge.gateway.voices import VoiceBook
from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.messages import MAX_HANDLE_CHARACTERS
from kugel_bridge.model.clock import Clock, SystemClock
from kugel_bridge.model.errors import BridgeError, ServiceUnavailableError, TooSlowError

T = TypeVar("T")
logger = logging.getLogger(__name__)

KEEP_S = 300.0
"""Somebody who makes a voice expects to see it within minutes."""
RETRY_S = 30.0
"""After a failure nobody waits for the next one for so long."""
PATIENCE_S = 3.0
"""For who wants to speak: the service takes a fraction of a second, or is in trouble."""
MAX_SINGLES = 256
"""Voices remembered that the list leaves out, and names that are no voices."""
MAX_ASKING = 8
"""Single voices asked for at a time; made-up names must not become a flood behind us."""
_CLOCK = SystemClock()


class Lists(Protocol):
    """What is needed of `kugelaudio.rest.Catalogue`."""

    async def voices(self) -> list[Voice]: ...

    async def voice(self, ident: int | str) -> Voice | None: ...


class CatalogueBook:
    """Answers from memory; the asking itself goes on in `run`, whoever stops waiting for it.

    An answer is used for `keep_s` (s), and longer while no newer one can be had. A question is
    waited for `patience_s` (s) by all who ask it together.
    """

    def __init__(
        self,
        lists: Lists,
        *,
        keep_s: float = KEEP_S,
        patience_s: float = PATIENCE_S,
        clock: Clock = _CLOCK,
    ) -> None:
        self._lists, self._clock = lists, clock
        self._keep_s, self._patience_s = keep_s, patience_s
        self._list: _Question[VoiceBook] = _Question(self._listed)
        self._singles: OrderedDict[str, _Question[Voice | None]] = OrderedDict()
        self._tasks: asyncio.TaskGroup | None = None
        self._is_running = asyncio.Event()

    async def run(self) -> None:
        """Be there to ask, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._is_running.set()
            try:
                await asyncio.Event().wait()
            finally:
                self._is_running.clear()
                self._tasks = None

    async def book(self) -> VoiceBook:
        """All listed voices; raises a BridgeError if they could never be had."""
        return await self._answer(self._list)

    async def find(self, ident: int | str) -> Voice | None:
        """The voice with that number (also as text) or handle, listed or not.

        Raises a BridgeError where that cannot be told.
        """
        problem: BridgeError | None = None
        try:
            if self._list.answered_s is None:
                await self._answer(self._list)
            # One that is out of date is good enough to find a voice in.
            self._refresh(self._list)
            if (voice := self._list.value().find(ident)) is not None:
                return voice
        except BridgeError as error:
            problem = error
        name = str(ident)
        if not name.strip(".") or len(name) > MAX_HANDLE_CHARACTERS:
            return None  # not a name, but a way to another address, or more than is worth keeping
        question = self._single(name)
        if problem is not None and question.answered_s is None:
            # Whoever does not tell the list does not tell this either, and has been waited for.
            raise problem
        return await self._answer(question)

    def _single(self, name: str) -> _Question[Voice | None]:
        question = self._singles.get(name)
        if question is None:
            asking = sum(each.is_open for each in self._singles.values())
            if asking >= MAX_ASKING:
                raise ServiceUnavailableError("too many unknown voices are being asked for")
            question = _Question(lambda: self._lists.voice(name))
            self._singles[name] = question
            if len(self._singles) > MAX_SINGLES:
                self._singles.popitem(last=False)
        self._singles.move_to_end(name)
        return question

    async def _listed(self) -> VoiceBook:
        try:
            # 50 ms of import, many times that on a small machine: not on the way of sound.
            await asyncio.to_thread(importlib.import_module, "httpx")
        except OSError as error:
            raise ServiceUnavailableError(f"the list cannot be asked for: {error}") from error
        # A list that changes between two pages names a voice twice.
        return VoiceBook(list({voice.id: voice for voice in await self._lists.voices()}.values()))

    async def _answer(self, question: _Question[T]) -> T:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s):
                await self._is_running.wait()
        if self._refresh(question):
            waited_s = self._clock.now().monotonic_s - question.asked_s
            try:
                # From the question on, not from the caller: a hang is waited for once.
                async with asyncio.timeout(self._patience_s - waited_s):
                    await question.settled.wait()
            except TimeoutError:
                logger.debug("the voices take long")
        if question.answered_s is not None:
            return question.value()
        if question.error is None:
            raise TooSlowError(f"no list of voices within {self._patience_s:g} s")
        raise ServiceUnavailableError(str(question.error)) from question.error

    def _refresh(self, question: _Question[T]) -> bool:
        """Ask again if it is time; whether an answer is on its way."""
        now_s = self._clock.now().monotonic_s
        is_due = question.answered_s is None or now_s >= question.answered_s + self._keep_s
        may_ask = question.failed_s is None or now_s >= question.failed_s + RETRY_S
        if is_due and may_ask and not question.is_open and self._tasks is not None:
            question.is_open, question.asked_s = True, now_s
            question.settled.clear()
            self._tasks.create_task(self._ask(question), name="voices")
        return question.is_open

    async def _ask(self, question: _Question[T]) -> None:
        try:
            question.answer = await question.ask()
            question.answered_s, question.failed_s = self._clock.now().monotonic_s, None
            question.error = None
        except BridgeError as error:
            if question.error is None:
                logger.warning("the voices cannot be had: %s", error)
            question.error, question.failed_s = error, self._clock.now().monotonic_s
        finally:
            question.is_open = False
            question.settled.set()


class _Question(Generic[T]):
    """Something to ask, and what is known of it."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self.ask = ask
        self.answer: T | None = None
        self.answered_s: float | None = None
        self.error: BridgeError | None = None
        self.failed_s: float | None = None
        self.is_open = False
        self.asked_s = 0.0
        self.settled = asyncio.Event()

    def value(self) -> T:
        """The answer, once there was one."""
        return self.answer  # type: ignore[return-value] # None is an answer of some
