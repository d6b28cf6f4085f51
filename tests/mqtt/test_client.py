"""The connection with real brokers: versions, sessions, losses, refusals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
import time
from pathlib import Path

import pytest

from kugel_bridge.model.errors import ConfigurationError
from kugel_bridge.mqtt.broker import Broker, Tls
from kugel_bridge.mqtt.client import MqttConnection
from kugel_bridge.mqtt.link import fingerprint
from kugel_bridge.mqtt.message import MqttMessage, Will
from kugel_bridge.mqtt.verdict import Version
from tests.broker import (
    Amqtt,
    Certificates,
    Mosquitto,
    Peer,
    Script,
    free_port,
    raw_connect,
    raw_publish,
    scripted,
)
from tests.mqtt.conftest import WAIT_S, listening, until
from tests.open_files import open_files

AVAILABILITY = "kugel/kitchen/availability"
PLUGIN = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), None)


async def test_properties_of_mqtt_5_arrive_with_the_message(mosquitto: Mosquitto) -> None:
    async with listening(mosquitto.port) as ear, Peer(mosquitto.port) as peer:
        await ear.was_up()
        await peer.publish(
            "kugel/say",
            "Hello",
            MessageExpiryInterval=30,
            ResponseTopic="answers",
            CorrelationData=b"\x00\xff",
            ContentType="text/plain",
        )
        message = await ear.next()
        assert ear.connection.version is Version.MQTT_5
    assert message.topic == "kugel/say"
    assert message.payload == b"Hello"
    assert message.qos == 1
    assert not message.retain
    assert not message.dup
    assert message.expiry_s == 30
    assert message.response_topic == "answers"
    assert message.correlation == b"\x00\xff"
    assert message.content_type == "text/plain"


async def test_a_broker_that_knows_only_3_1_1_is_taken_as_it_is(tmp_path: Path) -> None:
    with Amqtt(tmp_path) as broker:
        async with listening(broker.port) as ear, Peer(broker.port, five=False) as peer:
            await ear.was_up()
            assert ear.connection.version is Version.MQTT_3_1_1
            await peer.publish("kugel/say", "Hello")
            message = await ear.next()
            assert message.payload == b"Hello"
            assert message.expiry_s is None
            message.ack()


async def test_a_broker_that_names_the_version_is_asked_again_at_once() -> None:
    """As Mosquitto before 1.6 does: CONNACK with return code 1, then the end."""
    asked: list[int] = []

    async def old_broker(script: Script) -> None:
        _, login = await script.packet()
        asked.append(login[6])
        if login[6] == 5:
            script.send(b"\x20\x02\x00\x01")
            return
        script.send(b"\x20\x02\x00\x00")
        _, subscribe = await script.packet()
        script.send(b"\x90\x03" + subscribe[:2] + b"\x01")
        await script.closed()

    async with scripted(old_broker) as port, listening(port) as ear:
        await ear.was_up()
        assert ear.connection.version is Version.MQTT_3_1_1
    assert asked == [5, 4]


async def test_messages_that_came_while_we_were_away_are_delivered(mosquitto: Mosquitto) -> None:
    async with listening(mosquitto.port) as ear:
        await ear.was_up()
    async with Peer(mosquitto.port) as peer:
        for number in range(3):
            await peer.publish("kugel/say", str(number))
    async with listening(mosquitto.port) as ear:
        assert [(await ear.next()).payload for _ in range(3)] == [b"0", b"1", b"2"]


@pytest.mark.parametrize("by_force", [False, True])
async def test_after_a_restart_of_the_broker_it_is_subscribed_again(
    mosquitto: Mosquitto, by_force: bool
) -> None:
    async with listening(mosquitto.port) as ear:
        await ear.was_up()
        if by_force:
            mosquitto.kill()
        else:
            mosquitto.stop()
        await ear.was_down()
        assert not ear.connection.connected
        assert ear.connection.fault
        mosquitto.start()
        await ear.was_up()
        assert ear.connection.connects == 2
        async with Peer(mosquitto.port) as peer:
            await peer.publish("kugel/say", "Hello again")
        assert (await ear.next()).payload == b"Hello again"


async def test_a_broker_that_appears_later_is_found(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path)
    async with listening(broker.port) as ear:
        assert "cannot be reached" in await ear.failed()
        with broker:
            await ear.was_up()
    assert ear.down.empty(), "it was never up before"


async def test_a_frozen_broker_is_noticed_and_found_again(mosquitto: Mosquitto) -> None:
    async with listening(mosquitto.port, keepalive_s=1, connect_timeout_s=0.5) as ear:
        await ear.was_up()
        mosquitto.freeze()
        frozen_s = time.monotonic()
        await ear.was_down()
        assert time.monotonic() - frozen_s < 10
        mosquitto.thaw()
        await ear.was_up()
        assert ear.connection.version is Version.MQTT_5, "a silent broker is not an old one"


async def test_an_idle_connection_stays(mosquitto: Mosquitto) -> None:
    async with listening(mosquitto.port, keepalive_s=1) as ear:
        await ear.was_up()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4):
                await ear.down.get()
        assert ear.connection.connected
        assert ear.connection.overdue_s == 0


async def test_a_wrong_password_is_told_and_tried_again_slowly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Mosquitto(tmp_path, users={"bridge": "right"}) as broker:
        async with listening(broker.port, username="bridge", password="wrong") as ear:
            assert "refused us: Not authorized" in await ear.failed()
            await until(lambda: "next try" in caplog.text)
        assert "Not authorized; next try in 48" in caplog.text
        assert "wrong" not in caplog.text
        async with listening(broker.port, username="bridge", password="right") as ear:
            await ear.was_up()


async def test_a_refused_subscription_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Mosquitto's access list lets anybody subscribe and delivers nothing; its plug-in for
    # dynamic security refuses.
    if PLUGIN is None:
        pytest.skip("Mosquitto came without its plug-in for dynamic security")
    rules = tmp_path / "rules.json"
    rules.write_text(
        '{"defaultACLAccess": {"publishClientSend": true, "publishClientReceive": true,'
        ' "subscribe": false, "unsubscribe": true}, "clients": [], "groups": [{"groupname": "all",'
        ' "roles": [{"rolename": "some"}]}], "anonymousGroup": "all", "roles": [{"rolename":'
        ' "some", "acls": [{"acltype": "subscribeLiteral", "topic": "kugel/say", "allow": true}]}]}'
    )
    extra = [f"plugin {PLUGIN}", f"plugin_opt_config_file {rules}"]
    with Mosquitto(tmp_path / "broker", extra=extra) as broker:
        async with listening(broker.port, "kugel/say", "kugel/kitchen/say") as ear:
            await ear.was_up()
            assert ear.connection.refused == {"kugel/kitchen/say": "Not authorized"}
            assert "refuses our subscription to kugel/kitchen/say" in caplog.text
            async with Peer(broker.port) as peer:
                await peer.publish("kugel/say", "Hello")
            assert (await ear.next()).payload == b"Hello"


async def test_tls_with_a_client_certificate(tmp_path: Path, certificates: Certificates) -> None:
    with Mosquitto(tmp_path, certificates=certificates, require_certificate=True) as broker:
        tls = Tls(certificates.ca, certificates.client_cert, certificates.client_key)
        async with listening(broker.port, tls=tls) as ear:
            await ear.was_up()
            ear.connection.publish("kugel/say/echo", b"x" * 100_000)
            for number in range(50):
                ear.connection.publish(AVAILABILITY, str(number).encode(), retain=True)
            await until(lambda: not ear.connection.queued)


async def test_a_burst_over_tls_is_read_to_its_end(
    tmp_path: Path, certificates: Certificates
) -> None:
    with Mosquitto(tmp_path, certificates=certificates) as broker:
        tls = Tls(certificates.ca)
        async with (
            listening(broker.port, tls=tls) as ear,
            listening(broker.port, "none", tls=tls, client_id="other") as other,
        ):
            await ear.was_up()
            await other.was_up()
            for number in range(200):
                other.connection.publish("kugel/say", str(number).encode(), qos=0)
            got = [(await ear.next()).payload for _ in range(200)]
            assert got == [str(number).encode() for number in range(200)]


async def test_without_its_client_certificate_it_is_not_let_in(
    tmp_path: Path, certificates: Certificates
) -> None:
    with Mosquitto(tmp_path, certificates=certificates, require_certificate=True) as broker:
        async with listening(broker.port, tls=Tls(certificates.ca)) as ear:
            assert "wants a certificate" in await ear.failed()
            assert ear.connection.connects == 0


async def test_a_broker_whom_nobody_vouches_for_is_refused(
    tmp_path: Path, certificates: Certificates
) -> None:
    other = Certificates.make(tmp_path / "other")
    with Mosquitto(tmp_path / "broker", certificates=certificates) as broker:
        async with listening(broker.port, tls=Tls(other.ca)) as ear:
            await ear.failed()
            assert "certificate" in ear.connection.fault
            assert "refused" in ear.connection.fault
        async with listening(broker.port, tls=Tls()) as ear:
            await ear.failed()
            assert "refused" in ear.connection.fault


async def test_a_certificate_for_another_name_is_refused(
    tmp_path: Path, certificates: Certificates
) -> None:
    with Mosquitto(tmp_path, certificates=certificates) as broker:
        async with listening(broker.port, host="localhost", tls=Tls(certificates.ca)) as ear:
            await ear.failed()
            assert "localhost" in ear.connection.fault


@pytest.mark.parametrize(
    "tls", [Tls(Path("/nonexistent")), Tls(None, Path("/nonexistent"), Path("/nonexistent"))]
)
async def test_a_missing_certificate_file_is_a_configuration_error(tls: Tls) -> None:
    connection = MqttConnection(
        Broker("127.0.0.1", free_port(), "bridge", tls=tls),
        Will(AVAILABILITY, b""),
        ["kugel/say"],
        on_message=lambda _message: None,
        on_up=lambda: None,
        on_down=lambda _reason: None,
    )
    with pytest.raises(ConfigurationError, match=r"mqtt\.(ca|cert)_file"):
        await connection.run()


async def test_what_was_not_acknowledged_comes_again_with_the_same_fingerprint(
    mosquitto: Mosquitto,
) -> None:
    async with Peer(mosquitto.port) as peer:
        async with listening(mosquitto.port) as ear:
            await ear.was_up()
            await peer.publish("kugel/say", "done")
            await peer.publish("kugel/say", "not done")
            done, first = await ear.next(), await ear.next()
            done.ack()
        async with listening(mosquitto.port) as ear:
            again = await ear.next()
            assert again.payload == b"not done"
            assert again.dup
            assert fingerprint(again) == fingerprint(first)
            again.ack()
            again.ack()
            await peer.publish("kugel/say", "new")
            new = await ear.next()
            assert new.payload == b"new"
            assert fingerprint(new) != fingerprint(again)
            new.ack()
        async with listening(mosquitto.port) as ear:
            await ear.was_up()
            await peer.publish("kugel/say", "last")
            assert (await ear.next()).payload == b"last"


async def test_a_late_acknowledgement_does_not_take_another_message_away(
    mosquitto: Mosquitto,
) -> None:
    async with listening(mosquitto.port) as ear:
        await ear.was_up()
        async with Peer(mosquitto.port) as peer:
            await peer.publish("kugel/say", "old")
        old = await ear.next()
        mosquitto.kill()  # without persistence: packet ids begin at 1 again
        await ear.was_down()
        mosquitto.start()
        await ear.was_up()
        async with Peer(mosquitto.port) as peer:
            await peer.publish("kugel/say", "new")
        new = await ear.next()
        assert new.mid == old.mid, "the trap has to be there"
        old.ack()
    async with listening(mosquitto.port) as ear:
        again = await ear.next()
        assert again.payload == b"new"
        assert again.dup


async def test_a_full_window_stops_the_broker_and_an_acknowledgement_opens_it(
    mosquitto: Mosquitto,
) -> None:
    async with listening(mosquitto.port) as ear, Peer(mosquitto.port) as peer:
        await ear.was_up()
        for number in range(100):
            await peer.publish("kugel/say", str(number))
        held = [await ear.next() for _ in range(20)]
        assert ear.connection.unacked == 20
        assert ear.messages.empty()
        for message in held:
            message.ack()
        payloads = [message.payload for message in held]
        for _ in range(80):
            message = await ear.next()
            message.ack()
            payloads.append(message.payload)
        assert payloads == [str(number).encode() for number in range(100)]
        # Mosquitto 2.0.11 sends a window for each, and is answered one by one after that.
        await until(lambda: ear.connection.unacked == 0)


async def test_a_takeover_is_told_and_does_not_start_a_fight(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = asyncio.Event()

    async def play(script: Script) -> None:
        await script.welcome()
        await now.wait()
        script.send(b"\xe0\x01\x8e")
        await script.closed()

    async with scripted(play) as port, listening(port) as ear:
        await ear.was_up()
        now.set()
        assert "taken over our client id" in await ear.was_down()
        await until(lambda: "next try in 2.5 s" in caplog.text)
        assert ear.connection.connects == 1


async def test_a_takeover_that_the_broker_does_not_tell_is_guessed(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(mosquitto.port), listening(mosquitto.port):
        await until(lambda: 'another client use our client id "bridge"' in caplog.text)


async def test_an_error_in_a_callback_is_logged_and_the_connection_lives_on(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    def clumsy(message: MqttMessage) -> None:
        if message.payload == b"bad":
            raise ZeroDivisionError("a bug")

    async with listening(mosquitto.port, on_message=clumsy) as ear, Peer(mosquitto.port) as peer:
        await ear.was_up()
        await peer.publish("kugel/say", "bad")
        await peer.publish("kugel/say", "good")
        assert (await ear.next()).payload == b"good"
        assert ear.connection.callback_errors == 1
        assert "a bug" in caplog.text
    async with listening(mosquitto.port) as ear:
        await ear.was_up()
        assert (await ear.next()).payload == b"good", "the bad one was acknowledged"


async def test_broken_text_of_any_kind_arrives_as_bytes(mosquitto: Mosquitto) -> None:
    with contextlib.closing(raw_connect(mosquitto.port)) as sock:
        async with listening(mosquitto.port) as ear:
            await ear.was_up()
            for payload in (b"\xff\xfe", b"a\x00b", b"\xed\xa0\x80"):
                sock.sendall(raw_publish(b"kugel/say", payload))
                assert (await ear.next()).payload == payload


async def test_a_topic_that_is_no_text_is_dropped_and_acknowledged() -> None:
    """Mosquitto refuses to pass such a topic on, so that a broker of our own has to send it."""
    acked = asyncio.Event()

    async def play(script: Script) -> None:
        await script.welcome()
        script.send(b"\x32\x08\x00\x02\xff\xfe\x00\x07\x00x")
        script.send(b"\x30\x0e\x00\x09kugel/say\x00ok")
        assert await script.packet() == (0x40, b"\x00\x07")
        acked.set()
        await script.closed()

    async with scripted(play) as port, listening(port) as ear:
        assert (await ear.next()).payload == b"ok"
        async with asyncio.timeout(WAIT_S):
            await acked.wait()
        assert ear.connection.callback_errors == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 64,
        b"GET / HTTP/1.1\r\n\r\n",
        os.urandom(256),
        b"\x20\x02\x00",
        b"\x30\xff\xff\xff",
    ],
)
async def test_a_peer_that_speaks_nonsense_does_no_harm(garbage: bytes) -> None:
    async def nonsense(script: Script) -> None:
        await script.packet()
        script.send(garbage)

    async with scripted(nonsense) as port, listening(port) as ear:
        await ear.failed()
        assert not ear.connection.connected


async def test_a_huge_message_stays_in_the_broker(mosquitto: Mosquitto) -> None:
    async with listening(mosquitto.port) as ear, Peer(mosquitto.port) as peer:
        await ear.was_up()
        blob = b"x" * 1_000_000
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(5):
            await peer.publish("kugel/say", blob)
        await peer.publish("kugel/say", "small")
        assert (await ear.next()).payload == b"small"
        assert ear.down.empty()
        # Kilobytes. The publisher's own copy is freed before the next is made.
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 5_000
        await peer.publish("kugel/say", b"y" * 100_000)
        assert len((await ear.next()).payload) == 100_000


async def test_what_is_published_without_a_connection_is_sent_later(mosquitto: Mosquitto) -> None:
    def publish(connection: MqttConnection) -> None:
        connection.publish("kugel/kitchen/state", b"old", retain=True)
        connection.publish("kugel/kitchen/event", b"1")
        connection.publish("kugel/kitchen/state", b"new", retain=True)
        connection.publish("kugel/kitchen/event", b"2")
        assert connection.queued == 3

    async with (
        Peer(mosquitto.port, filters=["kugel/kitchen/#"]) as peer,
        listening(mosquitto.port, before=publish),
    ):
        got = [(await peer.next()).payload for _ in range(3)]
    assert got == [b"new", b"1", b"2"]


async def test_a_topic_chosen_by_a_stranger_cannot_break_the_connection(
    mosquitto: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(mosquitto.port) as ear:
        await ear.was_up()
        for topic in ("", "a/#", "x" * 70_000, "\ud800"):
            ear.connection.publish(topic, b"")
        assert "nothing can be sent" in caplog.text
        async with Peer(mosquitto.port) as peer:
            await peer.publish("kugel/say", "still here")
            assert (await ear.next()).payload == b"still here"
        assert ear.connection.connects == 1


async def test_what_the_broker_never_confirmed_is_sent_again() -> None:
    connections: list[list[bytes]] = []

    async def forgetful_once(script: Script) -> None:
        await script.welcome()
        seen: list[bytes] = []
        connections.append(seen)
        while True:
            first, body = await script.packet()
            if first & 0xF0 != 0x30:
                return
            topic_end = 2 + int.from_bytes(body[:2], "big")
            seen.append(body[topic_end + 3 :])
            if len(connections) > 1:
                script.send(b"\x40\x02" + body[topic_end : topic_end + 2])
            elif len(seen) == 20:
                return  # without a word of thanks

    async with scripted(forgetful_once) as port, listening(port) as ear:
        await ear.was_up()
        for number in range(50):
            ear.connection.publish("kugel/kitchen/event", str(number).encode())
        await ear.was_down()
        await ear.was_up()
        await until(lambda: not ear.connection.queued and len(connections[-1]) >= 50)
    numbers = [str(number).encode() for number in range(50)]
    assert connections[0] == numbers[:20], "no more than the window at a time"
    assert connections[1][:50] == numbers


async def test_leaving_says_offline_and_sends_what_is_left(mosquitto: Mosquitto) -> None:
    async with Peer(mosquitto.port, filters=["kugel/kitchen/#"]) as peer:
        async with listening(mosquitto.port) as ear:
            await ear.was_up()
            for number in range(50):
                ear.connection.publish("kugel/kitchen/event", str(number).encode())
        got = [await peer.next() for _ in range(51)]
        assert {m.payload for m in got if m.topic.endswith("event")} == {
            str(number).encode() for number in range(50)
        }
        offline = next(m for m in got if m.topic == AVAILABILITY)
        assert offline.payload == b"offline"
        assert offline.retain
        assert "kugel/kitchen" not in [m.topic for m in peer.waiting()], "no will on top"


async def test_vanishing_lets_the_broker_say_offline(mosquitto: Mosquitto) -> None:
    async with (
        Peer(mosquitto.port, filters=[AVAILABILITY]) as peer,
        listening(mosquitto.port) as ear,
    ):
        await ear.was_up()
        async with Peer(mosquitto.port, client_id="bridge"):
            will = await peer.next()
        assert (will.payload, will.retain) == (b"offline", True)


async def test_leaving_a_frozen_broker_takes_less_than_two_seconds(mosquitto: Mosquitto) -> None:
    async with listening(mosquitto.port) as ear:
        await ear.was_up()
        mosquitto.freeze()
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 5


async def test_stopping_does_not_wait_for_an_address_that_does_not_answer() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):  # the queue is full now
            began_s = time.monotonic()
            async with listening(port) as ear:
                await asyncio.sleep(0)
            assert not ear.connection.connected
            assert time.monotonic() - began_s < 5


async def test_a_storm_of_losses_leaves_no_sockets_behind() -> None:
    cuts = 0

    async def cut(script: Script) -> None:
        nonlocal cuts
        await script.packet()
        cuts += 1

    before = open_files()
    async with scripted(cut) as port, listening(port):
        await until(lambda: cuts >= 4)
    await until(lambda: open_files() <= before)


async def test_one_line_tells_of_a_failure_that_repeats(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with listening(free_port()):
        await until(lambda: caplog.text.count("next try") >= 3)
    lines = [record for record in caplog.records if "next try" in record.getMessage()]
    levels = [record.levelno for record in lines[:3]]
    assert levels == [logging.WARNING, logging.DEBUG, logging.DEBUG]
