"""A tuned script: the sound in memory, the card open, paho on its own thread.

python -m benchmarks.peers.tuned PORT TOPIC
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from benchmarks.peers.floor import SOUND, open_card, play


def main() -> None:
    """Play for each message."""
    card = open_card()

    def subscribe(client: paho.Client, *_: Any) -> None:
        sock = client.socket()
        assert isinstance(sock, socket.socket)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.subscribe(sys.argv[2], 1)

    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_connect = subscribe
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.on_message = lambda *_: play(card, SOUND)
    client.connect("127.0.0.1", int(sys.argv[1]))
    client.loop_forever()


if __name__ == "__main__":
    main()
