"""`say`: over MQTT to a running bridge, on this machine, and explained."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from kugel_bridge.audio.wav import read_wav
from kugel_bridge.cli import talk
from kugel_bridge.cli.main import main
from tests.broker import Amqtt, Mosquitto, Script, free_port, scripted
from tests.cli.conftest import Command, Said
from tests.gateway_server import ScriptedEngine, hum, serving
from tests.house import Caller, as_toml, living, settings_for
from tests.simcard import SimCard

Say = Callable[..., Awaitable[Said]]
TWO_ZONES = {"main": {"sink": "null:"}, "attic": {"sink": "null:"}}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as running:
        yield running


@pytest.fixture
async def quick() -> AsyncIterator[str]:
    """A cloud that says everything in a tenth of a second."""
    async with serving(ScriptedEngine([hum(0.1)])) as gateway:
        yield gateway.url


@pytest.fixture
def say(command: Command, tmp_path: Path) -> Say:
    """Runs `say` beside what lives in this loop; the configuration is in say.toml."""

    async def run(*argv: str) -> Said:
        file = str(tmp_path / "say.toml")
        # A test that fails must not wait for the command's own ten minutes.
        bound = () if "--timeout" in argv else ("--timeout", "20")
        return await asyncio.to_thread(command, "--config", file, "say", *argv, *bound)

    return run


def configured(tmp_path: Path, port: int, **sections: object) -> dict[str, object]:
    """Settings of a bridge, also written down for the command."""
    settings = settings_for(tmp_path, port, **sections)  # type: ignore[arg-type]
    (tmp_path / "say.toml").write_text(as_toml(settings))
    return settings


def one_line(said: Said) -> str:
    assert said.err.count("\n") == 1, said.err
    return said.err


async def test_it_waits_for_the_outcome(broker: Mosquitto, say: Say, tmp_path: Path) -> None:
    async with (
        serving(ScriptedEngine([hum(0.4)])) as gateway,
        living(configured(tmp_path, broker.port, gateway=gateway.url)),
    ):
        said = await say("Dinner", "is", "ready")
    assert said.code == 0, said.err
    assert said.err == ""
    assert said.out.startswith("finished in main, from cloud, first sound after ")
    assert said.out.endswith(" ms, 0.4 s long\n")


async def test_json_is_the_outcome_as_it_came(
    broker: Mosquitto, say: Say, quick: str, tmp_path: Path
) -> None:
    async with living(configured(tmp_path, broker.port, gateway=quick)):
        said = await say("Hi", "--json", "--id", "mine", "--priority", "high", "--volume", "+5")
    outcome = json.loads(said.out)
    assert said.code == 0
    assert (outcome["event_type"], outcome["id"], outcome["zone"]) == ("finished", "mine", "main")
    assert outcome["priority"] == "high"
    assert outcome["source"] == "cloud"


async def test_each_zone_has_an_outcome(
    broker: Mosquitto, say: Say, quick: str, tmp_path: Path
) -> None:
    async with living(configured(tmp_path, broker.port, gateway=quick, zones=TWO_ZONES)):
        # The command's own configuration knows one zone only: it has to ask the bridge.
        configured(tmp_path, broker.port)
        for zones in ("attic", "main attic main", "all"):
            options = [text for zone in zones.split() for text in ("--zone", zone)]
            said = await say("Hi", "--json", *options)
            found = json.loads(said.out)
            outcomes = found if isinstance(found, list) else [found]
            assert said.code == 0
            heard = {"attic"} if zones == "attic" else {"main", "attic"}
            assert sorted(o["zone"] for o in outcomes) == sorted(heard)


async def test_what_is_refused_is_told_with_1(broker: Mosquitto, say: Say, tmp_path: Path) -> None:
    async with living(configured(tmp_path, broker.port, zones=TWO_ZONES)):
        said = await say("Hi", "--zone", "main", "--zone", "garden")
        assert said.code == 1
        refused, spoken = said.out.splitlines()
        assert refused == "rejected in garden, no zone 'garden' here; there are: main, attic"
        assert spoken.startswith("finished in main, from local, ")
        said = await say("Hi", "--chime", "nonsense")
        assert said.code == 1
        assert "no chime 'nonsense'" in said.out
        said = await say("Hi", "--not-before", "soon")
        assert (said.code, "not_before" in said.out) == (1, True)


async def test_what_is_put_off_is_told_while_waiting(
    broker: Mosquitto, say: Say, card: SimCard, tmp_path: Path
) -> None:
    card.order("gone")
    settings = configured(tmp_path, broker.port, zones={"main": {"sink": "alsa:sim"}})
    async with living(settings), Caller(broker.port) as caller, asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(say("Hi", "--id", "late"))
        await caller.event("deferred", "late")
        card.heal()
        said = await waiting
    assert said.code == 0
    assert said.err.startswith("put off in main: ")
    assert said.out.startswith("finished in main")


async def test_without_an_outcome_in_time_the_answer_is_no(
    broker: Mosquitto, say: Say, card: SimCard, tmp_path: Path
) -> None:
    card.order("gone")
    zones = {"main": {"sink": "null:"}, "attic": {"sink": "alsa:sim"}}
    async with living(configured(tmp_path, broker.port, zones=zones)):
        said = await say("Hi", "--zone", "all", "--timeout", "0.9")
    assert said.code == 1
    assert said.out.startswith("finished in main")
    assert "within 0.9 s" in said.err.splitlines()[-1]


async def test_no_wait_prints_the_id_alone(
    broker: Mosquitto, say: Say, quick: str, tmp_path: Path
) -> None:
    async with (
        living(configured(tmp_path, broker.port, gateway=quick)),
        Caller(broker.port) as caller,
    ):
        said = await say("Hi", "--no-wait", "--id", "mine")
        assert (said.code, said.out) == (0, "mine\n")
        await caller.event("finished", "mine")
        said = await say("Hi", "--no-wait", "--id", "other", "--json")
        assert json.loads(said.out) == {"id": "other"}


async def test_every_field_is_sent(broker: Mosquitto, say: Say, quick: str, tmp_path: Path) -> None:
    sent = {
        "--voice": ("voice", "anna"),
        "--language": ("language", "de"),
        "--speed": ("speed", 1.1),
        "--volume": ("volume", 40),
        "--end-chime": ("end_chime", "ding"),
        "--ttl": ("ttl", 60),
        "--expires-at": ("expires_at", "2100-01-01T00:00:00Z"),
        "--not-before": ("not_before", "2020-01-01T00:00:00Z"),
        "--tag": ("tag", "t"),
        "--dedupe": ("dedupe", 0),
        "--offline": ("offline", "speak"),
        "--priority": ("priority", "70"),
        "--format": ("format", "text"),
        "--reply-to": ("reply_to", "kugel/reply/mine"),
        "--id": ("id", "mine"),
    }
    options = [text for name, (_, value) in sent.items() for text in (name, str(value))]
    options += [
        "--chime",
        "--preempt",
        "--repeat",
        "2",
        "--repeat-pause",
        "0.1",
        "--cache",
        "refresh",
    ]
    async with (
        living(configured(tmp_path, broker.port, gateway=quick)),
        Caller(broker.port) as caller,
    ):
        await say("--no-wait", "Hi", "--zone", "main", *options)
        fields = await caller.heard_on("kugel/hall/say")
        # None of them is unknown to the bridge.
        event = await caller.event("started", "mine")
        assert "ignored" not in event
        assert event["priority"] == "high"
    assert fields == {
        "text": "Hi",
        "zones": ["main"],
        "chime": True,
        "preempt": True,
        "repeat": {"count": 2, "pause_s": 0.1},
        "cache": "refresh",
        **dict(sent.values()),
    }


async def test_the_outcome_goes_to_the_callers_topic_too(
    broker: Mosquitto, say: Say, quick: str, tmp_path: Path
) -> None:
    async with (
        living(configured(tmp_path, broker.port, gateway=quick)),
        Caller(broker.port) as caller,
    ):
        said = await say("Hi", "--reply-to", "kugel/reply/mine", "--id", "mine")
        assert said.code == 0, said.err
        told = await caller.heard_on("kugel/reply/mine")
        assert (told["event_type"], told["id"]) == ("finished", "mine")


async def test_phrases_and_segments_are_spoken(
    broker: Mosquitto, say: Say, quick: str, tmp_path: Path
) -> None:
    phrases = {"door": {"text": "{who} is here"}}
    async with living(configured(tmp_path, broker.port, gateway=quick, phrases=phrases)):
        said = await say("--phrase", "door", "--var", "who=Mia", "--json")
        assert json.loads(said.out)["text"] == "Mia is here"
        said = await say("--segments", '["Hi", {"pause": 10}, "there"]', "--json")
        assert json.loads(said.out)["text"] == "Hi there"


async def test_a_bridge_that_leaves_is_waited_for(
    broker: Mosquitto, say: Say, tmp_path: Path
) -> None:
    settings = configured(tmp_path, broker.port)
    async with Caller(broker.port) as caller, asyncio.TaskGroup() as tasks:
        async with (
            serving(ScriptedEngine([hum(3.0)])) as gateway,
            living(configured(tmp_path, broker.port, gateway=gateway.url)),
        ):
            waiting = tasks.create_task(say("Hi", "--id", "long"))
            await caller.event("started", "long")
        async with living(settings):
            said = await waiting
    assert said.code == 0
    assert "the bridge went offline" in said.err


async def test_an_outcome_missed_while_the_broker_restarts_is_asked_for(
    broker: Mosquitto, say: Say, tmp_path: Path
) -> None:
    async with (
        serving(ScriptedEngine([hum(0.8)])) as gateway,
        living(configured(tmp_path, broker.port, gateway=gateway.url)) as bridge,
        asyncio.TaskGroup() as tasks,
    ):
        async with Caller(broker.port) as caller:
            waiting = tasks.create_task(say("Hi", "--id", "long"))
            await caller.event("started", "long")
        await asyncio.to_thread(broker.stop)
        async with asyncio.timeout(20):
            while bridge.state()["last"] is None:
                await asyncio.sleep(0.02)
        await asyncio.to_thread(broker.start)
        said = await waiting
    assert said.code == 0, said.err
    assert said.out.startswith("finished in main")


async def test_a_broker_without_mqtt_5_will_do(say: Say, tmp_path: Path) -> None:
    (tmp_path / "amqtt").mkdir()
    with Amqtt(tmp_path / "amqtt") as broker:
        async with living(configured(tmp_path, broker.port)) as bridge:
            async with asyncio.timeout(20):
                while not bridge.health()["mqtt"]["connected"]:
                    await asyncio.sleep(0.02)
            said = await say("Hi")
    assert said.code == 0, said.err
    assert said.out.startswith("finished in main, from local")


async def test_without_a_bridge_it_says_how_to_start_one(
    broker: Mosquitto, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "PRESENCE_TIMEOUT_S", 0.2)
    configured(tmp_path, broker.port)
    said = await say("Hi")
    assert (said.code, said.out) == (1, "")
    assert "kugel-bridge run" in one_line(said)


async def test_without_a_broker_it_names_the_settings(say: Say, tmp_path: Path) -> None:
    configured(tmp_path, free_port())
    said = await say("Hi")
    assert (said.code, said.out) == (1, "")
    assert "mqtt.host" in one_line(said)
    configured(tmp_path, 1883, mqtt={"host": ".."})
    said = await say("Hi")
    assert (said.code, "mqtt.host" in one_line(said)) == (2, True)


async def test_a_wrong_password_is_told_without_it(say: Say, tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "locked", users={"kugel": "right"}) as broker:
        configured(tmp_path, broker.port, mqtt={"username": "kugel", "password": "wrong-password"})
        said = await say("Hi")
    assert (said.code, said.out) == (1, "")
    assert "mqtt.username" in one_line(said)
    assert "wrong-password" not in said.err


async def test_access_rules_may_hide_the_answer_but_not_the_event(say: Say, tmp_path: Path) -> None:
    rules = (
        "user guest\ntopic write kugel/hall/say\ntopic read kugel/hall/#\n"
        "user kugel\ntopic kugel/#\n"
    )
    users = {"kugel": "right", "guest": "guest"}
    with Mosquitto(tmp_path / "locked", users=users, acl=rules) as broker:
        own = {"username": "kugel", "password": "right"}
        async with living(configured(tmp_path, broker.port, mqtt=own)):
            guest = {"username": "guest", "password": "guest"}
            configured(tmp_path, broker.port, mqtt=guest)
            said = await say("Hi")
    assert said.code == 0, said.err
    assert said.out.startswith("finished in main")


async def test_a_broker_that_refuses_the_subscription_is_told(say: Say, tmp_path: Path) -> None:
    async def refuse(peer: Script) -> None:
        await peer.packet()
        peer.send(b"\x20\x03\x00\x00\x00")
        first, body = await peer.packet()
        assert first == 0x82
        peer.send(b"\x90\x06" + body[:2] + b"\x00\x01\x87\x01")
        await peer.closed()

    async with scripted(refuse) as port:
        configured(tmp_path, port)
        said = await say("Hi")
    assert said.code == 1
    assert "does not let us read kugel/hall/availability;" in one_line(said)


async def test_what_is_no_broker_is_told(say: Say, tmp_path: Path) -> None:
    async with serving(ScriptedEngine()) as gateway:
        configured(tmp_path, gateway.port)
        said = await say("Hi")
    assert said.code == 1
    assert "mqtt.port" in one_line(said)


async def test_what_no_bridge_would_take_is_not_sent(
    broker: Mosquitto, say: Say, tmp_path: Path
) -> None:
    async with living(configured(tmp_path, broker.port)):
        said = await say("x" * 70_000)
    assert (said.code, "65536" in one_line(said)) == (1, True)


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        ((), "nothing to say"),
        (("   ",), "nothing to say"),
        (("Hi", "--priority", "loud"), "a number from 0 to 100"),
        (("Hi", "--priority", "101"), "a number from 0 to 100"),
        (("Hi", "--id", ""), "1 to 256 characters on one line"),
        (("Hi", "--id", "a\nb"), "1 to 256 characters on one line"),
        (("Hi", "--id", "a" * 257), "1 to 256 characters on one line"),
        (("Hi", "--format", "html"), "--format"),
        (("A", "--segments", '["B"]'), "only one of text, segments"),
        (("A", "--segments", '["B"]', "--explain"), "only one of text, segments"),
        (("A", "--phrase", "door"), "only one of text, phrase"),
        (("--chime", "Hi."), "--chime took 'Hi.'"),
        (("--end-chime", "Hi."), "--end-chime=NAME"),
        (("Hi", "--timeout", "0"), "--timeout"),
        (("Hi", "--timeout", "nan"), "--timeout"),
        (("Hi", "--speed", "nan"), "--speed"),
        (("--segments", '[{"pause": NaN}]'), "NaN"),
        (("Hi", "--segments", "{"), "--segments"),
        (("--segments", "{}"), "--segments"),
        (("--phrase", "p", "--var", "x"), "name=value"),
        (("Hi", "--var", "x=y"), "--phrase"),
        (("Hi", "--repeat-pause", "1"), "--repeat"),
        (("Hi", "--local", "--explain"), "--local"),
    ],
)
def test_wrong_use_is_one_line_and_2(command: Command, argv: tuple[str, ...], word: str) -> None:
    said = command("say", *argv)
    assert (said.code, said.out) == (2, "")
    assert word in one_line(said)


def test_local_plays_into_a_wav_file(command: Command, tmp_path: Path) -> None:
    wav = tmp_path / "heard.wav"
    configured(tmp_path, free_port(), zones={"main": {"sink": f"wav:{wav}"}})
    said = command("--config", str(tmp_path / "say.toml"), "say", "--local", "One two three")
    assert said.code == 0, said.err
    assert said.out.startswith("finished in main, from local, first sound after ")
    sound = read_wav(wav)
    assert sound.seconds > 0.4
    assert max(bytes(sound.data)) > 0


async def test_local_plays_on_a_card(say: Say, card: SimCard, tmp_path: Path) -> None:
    zones = {"main": {"sink": "alsa:sim"}, "attic": {"sink": "null:"}}
    async with serving(ScriptedEngine([hum(0.5)])) as gateway:
        configured(tmp_path, free_port(), gateway=gateway.url, zones=zones)
        said = await say("--local", "Hi", "--json")
        assert json.loads(said.out)["source"] == "cloud"
        assert bytes(hum(0.5).data) in card.heard()
        said = await say("--local", "Hi", "--json")
        assert json.loads(said.out)["source"] == "cache"
        card.order("gone")
        said = await say("--local", "Hi")
    assert said.code == 1
    assert said.out.startswith("failed in main")


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (("Hi", "--zone", "garden"), "garden"),
        (("Hi", "--zone", "all"), "one zone"),
        (("Hi", "--chime", "nonsense"), "nonsense"),
        (("--segments", '["Hi", {"alert": "fire"}]'), "fire"),
        (
            ("--phrase", "door"),
            "door",
        ),
        (("***",), "nothing left"),
        (("Hi", "--not-before", "soon"), "not_before"),
    ],
)
@pytest.mark.parametrize("way", ["--local", "--explain"])
def test_what_cannot_be_said_here_is_one_line(
    command: Command, tmp_path: Path, way: str, argv: tuple[str, ...], word: str
) -> None:
    configured(tmp_path, free_port())
    said = command("--config", str(tmp_path / "say.toml"), "say", way, *argv)
    if way == "--explain" and "--zone" in argv:
        assert said.code == 0  # where it would sound makes no difference to what it costs
        return
    assert (said.code, said.out) == (1, "")
    assert word in one_line(said)


async def test_explain_shows_what_would_be_done(say: Say, tmp_path: Path) -> None:
    engine = ScriptedEngine([hum(0.5)])
    async with serving(engine) as gateway:
        configured(tmp_path, free_port(), gateway=gateway.url)
        said = await say("--explain", "--json", "**Dinner** is ready")
        (row,) = json.loads(said.out)
        assert row["text"] == "Dinner is ready"
        assert (row["source"], row["characters"]) == ("cloud", len("Dinner is ready"))
        assert engine.asked == []
        await say("--local", "Dinner is ready")
        said = await say("--explain", "Dinner is ready")
    assert said.code == 0
    lines = [line.split(None, 1) for line in said.out.splitlines()]
    assert lines[0] == ["Dinner", "is ready"]
    assert ["source", "cache"] in lines
    assert ["cache", f"key   {row['key']}"] in lines
    assert ["characters", "0 sent to the cloud"] in lines


async def test_text_comes_from_standard_input_too(broker: Mosquitto, tmp_path: Path) -> None:
    async with living(configured(tmp_path, broker.port)):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kugel_bridge", "say", "--config", tmp_path / "say.toml"),
            *("--json", "-"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        out, _ = await process.communicate(b"Gr\xfc\xdfe\n")
    assert process.returncode == 0
    assert json.loads(out)["text"] == "Gre"


async def test_ctrl_c_ends_the_waiting_with_130(broker: Mosquitto, tmp_path: Path) -> None:
    async with (
        serving(ScriptedEngine([hum(5.0)])) as gateway,
        living(configured(tmp_path, broker.port, gateway=gateway.url)),
        Caller(broker.port) as caller,
    ):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kugel_bridge", "say", "--config", tmp_path / "say.toml"),
            *("--id", "long", "Hi"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        await caller.event("started", "long")
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, out, err) == (130, b"", b"")


def test_bytes_that_are_no_text_are_no_error(tmp_path: Path) -> None:
    configured(tmp_path, free_port())
    done = subprocess.run(
        [os.fsencode(sys.executable), b"-m", b"kugel_bridge", b"say", b"--explain", b"Gr\xfc\xdfe"],
        env={**os.environ, "KUGEL_BRIDGE_CONFIG": str(tmp_path / "say.toml"), "LC_ALL": "C"},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_help_has_examples(command: Command) -> None:
    said = command("say", "--help")
    assert said.code == 0
    assert "examples:" in said.out
    assert main(["say", "--help"]) == 0
