"""The peer: a script with the sound in memory and the card open, on paho's own thread."""

from __future__ import annotations

import socket
import sys
from typing import Any

import alsaaudio
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

RATE, PERIOD, PERIODS = 24_000, 480, 4
FIRST_BYTES = PERIOD * PERIODS * 2


def main() -> None:
    """Play one second of sound for each message on bench/say; tell bench/done when it is over."""
    card = alsaaudio.PCM(
        device="sim",
        rate=RATE,
        channels=1,
        format=alsaaudio.PCM_FORMAT_S16_LE,
        periodsize=PERIOD,
        periods=PERIODS,
    )
    sound = (b"\x00\x10" * 55 + b"\x00\xf0" * 55) * (RATE // 110)

    def play(client: paho.Client, *_: Any) -> None:
        card.write(sound[:FIRST_BYTES])
        card.write(sound[FIRST_BYTES:])
        card.drain()
        client.publish("bench/done", "", 1)

    def subscribe(client: paho.Client, *_: Any) -> None:
        client.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.subscribe("bench/say", 1)
        client.publish("bench/ready", "", 1)

    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_message, client.on_connect = play, subscribe
    client.connect("127.0.0.1", int(sys.argv[1]))
    client.loop_forever()


if __name__ == "__main__":
    main()
