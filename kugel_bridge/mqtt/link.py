"""What MQTT means to the bridge: messages become calls, news become messages."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from kugel_bridge.model.announcement import Announcement, ReplyAddress
from kugel_bridge.model.clock import Clock, SystemClock
from kugel_bridge.model.errors import BridgeError, ConfigurationError, RejectedError
from kugel_bridge.model.report import Report
from kugel_bridge.mqtt.broker import Broker
from kugel_bridge.mqtt.client import MqttConnection
from kugel_bridge.mqtt.events import (
    availability_payload,
    json_bytes,
    refusal_payload,
    report_payload,
    state_payload,
)
from kugel_bridge.mqtt.message import Ack, MqttMessage, Will
from kugel_bridge.mqtt.payloads import (
    Clean,
    Phrases,
    alert_of,
    is_alert_off,
    parse_announcement,
)
from kugel_bridge.mqtt.refusal import RefusedAnnouncementError, refusal_of
from kugel_bridge.mqtt.responses import (
    Request,
    answer_payload,
    error_payload,
    parse_request,
    read_arguments,
)
from kugel_bridge.mqtt.setting import SettingValue, parse_setting
from kugel_bridge.mqtt.topics import (
    AlertAddress,
    RequestAddress,
    SayAddress,
    SetAddress,
    Topics,
    is_publishable,
)
from kugel_bridge.mqtt.verdict import Version

logger = logging.getLogger(__name__)

STATE_PAUSE_S = 0.1
"""Between two states, so that ten a second are the most; the first change goes at once."""
MAX_REQUESTS = 16
"""Requests under way at a time."""
REQUEST_TIMEOUT_S = 120.0
MAX_REMEMBERED = 256
"""Retained requests that were refused already; each is reported once."""


class MqttLink:
    """The MQTT door: tells the app what people want, and people what became of it."""

    def __init__(
        self,
        broker: Broker,
        topics: Topics,
        *,
        clean: Clean,
        on_announcement: Callable[[Announcement, Ack], None],
        on_alert: Callable[[str, Announcement, Ack], None],
        on_set: Callable[[str, SettingValue], None],
        on_request: Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]],
        on_rejected: Callable[[RefusedAnnouncementError], None] = lambda _refusal: None,
        on_up: Callable[[], None] = lambda: None,
        on_down: Callable[[str], None] = lambda _reason: None,
        phrases: Phrases | None = None,
        default_zone: str = "main",
        clock: Clock | None = None,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        """`on_up` may publish more retained topics; "online" follows when it returns."""
        self._topics, self._clean, self._phrases = topics, clean, phrases
        self._on_announcement, self._on_alert = on_announcement, on_alert
        self._on_set, self._on_request, self._on_rejected = on_set, on_request, on_rejected
        self._told_up = on_up
        self._default_zone, self._new_id = default_zone, new_id or id_series()
        self._clock = clock or SystemClock()
        self._retained: dict[str, bytes] = {}
        self._state: bytes | None = None
        self._state_timer: asyncio.TimerHandle | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._requests = 0
        self._told_retained: dict[str, None] = {}
        self._errors = 0
        self.connection = MqttConnection(
            broker,
            Will(topics.availability, availability_payload(online=False)),
            topics.subscriptions(),
            unkept=(topics.requests,),
            on_message=self._on_message,
            on_up=self._on_up,
            on_down=on_down,
        )

    async def run(self) -> None:
        """Be connected until cancelled; then say "offline". Raises ConfigurationError."""
        wrong: ConfigurationError | None = None
        try:
            async with asyncio.TaskGroup() as self._tasks:
                try:
                    await self.connection.run()
                except ConfigurationError as error:
                    wrong = error  # the group would wrap it
        finally:
            self._tasks = None
            if self._state_timer is not None:
                self._state_timer.cancel()
        if wrong is not None:
            raise wrong

    @property
    def errors(self) -> int:
        """Faults of ours that were caught where a message was handled; each is in the log."""
        return self._errors + self.connection.callback_errors

    # --- news ---------------------------------------------------------------------------

    def publish_report(self, report: Report) -> None:
        """Tell a step or an outcome; an outcome also to whoever asked to hear it."""
        payload = report_payload(report)
        self.connection.publish(self._topics.event, payload)
        if report.is_outcome:
            self._send_to(report.announcement.reply_to, payload)

    def answer(self, report: Report) -> None:
        """Tell an outcome to the callers in it only: everybody else has heard of it."""
        self._send_to(report.announcement.reply_to, report_payload(report))

    def publish_state(self, state: Mapping[str, Any]) -> None:
        """Tell the state, if it changed; of quick changes the last one counts."""
        self._state = state_payload(state)
        if self._state_timer is None:
            self._send_state()

    def publish_info(self, info: Mapping[str, Any]) -> None:
        """Tell version and configuration, if they changed."""
        self.publish_retained(self._topics.info, json_bytes(dict(info)))

    def publish_health(self, health: Mapping[str, Any]) -> None:
        """Tell the figures."""
        self.publish_retained(self._topics.health, json_bytes(dict(health)))

    def publish_retained(self, topic: str, payload: bytes) -> None:
        """Tell a lasting fact now, and again after each connecting: brokers forget."""
        if self._retained.get(topic) != payload:
            self._retained[topic] = payload
            if self.connection.connected:
                self.connection.publish(topic, payload, retain=True)

    def _send_to(self, addresses: Sequence[ReplyAddress], payload: bytes) -> None:
        for address in addresses:
            self.connection.publish(address.topic, payload, correlation=address.correlation)

    def _send_state(self) -> None:
        self._state_timer = None
        if self._state is not None and self._retained.get(self._topics.state) != self._state:
            self.publish_retained(self._topics.state, self._state)
            loop = asyncio.get_running_loop()
            self._state_timer = loop.call_later(STATE_PAUSE_S, self._send_state)

    def _send_availability(self) -> None:
        payload = availability_payload(online=True)
        self.connection.publish(self._topics.availability, payload, retain=True)

    def _on_up(self) -> None:
        for topic, payload in self._retained.items():
            self.connection.publish(topic, payload, retain=True)
        try:
            self._told_up()
        finally:
            # Last of all: who waits for "online" finds everything else in place.
            self._send_availability()

    # --- what people want -----------------------------------------------------------------

    def _on_message(self, message: MqttMessage) -> None:
        match self._topics.address_of(message.topic):
            case SayAddress() as address:
                self._take_announcement(address, message)
            case AlertAddress() as address:
                if is_alert_off(message.payload):
                    message.ack()
                    self._start(self._carry_out("stop", {}))
                else:
                    self._take_announcement(address, message)
            case SetAddress(name):
                message.ack()
                self._take_setting(name, message)
            case RequestAddress(verb):
                message.ack()
                self._take_request(verb, message)
            case None:
                # A subscription of an older configuration lives on in the broker's session.
                message.ack()
                logger.debug("a message on %s is not for us", message.topic)

    def _take_announcement(self, address: SayAddress | AlertAddress, message: MqttMessage) -> None:
        received = self._clock.now()
        try:
            announcement = parse_announcement(
                address,
                message.payload,
                received=received,
                new_id=self._new_id,
                clean=self._clean,
                phrases=self._phrases,
                why_no_reply=self._topics.why_no_reply,
                content_type=message.content_type,
                retain=message.retain,
                expiry_s=message.expiry_s,
                response_topic=message.response_topic,
                correlation=message.correlation,
                delivery=fingerprint(message),
                redelivered=message.dup,
            )
        except RefusedAnnouncementError as refusal:
            self._refuse(refusal, message)
            return
        if announcement is None:
            message.ack()
            return
        if announcement.ignored:
            logger.info("%s: ignored fields %s", announcement.id, ", ".join(announcement.ignored))
        try:
            if isinstance(address, AlertAddress):
                self._on_alert(alert_of(announcement), announcement, message.ack)
            else:
                self._on_announcement(announcement, message.ack)
        except Exception:
            self._errors += 1
            logger.exception("announcement %s was dropped by an error", announcement.id)
            self._refuse(refusal_of(announcement, "internal error; see the log"), message)

    def _refuse(self, refusal: RefusedAnnouncementError, message: MqttMessage) -> None:
        message.ack()
        if self._was_refused_before(message):
            return
        logger.warning("announcement %s on %s rejected: %s", refusal.id, message.topic, refusal)
        zone = ",".join(refusal.zones) or self._default_zone
        payload = refusal_payload(refusal, zone, self._clock.now())
        self.connection.publish(self._topics.event, payload)
        self._send_to(refusal.reply_to, payload)
        self._on_rejected(refusal)

    def _was_refused_before(self, message: MqttMessage) -> bool:
        """Older connections replay retained messages with every connecting: told once is enough.

        With MQTT 5 we ask for no replay, so that each one is a new attempt of somebody.
        """
        if not message.retain or self.connection.version is Version.MQTT_5:
            return False
        key = hashlib.blake2b(message.topic.encode() + b"\0" + message.payload).hexdigest()
        known = key in self._told_retained
        self._told_retained[key] = None
        if len(self._told_retained) > MAX_REMEMBERED:
            del self._told_retained[next(iter(self._told_retained))]
        return known

    def _is_replay(self, message: MqttMessage) -> bool:
        """Whether this order was given before we connected, and is only stored in the broker."""
        return message.retain and self.connection.version is not Version.MQTT_5

    def _take_setting(self, name: str, message: MqttMessage) -> None:
        if not message.payload or self._is_replay(message):
            return
        try:
            self._on_set(name, parse_setting(name, message.payload))
        except RejectedError as error:
            logger.warning("setting %s not changed: %s", name, error)
            # Whoever sent it shows the new value already: say what holds.
            if (payload := self._retained.get(self._topics.state)) is not None:
                self.connection.publish(self._topics.state, payload, retain=True)

    def _take_request(self, verb: str, message: MqttMessage) -> None:
        if self._is_replay(message):
            return
        transaction = None
        try:
            request = parse_request(message.payload, message.content_type)
            transaction = request.transaction
            if self._requests >= MAX_REQUESTS:
                raise RejectedError(f"{MAX_REQUESTS} requests are under way; try again later")
        except RejectedError as error:
            self._answer(verb, message, error_payload(str(error), transaction))
            return
        self._start(self._serve(verb, request, message))

    async def _serve(self, verb: str, request: Request, message: MqttMessage) -> None:
        payload = await self._carry_out(verb, request.arguments, request.transaction)
        self._answer(verb, message, payload)

    async def _carry_out(
        self, verb: str, arguments: Mapping[str, Any], transaction: Any = None
    ) -> bytes:
        """Have a request carried out; the answer, whatever happens."""
        self._requests += 1
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                data = await self._on_request(verb.lower(), read_arguments(arguments))
            return answer_payload(data, transaction)
        except BridgeError as error:
            return error_payload(str(error), transaction)
        except TimeoutError:
            return error_payload(f"no result after {REQUEST_TIMEOUT_S:g} s", transaction)
        except Exception:
            self._errors += 1
            logger.exception("request %s failed", verb)
            return error_payload("internal error; the log has the details", transaction)
        finally:
            self._requests -= 1

    def _answer(self, verb: str, message: MqttMessage, payload: bytes) -> None:
        self.connection.publish(self._topics.response(verb), payload, is_answer=True)
        topic = message.response_topic
        if topic is not None and is_publishable(topic) and not self._topics.why_no_reply(topic):
            self.connection.publish(topic, payload, correlation=message.correlation, is_answer=True)

    def _start(self, work: Any) -> None:
        assert self._tasks is not None, "messages come while run() runs"
        self._tasks.create_task(work, name="mqtt-request")


def id_series() -> Callable[[], str]:
    """Ids for announcements that bring none: of this run, and counted.

    Drawing random numbers for each would cost a tenth of a millisecond before its first sound.
    """
    run, numbers = secrets.token_hex(4), itertools.count(1)
    return lambda: f"{run}-{next(numbers)}"


def fingerprint(message: MqttMessage) -> str:
    """The same for a message and its redelivery; empty for QoS 0, which comes once.

    Packet ids begin anew with each session, so it says something of redeliveries only.
    """
    if message.qos == 0:
        return ""
    said = f"{message.mid}\0{message.topic}\0".encode() + message.payload
    return hashlib.blake2b(said, digest_size=8).hexdigest()
