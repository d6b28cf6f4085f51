"""A script that fetches the whole sound by HTTP before it plays; the card is open.

python -m benchmarks.peers.whole_body PORT TOPIC GATEWAY_URL
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import httpx
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from benchmarks.peers.floor import open_card, play


def main() -> None:
    """Fetch and play the words of each message."""
    card = open_card()
    # A kept connection: the best such a script can do.
    service = httpx.Client(base_url=sys.argv[3], trust_env=False)

    def say(client: paho.Client, data: Any, message: paho.MQTTMessage) -> None:
        request = {"text": message.payload.decode(), "voice_id": 1, "language": "en"}
        play(card, service.post("/v1/tts/generate", json=request).raise_for_status().content)

    def subscribe(client: paho.Client, *_: Any) -> None:
        sock = client.socket()
        assert isinstance(sock, socket.socket)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.subscribe(sys.argv[2], 1)

    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_connect, client.on_message = subscribe, say
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.connect("127.0.0.1", int(sys.argv[1]))
    client.loop_forever()


if __name__ == "__main__":
    main()
