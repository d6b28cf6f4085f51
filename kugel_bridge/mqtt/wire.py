"""One MQTT connection, from login to goodbye: subscriptions, messages, acknowledgements.

Every connection gets a new paho client, so that nothing of an old one (packet ids, half-read
packets, its idea of the protocol version) reaches into the next.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from kugel_bridge.mqtt.broker import MAX_PACKET_BYTES, RECEIVE_MAXIMUM, Broker
from kugel_bridge.mqtt.driver import PahoDriver
from kugel_bridge.mqtt.feed import FedClient
from kugel_bridge.mqtt.inbox import Inbox
from kugel_bridge.mqtt.message import Ack, MqttMessage, Outgoing, Will
from kugel_bridge.mqtt.publish import plain_publish
from kugel_bridge.mqtt.receipts import AT_ONCE, EVERY_S, Receipt, Receipts
from kugel_bridge.mqtt.verdict import (
    End,
    Version,
    Welcome,
    WireError,
    dismissal,
    failure,
    refusal,
)

logger = logging.getLogger(__name__)

SUBSCRIBE_TIMEOUT_S = 10.0
MQTT_5_ANSWER_S = 2.0
"""Some brokers of before MQTT 5 take its login for half of a longer one and wait for the rest."""
_OVERHEAD_BYTES = 64
"""Of a message beside topic and payload: header, lengths, packet id."""


class Wire:
    """One connection; when it has ended, make another."""

    def __init__(
        self,
        broker: Broker,
        will: Will,
        *,
        version: Version,
        context: ssl.SSLContext | None,
        on_message: Callable[[MqttMessage], None],
        on_room: Callable[[], None],
        unkept: Collection[str] = (),
        crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        """`on_message` and `on_room` (something sent was confirmed) are called on the loop.

        While it is `crowded`, no message is acknowledged: at our receive maximum the broker
        delivers nothing more, and a flood cannot outrun its outcomes. `unkept` are filters of what
        the broker does not keep for us; it overtakes a flood of the rest.
        """
        self.version = version
        self.in_flight: dict[int, Outgoing] = {}
        """What was sent and is not confirmed, by paho's packet id."""
        self.unacked = 0
        """Messages from the broker that wait for our acknowledgement."""
        self._unkept = unkept
        self._crowded, self._receipts = crowded, Receipts()
        self._next_release: asyncio.TimerHandle | None = None
        self._inbox, self._handled = Inbox(unkept), 0
        self._callback_errors = 0
        self._broker = broker
        self._on_message, self._on_room = on_message, on_room
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[WireError] = self._loop.create_future()
        self._welcome: asyncio.Future[Welcome] = self._loop.create_future()
        self._subscribing: tuple[int, asyncio.Future[list[ReasonCode]]] | None = None
        self._client = self._new_client(will, context)
        self._driver = PahoDriver(self._client, self._lost)

    # --- the life of it ---------------------------------------------------------------

    async def open(self) -> Welcome:
        """Connect and log in. Raises WireError."""
        limit_s = self._broker.connect_timeout_s
        try:
            # A name may have several addresses, each with its own time-out.
            await self._driver.connect(self._start_session, 3 * limit_s)
        except Exception as error:
            raise self._end(failure(self._broker, error)) from error
        if self.version is Version.MQTT_5:
            limit_s = min(limit_s, MQTT_5_ANSWER_S)
        await self._wait_for(self._welcome, limit_s, "the broker's answer")
        return self._welcome.result()

    async def subscribe(self, filters: Sequence[str]) -> dict[str, str]:
        """Subscribe, those that are `unkept` at QoS 0, the others at 1.

        Returns the filters that the broker refused, with its reasons. Raises WireError.
        """
        levels = [(name, 0 if name in self._unkept else 1) for name in filters]
        if self.version is Version.MQTT_5:
            # No retained messages at subscribing: a request is not a state. The retain flag of
            # live ones is kept so that they can be told, and what we send does not come back.
            _, mid = self._client.subscribe(
                [
                    (
                        name,
                        SubscribeOptions(
                            qos=qos, noLocal=True, retainAsPublished=True, retainHandling=2
                        ),
                    )
                    for name, qos in levels
                ]
            )
        else:
            _, mid = self._client.subscribe(levels)
        if mid is None:
            raise self._end(WireError(self._driver.fault, End.LOST))
        answer: asyncio.Future[list[ReasonCode]] = self._loop.create_future()
        self._subscribing = mid, answer
        await self._wait_for(answer, SUBSCRIBE_TIMEOUT_S, "the answer to our subscriptions")
        codes = zip(filters, answer.result(), strict=False)
        return {name: str(code) for name, code in codes if code.is_failure}

    async def keep(self, for_s: float | None = None) -> WireError | None:
        """Keep the connection alive; why it ended, or None if it stands after `for_s` seconds."""
        until_s = None if for_s is None else time.monotonic() + for_s
        while not self._ended.done():
            pause_s = self._driver.pause_s
            if until_s is not None:
                pause_s = min(pause_s, until_s - time.monotonic())
                if pause_s <= 0:
                    return None
            await asyncio.wait((self._ended,), timeout=pause_s)
            if self.alive:
                self._driver.check()
            if self.silent_s > self.silence_limit_s:
                # paho counts its own pings; this counts what really came.
                self._end(WireError("the broker has fallen silent", End.LOST))
        return self._ended.result()

    async def leave(self) -> None:
        """Say goodbye in order, so that the broker does not publish our will."""
        if not self.alive or not self._welcome.done():
            return
        for _ in range(0, len(self._receipts), AT_ONCE):
            self._acknowledge(self._receipts.take())
            await asyncio.sleep(0)
        if self._client.disconnect() == MQTTErrorCode.MQTT_ERR_SUCCESS:
            await asyncio.wait((self._ended,))

    def close(self) -> None:
        """Drop the connection without a word; harmless when it has ended already."""
        self._end(WireError("closed by us", End.LOST))
        if self._next_release is not None:
            self._next_release.cancel()
        self._driver.close()

    # --- what it carries ----------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether it is open, as far as we know."""
        return self._driver.is_open and not self._ended.done()

    @property
    def silence_limit_s(self) -> float:
        """A connection without a byte for longer than this (s) is dead."""
        return 2.0 * self._client.keepalive

    @property
    def silent_s(self) -> float:
        """How long ago the broker was heard (s)."""
        return time.monotonic() - self._driver.heard_s

    @property
    def callback_errors(self) -> int:
        """Errors caught in callbacks, ours and paho's."""
        return self._callback_errors + self._driver.errors

    @property
    def has_room(self) -> bool:
        """Whether one more message may be sent."""
        return (
            self.alive
            and self._welcome.done()
            and len(self.in_flight) < self._welcome.result().send_window
        )

    def send(self, message: Outgoing) -> None:
        """Send a message; it stays in `in_flight` until the broker has it."""
        welcome = self._welcome.result()
        size = len(message.payload) + len(message.topic.encode()) + _OVERHEAD_BYTES
        if welcome.max_packet_bytes is not None and size > welcome.max_packet_bytes:
            logger.error("%s: %d bytes are too many for this broker", message.topic, size)
            return
        properties = None
        if self.version is Version.MQTT_5 and message.correlation is not None:
            properties = _properties(PacketTypes.PUBLISH)
            properties.CorrelationData = message.correlation
        qos = min(message.qos, welcome.max_qos)
        info = self._client.publish(message.topic, message.payload, qos, message.retain, properties)
        self.in_flight[info.mid] = message

    def release(self) -> None:
        """Acknowledge what may be, in its order; of a flood some now, and the rest bit by bit."""
        if self._next_release is None:
            self._release()

    def _release(self) -> None:
        self._next_release, due = None, list[Receipt]()
        if not self._crowded():
            due = self._receipts.take_due(
                handled=self._handled, unread=len(self._inbox), unacknowledged=self.unacked
            )
            self._acknowledge(due)
        if self.alive and (self._receipts or (due and self._receipts.is_flooded)):
            self._next_release = self._loop.call_later(EVERY_S, self._release)

    def _acknowledge(self, receipts: Iterable[Receipt]) -> None:
        for mid, qos in receipts:
            if not self.alive:
                return  # the broker sends them again
            self.unacked -= 1
            self._client.ack(mid, qos)

    # --- login ----------------------------------------------------------------------------

    def _new_client(self, will: Will, context: ssl.SSLContext | None) -> FedClient:
        broker, five = self._broker, self.version is Version.MQTT_5
        client = FedClient(
            self._inbox,
            self._took,
            CallbackAPIVersion.VERSION2,
            client_id=broker.client_id,
            clean_session=None if five else False,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,  # or paho would reconnect inside a callback, blocking
            manual_ack=True,
        )
        client.connect_timeout = broker.connect_timeout_s
        client.max_inflight_messages_set(0)  # ours to count
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if context is not None:
            client.tls_set_context(context)
        client.will_set(will.topic, will.payload, qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_paho_message
        return client

    def _start_session(self) -> None:
        """Blocking; runs in the connecting thread."""
        broker = self._broker
        if self.version is Version.MQTT_3_1_1:
            self._client.connect(broker.host, broker.port, broker.keepalive_s)
            return
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = broker.session_expiry_s
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        self._client.connect(
            broker.host, broker.port, broker.keepalive_s, clean_start=False, properties=properties
        )

    async def _wait_for(self, answer: asyncio.Future[Any], limit_s: float, what: str) -> None:
        """Wait for an answer or the end. Raises WireError."""
        await asyncio.wait(
            (answer, self._ended), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
        )
        if not answer.done() and not self._ended.done():
            self._lost(f"waited {limit_s:g} s in vain for {what}")
        if self._ended.done():
            raise self._ended.result()

    def _lost(self, reason: str) -> None:
        if self._welcome.done():
            self._end(WireError(reason, End.LOST))
            return
        tls = self._broker.tls
        if tls is not None and tls.cert_file is None:
            # With TLS 1.3 that comes after the handshake, and often only as a closed connection.
            reason += "; perhaps the broker wants a certificate of ours (mqtt.cert_file)"
        self._end(WireError(reason, End.UNANSWERED))

    def _end(self, error: WireError) -> WireError:
        """Note why it ended, and give that back; the first reason counts."""
        if not self._ended.done():
            self._ended.set_result(error)
        return self._ended.result()

    # --- what paho calls ------------------------------------------------------------------
    # It holds a lock meanwhile that closing needs, and walks its tables of what was sent: nothing
    # here may close the connection, and only `on_message` may send.

    def _on_connect(
        self,
        _client: Client,
        _data: object,
        flags: ConnectFlags,
        code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if code.is_failure:
            self._end(refusal(self._broker, code))
        elif not self._welcome.done():
            self._welcome.set_result(Welcome.of(flags.session_present, properties))

    def _on_disconnect(
        self,
        _client: Client,
        _data: object,
        flags: DisconnectFlags,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._end(dismissal(code))
        else:
            self._lost(self._driver.fault)

    def _on_subscribe(
        self,
        _client: Client,
        _data: object,
        mid: int,
        codes: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if self._subscribing is not None and self._subscribing[0] == mid:
            answer = self._subscribing[1]
            if not answer.done():
                answer.set_result(codes)

    def _on_publish(
        self,
        _client: Client,
        _data: object,
        mid: int,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        message = self.in_flight.pop(mid, None)
        if message is not None and code.is_failure:
            logger.warning("the broker refused our message on %s: %s", message.topic, code)
        self._loop.call_soon(self._on_room)

    def _on_paho_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        ack = self._ack_for(message.mid, message.qos)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            self._callback_errors += 1
            logger.warning("a message has a topic that is not UTF-8; dropped")
            ack()
            return
        found = message.properties
        self._hand_on(
            MqttMessage(
                topic=topic,
                payload=bytes(message.payload),
                qos=message.qos,
                retain=message.retain,
                dup=message.dup,
                mid=message.mid,
                ack=ack,
                expiry_s=getattr(found, "MessageExpiryInterval", None),
                response_topic=getattr(found, "ResponseTopic", None),
                correlation=getattr(found, "CorrelationData", None),
                content_type=getattr(found, "ContentType", None),
            )
        )

    # --- what it takes from the socket ----------------------------------------------------

    def _took(self, packet: bytes) -> bool:
        """Hand on the message in a packet, if it is one that can be read without paho."""
        found = plain_publish(packet, has_properties=self.version is Version.MQTT_5)
        if found is None:
            return False
        self._hand_on(MqttMessage(*found, self._ack_for(found.mid, found.qos)))
        return True

    def _hand_on(self, message: MqttMessage) -> None:
        try:
            self._on_message(message)
        except Exception:
            self._callback_errors += 1
            logger.exception("a message on %s was dropped by an error", message.topic)
            # It would come again with every connection, and do the same.
            message.ack()

    def _ack_for(self, mid: int, qos: int) -> Ack:
        if qos == 0:
            return Ack()
        self.unacked += 1
        self._handled += 1

        def send() -> None:
            if self.alive:
                self._receipts.add((mid, qos))
                self.release()

        return Ack(send)


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]  # paho did not annotate it
