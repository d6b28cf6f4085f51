"""Real brokers for tests, each private: a free loopback port, its own folder, ended by its pid."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

START_TIMEOUT_S = 30.0


def free_port() -> int:
    """A TCP port on the loopback that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class _Process:
    """A broker in a child process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def _command(self) -> list[str]:
        raise NotImplementedError

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return (self.directory / "broker.log").read_text(errors="replace")

    def start(self) -> Self:
        """Start it; returns when it accepts connections."""
        with (self.directory / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        give_up = time.monotonic() + START_TIMEOUT_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return self
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"the broker did not start:\n{self.log}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End it in order, or by force after a while."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut does."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it live without doing anything."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen one go on."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.thaw()
            self.stop()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._process = None


@dataclass(frozen=True)
class Certificates:
    """Files made by an authority of our own."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path

    @classmethod
    def make(cls, directory: Path) -> Certificates:
        """An authority, a certificate for 127.0.0.1 and one for a client, made by openssl."""
        directory.mkdir(parents=True, exist_ok=True)
        made = cls(
            *(
                directory / name
                for name in ("ca.pem", "server.pem", "server.key", "client.pem", "client.key")
            )
        )
        ca_key = directory / "ca.key"
        new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        _openssl(
            *new, "-x509", "-days", "3650", "-subj", "/CN=Test authority",
            "-keyout", ca_key, "-out", made.ca,
        )  # fmt: skip
        for name, key, cert, extension in (
            ("127.0.0.1", made.server_key, made.server_cert, "subjectAltName=IP:127.0.0.1"),
            ("a client", made.client_key, made.client_cert, "subjectAltName=DNS:client"),
        ):
            request = directory / f"{cert.stem}.csr"
            extensions = directory / f"{cert.stem}.ext"
            extensions.write_text(extension)
            _openssl(*new, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
            _openssl(
                "x509", "-req", "-in", request, "-CA", made.ca, "-CAkey", ca_key, "-days", "3650",
                "-CAcreateserial", "-extfile", extensions, "-out", cert,
            )  # fmt: skip
        return made


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)


