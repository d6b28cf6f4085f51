"""A short conversation with a running bridge over MQTT, for commands that ask and wait."""

from __future__ import annotations

import json
import queue
import time
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from kugel_bridge.model.errors import BridgeError, ServiceUnavailableError, UnauthorizedError
from kugel_bridge.mqtt.broker import Broker
from kugel_bridge.mqtt.topics import Topics

CONNECT_TIMEOUT_S = 5.0
PRESENCE_TIMEOUT_S = 2.0
"""A retained message comes right after the subscription; without one nobody was ever there."""
REQUEST_TIMEOUT_S = 30.0
MAX_HELD = 1_000
"""Messages kept for a command that is busy; a bridge that talks more is not answering us."""


class Talk:
    """Connected while the `with` block runs; every wait has a limit.

    Raises UnauthorizedError or ServiceUnavailableError where the broker or the bridge is not to
    be had; the text says which, and what to do.
    """

    def __init__(self, broker: Broker, topics: Topics, base: str, device: str) -> None:
        self._broker, self._topics = broker, topics
        self._device = device
        self._root = f"{base}/{device}"
        self._reply = f"{base}/reply/{uuid.uuid4().hex}"
        self._inbox: queue.Queue[tuple[str, bytes]] = queue.Queue(MAX_HELD)
        self._connected: queue.Queue[ReasonCode] = queue.Queue()
        self._client: paho.Client | None = None

    def __enter__(self) -> Self:
        try:
            self._client = self._open(MQTTProtocolVersion.MQTTv5)
        except _VersionRefusedError:
            self._client = self._open(MQTTProtocolVersion.MQTTv311)
        self._client.subscribe([(self._topics.availability, 1), (self._reply, 1)])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()

    def find_bridge(self) -> None:
        """Return when the bridge says that it is there; raises ServiceUnavailableError."""
        try:
            answer = json.loads(self._receive(self._topics.availability, PRESENCE_TIMEOUT_S))
        except (TimeoutError, ValueError):
            answer = None
        if answer != {"state": "online"}:
            raise ServiceUnavailableError(
                f"no kugel-bridge named {self._device!r} is connected to {self._broker}; start it "
                "with `kugel-bridge run`, or check device.id and mqtt.host"
            )

    def say(self, fields: Mapping[str, Any], topic: str | None = None) -> None:
        """Send an announcement; its outcome comes to `outcome`."""
        payload = json.dumps({**fields, "reply_to": self._reply}, ensure_ascii=False)
        self._publish(topic or f"{self._root}/say", payload)

    def outcome(self, timeout_s: float | None) -> dict[str, Any]:
        """The next outcome of what was said; raises TimeoutError after `timeout_s` (s)."""
        answer: dict[str, Any] = json.loads(self._receive(self._reply, timeout_s))
        return answer

    def request(self, verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request; raises BridgeError with the bridge's reason."""
        assert self._client is not None
        topic = self._topics.response(verb)
        self._client.subscribe(topic, 1)
        transaction = uuid.uuid4().hex
        payload = json.dumps({**arguments, "transaction": transaction}, ensure_ascii=False)
        self._publish(f"{self._root}/request/{verb}", payload)
        while True:
            try:
                answer = json.loads(self._receive(topic, REQUEST_TIMEOUT_S))
            except TimeoutError as error:
                raise ServiceUnavailableError(
                    f"the bridge did not answer {verb} within {REQUEST_TIMEOUT_S:g} s"
                ) from error
            if answer.get("transaction") == transaction:
                break
        if answer.get("status") != "ok":
            raise BridgeError(str(answer.get("error", "the bridge refused the request")))
        data: dict[str, Any] = answer["data"]
        return data

    def _open(self, version: MQTTProtocolVersion) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=version)
        broker = self._broker
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if broker.tls is not None:
            client.tls_set_context(broker.tls.context())
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.on_connect = lambda _c, _u, _f, reason, _p: self._connected.put(reason)
        client.on_message = self._on_message
        try:
            client.connect(broker.host, broker.port, broker.keepalive_s)
        except OSError as error:
            raise ServiceUnavailableError(
                f"the broker at {broker} cannot be reached: {error}; check mqtt.host and mqtt.port"
            ) from error
        client.loop_start()
        try:
            reason = self._connected.get(timeout=CONNECT_TIMEOUT_S)
        except queue.Empty:
            client.loop_stop()
            raise _unwilling(version, f"the broker at {broker} does not answer") from None
        if reason.is_failure:
            client.loop_stop()
            if "version" in str(reason).lower():
                raise _unwilling(version, f"the broker at {broker} refuses us: {reason}")
            raise UnauthorizedError(
                f"the broker at {broker} refuses us: {reason}; check mqtt.username and the password"
            )
        return client

    def _on_message(self, _client: paho.Client, _user: Any, message: paho.MQTTMessage) -> None:
        try:
            self._inbox.put_nowait((message.topic, bytes(message.payload)))
        except queue.Full:
            return  # nobody waits for that much

    def _receive(self, topic: str, timeout_s: float | None) -> bytes:
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = None if end_s is None else end_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                raise TimeoutError
            try:
                came, payload = self._inbox.get(timeout=left_s)
            except queue.Empty:
                raise TimeoutError from None
            if came == topic:
                return payload

    def _publish(self, topic: str, payload: str) -> None:
        assert self._client is not None
        sent = self._client.publish(topic, payload, qos=1)
        sent.wait_for_publish(CONNECT_TIMEOUT_S)
        if not sent.is_published():
            raise ServiceUnavailableError(f"the broker at {self._broker} did not take the message")


class _VersionRefusedError(Exception):
    """The broker does not speak MQTT 5."""


def _unwilling(version: MQTTProtocolVersion, text: str) -> Exception:
    if version is MQTTProtocolVersion.MQTTv5:
        return _VersionRefusedError(text)
    return ServiceUnavailableError(text)
