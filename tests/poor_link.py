"""A link that loses and delays packets, for tests.

Many kernels come without netem, so this one is made of two TUN devices and a thread that carries
packets from one to the other.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import subprocess
import threading
import time
from typing import Self

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_MAX_PACKET_BYTES = 65_536


class PoorLink:
    """Joins a device of this name here with one in the namespace `peer`; perfect at first."""

    def __init__(self, name: str, peer: str) -> None:
        self._name, self._peer = name, peer
        self.loss = 0.0
        """Share of packets that are lost, in each direction."""
        self.delay_s = 0.0
        """How long each packet is under way."""
        self.carried = self.lost = 0
        self._random = random.Random(1)
        self._ends: list[int] = []
        self._stop_read, self._stop_write = -1, -1
        self._undo = contextlib.ExitStack()
        self._thread = threading.Thread(target=self._carry, name="poor link", daemon=True)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            self._stop_read, self._stop_write = os.pipe()
            for fd in (self._stop_read, self._stop_write):
                undo.callback(os.close, fd)
            for number, where in enumerate(((), ("netns", self._peer))):
                end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
                undo.callback(os.close, end)
                self._ends.append(end)
                # The last name is free for one of them here, and for the other one there.
                passing = f"{self._name}{number}"
                request = struct.pack("16sH22x", passing.encode(), _IFF_TUN | _IFF_NO_PI)
                fcntl.ioctl(end, _TUNSETIFF, request)
                command = ["ip", "link", "set", passing, "name", self._name, *where]
                subprocess.run(command, check=True, capture_output=True)
            self._thread.start()
            undo.callback(self._thread.join, 5)
            undo.callback(os.write, self._stop_write, b"x")
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _carry(self) -> None:
        under_way: list[tuple[float, int, int, bytes]] = []
        order, here, there = itertools.count(), *self._ends
        other = {here: there, there: here}
        while True:
            wait_s = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
            readable, _, _ = select.select([here, there, self._stop_read], [], [], wait_s)
            if self._stop_read in readable:
                return
            for end in readable:
                packet = os.read(end, _MAX_PACKET_BYTES)
                if self._random.random() < self.loss:
                    self.lost += 1
                else:
                    due_s = time.monotonic() + self.delay_s
                    heapq.heappush(under_way, (due_s, next(order), other[end], packet))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(under_way)
                self._pass_on(end, packet)

    def _pass_on(self, end: int, packet: bytes) -> None:
        try:
            os.write(end, packet)
            self.carried += 1
        except OSError:
            self.lost += 1  # that end is down
