"""A paho client that never holds more of a packet than we would take.

With MQTT 5 the broker keeps too large packets from us. Older versions of the protocol have no such
limit, and paho gathers up to 256 MB for one message; refusing to read it would bring it again with
every connection, for ever. So the rest of it is read and forgotten: what is left is still too long
to be spoken, and is rejected and acknowledged like any other message that is too long.
"""

from __future__ import annotations

from paho.mqtt.client import Client

from kugel_bridge.mqtt.broker import MAX_PACKET_BYTES

_READ_BYTES = 64 * 1024
"""At a time. paho gathers up to a hundred reads before anybody else has a turn."""


class BoundedClient(Client):
    """paho's client; only how it reads from its socket is ours."""

    def _sock_recv(self, bufsize: int) -> bytes:
        gathered = self._in_packet["packet"]
        if len(gathered) > MAX_PACKET_BYTES:
            del gathered[MAX_PACKET_BYTES:]
        return super()._sock_recv(min(bufsize, _READ_BYTES))
