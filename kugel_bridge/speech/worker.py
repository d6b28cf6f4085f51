"""A thread for calls that may wait for a disk."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Worker:
    """Runs calls one after the other in a thread of its own.

    The thread is a daemon: a disk that hangs must not keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._since_s: float | None = None

    @property
    def busy_s(self) -> float:
        """How long the call under way has taken so far (s); 0 when there is none."""
        since_s = self._since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def start(self) -> None:
        """Start the thread; nothing if it runs."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()

    def post(self, job: Callable[..., object], *args: Any) -> None:
        """Have it done later; an error is logged."""
        self._jobs.put(lambda: job(*args))

    async def call(self, job: Callable[..., T], *args: Any) -> T:
        """Its result, or its error; a call nobody waits for any more is skipped."""
        return await self._put(job, args, skippable=True)

    async def finish(self, job: Callable[..., T], *args: Any) -> T:
        """Its result, or its error; it is done even if nobody waits for it any more."""
        future = self._put(job, args, skippable=False)
        # Whoever waited may be gone by then, and nobody else would look at an error.
        future.add_done_callback(_look_at)
        return await asyncio.shield(future)

    async def stop(self, wait_s: float) -> None:
        """End the thread when it has done what it was given, after `wait_s` in any case."""
        if self._thread is None:
            return
        answered = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self.call(lambda: None)
                answered = True
        self._jobs.put(None)
        if answered:
            # It has only the end left to read.
            self._thread.join(wait_s)
        self._thread = None

    def _put(
        self, job: Callable[..., T], args: tuple[Any, ...], *, skippable: bool
    ) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            if skippable and future.cancelled():
                return
            try:
                settle, value = future.set_result, job(*args)
            except Exception as error:  # noqa: BLE001 - handed to the caller as it is
                _tell(loop, future, future.set_exception, error)
            else:
                _tell(loop, future, settle, value)

        self._jobs.put(run)
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._since_s = time.monotonic()
            try:
                job()
            except Exception:
                logger.exception("a call in the thread %s failed", self._name)
            self._since_s = None


def _look_at(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        logger.debug("a call ended with an error: %s", error)


def _tell(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
    settle: Callable[[Any], None],
    value: Any,
) -> None:
    def tell() -> None:
        if not future.done():
            settle(value)

    # The loop may be gone when a slow disk answers at last.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(tell)
