"""Gateways one behind the other: who stands behind whom, and that nobody asks himself in the end.

A gateway whose upstream is another one asks it, whenever it has opened a socket to it, who is
behind: GET /chain, with the names of all who ask in a header. Each adds its own and asks on. One
that finds itself among them answers 508, and the gateway that asked first leaves its upstream
alone. Nothing of this is sent to a service that is no gateway: only gateways mark their answers.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from typing import Protocol

from kugel_bridge.kugelaudio.catalogue import Voice
from kugel_bridge.kugelaudio.codes import Refusal
from kugel_bridge.kugelaudio.messages import invalid
from kugel_bridge.model.errors import BridgeError, LoopError

logger = logging.getLogger(__name__)

MARK = "X-Kugel-Bridge"
"""A header of every answer of a gateway."""
VIA = "X-Kugel-Bridge-Via"
"""A header of a question that has passed gateways: their names, the first one first."""
MAX_GATEWAYS = 8
"""One behind the other; a house has two."""
MAX_ASKING = 4
"""Questions passed on at a time; more of them are none of a house."""
HOP_S = 0.25
"""One further back waits so much less (s), so that its answer is still waited for."""
RETRY_S = 60.0
"""Between two looks whether the loop is still there."""
_NAME = r"[A-Za-z0-9-]{1,29}"
VIA_PATTERN = f"^({_NAME}(, {_NAME}){{0,{MAX_GATEWAYS - 2}}})?$"


class Neighbour(Protocol):
    """What is needed of the next gateway: `kugelaudio.rest.Catalogue`."""

    async def chain(self, headers: Mapping[str, str], timeout_s: float) -> list[str]: ...


class Lists(Protocol):
    """What is needed of `kugelaudio.rest.Catalogue` for voices."""

    async def voices(self) -> list[Voice]: ...

    async def voice(self, ident: int | str) -> Voice | None: ...


class Chain:
    """What a gateway knows of those behind it; without a `neighbour` there are none."""

    def __init__(self, neighbour: Neighbour | None = None) -> None:
        host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
        self.name = f"{host[:20] or 'gateway'}-{secrets.token_hex(4)}"
        """No other gateway has it, nor this one after its next start; eight fit into an error."""
        self.loop: LoopError | None = None
        """Why the upstream must not be asked now."""
        self._neighbour = neighbour
        self._leads_on = False
        self._asking = 0

    async def vet(self, headers: Mapping[str, str]) -> None:
        """Look at the answer with which the upstream opened a socket.

        Raises LoopError if whoever asks there is asked himself in the end.
        """
        # Before asking: of two that close a circle at one moment, the later finds the other's.
        self._leads_on = MARK in headers
        if self._leads_on:
            try:
                await self._behind_upstream([])
            except LoopError as error:
                self._leads_on = False
                if self.loop is None:
                    logger.warning("the service of [cloud] is left alone: %s", error)
                self.loop = error
                raise
        if self.loop is not None:
            logger.info("the service of [cloud] does not lead into a circle any more")
        self.loop = None

    async def behind(self, via: Sequence[str]) -> list[str]:
        """This gateway and those behind it, for one who asks through the gateways `via`.

        Raises LoopError where they are a circle, or too many.
        """
        names = [*via, self.name]
        if self.name in via:
            raise _loop("these gateways ask each other in a circle", names)
        if not self._leads_on or self._asking >= MAX_ASKING:
            return [self.name]
        return [self.name, *await self._behind_upstream(via)]

    async def _behind_upstream(self, via: Sequence[str]) -> list[str]:
        assert self._neighbour is not None, "only who has an upstream opens sockets to it"
        names = [*via, self.name]
        if len(names) >= MAX_GATEWAYS:
            raise _loop(f"more than {MAX_GATEWAYS} gateways one behind the other", names)
        self._asking += 1
        try:
            # Many times 50 ms on a small machine: not on the way of sound.
            await asyncio.to_thread(importlib.import_module, "httpx")
            timeout_s = HOP_S * (1 + MAX_GATEWAYS - len(names))
            return await self._neighbour.chain({VIA: ", ".join(names)}, timeout_s)
        except LoopError:
            raise
        except (BridgeError, OSError) as error:
            logger.debug("the gateway behind does not tell who is behind it: %s", error)
            return []
        finally:
            self._asking -= 1


class GuardedLists:
    """An upstream's voices, unless the upstream is this gateway in the end."""

    def __init__(self, lists: Lists, chain: Chain) -> None:
        self._lists, self._chain = lists, chain

    async def voices(self) -> list[Voice]:
        """All of them; raises a BridgeError."""
        self._check()
        return await self._lists.voices()

    async def voice(self, ident: int | str) -> Voice | None:
        """One of them; raises a BridgeError."""
        self._check()
        return await self._lists.voice(ident)

    def _check(self) -> None:
        if self._chain.loop is not None:
            raise self._chain.loop


def via_of(header: str | None) -> list[str] | Refusal:
    """The names in the header of a question, or why it cannot be read."""
    text = header or ""
    if not re.fullmatch(VIA_PATTERN, text):
        return invalid(
            f"{VIA} must be names of letters, digits and '-', parted by a comma and a blank, and "
            f"less than {MAX_GATEWAYS}"
        )
    return text.split(", ") if text else []


def _loop(what: str, names: Sequence[str]) -> LoopError:
    return LoopError(f"{what}: {' > '.join(names)}", retry_after_s=RETRY_S)
