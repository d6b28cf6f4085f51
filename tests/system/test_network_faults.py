"""Real links that fail: cables cut, packets lost, addresses changed, no answer to a name."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from kugel_bridge.audio.chime import tone
from tests.broker import Mosquitto
from tests.gateway_server import serving
from tests.house import CLIENT_ID, ROOT, Caller, Daemon, loud
from tests.network import BROKER, CLOUD, POOR, NameServer, Network, NoNetworkError, network
from tests.raw_mqtt import held_by_broker
from tests.recital import Recital
from tests.service_manager import ServiceManager
from tests.simcard import SimCard

PORT = 1883
QUICK_S = 0.2
"""Of sound: enough for a few frames, and soon heard."""
FADED_BYTES = 1_000
"""At a break: 20 ms."""
FIRST_SOUND_S = 1.0
"""How long the cloud may take for a first sound, before the next voice is asked."""
IN_TIME_MS = 2_000
"""That wait, and what a busy test machine takes beside it."""
FRAME_BYTES = 4_800
"""What the cloud sends at a time: 0.1 s."""
SHORT_WAITS_S = {"first_audio_timeout_s": 1, "stall_timeout_s": 0.5}

Fault = Callable[[Network, str], None]
AT_THE_BOX = (Network.unplug, Network.plug_in)
"""The bridge's own end has no carrier any more."""
FURTHER_AWAY = (Network.swallow, Network.deliver)
"""For the bridge the link looks as ever, and nothing answers."""


@pytest.fixture
def net() -> Iterator[Network]:
    with contextlib.ExitStack() as undo:
        try:
            made = undo.enter_context(network())
        except NoNetworkError as error:
            pytest.skip(f"no network of our own: {error}")
        yield made


@pytest.fixture
def broker(net: Network, tmp_path: Path) -> Iterator[Mosquitto]:
    doors = [f"listener {PORT} {net.address(cable)}" for cable in (BROKER, POOR)]
    with Mosquitto(tmp_path / "broker", extra=doors) as running:
        yield running


# --- the way to the broker -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cut", "mend"), [FURTHER_AWAY, pytest.param(*AT_THE_BOX, marks=pytest.mark.long)]
)
async def test_a_cut_link_to_the_broker_is_told_by_the_will_and_costs_no_announcement(
    net: Network,
    broker: Mosquitto,
    caller: Caller,
    card: SimCard,
    tmp_path: Path,
    manager: ServiceManager,
    cut: Fault,
    mend: Fault,
) -> None:
    engine = Recital(QUICK_S, Underway=0.8)
    async with house(net, tmp_path, engine, manager):
        await until_availability(caller, "online")
        await caller.say({"text": "Underway", "id": "underway"})
        await caller.event("started", "underway")
        cut(net, BROKER)
        await until_availability(caller, "offline")
        await caller.say({"text": "Meanwhile", "id": "meanwhile"})
        await manager.until_status("no announcements")
        assert engine.whole(card.heard()) == ["Underway"]
        mend(net, BROKER)
        await until_availability(caller, "online")
        assert await caller.outcomes(2) == {"underway": "finished", "meanwhile": "finished"}
    assert held_by_broker(broker.port, CLIENT_ID) == []
    assert engine.whole(card.heard()) == ["Underway", "Meanwhile"]


async def test_with_a_new_address_it_connects_again_and_nothing_is_lost_or_repeated(
    net: Network,
    broker: Mosquitto,
    caller: Caller,
    card: SimCard,
    tmp_path: Path,
    manager: ServiceManager,
) -> None:
    engine = Recital(QUICK_S)
    async with house(net, tmp_path, engine, manager):
        await until_availability(caller, "online")
        await caller.say({"text": "Before", "id": "before"})
        await caller.event("finished", "before")
        net.renumber(77)
        for name in ("Meanwhile", "Patient"):
            await caller.say({"text": name, "id": name, "offline": "wait"})
        finished = [await caller.event("finished") for _ in range(2)]
    assert {(event["id"], event["source"]) for event in finished} == {
        ("Meanwhile", "cloud"),
        ("Patient", "cloud"),
    }
    address = net.address(BROKER).removesuffix(".1")
    assert f"from {address}.2" in broker.log
    assert f"from {address}.77" in broker.log
    assert held_by_broker(broker.port, CLIENT_ID) == []
    heard = engine.whole(card.heard())
    assert (heard[0], sorted(heard[1:])) == ("Before", ["Meanwhile", "Patient"])


