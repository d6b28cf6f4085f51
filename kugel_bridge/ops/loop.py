"""The event loop of a service: threads that hang, or cannot be had, do not end it badly."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from typing import Any

MAX_LOOKUPS = 8
"""At a time: a service's, a name server's and a local engine's, with all their repeats."""


class DaemonLoop(asyncio.SelectorEventLoop):
    """An event loop that looks up names in threads that end with the process.

    Those of its executor are waited for at the end, and a silent name server keeps one for 10 s
    and more: longer than a service may take to stop. Where the machine gives no more threads,
    that is an OSError like every other one of its refusals.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lookups = 0

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> list[Any]:
        """As `socket.getaddrinfo`; raises OSError where nothing can be looked up now."""
        if self._lookups >= MAX_LOOKUPS:
            raise OSError(errno.EAGAIN, f"{MAX_LOOKUPS} names are being looked up already")
        told: asyncio.Future[list[Any]] = self.create_future()

        def tell(found: list[Any], error: Exception | None) -> None:
            self._lookups -= 1
            if told.done():
                return  # nobody waits any more
            if error is None:
                told.set_result(found)
            else:
                told.set_exception(error)

        def look_up() -> None:
            found: list[Any] = []
            error: Exception | None = None
            try:
                found = socket.getaddrinfo(host, port, **hints)
            except Exception as caught:  # noqa: BLE001  handed to whoever waits
                error = caught
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self.call_soon_threadsafe(tell, found, error)

        try:
            threading.Thread(target=look_up, name="name look-up", daemon=True).start()
        except RuntimeError as error:
            raise _no_thread() from error
        self._lookups += 1
        return await told

    def run_in_executor(  # type: ignore[override] # its own declaration takes pages
        self, executor: Any, func: Any, *args: Any
    ) -> asyncio.Future[Any]:
        """As any loop; raises OSError where there is no thread for it."""
        try:
            return super().run_in_executor(executor, func, *args)
        except RuntimeError as error:
            raise _no_thread() from error

    async def shutdown_default_executor(self, *limits: Any) -> None:
        """As any loop; where even that takes a thread too many, the process waits at its end."""
        with contextlib.suppress(RuntimeError):
            await super().shutdown_default_executor(*limits)


def _no_thread() -> OSError:
    return OSError(errno.EAGAIN, "the machine gives no more threads; see TasksMax and ulimit -u")
