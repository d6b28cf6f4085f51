"""`kugel-bridge demo`: a whole house on this machine, without account, broker or sound card."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import signal
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kugel_bridge.app import parts
from kugel_bridge.app.bridge import Bridge
from kugel_bridge.app.local import checked_announcement
from kugel_bridge.audio.cards import list_cards
from kugel_bridge.cli.broker import (
    AUTO,
    KINDS,
    LOOPBACK,
    START_TIMEOUT_S,
    embedded_broker,
    free_port,
)
from kugel_bridge.cli.parser import EXIT_INTERRUPTED, EXIT_NO, EXIT_OK
from kugel_bridge.cli.service import bridge_error_in
from kugel_bridge.cli.table import print_json
from kugel_bridge.cli.talk import Talk
from kugel_bridge.cli.timeline import Timeline
from kugel_bridge.model.errors import ConfigurationError, TooSlowError
from kugel_bridge.model.report import Outcome, Report, Step
from kugel_bridge.mqtt.events import report_payload
from kugel_bridge.ops import logs
from kugel_bridge.settings.load import load
from kugel_bridge.settings.tree import Settings

DEVICE = "demo"
NEW = "Welcome. This sentence is new, so it is streamed while it is being spoken."
LONG = (
    "The washing machine is done, and the laundry can be hung up outside, "
    "because it will not rain before this evening."
)
URGENT = "The doorbell is ringing."
OUTCOME_TIMEOUT_S = 60.0
"""For the next step; a missing sound card is tried at least so often."""
WAV_NAME = "kugel-bridge-demo.wav"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to say, where the sound goes, whether to stay."""
    parser.add_argument(
        "--text", action="append", metavar="TEXT", help="speak this instead; may be repeated"
    )
    parser.add_argument(
        "--wav", type=Path, metavar="FILE", help="write the sound to this file, not to the card"
    )
    parser.add_argument(
        "--broker", choices=KINDS, default=AUTO, help="which to start (default: what is installed)"
    )
    parser.add_argument("--exit", action="store_true", help="end afterwards, do not stay up")
    parser.epilog = (
        "It starts a broker, a gateway with the local engine in the cloud's place, and the\n"
        "bridge, all on loopback, and speaks. Without a sound card it writes a WAV file.\n"
        "Of a file given with --config it takes [local] and [words]; the rest is its own.\n"
        "examples:\n"
        "  kugel-bridge demo\n"
        '  kugel-bridge demo --text "Dinner is ready" --wav dinner.wav --exit'
    )


def run(arguments: argparse.Namespace) -> int:
    """Speak the demonstration; 0 if everything was heard."""
    # While it starts: a broker that is tried with MQTT 5 first is no news.
    logs.configure("error", "text")
    if arguments.wav is None and not list_cards():
        arguments.wav = Path(WAV_NAME)
    if arguments.wav is not None:
        _check_writable(arguments.wav)
    given = Settings() if arguments.config is None else load(arguments.config).settings
    for text in arguments.text or ():
        checked_announcement(given, json.dumps({"text": text}).encode())
    with tempfile.TemporaryDirectory(prefix="kugel-bridge-demo-") as directory:
        return asyncio.run(_demonstrate(arguments, Path(directory), given))


def _check_writable(wav: Path) -> None:
    """Now, not when the first sound is due: the bridge would wait for a missing folder."""
    try:
        with wav.open("ab"):
            pass
    except OSError as error:
        raise ConfigurationError(f"--wav {wav}: cannot be written: {error.strerror}") from error


@dataclass(slots=True)
class _House:
    """What runs on loopback for the demonstration."""

    settings: Settings
    broker: str
    gateway_url: str
    reports: asyncio.Queue[Report] = field(default_factory=asyncio.Queue)


async def _demonstrate(arguments: argparse.Namespace, directory: Path, given: Settings) -> int:
    _end_on_signals()
    show = (lambda *_: None) if arguments.json else print
    performed: list[Report] | None = None
    try:
        async with _house(arguments.wav, directory, arguments.broker, given) as house:
            show(_heading(house, arguments.wav))
            performed = await _perform(house, arguments.text or [], show)
            if arguments.json:
                print_json([_plain(report) for report in performed])
            show(_where(arguments.wav))
            if not arguments.exit:
                show(_to_try(house))
                show("\nIt stays up; Ctrl-C ends it.")
                await _watch(house, show)
    except asyncio.CancelledError:
        if performed is None:
            return EXIT_INTERRUPTED
    except BaseExceptionGroup as group:
        if (error := bridge_error_in(group)) is not None:
            raise error from None
        raise
    ended = [report.event for report in performed if report.is_outcome]
    return EXIT_OK if ended and set(ended) == {Outcome.FINISHED} else EXIT_NO


def _end_on_signals() -> None:
    """Cancel this task when told to end: its broker would outlive a process that just ends."""
    loop, me = asyncio.get_running_loop(), asyncio.current_task()
    assert me is not None

    def end() -> None:
        if not me.cancelling():  # a second Ctrl-C must not cut the clearing up short
            me.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            loop.add_signal_handler(number, end)


