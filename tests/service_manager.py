"""Plays systemd for a daemon under test: hears its notifications, and misses its signs of life."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Self

from tests.house import WAIT_S


class ServiceManager:
    """Listens at a notification socket (sd_notify(3)); give `environment` to the daemon."""

    def __init__(self, path: Path, watchdog_s: float | None = None) -> None:
        self._path, self._watchdog_s = path, watchdog_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.said: list[str] = []
        """Every line so far, signs of life too."""

    def environment(self) -> dict[str, str]:
        """The variables that systemd would set."""
        found = {"NOTIFY_SOCKET": str(self._path)}
        if self._watchdog_s is not None:
            found["WATCHDOG_USEC"] = str(round(self._watchdog_s * 1e6))
        return found

    @property
    def status(self) -> str:
        """What `systemctl status` would show."""
        lines = [line for line in self.said if line.startswith("STATUS=")]
        return lines[-1].removeprefix("STATUS=") if lines else ""

    async def ready(self) -> None:
        """Return when the daemon says that it is."""
        async with asyncio.timeout(WAIT_S):
            while await self._next() != "READY=1":
                pass

    async def until_status(self, *words: str) -> str:
        """The first status that holds all words."""
        async with asyncio.timeout(WAIT_S):
            while not all(word in self.status for word in words):
                await self._next()
        return self.status

    async def signs_of_life(self, count: int) -> None:
        """Return after so many new ones; TimeoutError when one is missed, as for systemd."""
        assert self._watchdog_s is not None
        self.forget()
        for _ in range(count):
            async with asyncio.timeout(self._watchdog_s):
                while await self._next() != "WATCHDOG=1":
                    pass

    async def silence(self) -> None:
        """Return when a whole watchdog time has passed without a sign of life."""
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    await self.signs_of_life(1)
                except TimeoutError:
                    return

    def forget(self) -> None:
        """Pass over what was said and not yet listened to."""
        try:
            while True:
                self._take(self._socket.recv(4096))
        except BlockingIOError:
            pass

    async def _next(self) -> str:
        """The last line of the next notification."""
        return self._take(await asyncio.get_running_loop().sock_recv(self._socket, 4096))

    def _take(self, datagram: bytes) -> str:
        lines = datagram.decode().splitlines()
        self.said += lines
        return lines[0]

    def __enter__(self) -> Self:
        self._socket.bind(str(self._path))
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)
