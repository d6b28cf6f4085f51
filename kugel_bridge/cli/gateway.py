"""`kugel-bridge gateway`: the server that speaks the KugelAudio API, on its own."""

from __future__ import annotations

import argparse
import asyncio
import logging

from kugel_bridge.app import parts
from kugel_bridge.cli.parser import port
from kugel_bridge.cli.run import until_signal
from kugel_bridge.ops import logs
from kugel_bridge.ops.systemd import Supervisor
from kugel_bridge.settings.load import load

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to listen, if not as configured."""
    parser.add_argument("--host", metavar="ADDRESS", help="instead of gateway.host")
    parser.add_argument("--port", type=port, metavar="PORT", help="instead of gateway.port")
    parser.epilog = (
        "examples:\n"
        "  kugel-bridge gateway\n"
        "  KUGEL_BRIDGE_GATEWAY__KEYS=my-key kugel-bridge gateway --host 0.0.0.0\n"
        "Point the official SDK at it:\n"
        '  KugelAudio(api_key="anything", api_url="http://127.0.0.1:8780")'
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop."""
    settings = load(arguments.config).settings
    logs.configure(settings.log.level, settings.log.format, secrets=settings.secrets())
    server = parts.gateway_server(settings, host=arguments.host, port=arguments.port)
    supervisor = Supervisor.from_environment()

    async def serve() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run(), name="gateway")
            await server.up()
            supervisor.ready(f"serving {server.url}")

    return until_signal(serve)