@contextlib.asynccontextmanager
async def _house(
    wav: Path | None, directory: Path, kind: str, given: Settings
) -> AsyncIterator[_House]:
    """Broker, gateway and bridge, up and connected."""
    port = free_port()
    async with embedded_broker(directory, port, kind) as broker:
        usage = str(directory / "usage.db")
        served = Settings.model_validate(
            {"gateway": {"port": free_port(), "usage_path": usage}, "local": given.local}
        )
        gateway = parts.gateway_server(served)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(gateway.run(), name="gateway")
            up = tasks.create_task(gateway.up())
            await asyncio.wait({serving, up}, return_when=asyncio.FIRST_COMPLETED)
            settings = _settings(port, gateway.url, wav, directory, given)
            house = _House(settings, broker, gateway.url)
            ready = asyncio.Event()
            bridge = Bridge(settings, listeners=[house.reports.put_nowait])
            running = tasks.create_task(bridge.run(ready.set), name="bridge")
            try:
                await ready.wait()
                yield house
            finally:
                running.cancel()
                await asyncio.wait({running})
                serving.cancel()


def _settings(
    port: int, gateway_url: str, wav: Path | None, directory: Path, given: Settings
) -> Settings:
    sink = "alsa:default" if wav is None else f"wav:{wav}"
    return Settings.model_validate(
        {
            "device": {"id": DEVICE, "name": "Demo"},
            "mqtt": {"host": LOOPBACK, "port": port},
            "cloud": {"base_url": gateway_url, "voice_id": "espeak-en-female"},
            "cache": {"dir": str(directory / "cache"), "max_mb": 64},
            "queue": {"path": str(directory / "queue.db")},
            "zones": {"main": {"sink": sink}},
            "local": given.local,
            "words": given.words,
        }
    )


async def _perform(house: _House, texts: list[str], show: Any) -> list[Report]:
    """Say everything, one after the other; every report, in order."""
    told: list[Report] = []
    timeline = Timeline()
    async with _talking(house.settings) as talk:

        async def say(title: str, text: str, **fields: Any) -> None:
            show(f"\n{title}\n  “{text}”")
            await asyncio.to_thread(talk.say, {"text": text, **fields})

        async def follow(until: int) -> None:
            """Show what happens until so many announcements have ended."""
            ended = 0
            while ended < until:
                report = await _next_report(house)
                told.append(report)
                show(timeline.line(report, _name(report)))
                ended += report.is_outcome

        if texts:
            for number, text in enumerate(texts, 1):
                await say(f"{number} of {len(texts)}", text)
                await follow(1)
            return told
        await say("A new sentence", NEW)
        await follow(1)
        await say("The same again", NEW)
        await follow(1)
        await say("A long one …", LONG, id="laundry")
        while not told or told[-1].event is not Step.STARTED:
            told.append(await _next_report(house))
            show(timeline.line(told[-1], _name(told[-1])))
        await asyncio.sleep(1.5)  # so that some of it is heard before the doorbell
        doorbell = {"id": "doorbell", "priority": "high", "chime": True}
        await say("… and a doorbell in the middle of it, priority high", URGENT, **doorbell)
        await follow(2)
    return told


async def _next_report(house: _House) -> Report:
    try:
        async with asyncio.timeout(OUTCOME_TIMEOUT_S):
            return await house.reports.get()
    except TimeoutError as error:
        raise TooSlowError(f"nothing happened for {OUTCOME_TIMEOUT_S:g} s") from error


@contextlib.asynccontextmanager
async def _talking(settings: Settings) -> AsyncIterator[Talk]:
    """A caller at the broker, in a thread: the broker may run in this very loop."""
    talk = Talk(parts.broker(settings), parts.topics(settings), settings.mqtt.base_topic, DEVICE)
    await asyncio.to_thread(talk.__enter__)
    try:
        await asyncio.to_thread(talk.find_bridge, START_TIMEOUT_S)
        logs.set_level("warning")
        logging.getLogger("amqtt").setLevel(logging.ERROR)  # it warns of every try
        yield talk
    finally:
        await asyncio.to_thread(talk.__exit__, None, None, None)


async def _watch(house: _House, show: Any) -> None:
    """Show what people send while the demonstration stays up."""
    timeline = Timeline()
    while True:
        report = await house.reports.get()
        if report.event is Step.STARTED:
            show(f"\n“{report.announcement.text[:120]}”")
        show(timeline.line(report, _name(report)))


def _name(report: Report) -> str:
    """The id in front, where the caller chose one: a line of several that overlap."""
    return (
        f"{report.announcement.id}: " if report.announcement.id in ("laundry", "doorbell") else ""
    )


def _plain(report: Report) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(report_payload(report))
    return event


def _heading(house: _House, wav: Path | None) -> str:
    sound = "sound card alsa:default" if wav is None else f"file {wav.resolve()}"
    port = house.settings.mqtt.port
    return (
        "kugel-bridge demo: everything on this machine\n"
        f"  broker   {house.broker} on {LOOPBACK}:{port}\n"
        f"  cloud    a gateway with the local engine stands in, {house.gateway_url}\n"
        f"  sound    {sound}"
    )


def _where(wav: Path | None) -> str:
    return "" if wav is None else f"\nThe sound is in {wav.resolve()}"


def _to_try(house: _House) -> str:
    port, base = house.settings.mqtt.port, house.settings.mqtt.base_topic
    publish = f"mosquitto_pub -h {LOOPBACK} -p {port}"
    return (
        "\nTo try:\n"
        f"  {publish} -t {base}/{DEVICE}/say -m 'Hello'\n"
        f"  {publish} -t {base}/{DEVICE}/say/35 -m 'Hello, quietly'\n"
        f"  {publish} -t {base}/{DEVICE}/say -m "
        '\'{"text": "Somebody is at the door", "priority": "high"}\'\n'
        f"  mosquitto_sub -h {LOOPBACK} -p {port} -v -t '{base}/{DEVICE}/#'\n"
        f"  curl {house.gateway_url}/v1/voices"
    )
