"""`gateway` as a process, and what `voices` and `models` show of it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broker import free_port
from tests.cli.conftest import Command

KEY = "a-key-of-mine"


class Gateway:
    """`kugel-bridge gateway` on a free port."""

    def __init__(self, *argv: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kugel_bridge", "gateway", "--port", "0", *argv],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.process.stderr is not None
        self.log, found = "", None
        # A warning may come before the line with the address; an end of all lines is the end.
        while found is None and (line := self.process.stderr.readline()):
            self.log += line
            found = re.search(r"http://\S+", line)
        assert found, self.log
        self.url = found[0]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code; what else it wrote is in `log`."""
        self.process.send_signal(number)
        self.log += self.process.communicate(timeout=20)[1]
        return self.process.returncode


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = Gateway(
        KUGEL_BRIDGE_GATEWAY__KEYS=KEY,
        KUGEL_BRIDGE_GATEWAY__USAGE_PATH=str(tmp_path_factory.mktemp("usage") / "usage.db"),
        KUGEL_BRIDGE_CONFIG=os.devnull,
    )
    yield running
    assert running.end() == 0
    assert "Traceback" not in running.log


@pytest.fixture
def cloud(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway in the cloud's place."""
    monkeypatch.setenv("KUGEL_BRIDGE_CLOUD__BASE_URL", gateway.url)
    monkeypatch.setenv("KUGELAUDIO_API_KEY", KEY)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_ends_when_told(number: signal.Signals, code: int) -> None:
    running = Gateway()
    assert running.end(number) == code
    assert "Traceback" not in running.log


def test_a_port_in_use_is_one_line_and_78(process: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = process("gateway", "--port", str(port))
    assert (said.code, said.out) == (78, "")
    assert said.err.count("\n") == 1
    assert f"gateway.port {port}" in said.err


def test_a_host_open_to_all_needs_keys(command: Command) -> None:
    said = command("gateway", "--host", "0.0.0.0", "--port", "0")
    assert (said.code, said.err.count("\n")) == (78, 1)
    assert "gateway.keys" in said.err


@pytest.mark.parametrize("port", ["65536", "-1", "x"])
def test_a_port_that_cannot_be_is_wrong_use(command: Command, port: str) -> None:
    said = command("gateway", "--port", port)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "--port" in said.err


@pytest.mark.usefixtures("cloud")
def test_voices_are_a_table(command: Command) -> None:
    said = command("voices", "--language", "de")
    assert (said.code, said.err) == (0, "")
    head, *rows = said.out.splitlines()
    assert head.split() == ["id", "handle", "name", "languages", "category"]
    assert any("espeak-de" in row for row in rows)


@pytest.mark.usefixtures("cloud")
def test_voices_and_models_as_json(command: Command) -> None:
    voices = json.loads(command("voices", "--json").out)
    assert {"id", "handle", "name", "languages"} <= set(voices[0])
    models = json.loads(command("models", "--json").out)
    assert models[0]["id"]
    assert models[0]["max_input_characters"] > 0


@pytest.mark.usefixtures("cloud")
def test_models_are_a_table(command: Command) -> None:
    said = command("models")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("id ")
    assert "24000" in said.out


@pytest.mark.usefixtures("cloud")
def test_a_language_that_nobody_speaks_is_a_no(command: Command) -> None:
    said = command("voices", "--language", "xx")
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("name", ["voices", "models"])
def test_a_wrong_key_is_one_line_without_it(
    command: Command, cloud: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("KUGELAUDIO_API_KEY", "wrong-key")
    said = command(name)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert "wrong-key" not in said.err


@pytest.mark.parametrize("name", ["voices", "models"])
def test_nobody_there_and_nothing_configured(
    command: Command, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    said = command(name)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "cloud.api_key" in said.err
    monkeypatch.setenv("KUGEL_BRIDGE_CLOUD__BASE_URL", f"http://127.0.0.1:{free_port()}")
    said = command(name)
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)


def test_the_daemon_ends_with_78_and_one_line_for_a_wrong_configuration(
    command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text("[mqtt]\nport = 0\n")
    for name in ("run", "gateway"):
        said = command("--config", str(file), name)
        assert (said.code, said.out) == (78, "")
        assert said.err == f"kugel-bridge: mqtt.port = 0 ({file}, line 2): must be at least 1\n"


def test_one_in_front_of_another_has_its_voices(
    command: Command, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    front = Gateway(
        KUGEL_BRIDGE_CONFIG=os.devnull,
        KUGEL_BRIDGE_GATEWAY__ENGINE="upstream",
        KUGEL_BRIDGE_GATEWAY__FALLBACK="false",
        KUGEL_BRIDGE_CLOUD__BASE_URL=gateway.url,
        KUGELAUDIO_API_KEY=KEY,
        KUGEL_BRIDGE_CACHE__DIR=str(tmp_path / "cache"),
        KUGEL_BRIDGE_GATEWAY__USAGE_PATH=str(tmp_path / "usage.db"),
    )
    monkeypatch.setenv("KUGEL_BRIDGE_CLOUD__BASE_URL", front.url)
    said = command("voices", "--language", "de")
    assert front.end() == 0
    assert (said.code, said.err) == (0, "")
    assert "espeak-de-female" in said.out
    assert "Traceback" not in front.log
    assert KEY not in front.log


def test_one_in_front_of_nothing_is_one_line_and_78(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUGEL_BRIDGE_GATEWAY__ENGINE", "upstream")
    said = command("gateway", "--port", "0")
    assert (said.code, said.out, said.err.count("\n")) == (78, "", 1)
    assert "set cloud.api_key" in said.err
    monkeypatch.setenv("KUGEL_BRIDGE_CLOUD__BASE_URL", "http://localhost:8799")
    said = command("gateway", "--port", "8799")
    assert (said.code, said.err.count("\n")) == (78, 1)
    assert "would ask itself" in said.err
