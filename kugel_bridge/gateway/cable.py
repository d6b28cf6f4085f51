"""One TCP connection as the gateway sees it: how it ends, and what may be done to its bytes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from typing import Any

CABLE = "cable"
"""Where an application finds the cable of its connection, in the `state` of a scope."""
FAREWELL_S = 5.0
"""What a client may take to fetch the rest after we hung up; a dead one would keep it for ever."""


class Cable(asyncio.Transport):
    """A transport that passes everything on, and adds ends and pauses that asyncio lacks."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._held: bytearray | None = None
        self.lost = asyncio.Event()
        """Set when the connection is no more; its protocol has to tell."""

    # --- ends -----------------------------------------------------------------------------

    def close(self) -> None:
        """Hang up once everything is sent, or after FAREWELL_S: the other side may not read."""
        if self._transport.get_write_buffer_size() and not self._transport.is_closing():
            asyncio.get_running_loop().call_later(FAREWELL_S, self._transport.abort)
        self._transport.close()

    def abort(self) -> None:
        """Hang up at once."""
        self._transport.abort()

    def half_close(self) -> asyncio.TimerHandle:
        """Send an end, and go on reading until the other side hangs up or FAREWELL_S are over.

        Closing with unread bytes in the kernel would send a reset, and that would overtake what
        the other side has to read.
        """
        if not self._transport.is_closing():
            self._transport.write_eof()
        return asyncio.get_running_loop().call_later(FAREWELL_S, self._transport.abort)

    def reset(self) -> None:
        """Hang up with a TCP reset."""
        connection = self._transport.get_extra_info("socket")
        if connection is not None:
            # Closing with a linger time of 0 sends RST instead of FIN.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether it has hung up."""
        return self._transport.is_closing()

    # --- bytes on their way out -----------------------------------------------------------

    def hold(self) -> None:
        """Keep back what is written from now on."""
        if self._held is None:
            self._held = bytearray()

    @property
    def held(self) -> int:
        """Bytes kept back."""
        return len(self._held or b"")

    def release(self, size: int) -> None:
        """Let the first `size` bytes of what is kept back through."""
        if self._held:
            self._transport.write(bytes(self._held[:size]))
            del self._held[:size]

    def let_go(self) -> None:
        """Keep nothing back any more; what was kept goes out."""
        held, self._held = self._held, None
        if held:
            self._transport.write(bytes(held))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, unless it is kept back."""
        if self._held is None:
            self._transport.write(data)
        else:
            self._held += data

    def get_write_buffer_size(self) -> int:
        """Bytes that the other side has not taken yet."""
        return self._transport.get_write_buffer_size() + self.held

    # --- passed on ------------------------------------------------------------------------

    def write_eof(self) -> None:
        """Send an end and go on reading."""
        self._transport.write_eof()

    def can_write_eof(self) -> bool:
        """True for TCP."""
        return self._transport.can_write_eof()

    def pause_reading(self) -> None:
        """Let the kernel's buffer fill up."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def is_reading(self) -> bool:
        """Whether it reads."""
        return self._transport.is_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give the connection to another protocol."""
        self._transport.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Whose connection it is."""
        return self._transport.get_protocol()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As asyncio has it."""
        return self._transport.get_extra_info(name, default)


def cable_of(scope: Mapping[str, Any]) -> Cable:
    """The connection under a request; only our own listener provides it."""
    cable = scope["state"][CABLE]
    assert isinstance(cable, Cable)
    return cable


def hang_up(scope: Mapping[str, Any]) -> None:
    """End the connection under a request at once, if it came through our own listener."""
    if CABLE in scope.get("state", {}):
        cable_of(scope).abort()
