"""`kugel-bridge run`: the daemon."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable

from kugel_bridge.cli.parser import EXIT_INTERRUPTED, EXIT_NO, EXIT_OK
from kugel_bridge.model.errors import BridgeError
from kugel_bridge.ops import logs
from kugel_bridge.ops.systemd import Supervisor
from kugel_bridge.settings.reader import Reader

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own: everything is in the configuration."""
    parser.epilog = (
        "It speaks what arrives at <base>/<device>/say until it gets SIGTERM or Ctrl-C.\n"
        "exit code: 0 stopped; 1 a fault; 78 wrong configuration, not to be retried"
    )


def run(arguments: argparse.Namespace) -> int:
    """Speak until told to stop."""
    # Begun before there are threads, and before the rest is loaded: the two go side by side.
    reader = Reader(arguments.config)
    from kugel_bridge.app.bridge import Bridge

    reading = reader.result()
    settings = reading.settings
    logs.configure(settings.log.level, settings.log.format, secrets=settings.secrets)
    for warning in reading.warnings:
        logger.warning("%s", warning)
    supervisor = Supervisor.from_environment()

    async def serve() -> None:
        bridge = Bridge(settings, on_standing=supervisor.status)
        async with asyncio.TaskGroup() as tasks:
            watchdog = tasks.create_task(supervisor.run(bridge.unwell), name="watchdog")
            try:
                await bridge.run(lambda: _ready(supervisor, bridge.standing()))
            finally:
                supervisor.stopping()
                watchdog.cancel()

    return until_signal(serve)


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
        asyncio.run(main())
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


def _ready(supervisor: Supervisor, standing: str) -> None:
    logger.info("ready")
    supervisor.ready(standing)
    # What is loaded stays: a full collection that walks it stops the event loop for 8 ms
    # (0.1 s on a Raspberry Pi 3), one that does not for less than 1 ms.
    gc.freeze()
