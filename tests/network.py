"""A house's network for tests, with real links: namespaces and cables of the kernel's own.

The bridge lives in a namespace of its own, and what runs in the test's process, or is started by
it, in another one. A cable for the broker and one for the cloud join them. Takes root, the
command `ip` and /dev/net/tun.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from tests.poor_link import PoorLink

BROKER, CLOUD, POOR = "broker", "cloud", "poor"
_SUBNETS = {BROKER: "10.77.1", CLOUD: "10.77.2", POOR: "10.77.3"}
_PREFIX = "kugel-"
_CLONE_NEWNET = 0x40000000
_NAMES = Path("/run/netns")
_SETTINGS = Path("/etc/netns")
"""`ip netns exec` puts what lies here in the place of the same file of /etc."""
_NUMBERS = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)


class NoNetworkError(Exception):
    """This machine does not let us make one; says why."""


class Network:
    """Two namespaces and the cables between them, all of them plugged in."""

    def __init__(self, house: str, outside: str, poor_link: PoorLink) -> None:
        self._house, self._outside = house, outside
        self.poor_link = poor_link
        self.inside = ("ip", "netns", "exec", house)
        """A command that starts the rest of its line in the bridge's namespace."""

    @staticmethod
    def address(cable: str) -> str:
        """What the bridge finds at the other end of a cable."""
        return f"{_SUBNETS[cable]}.1"

    def unplug(self, cable: str) -> None:
        """Take a cable out: the bridge's own end has no carrier any more."""
        _ip("-n", self._outside, "link", "set", cable, "down")

    def plug_in(self, cable: str) -> None:
        """Put it in again."""
        _ip("-n", self._outside, "link", "set", cable, "up")

    def swallow(self, cable: str) -> None:
        """Let everything vanish at the far end: for the bridge the link looks as ever."""
        _ip("-n", self._outside, "address", "delete", f"{self.address(cable)}/24", "dev", cable)

    def deliver(self, cable: str) -> None:
        """Let it through again."""
        _ip("-n", self._outside, "address", "add", f"{self.address(cable)}/24", "dev", cable)

    def renumber(self, last: int) -> None:
        """Give the bridge other addresses on its cables, as DHCP does; it begins with `.2`."""
        for cable in (BROKER, CLOUD):
            _ip("-n", self._house, "address", "flush", "dev", cable)
            new = f"{_SUBNETS[cable]}.{last}/24"
            _ip("-n", self._house, "address", "add", new, "dev", cable)

    @contextlib.contextmanager
    def resolver(self, lines: str) -> Iterator[None]:
        """What /etc/resolv.conf says to programs that are started inside from now on."""
        folder = _SETTINGS / self._house
        folder.mkdir(parents=True)
        try:
            (folder / "resolv.conf").write_text(lines)
            yield
        finally:
            shutil.rmtree(folder)


class NameServer(asyncio.DatagramProtocol):
    """Tells one address for whatever name is asked for, or nothing at all."""

    def __init__(self, address: str) -> None:
        self._answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04" + bytes(
            int(part) for part in address.split(".")
        )
        self.is_silent = False
        self.ignored = 0
        """Questions since it is silent."""
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.is_silent:
            self.ignored += 1
            return
        # RFC 1035: one question, as asked; an answer to type A only, which points back to it.
        end = data.index(0, 12) + 5
        is_ipv4 = data[end - 4 : end - 2] == b"\x00\x01"
        head = data[:2] + b"\x81\x80\x00\x01" + (b"\x00\x01" if is_ipv4 else b"\x00\x00") + bytes(4)
        assert self._transport is not None
        self._transport.sendto(head + data[12:end] + (self._answer if is_ipv4 else b""), addr)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A network, with this thread in its outer part; raises NoNetworkError where that cannot be."""
    if os.geteuid() != 0:
        raise NoNetworkError("it takes root")
    if shutil.which("ip") is None:
        raise NoNetworkError("the command `ip` is missing: install iproute2")
    _sweep()
    number = f"{os.getpid()}-{next(_NUMBERS)}"
    house, outside = f"{_PREFIX}house-{number}", f"{_PREFIX}outside-{number}"
    with contextlib.ExitStack() as undo:
        for name in (house, outside):
            _ip("netns", "add", name)
            undo.callback(_ip, "netns", "delete", name)
            _ip("-n", name, "link", "set", "lo", "up")
        undo.enter_context(_inside(outside))
        try:
            poor_link = undo.enter_context(PoorLink(POOR, house))
        except OSError as error:
            raise NoNetworkError(f"no TUN device: {error}") from error
        for cable in (BROKER, CLOUD):
            _ip("link", "add", cable, "type", "veth", "peer", "name", cable, "netns", house)
        for cable, subnet in _SUBNETS.items():
            for name, last in ((outside, 1), (house, 2)):
                _ip("-n", name, "address", "add", f"{subnet}.{last}/24", "dev", cable)
                _ip("-n", name, "link", "set", cable, "up")
        yield Network(house, outside, poor_link)


def _sweep() -> None:
    """Take away what a test run left behind that was killed."""
    for path in _NAMES.glob(f"{_PREFIX}*-*-*"):
        pid = path.name.split("-")[-2]
        if not Path("/proc", pid).exists():
            _ip("netns", "delete", path.name)
            shutil.rmtree(_SETTINGS / path.name, ignore_errors=True)


@contextlib.contextmanager
def _inside(name: str) -> Iterator[None]:
    """This thread, and those that it starts, in a namespace."""
    with Path("/proc/thread-self/ns/net").open() as before, (_NAMES / name).open() as other:
        _enter(other.fileno())
        try:
            yield
        finally:
            _enter(before.fileno())


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET):
        raise NoNetworkError(f"setns: {os.strerror(ctypes.get_errno())}")


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise NoNetworkError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
