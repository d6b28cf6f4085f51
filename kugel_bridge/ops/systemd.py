"""Tells systemd how the daemon is (sd_notify(3)): ready, alive, stopping; nothing elsewhere."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping

logger = logging.getLogger(__name__)

MAX_STATUS_CHARACTERS = 200


class Supervisor:
    """The service manager above us; every call does nothing where there is none."""

    def __init__(self, address: str = "", watchdog_s: float | None = None) -> None:
        """`address` is $NOTIFY_SOCKET, `watchdog_s` the time without a sign of life (s) after
        which systemd restarts us; None = it does not watch."""
        self._address = address
        self._socket: socket.socket | None = None
        self._failing = False
        self._unwell = ""
        self.watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Supervisor:
        """As systemd's variables say; another process's watchdog is not ours."""
        try:
            watched = int(environ.get("WATCHDOG_PID", os.getpid())) == os.getpid()
            watchdog_s = int(environ.get("WATCHDOG_USEC", "0")) / 1e6
        except ValueError:
            watched, watchdog_s = False, 0.0
        return cls(
            environ.get("NOTIFY_SOCKET", ""), watchdog_s if watched and watchdog_s > 0 else None
        )

    @property
    def present(self) -> bool:
        """Whether anybody listens."""
        return bool(self._address)

    def ready(self, status: str = "") -> None:
        """Announcements can be taken from now on."""
        self._send("READY=1", *_status(status))

    def status(self, text: str) -> None:
        """What `systemctl status` shows: one line."""
        self._send(*_status(text))

    def stopping(self, status: str = "") -> None:
        """The daemon is about to end on purpose."""
        self._send("STOPPING=1", *_status(status))

    def alive(self) -> None:
        """One sign of life."""
        self._send("WATCHDOG=1")

    async def run(self, unwell: Callable[[], str] = lambda: "") -> None:
        """Give signs of life, three in each watchdog interval, until cancelled.

        `unwell` tells what hangs; while it does, no sign is given, and systemd restarts us. It
        runs on the event loop, so that a blocked loop is noticed as well.
        """
        if self.watchdog_s is None or not self.present:
            return
        while True:
            if (reason := unwell()) != self._unwell:
                if reason:
                    logger.error("no sign of life to the watchdog any more: %s", reason)
                self._unwell = reason
            if not reason:
                self.alive()
            await asyncio.sleep(self.watchdog_s / 3)

    def close(self) -> None:
        """Give the socket back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str) -> None:
        if not self._address or not lines:
            return
        # A leading "@" means Linux's abstract namespace.
        target = f"\0{self._address[1:]}" if self._address[0] == "@" else self._address
        try:
            if self._socket is None:
                kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
                self._socket = socket.socket(socket.AF_UNIX, kind)
            self._socket.sendto("\n".join(lines).encode(), target)
            self._failing = False
        except OSError as error:
            # Losing the manager must not stop the voice; it would restart us if it minded.
            if not self._failing:
                logger.warning("systemd cannot be told how we are: %s", error)
            self._failing = True


def _status(text: str) -> tuple[str, ...]:
    line = " ".join(text.split())[:MAX_STATUS_CHARACTERS]
    return (f"STATUS={line}",) if line else ()