# --- the way to the cloud ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cut", "mend"), [AT_THE_BOX, pytest.param(*FURTHER_AWAY, marks=pytest.mark.long)]
)
async def test_a_link_to_the_cloud_cut_in_mid_sentence_is_a_pause_and_then_another_voice(
    net: Network,
    broker: Mosquitto,
    caller: Caller,
    card: SimCard,
    tmp_path: Path,
    manager: ServiceManager,
    cut: Fault,
    mend: Fault,
) -> None:
    engine = Recital(QUICK_S, Half=0.8)
    async with house(net, tmp_path, engine, manager):
        await caller.state(cloud="ok")
        await caller.say({"text": "Known", "id": "known"})
        await caller.event("finished", "known")
        engine.hold = asyncio.Event()
        await caller.say({"text": "Half", "id": "half"})
        await caller.event("started", "half")
        cut(net, CLOUD)
        engine.hold.set()
        await caller.say({"text": "Known", "id": "again", "dedupe": 0})
        half, again = await caller.event(id="half"), await caller.event(id="again")
        mend(net, CLOUD)
        await caller.say({"text": "New", "id": "new", "offline": "wait"})
        new = await caller.event("finished", "new")
    assert (half["event_type"], again["event_type"]) == ("finished", "finished")
    assert (half["source"], again["source"], new["source"]) == ("cloud", "cache", "cloud")
    heard = engine.heard_in(card.heard())
    assert [h.text for h in heard] == ["Known", "Half", "Known", "New"]
    assert [h.part == 1.0 for h in heard] == [True, False, True, True]
    # The tone stands for the local voice: what follows a silence is faded in.
    after = card.heard().partition(engine.sound("Half")[:4_000])[2]
    assert after.find(bytes(tone().data)[FADED_BYTES:]) < after.find(engine.sound("Known"))
    assert bytes(tone().data)[FADED_BYTES:] in after


@pytest.mark.parametrize(
    ("cut", "mend"), [FURTHER_AWAY, pytest.param(*AT_THE_BOX, marks=pytest.mark.long)]
)
async def test_a_link_to_the_cloud_cut_while_idle_costs_the_wait_for_its_first_sound_only(
    net: Network,
    broker: Mosquitto,
    caller: Caller,
    card: SimCard,
    tmp_path: Path,
    manager: ServiceManager,
    cut: Fault,
    mend: Fault,
) -> None:
    engine = Recital(QUICK_S)
    async with house(net, tmp_path, engine, manager):
        await caller.state(cloud="ok")
        cut(net, CLOUD)
        await caller.say({"text": "Now", "id": "now"})
        now = await caller.event("finished", "now")
        assert now["source"] == "tone"
        assert now["first_sound_ms"] < IN_TIME_MS
        await caller.state(cloud="unreachable")
        mend(net, CLOUD)
        await caller.say({"text": "Patient", "id": "patient", "offline": "wait"})
        assert (await caller.event("finished", "patient"))["source"] == "cloud"
    assert engine.whole(card.heard()) == ["Patient"]
    assert card.heard().count(bytes(tone().data)) == 1


