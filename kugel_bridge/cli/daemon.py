"""The daemon behind `kugel-bridge run`: loaded while a child reads the settings."""

from __future__ import annotations

import asyncio
import gc
import logging

from kugel_bridge.app.bridge import Bridge
from kugel_bridge.cli.service import until_signal
from kugel_bridge.ops import logs
from kugel_bridge.ops.systemd import Supervisor
from kugel_bridge.settings.reader import Reader

logger = logging.getLogger(__name__)


def speak(reader: Reader) -> int:
    """Speak with the settings that are being read until told to stop; returns the exit code."""
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


def _ready(supervisor: Supervisor, standing: str) -> None:
    logger.info("ready")
    supervisor.ready(standing)
    gc.enable()
    # What is loaded stays: a full collection that walks it stops the event loop for 8 ms
    # (0.1 s on a Raspberry Pi 3), one that does not for less than 1 ms.
    gc.freeze()
