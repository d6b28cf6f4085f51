"""How sockets are opened: certificates, mostly; everything else is tested through the client."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from kugel_bridge.kugelaudio.connection import Connector
from kugel_bridge.kugelaudio.frames import AudioFrame
from kugel_bridge.kugelaudio.messages import Encoding, SpeechRequest
from kugel_bridge.model.errors import BridgeError, ServiceUnavailableError, TooSlowError

KEY = "ka_very-secret"
HELLO = SpeechRequest("Hello", "en", 1)


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A fresh certificate that vouches for itself, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=test", "-addext", f"subjectAltName={name}"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


async def opened(folder: Path, name: str, *, trusted: bool) -> BridgeError | None:
    """Open a socket over TLS; the error, if there is one."""
    cert, key = certificate(folder, name)
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(cert, key)
    ours = ssl.create_default_context(cafile=str(cert) if trusted else None)

    async def wait(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with serve(wait, "127.0.0.1", 0, ssl=theirs) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        connector = Connector(
            f"https://127.0.0.1:{port}", KEY, model_id="m", timeout_s=10, ssl_context=ours
        )
        try:
            await (await connector.open()).close()
        except BridgeError as error:
            return error
    return None


async def test_a_trusted_certificate_opens(tmp_path: Path) -> None:
    assert await opened(tmp_path, "IP:127.0.0.1", trusted=True) is None


async def test_a_certificate_nobody_vouches_for_is_refused_with_the_reason(tmp_path: Path) -> None:
    error = await opened(tmp_path, "IP:127.0.0.1", trusted=False)
    assert isinstance(error, ServiceUnavailableError)
    assert "self" in str(error)


async def test_a_certificate_for_another_name_is_refused_with_the_reason(tmp_path: Path) -> None:
    error = await opened(tmp_path, "DNS:other.example", trusted=True)
    assert isinstance(error, ServiceUnavailableError)
    assert "127.0.0.1" in str(error)


async def test_a_server_that_does_not_speak_tls_is_unavailable() -> None:
    async def chat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(chat, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        connector = Connector(f"https://127.0.0.1:{port}", KEY, model_id="m", timeout_s=10)
        with pytest.raises(ServiceUnavailableError) as caught:
            await connector.open()
    assert not isinstance(caught.value, TooSlowError)
    assert KEY not in repr(caught.value)


async def test_the_trust_store_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    original = ssl.create_default_context

    def count() -> ssl.SSLContext:
        nonlocal read
        read += 1
        return original()

    monkeypatch.setattr(ssl, "create_default_context", count)
    connector = Connector("https://127.0.0.1:1", KEY, model_id="m", timeout_s=10)
    for _ in range(3):
        with pytest.raises(ServiceUnavailableError):
            await connector.open()
    assert read == 1


async def test_a_request_is_with_the_kernel_before_anything_else_has_its_turn() -> None:
    heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def listen(socket: ServerConnection) -> None:
        heard.set_result(str(await socket.recv()))
        await socket.wait_closed()

    async with serve(listen, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        connector = Connector(f"http://127.0.0.1:{port}", KEY, model_id="m", timeout_s=10)
        connection = await connector.open()
        with pytest.raises(StopIteration):
            connection.say(HELLO, 10).send(None)
        assert await heard == HELLO.to_json()
        await connection.close()


@pytest.mark.parametrize("secure", [False, True])
async def test_a_frame_of_many_reads_arrives_whole(tmp_path: Path, secure: bool) -> None:
    frame = AudioFrame(bytes(range(250)) * 1_200, Encoding.PCM, 24_000)
    theirs = ours = None
    if secure:
        cert, key = certificate(tmp_path, "IP:127.0.0.1")
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        theirs.load_cert_chain(cert, key)
        ours = ssl.create_default_context(cafile=str(cert))

    async def speak(socket: ServerConnection) -> None:
        await socket.recv()
        for _ in range(3):
            await socket.send(frame.to_json())
        await socket.wait_closed()

    async with serve(speak, "127.0.0.1", 0, ssl=theirs) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        url = f"{'https' if secure else 'http'}://127.0.0.1:{port}"
        connector = Connector(url, KEY, model_id="m", timeout_s=10, ssl_context=ours)
        connection = await connector.open()
        await connection.say(HELLO, 10)
        assert [await connection.receive(10) for _ in range(3)] == [frame] * 3
        await connection.close()