# --- poor links ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [4, pytest.param(60, marks=pytest.mark.long)])
@pytest.mark.timeout(300)
async def test_over_a_link_that_loses_every_tenth_packet_everything_is_heard_once(
    net: Network,
    broker: Mosquitto,
    caller: Caller,
    card: SimCard,
    tmp_path: Path,
    manager: ServiceManager,
    count: int,
) -> None:
    engine = Recital(QUICK_S)
    names = [f"Number {number}" for number in range(count)]
    # TCP waits twice as long after each loss; short waits would only take other voices.
    waits_s = {"connect_timeout_s": 15, "first_audio_timeout_s": 15, "stall_timeout_s": 15}
    poor = functools.partial(house, broker=POOR, cloud=POOR, first_sound_s=15.0, keepalive_s=10)
    async with poor(net, tmp_path, engine, manager, waits_s):
        await caller.state(cloud="ok")
        net.poor_link.loss, net.poor_link.delay_s = 0.1, 0.05
        for name in names:
            await caller.say({"text": name, "id": name})
        assert await caller.outcomes(count) == dict.fromkeys(names, "finished")
        lost, net.poor_link.loss = net.poor_link.lost, 0.0
    assert lost > count
    assert held_by_broker(broker.port, CLIENT_ID) == []
    # In order and once; where sound came late there is a pause between two faded ends.
    record = card.heard()
    assert [h.text for h in engine.heard_in(record)] == names
    for sound in map(engine.sound, names):
        for start in range(0, len(sound), FRAME_BYTES):
            frame = sound[start : start + FRAME_BYTES]
            assert frame[FADED_BYTES:-FADED_BYTES] in record


# --- names ---------------------------------------------------------------------------------------


async def test_without_an_answer_to_its_name_the_cloud_is_passed_by_and_the_end_comes_when_told(
    net: Network,
    broker: Mosquitto,
    caller: Caller,
    card: SimCard,
    tmp_path: Path,
    manager: ServiceManager,
) -> None:
    engine, address = Recital(QUICK_S), net.address(CLOUD)
    transport, names = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: NameServer(address), local_addr=(address, 53)
    )
    try:
        with net.resolver(f"nameserver {address}\n"):
            names.is_silent = True
            named = house(net, tmp_path, engine, manager, cloud_host="speech.lan")
            async with named as daemon:
                await caller.say({"text": "Nameless", "id": "nameless"})
                nameless = await caller.event("finished", "nameless")
                began_s = time.monotonic()
                assert await daemon.end(signal.SIGTERM) == 0
                assert time.monotonic() - began_s < 2.0
                assert names.ignored, "nobody asked"
                names.is_silent = False
                await daemon.start()
                await caller.say({"text": "Named", "id": "named", "offline": "wait"})
                assert (await caller.event("finished", "named"))["source"] == "cloud"
    finally:
        transport.close()
    assert nameless["source"] == "tone"
    assert nameless["first_sound_ms"] < IN_TIME_MS
    assert engine.whole(card.heard()) == ["Named"]


# --- what they share -----------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def house(
    net: Network,
    folder: Path,
    engine: Recital,
    manager: ServiceManager,
    waits_s: Mapping[str, float] = SHORT_WAITS_S,
    *,
    broker: str = BROKER,
    cloud: str = CLOUD,
    cloud_host: str | None = None,
    first_sound_s: float = FIRST_SOUND_S,
    keepalive_s: int = 1,
) -> AsyncIterator[Daemon]:
    """A bridge in its namespace; `broker` and `cloud` are the cables that lead there."""
    async with serving(engine, host="0.0.0.0", open_to_all=True) as gateway:
        settings = loud(
            folder,
            PORT,
            f"http://{cloud_host or net.address(cloud)}:{gateway.port}",
            mqtt={"host": net.address(broker), "keepalive_s": keepalive_s},
            # Then the tone stands for the local voice: every sound on the record is known.
            local={"engine": "none"},
            cloud=waits_s,
        )
        settings["priority"] = {"normal": {"first_sound_s": first_sound_s}}
        daemon = Daemon(folder, settings, environment=manager.environment(), through=net.inside)
        async with daemon:
            await manager.until_status("speaking")
            yield daemon


async def until_availability(caller: Caller, state: str) -> None:
    """Return when the broker tells that."""
    while await caller.heard_on(f"{ROOT}/availability") != {"state": state}:
        pass
