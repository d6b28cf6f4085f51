"""`demo` as a newcomer runs it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kugel_bridge.audio.loudness import peak
from kugel_bridge.audio.wav import read_wav
from kugel_bridge.cli.broker import embedded_broker, free_port
from kugel_bridge.model.errors import ServiceUnavailableError
from tests.cli.conftest import Command


def test_it_speaks_into_a_file_and_ends(process: Command, tmp_path: Path) -> None:
    wav = tmp_path / "demo.wav"
    said = process(
        *("demo", "--exit", "--json", "--broker", "amqtt", "--wav", str(wav), "--text", "Hello.")
    )
    assert (said.code, said.err) == (0, "")
    events = json.loads(said.out)
    assert [event["event_type"] for event in events] == ["queued", "started", "finished"]
    assert events[-1]["source"] == "cloud"
    check_heard(wav, events[-1]["duration_ms"] / 1000)


def check_heard(wav: Path, told_s: float) -> None:
    """The file holds as much sound as was told, and it is not silent."""
    sound = read_wav(wav)
    assert sound.seconds == pytest.approx(told_s, abs=0.1)
    assert 0.3 < sound.seconds < 5.0
    assert peak(sound) > 0.05


async def test_it_tells_what_happens_and_stays_until_ctrl_c(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kugel_bridge", "demo", "--text", "Hi", "--text", "Hi"),
        *("--wav", tmp_path / "demo.wav"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    out = ""
    async with asyncio.timeout(30):
        while "Ctrl-C" not in out:
            out += (await process.stdout.readline()).decode()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert "Mosquitto on 127.0.0.1:" in out
    for what in (
        "received over MQTT",
        "first sound, streamed from the cloud",
        "first sound, from the cache",
    ):
        assert re.search(rf"(?m)^ +\d+ ms  {re.escape(what)}", out), what
    assert f"The sound is in {tmp_path}/demo.wav" in out
    assert "mosquitto_pub -h 127.0.0.1" in out
    check_heard(tmp_path / "demo.wav", sum(map(float, re.findall(r"finished: (\S+) s", out))))


def test_what_cannot_be_done_is_one_line(command: Command, tmp_path: Path) -> None:
    said = command("demo", "--exit", "--wav", str(tmp_path / "no" / "demo.wav"))
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "--wav" in said.err
    said = command("demo", "--exit", "--wav", str(tmp_path / "demo.wav"), "--text", "***")
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)


def test_a_configuration_is_read(process: Command, command: Command, tmp_path: Path) -> None:
    file, wav = tmp_path / "given.toml", tmp_path / "demo.wav"
    file.write_text("[mqtt]\nport = 0\n")
    said = command("demo", "--exit", "--wav", str(wav), "--config", str(file))
    assert (said.code, said.out) == (2, "")
    assert said.err == f"kugel-bridge: mqtt.port = 0 ({file}, line 2): must be at least 1\n"
    file.write_text('[words.en]\nhello = "Good evening, everybody"\n')
    argv = ("demo", "--exit", "--broker", "amqtt", "--wav", str(wav), "--text", "Hello.")
    said = process(*argv, "--config", str(file))
    assert said.code == 0, said.err
    assert f"{len('Good evening, everybody.')} characters sent to the cloud" in said.out
    # What could be tried has ended with it.
    assert "To try" not in said.out
    assert "Ctrl-C" not in said.out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_nothing_is_left_of_one_that_is_ended_while_it_speaks(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kugel_bridge", "demo", "--broker", "mosquitto"),
        *("--wav", tmp_path / "demo.wav"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    out = ""
    async with asyncio.timeout(30):
        while "received" not in out:
            out += (await process.stdout.readline()).decode()
        process.send_signal(number)
        _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")
    port = re.search(r"Mosquitto on 127\.0\.0\.1:(\d+)", out)
    assert port is not None
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", int(port[1]))
    assert list(tmp_path.glob("kugel-bridge-demo-*")) == []


async def test_without_mosquitto_it_is_told_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kugel_bridge.cli.broker.find_mosquitto", lambda: None)
    with pytest.raises(ServiceUnavailableError, match="apt install mosquitto"):
        async with embedded_broker(tmp_path, free_port(), "mosquitto"):
            pass
    async with embedded_broker(tmp_path, free_port()) as name:
        assert name == "amqtt"
