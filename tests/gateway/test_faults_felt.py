"""What our own client makes of each fault on order."""

from __future__ import annotations

import pytest

from kugel_bridge.gateway.orders import Garbage
from kugel_bridge.kugelaudio.codes import CLOSE_ROWS, ERRORS_BY_CODE
from kugel_bridge.model.errors import (
    BridgeError,
    InvalidRequestError,
    NoCreditsError,
    ProtocolError,
    RateLimitedError,
    RetryableError,
    ServiceUnavailableError,
    TooSlowError,
    UnauthorizedError,
)
from kugel_bridge.model.status import CloudStatus
from tests.gateway.misbehaving import SHORT_S, faulty
from tests.gateway_server import hum
from tests.kugelaudio.scripted_service import News, client_of, failure, running, said

KINDS_OF_GARBAGE = sorted(set(Garbage) - {Garbage.INDEX, Garbage.EMPTY, Garbage.OTHER_RATE})


@pytest.mark.parametrize(
    ("order", "kind"),
    [
        ("do=refuse status=401", UnauthorizedError),
        ("do=refuse status=402", NoCreditsError),
        ("do=refuse status=403", UnauthorizedError),
        ("do=refuse status=404", ServiceUnavailableError),
        ("do=refuse status=429 body=html", RateLimitedError),
        ("do=refuse status=500 body=truncated", ServiceUnavailableError),
        ("do=refuse status=502 body=html", ServiceUnavailableError),
        ("do=refuse status=200 body=html", ServiceUnavailableError),
        *[(f"do=error error_code={code}", kind) for code, kind in ERRORS_BY_CODE.items()],
        *[
            (f"after=1 do=close code={code}", row.error)
            for code, row in CLOSE_ROWS.items()
            if code != 1006
        ],
        *[
            (f"{where} do={end}", ServiceUnavailableError)
            for end in ("eof", "reset")
            for where in ("at=door", "at=open", "after=0", "after=2", "after=20000b")
        ],
        ("at=open do=close code=4001", UnauthorizedError),
        ("at=door do=stall", TooSlowError),
        ("at=door do=drip rate=10", TooSlowError),
        ("do=stall", TooSlowError),
        ("after=2 do=stall", TooSlowError),
        ("do=drip rate=1", TooSlowError),
        ("do=delay ms=60000", TooSlowError),
        ("do=slow ms=60000", TooSlowError),
        *[(f"after=1 do=garbage kind={kind}", ProtocolError) for kind in KINDS_OF_GARBAGE],
        ("do=silence", ServiceUnavailableError),
        ("do=no-final", TooSlowError),
        ("do=endless", ProtocolError),
        ("do=flood seconds=600", ProtocolError),
        ("do=huge", InvalidRequestError),
    ],
)
async def test_our_client_tells_what_went_wrong(order: str, kind: type[BridgeError]) -> None:
    async with faulty(order) as server:
        client = client_of(
            server.url,
            connect_timeout_s=SHORT_S,
            first_audio_timeout_s=SHORT_S,
            stall_timeout_s=SHORT_S,
        )
        error = await failure(client)
    assert isinstance(error, kind), error


@pytest.mark.parametrize(
    ("wait", "seconds"), [("17", 17), ("date", 30), ("nonsense", None), ("huge", 3600)]
)
async def test_our_client_reads_the_wait(wait: str, seconds: int | None) -> None:
    async with faulty(f"do=refuse status=429 retry_after={wait}") as server:
        error = await failure(client_of(server.url))
    assert isinstance(error, RetryableError)
    if seconds is None:
        assert error.retry_after_s is None
    else:
        assert error.retry_after_s == pytest.approx(seconds, abs=2)


@pytest.mark.parametrize(
    "order",
    [
        "do=delay ms=50",
        "do=slow ms=20",
        "do=drip rate=200000",
        "after=1 do=garbage kind=idx",
        "do=twice",
        "do=late",
        "at=end do=eof",
        "at=end do=close code=1000",
        "at=end do=error",
    ],
)
async def test_our_client_says_the_text_all_the_same(order: str) -> None:
    async with faulty(order) as server, running(client_of(server.url)) as client:
        for _ in range(3):
            chunks = await said(client)
            sound = b"".join(bytes(chunk.data) for chunk in chunks)
            assert sound == bytes(hum(0.25).data) * 2


async def test_our_client_drops_a_socket_that_spoke_before_it_was_asked() -> None:
    news = News()
    async with (
        faulty("do=early times=1") as server,
        running(client_of(server.url, news)) as client,
    ):
        await news.until(CloudStatus.OK)
        chunks = await said(client)
    assert b"".join(bytes(chunk.data) for chunk in chunks) == bytes(hum(0.25).data) * 2


async def test_our_client_does_not_believe_a_rate_that_changes_in_the_middle() -> None:
    async with (
        faulty("after=1 do=garbage kind=other-rate") as server,
        running(client_of(server.url)) as client,
    ):
        assert isinstance(await failure(client), ProtocolError)


async def test_our_client_speaks_again_once_the_fault_is_over() -> None:
    async with (
        faulty("after=1 do=reset times=2") as server,
        running(client_of(server.url)) as client,
    ):
        for _ in range(2):
            assert isinstance(await failure(client), ServiceUnavailableError)
        assert await said(client)
