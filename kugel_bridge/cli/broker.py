"""A broker of the demo's own, on loopback: Mosquitto where it is installed, else amqtt."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from kugel_bridge.model.errors import ServiceUnavailableError

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 3.0
LOOPBACK = "127.0.0.1"
AUTO, MOSQUITTO, AMQTT = "auto", "mosquitto", "amqtt"
KINDS = (AUTO, MOSQUITTO, AMQTT)


def free_port() -> int:
    """A TCP port on loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def find_mosquitto() -> str | None:
    """Path of Mosquitto; Debian puts it where only root looks by default."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextlib.asynccontextmanager
async def embedded_broker(directory: Path, port: int, kind: str = AUTO) -> AsyncIterator[str]:
    """Run a broker on `port` while the block runs; gives its name.

    Raises ServiceUnavailableError if there is none to run, or it does not start.
    """
    program = None if kind == AMQTT else find_mosquitto()
    if kind == MOSQUITTO and program is None:
        raise ServiceUnavailableError("there is no Mosquitto here: run `apt install mosquitto`")
    if program is not None:
        async with _mosquitto(program, directory, port):
            yield "Mosquitto"
    else:
        async with _amqtt(port):
            yield "amqtt"


@contextlib.asynccontextmanager
async def _mosquitto(program: str, directory: Path, port: int) -> AsyncIterator[None]:
    configuration = directory / "mosquitto.conf"
    # Small messages in a row would otherwise wait 40 ms for a delayed acknowledgement.
    configuration.write_text(
        f"listener {port} {LOOPBACK}\nallow_anonymous true\nset_tcp_nodelay true\n"
        "persistence false\nlog_dest stderr\nlog_type error\n"
    )
    child = await asyncio.create_subprocess_exec(
        program,
        "-c",
        str(configuration),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        # A terminal's Ctrl-C goes to the whole group; the broker has to outlive the goodbyes.
        start_new_session=True,
    )
    try:
        await _until_it_listens(port, child)
        yield
    finally:
        if child.returncode is None:
            child.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await child.wait()
            except TimeoutError:
                child.kill()
                await child.wait()


async def _until_it_listens(port: int, child: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while child.returncode is None:
                try:
                    _, writer = await asyncio.open_connection(LOOPBACK, port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return
    except TimeoutError as error:
        raise ServiceUnavailableError(
            f"Mosquitto did not listen on port {port} within {START_TIMEOUT_S:g} s"
        ) from error
    raise ServiceUnavailableError(f"Mosquitto ended with status {child.returncode} at its start")


@contextlib.asynccontextmanager
async def _amqtt(port: int) -> AsyncIterator[None]:
    try:
        from amqtt.broker import Broker
    except ImportError as error:
        raise ServiceUnavailableError(
            "no broker to embed: run `apt install mosquitto`, or pip install 'kugel-bridge[demo]'"
        ) from error
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{LOOPBACK}:{port}"}},
            "plugins": {
                "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
            },
        }
    )
    await broker.start()
    try:
        yield
    finally:
        await broker.shutdown()
