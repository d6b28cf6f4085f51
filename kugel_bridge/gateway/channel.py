"""One connection that faults are done to, and one piece of work on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from starlette.types import Message, Send

from kugel_bridge.gateway.cable import Cable
from kugel_bridge.gateway.garbage import Fields
from kugel_bridge.gateway.orders import At, Order

Arm = Callable[[At], Sequence[Order]]
"""Counts one occasion for every order that acts at a moment; gives those whose turn it is."""

_DRIPS_PER_S = 20
_POLL_S = 0.01


@dataclass(slots=True)
class Work:
    """One request, turn or context from its first sound to its end."""

    orders: Sequence[Order] = ()
    done: set[int] = field(default_factory=set)
    """Which of the orders acted already."""
    frames: int = 0
    bytes: int = 0
    last: Fields | None = None
    is_muted: bool = False

    def due(self, order: Order, size: int) -> bool:
        """Whether the next `size` bytes are the ones to act on."""
        if order.at is not At.SOUND:
            return False
        if order.after_bytes is not None:
            return self.bytes + size > order.after_bytes
        return self.frames >= order.after


class Channel:
    """Sends, and can do to a connection what no ASGI message does."""

    def __init__(self, cable: Cable, send: Send) -> None:
        self._cable, self._send = cable, send
        self.rate: int | None = None
        """Bytes per second that pass; None = all."""

    @property
    def is_closed(self) -> bool:
        """Whether there is nobody to send to."""
        return self._cable.is_closing()

    async def closed(self) -> None:
        """Return when there is nobody to send to."""
        await self._cable.lost.wait()

    async def send(self, message: Message) -> None:
        """Send at the rate that is set."""
        if self.rate is None:
            await self._send(message)
            return
        step = max(1, self.rate // _DRIPS_PER_S)
        self._cable.hold()
        try:
            await self._send(message)
            while self._cable.held and not self.is_closed:
                self._cable.release(step)
                await asyncio.sleep(step / self.rate)
        finally:
            self._cable.let_go()

    async def cut(self, *, reset: bool, part: Message | None = None, size: int = 0) -> None:
        """End the connection; with a `part`, after the first `size` bytes of it."""
        if part is not None and size:
            self._cable.hold()
            await self._send(part)
            self._cable.release(size)
        # A reset throws away what the kernel has not sent: what came before is to arrive.
        while self._cable.get_write_buffer_size() > self._cable.held:
            if self.is_closed:
                return
            await asyncio.sleep(_POLL_S)
        if reset:
            self._cable.reset()
        else:
            self._cable.close()
