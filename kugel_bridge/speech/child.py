"""A child process that makes sound: what it writes, held until it is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from collections import deque
from collections.abc import AsyncGenerator, Sequence

from kugel_bridge.model.errors import TooSlowError

REAP_TIMEOUT_S = 2.0
"""How long a killed child may take to be gone before we go on without it."""
MAX_COMPLAINT = 2_000
MAX_AHEAD = 512 * 1024
"""Bytes read ahead of the listener, about 12 s; beyond, the child waits."""

_OURS = ("KUGEL_BRIDGE_", "KUGELAUDIO_", "CREDENTIALS_DIRECTORY")


@contextlib.asynccontextmanager
async def started(program: str, arguments: Sequence[str]) -> AsyncGenerator[Child, None]:
    """The running child, dead and reaped when the block is left; raises OSError."""
    child = Child()
    try:
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: child, program, *arguments, env=_environment()
        )
    except RuntimeError as error:  # its end is waited for in a thread
        raise OSError(errno.EAGAIN, f"nobody can wait for it: {error}") from error
    try:
        yield child
    finally:
        child.leave(transport)
        await child.end()


class Child(asyncio.SubprocessProtocol):
    """The pipes of one child; its end is kept until it has been read."""

    def __init__(self) -> None:
        self._exited = asyncio.Event()
        self._transport: asyncio.SubprocessTransport | None = None
        self._data: deque[bytes] = deque()
        self._ahead = 0
        self._is_paused = False
        self._is_left = False
        self._has_ended = False
        self._news = asyncio.Event()
        self._complaint = b""

    def say(self, text: bytes, *, is_last: bool) -> None:
        """Hand over a text; the transport keeps what the pipe cannot take yet."""
        assert self._transport is not None
        stdin = self._transport.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)
        stdin.write(text)
        if is_last:
            stdin.write_eof()

    async def read(self, limit_s: float) -> bytes:
        """The next piece; empty at the end. Raises TooSlowError after `limit_s` (s)."""
        try:
            async with asyncio.timeout(limit_s):
                while not self._data and not self._has_ended:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            raise TooSlowError(f"espeak-ng gave nothing for {limit_s} s") from error
        if not self._data:
            return b""
        data = self._data.popleft()
        self._ahead -= len(data)
        if self._is_paused and self._ahead < MAX_AHEAD // 2:
            self._pause(False)
        return data

    def leave(self, transport: asyncio.SubprocessTransport) -> None:
        """Kill it if it lives, and close its pipes, all at once; its end comes in a moment."""
        if transport.get_returncode() is not None:
            transport.close()
            return
        self._is_left = True
        # The transport itself would look first whether the child has died just now, and so take
        # its exit code away from whoever waits for it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(transport.get_pid(), signal.SIGKILL)
        for number in range(3):
            if (pipe := transport.get_pipe_transport(number)) is not None:
                pipe.close()

    async def end(self) -> None:
        """Return when the child is reaped and its pipes are closed, or will not be soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REAP_TIMEOUT_S):
                await self._exited.wait()

    @property
    def complaint(self) -> str:
        """What it wrote to its error output, so far."""
        return self._complaint.decode("utf-8", "replace").strip()

    @property
    def has_succeeded(self) -> bool:
        """Whether it ended by itself, with the code 0."""
        return self._transport is not None and self._transport.get_returncode() == 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd != 1:
            self._complaint = (self._complaint + data)[:MAX_COMPLAINT]
            return
        self._data.append(data)
        self._ahead += len(data)
        if self._ahead > MAX_AHEAD and not self._is_paused:
            self._pause(True)
        self._news.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 1:
            self._has_ended = True
            self._news.set()

    def process_exited(self) -> None:
        """The child is reaped; what is in its pipes may still be read."""
        if self._is_left and self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The child is reaped and all its pipes are closed."""
        self._exited.set()
        self._has_ended = True
        self._news.set()

    def _pause(self, wanted: bool) -> None:
        assert self._transport is not None
        stdout = self._transport.get_pipe_transport(1)
        if isinstance(stdout, asyncio.ReadTransport) and not stdout.is_closing():
            self._is_paused = wanted
            if wanted:
                stdout.pause_reading()
            else:
                stdout.resume_reading()


def _environment() -> dict[str, str]:
    """Ours without our settings: keys may be among them, and a child speaks without them."""
    return {name: text for name, text in os.environ.items() if not name.startswith(_OURS)}
