"""What is far too large is read to its end, and forgotten on the way."""

from __future__ import annotations

from kugel_bridge.mqtt.broker import MAX_PACKET_BYTES
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
