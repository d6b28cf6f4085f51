"""Reading from a broker that sends more than was asked for."""

from __future__ import annotations

import asyncio

from paho.mqtt.enums import CallbackAPIVersion

from kugel_bridge.mqtt.broker import MAX_PACKET_BYTES
from kugel_bridge.mqtt.feed import FedClient
from kugel_bridge.mqtt.inbox import Inbox
from tests.broker import Mosquitto, Peer, Script, scripted
from tests.mqtt.conftest import listening, until
from tests.raw_mqtt import publish_packet


async def test_of_a_giant_the_beginning_is_delivered_and_it_can_be_acknowledged() -> None:
    answers: list[bytes] = []

    async def play(script: Script) -> None:
        await script.welcome()
        giant = bytes(range(256)) * 40_000
        script.send(publish_packet("kugel/say", giant, qos=1, mid=5, five=True))
        script.send(publish_packet("kugel/say", b"next", qos=1, mid=6, five=True))
        while len(answers) < 2:
            first, body = await script.packet()
            if first == 0x40:
                answers.append(body[:2])
        await script.closed()

    async with scripted(play) as port, listening(port) as ear:
        giant, following = await ear.next(), await ear.next()
        assert MAX_PACKET_BYTES - 100 < len(giant.payload) < 2 * MAX_PACKET_BYTES
        assert giant.payload.startswith(bytes(range(256)))
        assert following.payload == b"next"
        giant.ack()
        following.ack()
        await until(lambda: answers == [b"\x00\x05", b"\x00\x06"])


async def test_while_events_pile_up_no_acknowledgement_leaves(mosquitto: Mosquitto) -> None:
    async with listening(mosquitto.port) as ear, Peer(mosquitto.port) as peer:
        await ear.was_up()
        await peer.publish("kugel/say", "hello")
        message = await ear.next()
        for number in range(150):
            ear.connection.publish("kugel/kitchen/event", b"%d" % number)
        message.ack()
        assert ear.connection.unacked == 1, "the broker is not to send more yet"
        await until(lambda: ear.connection.unacked == 0)
        assert ear.connection.queued < 150
        assert ear.connection.dropped == 0


async def test_beyond_its_bound_the_socket_is_left_alone_and_nothing_is_lost() -> None:
    async def play(script: Script) -> None:
        await script.packet()
        script.send(b"\x20\x02\x00\x00")
        for number in range(200):
            script.send(publish_packet("kugel/say", b"%4d" % number * 250))
        await script.closed()

    got: list[bytes] = []
    async with scripted(play) as port:
        client = FedClient(
            Inbox(max_waiting_bytes=10_000), lambda _: False, CallbackAPIVersion.VERSION2
        )
        client.on_message = lambda _client, _data, message: got.append(bytes(message.payload[:4]))
        await asyncio.to_thread(client.connect, "127.0.0.1", port)

        def is_full() -> bool:
            client.receive()
            return not client.hungry

        await until(is_full)
        client.receive()
        while client.waiting:
            client.step()
        assert 0 < len(got) < 200

        def is_whole() -> bool:
            client.receive()
            client.step()
            return len(got) == 200

        await until(is_whole)
        client.disconnect()
    assert got == [b"%4d" % number for number in range(200)]


async def test_what_came_before_the_end_of_the_connection_is_delivered() -> None:
    async def play(script: Script) -> None:
        await script.welcome()
        for number in range(100):
            script.send(publish_packet("kugel/say", b"%d" % number, five=True))

    async with scripted(play) as port, listening(port) as ear:
        await ear.was_down()
        got = [ear.messages.get_nowait().payload for _ in range(100)]
        assert got == [b"%d" % number for number in range(100)]


async def test_a_broker_that_sends_is_not_given_up_though_its_pong_is_late() -> None:
    pings = 0

    async def play(script: Script) -> None:
        nonlocal pings
        await script.welcome()
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(send_on(script))
            while pings < 2:
                pings += (await script.packet())[0] == 0xC0
            sending.cancel()

    async def send_on(script: Script) -> None:
        while True:
            script.send(publish_packet("kugel/say", b"x", five=True))
            await asyncio.sleep(0.1)

    async with scripted(play) as port, listening(port, keepalive_s=1) as ear:
        await ear.was_down()
        assert pings == 2
