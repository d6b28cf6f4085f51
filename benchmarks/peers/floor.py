"""The floor: a bare socket that answers each PUBLISH with sound; no library but ALSA.

    python -m benchmarks.peers.floor PORT TOPIC

MQTT 3.1.1 by hand: CONNECT, SUBSCRIBE, and then whatever comes is a PUBLISH at QoS 0. Nothing that
announces over MQTT from Python to ALSA can be quicker.
"""

from __future__ import annotations

import socket
import sys

import alsaaudio  # type: ignore[import-not-found, unused-ignore]

RATE, PERIOD, PERIODS = 24_000, 480, 4
SOUND = (b"\x00\x10" * 55 + b"\x00\xf0" * 55) * (RATE * 3 // 5 // 110)
FIRST_BYTES = PERIOD * PERIODS * 2


def open_card() -> alsaaudio.PCM:
    """The simulated card, as every peer opens it."""
    return alsaaudio.PCM(
        device="sim",
        rate=RATE,
        channels=1,
        format=alsaaudio.PCM_FORMAT_S16_LE,
        periodsize=PERIOD,
        periods=PERIODS,
    )


def play(card: alsaaudio.PCM, sound: bytes) -> None:
    """Write the first buffer at once, so that it does not run dry, then the rest."""
    card.write(sound[:FIRST_BYTES])
    if rest := sound[FIRST_BYTES:]:
        card.write(rest)
    card.drain()


def main() -> None:
    """Play for each PUBLISH."""
    card = open_card()
    topic = sys.argv[2].encode()
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as broker:
        broker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        broker.sendall(b"\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x05floor")
        broker.recv(4)
        subscribe = b"\x00\x01" + len(topic).to_bytes(2, "big") + topic + b"\x00"
        broker.sendall(b"\x82" + bytes([len(subscribe)]) + subscribe)
        broker.recv(5)
        print("ready", flush=True)
        while broker.recv(4096):
            play(card, SOUND)


if __name__ == "__main__":
    main()
