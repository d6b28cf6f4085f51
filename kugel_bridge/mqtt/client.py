"""A connection to the broker that is always there again: the bridge's ear and mouth."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Collection, Sequence

from kugel_bridge.mqtt.backoff import STEADY_S, Backoff
from kugel_bridge.mqtt.broker import Broker
from kugel_bridge.mqtt.message import MqttMessage, Outgoing, Will
from kugel_bridge.mqtt.outbox import Outbox
from kugel_bridge.mqtt.topics import is_publishable
from kugel_bridge.mqtt.verdict import End, Version, WireError
from kugel_bridge.mqtt.wire import SUBSCRIBE_TIMEOUT_S, Wire

logger = logging.getLogger(__name__)

FAREWELL_TIMEOUT_S = 1.5
"""The process has to end within two seconds, also when the broker does not listen."""
SUSPICIOUS_LIVES = 3
RESUBSCRIBE_S = 60.0
"""How often to ask again for what the broker refused: somebody may have changed its rules."""


class MqttConnection:
    """Connects, subscribes, and begins anew whenever that ends; all on the event loop."""

    def __init__(
        self,
        broker: Broker,
        will: Will,
        subscriptions: Sequence[str],
        *,
        unkept: Collection[str] = (),
        on_message: Callable[[MqttMessage], None],
        on_up: Callable[[], None],
        on_down: Callable[[str], None],
        outbox: Outbox | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        """`on_up` is called when the subscriptions stand, `on_down` with the reason of a loss.

        `unkept` are the subscriptions at QoS 0: what the broker does not keep for us does not
        wait there, or here, behind thousands of announcements either.
        """
        self._broker, self._will, self._filters = broker, will, tuple(subscriptions)
        self._unkept = unkept
        self._on_message, self._on_up, self._on_down = on_message, on_up, on_down
        self._outbox = outbox or Outbox()
        self._backoff = backoff or Backoff()
        self._wire: Wire | None = None
        self._version = Version.MQTT_5
        self._knows_5 = False
        self._due_s = time.monotonic() + 60.0
        self._idle = asyncio.Event()
        self._callback_errors = 0
        self.refused: dict[str, str] = {}
        """Subscriptions that the broker refused, with its reasons."""
        self.fault = "not connected yet"
        """Why there is no connection; empty while there is one."""
        self.connects = 0
        """How often a connection came up."""
        self.is_session_kept = False
        """Whether the broker remembered us when the connection came up."""
        self.received = 0
        self.published = 0

    @property
    def connected(self) -> bool:
        """Whether the broker has us and our subscriptions."""
        return self._wire is not None and self._wire.alive

    @property
    def version(self) -> Version:
        """The protocol version of this connection, or of the next try."""
        return self._version

    @property
    def queued(self) -> int:
        """Messages that wait to be sent."""
        return len(self._outbox)

    @property
    def dropped(self) -> int:
        """Events that were given up because there was no connection for too long."""
        return self._outbox.dropped

    @property
    def unacked(self) -> int:
        """Messages we have not acknowledged; at 20 Mosquitto delivers nothing more."""
        return 0 if self._wire is None else self._wire.unacked

    @property
    def callback_errors(self) -> int:
        """Errors caught where a message was handled; each is a fault of ours, and logged."""
        return self._callback_errors + (0 if self._wire is None else self._wire.callback_errors)

    @property
    def overdue_s(self) -> float:
        """How late the connection is with its next sign of life (s); 0 while all is well.

        For the watchdog. A broker that cannot be reached is well in this sense: we try again.
        """
        due_s = self._due_s
        if self._wire is not None and self._wire.alive:
            due_s = time.monotonic() - self._wire.silent_s + self._wire.silence_limit_s + 1.0
        return max(0.0, time.monotonic() - due_s)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        correlation: bytes | None = None,
        is_answer: bool = False,
    ) -> None:
        """Send as soon as possible; of a retained topic only the last value waits."""
        if not is_publishable(topic):
            logger.error("MQTT: nothing can be sent to the topic %.64r", topic)
            return
        self._outbox.put(Outgoing(topic, payload, qos, retain, correlation), is_answer=is_answer)
        self._pump()

    async def run(self) -> None:
        """Be connected until cancelled, then take leave. Raises ConfigurationError (TLS files)."""
        context = None if self._broker.tls is None else self._broker.tls.context()
        told = ""
        short_lives = 0
        while True:
            started_s = time.monotonic()
            error, was_up = await self._live(context)
            lasted_s = time.monotonic() - started_s if was_up else 0.0
            wait_s = self._next_try(error, lasted_s)
            # One line for each change of state; the same again is for those who look closely.
            level = logging.DEBUG if str(error) == told and not was_up else logging.WARNING
            logger.log(level, "MQTT: %s; next try in %.1f s", error, wait_s)
            told = str(error)
            short_lives = short_lives + 1 if was_up and lasted_s < STEADY_S else 0
            if short_lives == SUSPICIOUS_LIVES:
                # Mosquitto 2.0 does not tell the one who is thrown out.
                logger.error(
                    "MQTT: %d connections in a row were closed within %.0f s; "
                    'does another client use our client id "%s"?',
                    short_lives,
                    STEADY_S,
                    self._broker.client_id,
                )
            self._due_s = time.monotonic() + wait_s + 1.0
            await asyncio.sleep(wait_s)

    async def _live(self, context: ssl.SSLContext | None) -> tuple[WireError, bool]:
        """One connection, from the first try to its end; and whether it ever stood."""
        timeout_s = self._broker.connect_timeout_s
        self._due_s = time.monotonic() + 4 * timeout_s + SUBSCRIBE_TIMEOUT_S + 1.0
        wire = Wire(
            self._broker,
            self._will,
            version=self._version,
            context=context,
            on_message=self._count_in,
            on_room=self._pump,
            unkept=self._unkept,
            crowded=lambda: self._outbox.crowded,
        )
        try:
            welcome = await wire.open()
            self._knows_5 = wire.version is Version.MQTT_5
            await self._subscribe(wire)
            logger.info(
                "MQTT: connected to %s with version %s, session %s",
                self._broker,
                wire.version.value,
                "kept" if welcome.session_present else "new",
            )
            self._wire, self.fault = wire, ""
            self.is_session_kept = welcome.session_present
            self.connects += 1
            self._call(self._on_up)
            self._pump()
            while True:
                error = await wire.keep(RESUBSCRIBE_S if self.refused else None)
                if error is not None:
                    break
                await self._subscribe(wire)
        except WireError as caught:
            error = caught
        except asyncio.CancelledError:
            await self._farewell(wire)
            raise
        finally:
            was_up = self._wire is wire
            self._drop(wire)
        self.fault = str(error)
        if was_up:
            self._call(lambda: self._on_down(str(error)))
        return error, was_up

    async def _subscribe(self, wire: Wire) -> None:
        refused = await wire.subscribe(self._filters)
        if refused != self.refused:
            for name, reason in refused.items():
                logger.error("MQTT: the broker refuses our subscription to %s: %s", name, reason)
            if not refused:
                logger.info("MQTT: the broker grants all subscriptions now")
        self.refused = refused

    async def _farewell(self, wire: Wire) -> None:
        """Send what is left, say that we are gone, and go."""
        try:
            async with asyncio.timeout(FAREWELL_TIMEOUT_S):
                if self._wire is wire:
                    self.publish(self._will.topic, self._will.payload, retain=True)
                while wire.alive and (wire.in_flight or (self._outbox and self._wire is wire)):
                    self._idle.clear()
                    await self._idle.wait()
                # Also before the subscriptions stand: acknowledgements may be on their way.
                await wire.leave()
        except TimeoutError:
            logger.debug("MQTT: the broker did not take our farewell in time")

    def _drop(self, wire: Wire) -> None:
        self._wire = None
        self._callback_errors += wire.callback_errors
        wire.close()
        self._outbox.put_back(wire.in_flight.values())

    def _next_try(self, error: WireError, lasted_s: float) -> float:
        tried, self._version = self._version, Version.MQTT_5
        if tried is Version.MQTT_5 and error.end is End.VERSION:
            self._version = Version.MQTT_3_1_1
            return 0.0
        if tried is Version.MQTT_5 and error.end is End.UNANSWERED and not self._knows_5:
            # Old brokers hang up on a version they do not know. Trying the new one again in turn
            # finds a broker that was updated, or was only slow.
            self._version = Version.MQTT_3_1_1
        return self._backoff.wait_s(error.end, lasted_s)

    def _count_in(self, message: MqttMessage) -> None:
        self.received += 1
        self._on_message(message)

    def _pump(self) -> None:
        """Send what waits, as far as the broker takes it."""
        wire = self._wire
        while wire is not None and wire.has_room and (message := self._outbox.take()) is not None:
            wire.send(message)
            self.published += 1
        if wire is not None:
            wire.release()
        self._idle.set()

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            self._callback_errors += 1
            logger.exception("MQTT: error while telling about the connection")
