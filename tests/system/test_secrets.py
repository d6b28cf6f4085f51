"""No secret leaves the process: not with debug on everywhere, not whatever goes wrong outside."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response

from kugel_bridge.kugelaudio.discretion import MASK
from tests.broker import Mosquitto, Peer, free_port
from tests.cli.test_gateway import Gateway
from tests.house import Caller, Daemon, eventually, settings_for
from tests.kugelaudio.scripted_service import FINAL, service, sound

KEY = "ka_cloud/key+that=nobody-sees"
PASSWORD = "broker-password-nobody-sees"
GATE_KEYS = ("gate-key-nobody-sees", "another-gate-key-nobody-sees")
SECRETS = (KEY, PASSWORD, *GATE_KEYS)
USER = "kugel"
LOUDEST = {"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1", "PYTHONWARNINGS": "default"}


async def quote_it(socket: ServerConnection) -> None:
    """Do what the text of each request says, and quote the address, key and all, in doing so."""
    assert socket.request is not None
    address = socket.request.path
    async for message in socket:
        match json.loads(message)["text"].split()[0]:
            case "error":
                await socket.send(json.dumps({"error": f"{KEY} {address}", "code": 500}))
            case "refusal":
                await socket.send(json.dumps({"error": f"{KEY} {address}", "code": 404}))
            case "garbage":
                await socket.send(f"{KEY} {address}")
            case "close":
                await socket.close(1011, f"{KEY} {KEY}")
            case "middle":
                await socket.send(sound())
                await socket.send(json.dumps({"error": address, "error_code": KEY}))
            case "huge":
                await socket.send(KEY * 50_000)
            case _:
                await socket.send(sound(samples=24_000))
                await socket.send(FINAL)


FAILURES = ("error", "garbage", "close")
REFUSALS = ("refusal", "huge")
"""What says nothing about the service as a whole."""


def turned_away(status: int) -> Any:
    """An upgrade refused with the key in the body."""

    def answer(_: ServerConnection, request: Request) -> Response:
        body = json.dumps({"error": f"{KEY} {request.path}", "request_id": KEY}).encode()
        return Response(status, HTTPStatus(status).phrase, Headers(), body)

    return answer


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker", users={USER: PASSWORD}, persistence=True) as running:
        yield running


@contextlib.asynccontextmanager
async def everything(port: int) -> AsyncIterator[list[str]]:
    """All that anybody publishes, topics and all."""
    heard: list[str] = []
    async with Peer(port, filters=["#"], username=USER, password=PASSWORD) as peer:
        yield heard
        heard.extend(f"{message.topic} {message.payload!r}" for message in peer.waiting())


@pytest.mark.parametrize("given", ["file", "environment", "credentials"])
async def test_whatever_the_service_answers_no_secret_is_told_anywhere(
    guarded: Mosquitto, tmp_path: Path, given: str
) -> None:
    house = tmp_path / "house"
    async with (
        service(quote_it) as cloud,
        everything(guarded.port) as published,
        Caller(guarded.port, username=USER, password=PASSWORD) as caller,
    ):
        settings = configured(house, guarded, cloud.url)
        environment = {**LOUDEST, **placed(given, house, settings)}
        async with Daemon(house, settings, environment=environment) as daemon:
            await caller.state(cloud="ok")
            for text in (*REFUSALS, "middle"):
                await caller.say({"text": text, "id": text})
                await caller.event("finished", text)
            for text in FAILURES if given == "file" else FAILURES[:1]:
                await caller.say({"text": text, "id": text, "offline": "wait"})
                assert (await caller.event("deferred", text))["reason"]
                await caller.request("skip", text)
                await caller.event("skipped", text)
                # Only what is spoken makes good what failed: the next failure is a first one.
                await caller.say({"text": "fine", "offline": "wait", "cache": "bypass"})
                await caller.event("finished")
            cloud.refuse = turned_away(401)
            for socket in list(cloud.open):
                await socket.close(1011, KEY)
            await caller.state(cloud="unauthorized")
            await caller.say({"text": "verdict", "id": "verdict", "offline": "wait"})
            await caller.event("deferred", "verdict")
            for verb in ("info", "health_check", "usage", "history", "queue", "voices"):
                await caller.request(verb)
            await caller.request("explain", "verdict")
            outside = await at_the_gate(settings["gateway"]["port"], GATE_KEYS[0])
            outside += commands(house, environment)
            await caller.say({"text": f"refusal {'and so on ' * 200}", "id": "long"})
            await caller.event("started", "long")
            outside += beside(daemon.pid)
    assert any(MASK in line for line in published), "nothing was quoted to the caller"
    assert "DEBUG" in daemon.log
    assert_kept(daemon.log, *published, outside, *contents(tmp_path, house))


@pytest.mark.parametrize(
    "url", ["http://speech.invalid", "http://127.0.0.1:1", "https://127.0.0.1:{port}", "mute"]
)
async def test_a_service_out_of_reach_brings_no_secret_into_the_open(
    guarded: Mosquitto, tmp_path: Path, url: str
) -> None:
    async with (
        service(quote_it) as cloud,
        everything(guarded.port) as published,
        Caller(guarded.port, username=USER, password=PASSWORD) as caller,
    ):
        server = await asyncio.start_server(mute_service, "127.0.0.1", 0)
        mute = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        where = mute if url == "mute" else url.format(port=cloud.port)
        settings = configured(tmp_path / "house", guarded, where)
        async with server, Daemon(tmp_path / "house", settings, environment=LOUDEST) as daemon:
            await caller.state(cloud="unreachable")
            await caller.say({"text": "Hello", "id": "x", "offline": "wait"})
            await caller.event("deferred", "x")
            if url != "mute":  # which takes as long as a list may take
                await caller.request("voices")
    assert published
    assert_kept(daemon.log, *published, *contents(tmp_path, tmp_path / "house"))


@pytest.mark.parametrize("trouble", ["password", "crash", "toml"])
async def test_what_ends_or_refuses_the_daemon_tells_no_secret(
    guarded: Mosquitto, tmp_path: Path, trouble: str
) -> None:
    house, module = tmp_path / "house", "kugel_bridge"
    settings = configured(house, guarded, "http://127.0.0.1:1")
    wrong = "wrong-password-nobody-sees"
    if trouble == "password":
        settings["mqtt"]["password"] = wrong
    if trouble == "crash":
        module = "tests.crasher"
    daemon = Daemon(house, settings, environment=LOUDEST, module=module)
    if trouble == "toml":
        (house / "config.toml").write_text(
            (house / "config.toml").read_text() + f"\nx = {KEY!r} {KEY}"
        )
    await daemon.start()
    if trouble == "password":
        await eventually(
            lambda: "refused" in daemon.log.lower() or "not auth" in daemon.log.lower()
        )
        assert await daemon.end() == 0
    else:
        assert await daemon.ended() == {"crash": 1, "toml": 78}[trouble]
        assert ("Traceback" in daemon.log) is (trouble == "crash")
    assert_kept(daemon.log, *contents(tmp_path, house), secrets=(*SECRETS, wrong))


async def test_the_gateway_logs_no_key_that_is_shown_to_it(tmp_path: Path) -> None:
    stray = "stray-key-nobody-sees"
    gateway = Gateway(
        KUGEL_BRIDGE_CONFIG=os.devnull,
        KUGEL_BRIDGE_LOG__LEVEL="debug",
        KUGEL_BRIDGE_GATEWAY__KEYS=",".join(GATE_KEYS),
        KUGEL_BRIDGE_GATEWAY__USAGE_PATH=str(tmp_path / "usage.db"),
        **LOUDEST,
    )
    port = int(gateway.url.rstrip("/").rpartition(":")[2])
    answers = [await at_the_gate(port, key) for key in (*GATE_KEYS, stray)]
    assert await asyncio.to_thread(gateway.end) == 0
    assert "DEBUG" in gateway.log
    assert_kept(gateway.log, *answers, *contents(tmp_path, tmp_path), secrets=(*GATE_KEYS, stray))


# --- the stage ------------------------------------------------------------------------------------


def configured(folder: Path, broker: Mosquitto, url: str) -> dict[str, Any]:
    """Settings with all secrets there are, and everything switched on that could tell them."""
    settings = settings_for(
        folder,
        broker.port,
        gateway=url,
        cloud={"api_key": KEY, "first_audio_timeout_s": 2, "stall_timeout_s": 1},
        mqtt={"username": USER, "password": PASSWORD},
        log={"level": "debug"},
    )
    settings["gateway"] = {
        "enabled": True,
        "port": free_port(),
        "engine": "upstream",
        "keys": list(GATE_KEYS),
        "usage_path": str(folder / "usage.db"),
    }
    return settings


def placed(given: str, folder: Path, settings: dict[str, Any]) -> Mapping[str, str]:
    """Move the secrets from the settings to where they are `given`; the environment for that."""
    if given == "file":
        return {}
    del settings["cloud"]["api_key"], settings["mqtt"]["password"], settings["gateway"]["keys"]
    environment = {"KUGEL_BRIDGE_GATEWAY__KEYS": ",".join(GATE_KEYS)}
    if given == "environment":
        return {
            **environment,
            "KUGELAUDIO_API_KEY": KEY,
            "KUGEL_BRIDGE_MQTT__PASSWORD": PASSWORD,
        }
    credentials = folder / "credentials"
    credentials.mkdir(parents=True)
    for name, secret in (("cloud_api_key", KEY), ("mqtt_password", PASSWORD)):
        (credentials / name).write_text(secret)
        (credentials / name).chmod(0o600)
    return {**environment, "CREDENTIALS_DIRECTORY": str(credentials)}


async def mute_service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take a connection, and say nothing."""
    with contextlib.suppress(OSError):
        await reader.read()
    writer.close()


