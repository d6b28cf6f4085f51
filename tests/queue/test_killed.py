from __future__ import annotations

import asyncio
import random
import signal
import sys
from pathlib import Path

from kugel_bridge.queue.store import QueueStore
from tests.clock import ManualClock

ROUNDS = 12
ROOT = Path(__file__).parents[2]


async def killed_after(path: Path, first: int, lines: int, delay_s: float) -> list[list[str]]:
    """Run the victim, kill it somewhere behind its n-th line; returns what it said."""
    victim = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.queue.victim", str(path), str(first)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert victim.stdout is not None
    said = [await victim.stdout.readline() for _ in range(lines)]
    await asyncio.sleep(delay_s)  # somewhere inside the next transaction, not at its edge
    victim.kill()
    said += (await victim.stdout.read()).splitlines()
    assert await victim.wait() == -signal.SIGKILL
    return [line.decode().split() for line in said]


async def test_a_kill_at_any_moment_loses_no_row_that_was_promised(path: Path) -> None:
    dice = random.Random(7)
    put: set[int] = set()
    maybe_ended: set[int] = set()
    ended: set[int] = set()
    for round_number in range(ROUNDS):
        said = await killed_after(
            path, round_number * 10_000, dice.randint(1, 40), dice.uniform(0, 0.004)
        )
        # The last line may be cut off.
        for word, number in (line for line in said if len(line) == 2):
            {"put": put, "end": maybe_ended, "ended": ended}[word].add(int(number))
        async with QueueStore(path, ManualClock()) as store:
            assert store.set_aside == store.problem == ""
            found = {one.sequence for one in store.entries()}
            assert put - maybe_ended <= found
            assert not found & ended
            for number in ended:
                assert store.ended(str(number), "hall") is not None
    assert len(put) > ROUNDS
