"""From a broker's message to the app's callbacks, and the app's news back to the broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kugel_bridge.model.announcement import (
    Announcement,
    Priority,
    ReplyAddress,
    TextSegment,
    Volume,
)
from kugel_bridge.model.clock import Instant
from kugel_bridge.model.errors import ConfigurationError, RejectedError
from kugel_bridge.model.report import Outcome, Report, Step
from kugel_bridge.mqtt.broker import Broker, Tls
from kugel_bridge.mqtt.link import MqttLink, fingerprint
from kugel_bridge.mqtt.message import Ack, MqttMessage
from kugel_bridge.mqtt.refusal import RefusedAnnouncementError
from kugel_bridge.mqtt.setting import SettingValue
from kugel_bridge.mqtt.topics import Topics
from tests.broker import Amqtt, Mosquitto, Peer
from tests.mqtt.conftest import WAIT_S, until

ROOT = "kugel/kitchen"
OUTGOING = [f"{ROOT}/{name}" for name in ("availability", "state", "event", "info", "health")]
OUTGOING += [f"{ROOT}/response/#", "answers/#"]
AT = Instant(1_800_000_000.0, 50.0)


class App:
    """What the link is bound to: notes everything, answers a few requests."""

    def __init__(self, port: int, **options: Any) -> None:
        self.announcements: asyncio.Queue[tuple[Announcement, Ack]] = asyncio.Queue()
        self.alerts: asyncio.Queue[tuple[str, Announcement]] = asyncio.Queue()
        self.settings: asyncio.Queue[tuple[str, SettingValue]] = asyncio.Queue()
        self.rejected: list[RefusedAnnouncementError] = []
        self.requests: list[tuple[str, Mapping[str, Any]]] = []
        self.release = asyncio.Event()
        self.link = MqttLink(
            Broker("127.0.0.1", port, "bridge", tls=options.get("tls")),
            Topics("kugel", "kitchen", ["downstairs"], ["audio/speak"]),
            clean=lambda text, _language: text.strip(),
            on_announcement=options.get(
                "on_announcement", lambda a, ack: self.announcements.put_nowait((a, ack))
            ),
            on_alert=lambda name, a, _ack: self.alerts.put_nowait((name, a)),
            on_set=self._set,
            on_request=self._request,
            on_rejected=self.rejected.append,
            on_up=options.get("on_up", lambda: None),
            new_id=lambda: "made",
        )

    def _set(self, name: str, value: SettingValue) -> None:
        if value == "nobody":
            raise RejectedError("there is no such voice")
        self.settings.put_nowait((name, value))

    async def _request(self, verb: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        self.requests.append((verb, arguments))
        match verb:
            case "health_check":
                return {"healthy": True}
            case "slow":
                await self.release.wait()
                return {}
            case "bug":
                raise ZeroDivisionError
            case "odd":
                return {"value": object()}
            case "stop":
                return {}
        raise RejectedError(f"there is no request {verb!r}")

    async def next(self) -> tuple[Announcement, Ack]:
        async with asyncio.timeout(WAIT_S):
            return await self.announcements.get()


@asynccontextmanager
async def running(port: int, **options: Any) -> AsyncIterator[App]:
    app = App(port, **options)
    task = asyncio.ensure_future(app.link.run())
    try:
        await until(lambda: app.link.connection.connected)
        yield app
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def event(peer: Peer, topic: str = f"{ROOT}/event") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((await peer.next(topic)).payload)
    return found


@pytest.mark.parametrize(
    "topic",
    ["kugel/say", "kugel/group/downstairs/say", f"{ROOT}/say", "audio/speak"],
)
async def test_an_announcement_arrives_by_every_topic(mosquitto: Mosquitto, topic: str) -> None:
    async with running(mosquitto.port) as app, Peer(mosquitto.port) as peer:
        await peer.publish(topic, "Dinner is ready")
        announcement, ack = await app.next()
        assert announcement.text == "Dinner is ready"
        assert announcement.id == "made"
        assert announcement.delivery
        assert not announcement.redelivered
        assert ack.pending
        ack()
        assert app.announcements.empty(), "no two subscriptions may match"


async def test_zone_volume_and_life_come_with_the_message(mosquitto: Mosquitto) -> None:
    async with running(mosquitto.port) as app, Peer(mosquitto.port) as peer:
        await peer.publish(f"{ROOT}/say/35", "a", MessageExpiryInterval=60)
        announcement, _ = await app.next()
        assert announcement.volume == Volume(35)
        assert announcement.ttl_s == 60
        await peer.publish(f"{ROOT}/zone/hall/say", "b", qos=0)
        announcement, ack = await app.next()
        assert announcement.zones == ("hall",)
        assert announcement.delivery == ""
        assert not ack.pending


async def test_what_was_not_acknowledged_comes_again_and_says_so(mosquitto: Mosquitto) -> None:
    async with Peer(mosquitto.port) as peer:
        async with running(mosquitto.port) as app:
            await peer.publish(f"{ROOT}/say", "a")
            first, _ = await app.next()
        async with running(mosquitto.port) as app:
            again, ack = await app.next()
            ack()
    assert again.redelivered
    assert again.delivery == first.delivery


async def test_a_retained_request_from_before_is_not_spoken(mosquitto: Mosquitto) -> None:
    async with Peer(mosquitto.port, filters=OUTGOING) as peer:
        await peer.publish(f"{ROOT}/say", "old", retain=True)
        async with running(mosquitto.port) as app:
            await peer.publish(f"{ROOT}/say", "new")
            assert (await app.next())[0].text == "new"
        async with Peer(mosquitto.port, filters=[f"{ROOT}/say"]) as other:
            assert (await other.next()).payload == b"old", "it is not ours to clear"


async def test_a_retained_request_that_comes_now_is_rejected(mosquitto: Mosquitto) -> None:
    async with running(mosquitto.port) as app, Peer(mosquitto.port, filters=OUTGOING) as peer:
        payload = {"text": "Hello", "id": "door-17", "reply_to": "answers/a"}
        await peer.publish(f"{ROOT}/say", json.dumps(payload), retain=True)
        told = await event(peer)
        assert told["event_type"] == "rejected"
        assert told["id"] == "door-17"
        assert told["reason"] == "retained"
        assert told["zone"] == "main"
        assert await event(peer, "answers/a") == told
        assert app.link.connection.unacked == 0
        assert [refusal.id for refusal in app.rejected] == ["door-17"]


async def test_with_3_1_1_a_replayed_request_is_reported_once(tmp_path: Path) -> None:
    with Amqtt(tmp_path) as broker:
        async with Peer(broker.port, five=False) as peer:
            await peer.publish(f"{ROOT}/say", "old", retain=True)
            await peer.publish(f"{ROOT}/set/muted", "ON", retain=True)
        async with running(broker.port) as app:
            await until(lambda: app.rejected)
            assert str(app.rejected[0]) == "retained"
            message = MqttMessage(f"{ROOT}/say", b"old", 1, True, False, 1, Ack())
            app.link._on_message(message)
            assert len(app.rejected) == 1
            assert app.settings.empty(), "an old order is not carried out again"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xff", "UTF-8"),
        (b"a\x00b", "NUL"),
        (b"[" * 60_000, "deeply"),
        (b'{"text": NaN}', "NaN"),
        (b'{"text": "\\ud800"}', "surrogate"),
        (b'{"text": 5}', "text"),
        (b"x" * 70_000, "65536"),
        (b"x" * 5001, "5001"),
    ],
)
async def test_what_cannot_be_spoken_is_rejected_and_the_next_is_taken(
    mosquitto: Mosquitto, payload: bytes, reason: str
) -> None:
    async with running(mosquitto.port) as app, Peer(mosquitto.port, filters=OUTGOING) as peer:
        await peer.publish(f"{ROOT}/say", payload)
        told = await event(peer)
        assert told["event_type"] == "rejected"
        assert reason in told["reason"]
        await peer.publish(f"{ROOT}/say", "next")
        assert (await app.next())[0].text == "next"
        assert app.link.connection.unacked == 1


async def test_a_rejection_reaches_whoever_asked_with_mqtt_5(mosquitto: Mosquitto) -> None:
    async with running(mosquitto.port), Peer(mosquitto.port, filters=OUTGOING) as peer:
        await peer.publish(
            f"{ROOT}/say/loud", "a", ResponseTopic="answers/b", CorrelationData=b"\x00\x07"
        )
        answer = await peer.next("answers/b")
        assert answer.properties is not None
        assert answer.properties.CorrelationData == b"\x00\x07"
        assert "volume in the topic" in json.loads(answer.payload)["reason"]


async def test_an_empty_message_is_nothing(mosquitto: Mosquitto) -> None:
    async with running(mosquitto.port) as app, Peer(mosquitto.port) as peer:
        await peer.publish(f"{ROOT}/say", b"")
        await peer.publish(f"{ROOT}/say", "a")
        assert (await app.next())[0].text == "a"
        assert app.link.connection.unacked == 1
        assert app.rejected == []


async def test_an_error_in_the_app_is_an_outcome_too(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    def clumsy(_announcement: Announcement, _ack: Ack) -> None:
        raise ZeroDivisionError("a bug")

    async with (
        running(mosquitto.port, on_announcement=clumsy) as app,
        Peer(mosquitto.port, filters=OUTGOING) as peer,
    ):
        await peer.publish(f"{ROOT}/say", json.dumps({"text": "a", "id": "7"}))
        told = await event(peer)
        assert (told["event_type"], told["id"]) == ("rejected", "7")
        assert "internal error" in told["reason"]
        assert "a bug" in caplog.text
        assert app.link.connection.unacked == 0
        assert app.link.connection.connected


async def test_an_alert_is_called_by_name_and_a_siren_can_stop_it(mosquitto: Mosquitto) -> None:
    async with running(mosquitto.port) as app, Peer(mosquitto.port) as peer:
        await peer.publish(f"{ROOT}/alert", json.dumps({"name": "smoke", "priority": "critical"}))
        async with asyncio.timeout(WAIT_S):
            name, announcement = await app.alerts.get()
        assert name == "smoke"
        assert announcement.priority is Priority.CRITICAL
        await peer.publish(f"{ROOT}/alert", json.dumps({"state": "OFF"}))
        await until(lambda: app.requests == [("stop", {})])


async def test_settings_arrive_typed(mosquitto: Mosquitto) -> None:
    async with running(mosquitto.port) as app, Peer(mosquitto.port) as peer:
        for name, payload in (("volume", "35"), ("muted", "ON"), ("language", "de-DE")):
            await peer.publish(f"{ROOT}/set/{name}", payload)
        async with asyncio.timeout(WAIT_S):
            got = [await app.settings.get() for _ in range(3)]
        assert got == [("volume", Volume(35)), ("muted", True), ("language", "de")]
        assert app.link.connection.unacked == 0


@pytest.mark.parametrize(("name", "payload"), [("volume", "loud"), ("voice", "nobody")])
async def test_after_an_impossible_setting_the_state_is_told_again(
    mosquitto: Mosquitto, name: str, payload: str
) -> None:
    async with running(mosquitto.port) as app, Peer(mosquitto.port, filters=OUTGOING) as peer:
        app.link.publish_state({"volume": 40})
        assert await event(peer, f"{ROOT}/state") == {"volume": 40}
        await peer.publish(f"{ROOT}/set/{name}", payload)
        assert await event(peer, f"{ROOT}/state") == {"volume": 40}


@pytest.mark.parametrize("transaction", ["t-1", 5, {"a": [1]}])
async def test_a_request_is_answered_with_its_transaction(
    mosquitto: Mosquitto, transaction: Any
) -> None:
    async with running(mosquitto.port) as app, Peer(mosquitto.port, filters=OUTGOING) as peer:
        await peer.publish(
            f"{ROOT}/request/Health_Check", json.dumps({"transaction": transaction, "x": 1})
        )
        answer = await peer.next(f"{ROOT}/response/Health_Check")
        assert json.loads(answer.payload) == {
            "data": {"healthy": True},
            "status": "ok",
            "transaction": transaction,
        }
        assert not answer.retain
        assert app.requests == [("health_check", {"x": 1})]


@pytest.mark.parametrize(
    ("verb", "payload", "error"),
    [
        ("cache/dance", "", "there is no request 'cache/dance'"),
        ("bug", "", "internal error"),
        ("odd", "", "internal error"),
        ("stop", b"\xff", "UTF-8"),
    ],
)
async def test_a_request_that_fails_is_answered_with_the_reason(
    mosquitto: Mosquitto, verb: str, payload: str | bytes, error: str
) -> None:
    async with running(mosquitto.port), Peer(mosquitto.port, filters=OUTGOING) as peer:
        await peer.publish(f"{ROOT}/request/{verb}", payload)
        answer = await event(peer, f"{ROOT}/response/{verb}")
        assert answer["status"] == "error"
        assert answer["data"] == {}
        assert error in answer["error"]


async def test_an_answer_goes_to_the_response_topic_too(mosquitto: Mosquitto) -> None:
    async with running(mosquitto.port), Peer(mosquitto.port, filters=OUTGOING) as peer:
        await peer.publish(
            f"{ROOT}/request/stop", "", ResponseTopic="answers/c", CorrelationData=b"c"
        )
        answer = await peer.next("answers/c")
        assert json.loads(answer.payload)["status"] == "ok"
        assert answer.properties is not None
        assert answer.properties.CorrelationData == b"c"


async def test_a_slow_request_delays_neither_stop_nor_announcements(mosquitto: Mosquitto) -> None:
    async with running(mosquitto.port) as app, Peer(mosquitto.port, filters=OUTGOING) as peer:
        for _ in range(20):
            await peer.publish(f"{ROOT}/request/slow")
        refused = [await event(peer, f"{ROOT}/response/slow") for _ in range(4)]
        assert all("under way" in answer["error"] for answer in refused)
        await peer.publish(f"{ROOT}/say", "a")
        assert (await app.next())[0].text == "a"
        app.release.set()
        await until(lambda: app.link._requests == 0)
        await peer.publish(f"{ROOT}/request/stop")
        assert (await event(peer, f"{ROOT}/response/stop"))["status"] == "ok"


async def test_an_outcome_goes_to_the_event_topic_and_to_who_asked(mosquitto: Mosquitto) -> None:
    announcement = Announcement(
        id="7",
        segments=(TextSegment("a"),),
        received=AT,
        reply_to=(ReplyAddress("answers/a", b"\x01"), ReplyAddress("answers/b")),
    )
    async with running(mosquitto.port) as app, Peer(mosquitto.port, filters=OUTGOING) as peer:
        for step in (Step.STARTED, Outcome.FINISHED):
            app.link.publish_report(
                Report(event=step, announcement=announcement, zone="hall", at=AT)
            )
        got = [await peer.next() for _ in range(5)]
        told = [(m.topic, json.loads(m.payload).get("event_type"), m.retain) for m in got]
        assert [entry for entry in told if entry[0] != f"{ROOT}/availability"] == [
            (f"{ROOT}/event", "started", False),
            (f"{ROOT}/event", "finished", False),
            ("answers/a", "finished", False),
            ("answers/b", "finished", False),
        ]
        correlated = next(m for m in got if m.topic == "answers/a")
        assert correlated.properties is not None
        assert correlated.properties.CorrelationData == b"\x01"


async def test_after_connecting_states_come_first_and_online_last(mosquitto: Mosquitto) -> None:
    async with Peer(mosquitto.port, filters=[*OUTGOING, "discovery"]) as peer:
        app = App(mosquitto.port, on_up=lambda: app.link.publish_retained("discovery", b'{"a":1}'))
        app.link.publish_state({"state": "idle"})
        app.link.publish_info({"version": "1"})
        app.link.publish_health({"up_s": 1})
        task = asyncio.ensure_future(app.link.run())
        got = [await peer.next() for _ in range(5)]
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        last = await peer.next()
    assert {m.topic for m in got[:4]} == {
        f"{ROOT}/state",
        f"{ROOT}/info",
        f"{ROOT}/health",
        "discovery",
    }
    assert (got[4].topic, got[4].payload) == (f"{ROOT}/availability", b'{"state":"online"}')
    assert (last.topic, last.payload) == (f"{ROOT}/availability", b'{"state":"offline"}')
    assert all(m.retain for m in (*got, last))


async def test_a_broker_that_forgot_everything_is_told_again(mosquitto: Mosquitto) -> None:
    async with running(mosquitto.port) as app:
        app.link.publish_state({"state": "idle"})
        await until(lambda: not app.link.connection.queued)
        mosquitto.kill()
        await until(lambda: not app.link.connection.connected)
        mosquitto.start()
        await until(lambda: app.link.connection.connected)
        async with Peer(mosquitto.port, filters=OUTGOING) as peer:
            got = {m.topic: m.payload for m in [await peer.next(), await peer.next()]}
    assert got == {
        f"{ROOT}/state": b'{"state":"idle"}',
        f"{ROOT}/availability": b'{"state":"online"}',
    }


async def test_of_many_quick_states_the_first_goes_at_once_and_the_last_counts(
    mosquitto: Mosquitto,
) -> None:
    async with running(mosquitto.port) as app, Peer(mosquitto.port, filters=OUTGOING) as peer:
        await until(lambda: app.link.connection.published == 1)  # online
        for number in range(100):
            app.link.publish_state({"volume": number})
        assert await event(peer, f"{ROOT}/state") == {"volume": 0}
        assert await event(peer, f"{ROOT}/state") == {"volume": 99}
        app.link.publish_state({"volume": 99})
        app.link.publish_retained("answers/marker", b"{}")
        assert (await peer.next()).topic == "answers/marker", "the same again is no news"


async def test_a_missing_certificate_file_is_a_configuration_error() -> None:
    app = App(1, tls=Tls(Path("/nonexistent")))
    with pytest.raises(ConfigurationError, match=r"mqtt\.ca_file"):
        await app.link.run()


def message(**changes: Any) -> MqttMessage:
    values: dict[str, Any] = {"topic": "a", "payload": b"x", "qos": 1, "mid": 7, "dup": False}
    return MqttMessage(retain=False, ack=Ack(), **(values | changes))


def test_a_fingerprint_tells_messages_apart_and_knows_a_redelivery() -> None:
    assert fingerprint(message()) == fingerprint(message(dup=True))
    others = [message(mid=8), message(topic="b"), message(payload=b"y")]
    assert len({fingerprint(m) for m in (message(), *others)}) == 4
    assert fingerprint(message(qos=0)) == ""