async def at_the_gate(port: int, key: str) -> str:
    """Whatever a gateway answers to that key, in all the ways to show one; right or wrong."""
    told = []
    base = f"127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=f"http://{base}", trust_env=False) as asking:
        for path in ("/metrics", "/v1/usage", "/v1/voices", "/nowhere", "/health"):
            for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}, {}):
                query = {} if headers else {"api_key": key, "token": key}
                answer = await asking.get(path, headers=headers, params=query)
                told.append(f"{answer.headers} {answer.text}")
        asked = {"text": "Hello", "voice_id": "nobody"}
        answer = await asking.post("/v1/tts/generate", json=asked, params={"api_key": key})
        told.append(f"{answer.headers} {answer.text}")
    for path in ("/ws/tts", "/ws/tts/stream", "/ws/tts/multi", "/nowhere"):
        try:
            async with connect(f"ws://{base}{path}?api_key={key}", proxy=None) as socket:
                await socket.send("this is not JSON")
                told.append(str(await socket.recv()))
        except InvalidStatus as error:
            told.append(f"{error.response.headers} {error.response.body!r}")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /?api_key={key} HTTP/9.9\r\nX-API-Key {key}\r\n\r\n".encode())
    told.append(str(await reader.read()))
    writer.close()
    return "\n".join(told)


