"""`kugel-bridge gateway`: the server that speaks the KugelAudio API, on its own."""

from __future__ import annotations

import argparse
import asyncio
import logging

from kugel_bridge.app.gateway import lone_gateway
from kugel_bridge.cli.parser import port
from kugel_bridge.cli.service import until_signal
from kugel_bridge.gateway.orders import KINDS, Order, parse
from kugel_bridge.model.errors import ConfigurationError
from kugel_bridge.ops import logs
from kugel_bridge.ops.systemd import Supervisor
from kugel_bridge.settings.load import load

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to listen, if not as configured."""
    parser.add_argument("--host", metavar="ADDRESS", help="instead of gateway.host")
    parser.add_argument("--port", type=port, metavar="PORT", help="instead of gateway.port")
    parser.add_argument(
        "--fault",
        type=_order,
        action="append",
        default=[],
        metavar="ORDER",
        dest="orders",
        help="misbehave, to test clients; may be given several times",
    )
    parser.add_argument(
        "--faults", action="store_true", help="take orders to misbehave at /faults while running"
    )
    parser.epilog = (
        f"{_faults_help()}\n\n"
        "examples:\n"
        "  kugel-bridge gateway\n"
        "  kugel-bridge gateway --fault 'on=/ws/tts after=3 do=reset times=1'\n"
        "  KUGEL_BRIDGE_GATEWAY__KEYS=my-key kugel-bridge gateway --host 0.0.0.0\n"
        "  KUGEL_BRIDGE_GATEWAY__ENGINE=upstream KUGELAUDIO_API_KEY=ka_... kugel-bridge gateway\n"
        "Point the official SDK at it:\n"
        '  KugelAudio(api_key="anything", api_url="http://127.0.0.1:8780")\n'
        "Keys, limits, usage and where it may listen: [gateway] in the configuration. Every path,\n"
        "limit and time-out: docs/gateway.md."
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop."""
    settings = load(arguments.config).settings
    logs.configure(settings.log.level, settings.log.format, secrets=settings.secrets)
    service = lone_gateway(settings, host=arguments.host, port=arguments.port)
    if arguments.faults or arguments.orders:
        service.server.misbehave(arguments.orders)
    supervisor = Supervisor.from_environment()

    async def serve() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(service.run(), name="gateway")
            await service.server.up()
            supervisor.ready(f"serving {service.server.url}")

    return until_signal(serve)


def _order(line: str) -> Order:
    try:
        return parse(line)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _faults_help() -> str:
    lines = [
        "an ORDER is made of words name=value (docs/gateway-faults.md):",
        "  on=any|PATH|PATH*    where",
        "  skip=N times=N       which requests, sockets or pieces of sound; times=always is usual",
        "  after=N|Nb           after N frames or N bytes of sound",
        "  at=door|open|sound|end",
        "  do=KIND              what:",
    ]
    for do, kind in KINDS.items():
        own = " ".join(f"{name}=" for name in kind.names)
        lines.append(f"    {do:<9} {kind.meaning}{f' ({own})' if own else ''}")
    return "\n".join(lines)
