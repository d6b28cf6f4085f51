"""A process that writes announcements down until it is killed.

Prints `put ID` after a row is durable, `end ID` before one is ended and `ended ID` when the row
of a later put, and with it that end, is durable.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from kugel_bridge.queue.store import QueueStore
from tests.clock import ManualClock
from tests.queue.entries import entry, finished


def say(word: str, number: int) -> None:
    sys.stdout.write(f"{word} {number}\n")
    sys.stdout.flush()


async def write_until_killed(path: Path, first: int) -> None:
    async with QueueStore(path, ManualClock()) as store:
        for number in itertools.count(first):
            puts = [(n, store.put(entry(n, id=str(n)))) for n in range(number * 3, number * 3 + 3)]
            for n, put in puts:
                await put
                say("put", n)
            gone = number * 3
            say("end", gone)
            store.end(finished(entry(gone, id=str(gone))))
            await store.alive()
            say("ended", gone)


if __name__ == "__main__":
    asyncio.run(write_until_killed(Path(sys.argv[1]), int(sys.argv[2])))
