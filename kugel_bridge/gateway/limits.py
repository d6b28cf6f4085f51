"""What each key may use: the seam between those who serve and those who count."""

from __future__ import annotations

from typing import Protocol

from kugel_bridge.kugelaudio.codes import Refusal
from kugel_bridge.kugelaudio.messages import Usage


class Ticket(Protocol):
    """One request, turn or context under way; holds one slot until it ends."""

    def spend(self, characters: int) -> Refusal | None:
        """Take characters from the day's budget, or say why not."""

    async def end(self, usage: Usage | None) -> None:
        """Free the slot; returns when `usage`, if there was any, is on record. May be repeated."""


class Limits(Protocol):
    """Lets requests and sockets in; `account` is the name of a key, see access.Access.account."""

    def open_socket(self, account: str) -> Refusal | None:
        """Take a connection, or say why not; to be given back with `close_socket`."""

    def close_socket(self, account: str) -> None:
        """Give a connection back."""

    def begin(self, account: str) -> Ticket | Refusal:
        """Take one from the minute and one slot, or say why not (with the time to wait)."""


class NoLimits:
    """Lets everything in and counts nothing."""

    def open_socket(self, account: str) -> Refusal | None:
        """Always."""
        return None

    def close_socket(self, account: str) -> None:
        """Nothing to give back."""

    def begin(self, account: str) -> Ticket | Refusal:
        """Always."""
        return _FreeTicket()


class _FreeTicket:
    def spend(self, characters: int) -> Refusal | None:
        return None

    async def end(self, usage: Usage | None) -> None:
        return
