"""What systemd hears, on a real datagram socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kugel_bridge.ops.systemd import Supervisor


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def heard(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def test_ready_status_and_stopping_are_told(manager: socket.socket) -> None:
    supervisor = Supervisor(manager.getsockname())
    supervisor.ready("idle")
    supervisor.status("two\nlines")
    supervisor.stopping()
    assert heard(manager) == ["READY=1", "STATUS=idle"]
    assert heard(manager) == ["STATUS=two lines"]
    assert heard(manager) == ["STOPPING=1"]
    supervisor.close()


def test_a_name_in_the_abstract_namespace_is_understood() -> None:
    name = f"kugel-bridge-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(5)
        supervisor = Supervisor(f"@{name}")
        supervisor.ready()
        assert heard(manager) == ["READY=1"]
        supervisor.close()


def test_without_a_manager_nothing_happens() -> None:
    supervisor = Supervisor.from_environment({})
    assert not supervisor.present
    supervisor.ready("x")
    supervisor.alive()
    supervisor.close()


def test_a_manager_that_is_gone_is_told_once_and_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = Supervisor(str(tmp_path / "nobody"))
    supervisor.ready()
    supervisor.alive()
    assert len(caplog.records) == 1
    supervisor.close()


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_s_time_comes_from_the_environment(
    environ: dict[str, str], watchdog_s: float | None
) -> None:
    assert Supervisor.from_environment(environ).watchdog_s == watchdog_s


async def test_signs_of_life_come_while_all_is_well(manager: socket.socket) -> None:
    supervisor = Supervisor(manager.getsockname(), watchdog_s=0.03)
    async with asyncio.timeout(30):
        task = asyncio.ensure_future(supervisor.run())
        for _ in range(3):
            assert await asyncio.to_thread(heard, manager) == ["WATCHDOG=1"]
        task.cancel()
        await asyncio.wait([task])
    supervisor.close()


async def test_no_sign_of_life_while_something_hangs(
    manager: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter(["", "the queue writer hangs", "the queue writer hangs", ""])
    asked = asyncio.Event()

    def unwell() -> str:
        answer = next(answers, None)
        if answer is None:
            asked.set()
        return answer or ""

    supervisor = Supervisor(manager.getsockname(), watchdog_s=0.03)
    async with asyncio.timeout(30):
        task = asyncio.ensure_future(supervisor.run(unwell))
        await asked.wait()
        task.cancel()
        await asyncio.wait([task])
    supervisor.close()
    manager.settimeout(0)
    signs = 0
    with pytest.raises(BlockingIOError):
        while heard(manager):
            signs += 1
    # Five or more questions were asked, two of them answered with a fault.
    assert signs == 3
    assert [record.message for record in caplog.records if "queue writer" in record.message] == [
        "no sign of life to the watchdog any more: the queue writer hangs"
    ]