def beside(pid: int) -> str:
    """What every user sees of a process and its children, and the environment of the children."""
    family = [pid]
    for parent in family:
        for task in Path(f"/proc/{parent}/task").iterdir():
            family += map(int, (task / "children").read_text().split())
    lines = [Path(f"/proc/{member}/cmdline").read_text() for member in family]
    lines += [Path(f"/proc/{child}/environ").read_text() for child in family[1:]]
    assert len(lines) >= 3, "the local engine has no child"
    return "\n".join(lines)


def commands(folder: Path, environment: Mapping[str, str]) -> str:
    """What the commands for looking at it print."""
    config = str(folder / "config.toml")
    told = ""
    for command in (["config", "show"], ["config", "check"], ["queue", "list"], ["cache", "stats"]):
        done = subprocess.run(
            [sys.executable, "-m", "kugel_bridge", "--config", config, *command],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        told += done.stdout + done.stderr
    return told


def contents(*folders: Path) -> Iterator[str]:
    """Every file below, but those that hold the secrets."""
    for folder in dict.fromkeys(folders):
        for file in folder.rglob("*"):
            own = file.name == "config.toml" or file.parent.name == "credentials"
            if file.is_file() and not own:
                yield f"{file} {file.read_bytes()!r}"


def assert_kept(*told: str, secrets: tuple[str, ...] = SECRETS) -> None:
    """Fail where a secret stands in any of these, in whatever form."""
    for secret in secrets:
        in_base64 = base64.b64encode(secret.encode()).decode()[:-4]
        cut = secret[: len(secret) // 2]  # where a quotation was cut off
        for form in (secret, cut, quote(cut, ""), quote(secret), in_base64):
            for text in told:
                at = text.find(form)
                assert at < 0, text[max(0, at - 200) : at + 100]
