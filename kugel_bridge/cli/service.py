"""Runs a service on an event loop until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable

from kugel_bridge.cli.parser import EXIT_INTERRUPTED, EXIT_NO, EXIT_OK
from kugel_bridge.model.errors import BridgeError
from kugel_bridge.ops.loop import DaemonLoop

logger = logging.getLogger(__name__)


def until_signal(serve: Callable[[], Awaitable[None]]) -> int:
    """Run a service until SIGTERM (0) or Ctrl-C (130); a fault is logged and gives 1.

    Raises the BridgeError that ended it, so that a wrong configuration is told as such.
    """
    received: list[signal.Signals] = []

    async def main() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def stop(number: signal.Signals) -> None:
            received.append(number)
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number)
        if not sys.stdin.isatty():  # where it says that the terminal has gone
            loop.add_signal_handler(signal.SIGHUP, _keep_configuration)
        await serve()

    try:
        with asyncio.Runner(loop_factory=DaemonLoop) as runner:
            runner.run(main())
    except asyncio.CancelledError:
        return EXIT_INTERRUPTED if signal.SIGINT in received else EXIT_OK
    except BaseExceptionGroup as group:
        if (error := bridge_error_in(group)) is not None:
            raise error from None
        logger.exception("a fault in the program ended it")
        return EXIT_NO
    return EXIT_OK


def _keep_configuration() -> None:
    # Elsewhere this signal means "read your file again"; here it must not silence a house.
    logger.warning("the configuration is read at the start only: restart to have it read again")


def bridge_error_in(group: BaseExceptionGroup[BaseException]) -> BridgeError | None:
    """The error for a person in what a group of tasks raised, if there is one."""
    found = group.subgroup(BridgeError)
    error: BaseException | None = found
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, BridgeError) else None
