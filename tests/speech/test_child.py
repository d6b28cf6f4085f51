from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from kugel_bridge.model.errors import TooSlowError
from kugel_bridge.speech.child import MAX_AHEAD, started
from tests.speech.sounds import until
from tests.speech.test_espeak import children

WAIT_S = 30.0


async def test_what_is_said_is_answered_and_the_end_is_empty() -> None:
    async with started("cat", []) as child:
        child.say(b"one ", is_last=False)
        assert await child.read(WAIT_S) == b"one "
        child.say(b"two", is_last=True)
        assert await child.read(WAIT_S) == b"two"
        assert await child.read(WAIT_S) == b""
        await child.end()
        assert child.has_succeeded
    assert children() == []


async def test_a_complaint_is_kept_in_bounds() -> None:
    script = "import sys; sys.stderr.write('no ' * 100_000); sys.exit(3)"
    async with started(sys.executable, ["-c", script]) as child:
        assert await child.read(WAIT_S) == b""
        await child.end()
        assert child.complaint.startswith("no no")
        assert len(child.complaint) <= 2_000
        assert not child.has_succeeded


async def test_a_silent_child_is_too_slow() -> None:
    async with started("sleep", ["60"]) as child:
        with pytest.raises(TooSlowError, match=r"0\.05 s"):
            await child.read(0.05)
    assert children() == []


async def test_a_child_that_is_not_listened_to_waits() -> None:
    script = (
        "import sys\nfor n in range(9): sys.stdout.write('x' * 500_000)\nsys.stderr.write('done')"
    )
    async with started(sys.executable, ["-c", script]) as child:
        first = await child.read(WAIT_S)
        await until(lambda: child._ahead > MAX_AHEAD)
        assert child.complaint == ""
        total = len(first)
        while data := await child.read(WAIT_S):
            total += len(data)
        assert total == 9 * 500_000
        await child.end()
        assert child.complaint == "done"


async def test_a_child_that_ignores_its_end_is_killed() -> None:
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('up', flush=True); time.sleep(60)"
    )
    async with started(sys.executable, ["-c", script]) as child:
        assert (await child.read(WAIT_S)).startswith(b"up")
    assert children() == []


@pytest.fixture
async def reaping_in_the_loop() -> AsyncIterator[None]:
    """Children are reaped when the loop comes to it, as newer Pythons do by themselves."""
    if sys.version_info >= (3, 12):
        yield
        return
    watcher = asyncio.PidfdChildWatcher()
    watcher.attach_loop(asyncio.get_running_loop())
    asyncio.set_child_watcher(watcher)
    yield
    asyncio.set_child_watcher(None)  # type: ignore[arg-type] # the next one asked for is new


@pytest.mark.usefixtures("reaping_in_the_loop")
async def test_a_child_that_dies_as_it_is_left_is_reaped_by_one_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with started("cat", []) as child:
        child.say(b"one ", is_last=False)
        assert await child.read(WAIT_S) == b"one "
        (pid,) = children()
        os.kill(pid, signal.SIGTERM)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 # so that no loop runs
    assert children() == []
    assert caplog.records == []


async def test_an_error_in_the_block_leaves_no_child() -> None:
    with pytest.raises(RuntimeError):
        async with started("sleep", ["60"]):
            raise RuntimeError
    assert children() == []


async def test_a_missing_program_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        async with started("no-such-program", []):
            pass
    assert children() == []


async def test_a_child_is_not_told_our_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUGEL_BRIDGE_MQTT__PASSWORD", "KUGELAUDIO_API_KEY", "CREDENTIALS_DIRECTORY"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("OF_NO_CONCERN", "kept")
    async with started("env", []) as child:
        told = await child.read(WAIT_S)
    assert b"OF_NO_CONCERN=kept" in told
    assert b"secret" not in told