class Mosquitto(_Process):
    """The broker most people have."""

    def __init__(
        self,
        directory: Path,
        *,
        users: Mapping[str, str] | None = None,
        acl: str | None = None,
        certificates: Certificates | None = None,
        require_certificate: bool = False,
        persistence: bool = False,
        extra: Sequence[str] = (),
    ) -> None:
        """`users` maps names to passwords, `acl` is an access list, `extra` further lines."""
        super().__init__(directory)
        directory.mkdir(parents=True, exist_ok=True)
        lines = [
            f"listener {self.port} 127.0.0.1",
            "set_tcp_nodelay true",
            "log_dest stderr",
            "log_type all",
            f"allow_anonymous {'false' if users else 'true'}",
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # or it could not read our folder
        if users:
            passwords = directory / "passwords"
            passwords.touch(0o600)
            for user, password in users.items():
                command = ["mosquitto_passwd", "-b", str(passwords), user, password]
                subprocess.run(command, check=True, capture_output=True, timeout=10)
            lines.append(f"password_file {passwords}")
        if acl is not None:
            (directory / "acl").write_text(acl)
            lines.append(f"acl_file {directory / 'acl'}")
        if certificates is not None:
            lines += [
                f"cafile {certificates.ca}",
                f"certfile {certificates.server_cert}",
                f"keyfile {certificates.server_key}",
                f"require_certificate {'true' if require_certificate else 'false'}",
            ]
        if persistence:
            lines += [
                "persistence true",
                f"persistence_location {directory}/",
                "autosave_on_changes true",
                "autosave_interval 1",
            ]
        self._config = directory / "mosquitto.conf"
        self._config.write_text("\n".join([*lines, *extra, ""]))

    def _command(self) -> list[str]:
        return ["mosquitto", "-c", str(self._config)]


_AMQTT = """
import asyncio, logging, sys
from amqtt.broker import Broker
logging.basicConfig(level=logging.INFO)
async def main():
    broker = Broker({
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{sys.argv[1]}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    })
    await broker.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


class Amqtt(_Process):
    """A broker in pure Python that knows MQTT 3.1.1 only."""

    def _command(self) -> list[str]:
        return [sys.executable, "-W", "ignore", "-c", _AMQTT, str(self.port)]


class Peer:
    """Somebody else at the broker: publishes, and collects what it subscribed to.

    It uses paho's own thread, so that nothing of what is tested is between it and the broker.
    """

    def __init__(self, port: int, *, five: bool = True, **options: Any) -> None:
        """`options`: `username`, `password`, `client_id`, `filters`."""
        self._five = five
        self._loop = asyncio.get_running_loop()
        self._messages: asyncio.Queue[MQTTMessage] = asyncio.Queue()
        self._ready = asyncio.Event()
        self._filters = options.get("filters", ())
        version = MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=options.get("client_id", ""), protocol=version
        )
        if options.get("username"):
            self._client.username_pw_set(options["username"], options["password"])
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._loop.call_soon_threadsafe(self._ready.set)
        self._client.on_message = lambda _c, _d, message: self._loop.call_soon_threadsafe(
            self._messages.put_nowait, message
        )
        self._port = port

    def _on_connect(self, client: Client, *_: object) -> None:
        if not self._filters:
            self._loop.call_soon_threadsafe(self._ready.set)
        elif self._five:
            # Retained as published: a test wants to see which messages are kept.
            options = SubscribeOptions(qos=1, retainAsPublished=True)
            client.subscribe([(name, options) for name in self._filters])
        else:
            client.subscribe([(name, 1) for name in self._filters])

    async def __aenter__(self) -> Self:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        async with asyncio.timeout(30):
            await self._ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    async def publish(
        self,
        topic: str,
        payload: bytes | str = b"",
        *,
        qos: int = 1,
        retain: bool = False,
        **properties: Any,
    ) -> None:
        """Publish, and wait until the broker has it; `properties` by their MQTT 5 names."""
        found = None
        if properties:
            found = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            for name, value in properties.items():
                setattr(found, name, value)
        info = self._client.publish(topic, payload, qos, retain, found)
        await asyncio.to_thread(info.wait_for_publish, 10)

    async def next(self, topic: str | None = None, timeout_s: float = 10.0) -> MQTTMessage:
        """The next message, on `topic` if that is given; others are passed over."""
        async with asyncio.timeout(timeout_s):
            while True:
                message = await self._messages.get()
                if topic is None or message.topic == topic:
                    return message

    def waiting(self) -> Iterator[MQTTMessage]:
        """What has arrived and was not looked at."""
        while not self._messages.empty():
            yield self._messages.get_nowait()


class Script:
    """The broker's side of one connection, packet by packet: for what no real broker does."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def packet(self) -> tuple[int, bytes]:
        """The next packet: its first byte, and what follows the length."""
        (first,) = await self._reader.readexactly(1)
        length = shift = 0
        while True:
            (digit,) = await self._reader.readexactly(1)
            length |= (digit & 0x7F) << shift
            shift += 7
            if digit < 0x80:
                return first, await self._reader.readexactly(length)

    def send(self, packet: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(packet)

    async def send_slowly(self, packet: bytes) -> None:
        """Send bytes as fast as they are read."""
        self._writer.write(packet)
        await self._writer.drain()

    async def welcome(self) -> None:
        """Take a login and one subscription with MQTT 5."""
        await self.packet()
        self.send(b"\x20\x03\x00\x00\x00")
        first, body = await self.packet()
        assert first == 0x82, "SUBSCRIBE comes first of all"
        self.send(b"\x90\x04" + body[:2] + b"\x00\x01")

    async def closed(self) -> None:
        """Return when the other side has gone."""
        await self._reader.read()


@asynccontextmanager
async def scripted(play: Callable[[Script], Awaitable[None]]) -> AsyncIterator[int]:
    """A broker that does what `play` says with each connection, then closes it; its port."""

    open_ones: set[tuple[asyncio.Task[Any], asyncio.StreamWriter]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_ones.add((task, writer))
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await play(Script(reader, writer))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        # A connection accepted just before the end may still join.
        while open_ones:
            task, writer = open_ones.pop()
            writer.transport.abort()
            await asyncio.wait((task,), timeout=5)
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def raw_connect(port: int, client_id: str = "raw") -> socket.socket:
    """A socket logged in with MQTT 3.1.1, to send what client libraries refuse to."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    name = client_id.encode()
    body = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(name).to_bytes(2, "big") + name
    sock.sendall(b"\x10" + bytes([len(body)]) + body)
    sock.recv(4)
    return sock


def raw_publish(topic: bytes, payload: bytes, *, flags: int = 0) -> bytes:
    """A PUBLISH packet at QoS 0; `flags` are the low bits of its first byte."""
    body = len(topic).to_bytes(2, "big") + topic + payload
    length, size = bytearray(), len(body)
    while True:
        size, digit = divmod(size, 128)
        length.append(digit | (0x80 if size else 0))
        if not size:
            return bytes([0x30 | flags]) + bytes(length) + body
