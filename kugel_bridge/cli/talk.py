"""A short conversation with a running bridge over MQTT, for commands that ask and wait."""

from __future__ import annotations

import json
import queue
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from kugel_bridge.model.announcement import MAX_PAYLOAD_BYTES
from kugel_bridge.model.errors import (
    BridgeError,
    ConfigurationError,
    RejectedError,
    ServiceUnavailableError,
    UnauthorizedError,
)
from kugel_bridge.mqtt.broker import Broker
from kugel_bridge.mqtt.topics import Topics

CONNECT_TIMEOUT_S = 5.0
PRESENCE_TIMEOUT_S = 2.0
"""A retained message comes right after the subscription; without one nobody was ever there."""
REQUEST_TIMEOUT_S = 30.0
MAX_HELD = 1_000
"""Messages kept for a command that is busy; a bridge that talks more is not answering us."""
ASK_AGAIN_S = 240.0
"""After a broken connection we ask again what became of our announcement, by sending it again: the
bridge knows its id for five minutes. Later it would be spoken twice."""
RECONNECT_S = 1
_REFUSED_PERSON = (0x86, 0x87)
"""Bad user name or password, not authorized (MQTT 5.0, section 3.2.2.2)."""


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
        self._passed: deque[tuple[str, bytes]] = deque(maxlen=MAX_HELD)
        self._connected: queue.Queue[ReasonCode | None] = queue.Queue()
        self._granted: queue.Queue[Sequence[ReasonCode]] = queue.Queue()
        self._filters: list[str] = []
        self._said: bytes | None = None
        self._lost_s: float | None = None
        self._is_welcome = False
        self._client: paho.Client | None = None

    def __enter__(self) -> Self:
        try:
            self._client = self._open(MQTTProtocolVersion.MQTTv5)
        except _VersionRefusedError:
            self._client = self._open(MQTTProtocolVersion.MQTTv311)
        try:
            # In this order: who finds "online" finds the rest as well.
            self._listen(self._topics.info, self._topics.availability, self._reply)
        except BaseException:
            self._close(self._client)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._client is not None:
            self._close(self._client)

    def find_bridge(self, timeout_s: float | None = None) -> list[str]:
        """The zones of the bridge, the default one first; empty if it does not tell.

        `timeout_s` is for a bridge that is just starting. Raises ServiceUnavailableError if it is
        not there.
        """
        wait_s = PRESENCE_TIMEOUT_S if timeout_s is None else timeout_s
        try:
            answer = json.loads(self._receive(wait_s, self._topics.availability)[1])
        except (TimeoutError, ValueError):
            answer = None
        if answer != {"state": "online"}:
            raise ServiceUnavailableError(
                f"no kugel-bridge named {self._device!r} is connected to {self._broker}; start it "
                "with `kugel-bridge run`, or check device.id and mqtt.host"
            )
        try:
            info = json.loads(self._receive(PRESENCE_TIMEOUT_S, self._topics.info)[1])
            return list(info["config"]["zones"])
        except (TimeoutError, ValueError, TypeError, KeyError):
            return []

    def say(self, fields: Mapping[str, Any]) -> None:
        """Send an announcement; what becomes of it comes to `news`.

        A `reply_to` of the caller's own takes the place of ours; the event is heard anyway.

        Raises RejectedError for one that is too large for any bridge.
        """
        self._listen(self._topics.event)
        payload = json.dumps({"reply_to": self._reply, **fields}, ensure_ascii=False).encode()
        if len(payload) > MAX_PAYLOAD_BYTES:
            # A broker may keep it back without a word.
            raise RejectedError(
                f"the announcement has {len(payload)} bytes, at most {MAX_PAYLOAD_BYTES} are taken"
            )
        self._publish(f"{self._root}/say", payload)
        self._said = payload

    def news(self, announcement_id: str, timeout_s: float) -> dict[str, Any]:
        """The next step or outcome of what was said; `event_type` is "offline" if the bridge left.

        An outcome may come twice. Raises TimeoutError after `timeout_s` (s).
        """
        end_s = time.monotonic() + timeout_s
        while True:
            topic, payload = self._receive(
                end_s - time.monotonic(),
                self._reply,
                self._topics.event,
                self._topics.availability,
            )
            try:
                news = json.loads(payload)
            except ValueError:
                continue
            if topic == self._topics.availability and news == {"state": "offline"}:
                return {"event_type": "offline"}
            # The outcome comes on both topics; access rules may hide either from us. The first one
            # is ours alone: there, a refusal that could not even read our id is for us.
            is_ours = topic == self._reply
            if isinstance(news, dict) and (is_ours or news.get("id") == announcement_id):
                return news

    def request(self, verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request; raises BridgeError with the bridge's reason."""
        topic = self._topics.response(verb)
        self._listen(topic)
        transaction = uuid.uuid4().hex
        payload = json.dumps({**arguments, "transaction": transaction}, ensure_ascii=False)
        self._publish(f"{self._root}/request/{verb}", payload.encode())
        end_s = time.monotonic() + REQUEST_TIMEOUT_S
        while True:
            try:
                answer = json.loads(self._receive(end_s - time.monotonic(), topic)[1])
            except TimeoutError as error:
                raise ServiceUnavailableError(
                    f"the bridge did not answer {verb} within {REQUEST_TIMEOUT_S:g} s"
                ) from error
            except ValueError:
                continue  # somebody else's
            if isinstance(answer, dict) and answer.get("transaction") == transaction:
                break
        if answer.get("status") != "ok":
            raise BridgeError(str(answer.get("error", "the bridge refused the request")))
        data = answer.get("data")
        if not isinstance(data, dict):
            raise BridgeError(f"the answer to {verb} cannot be read: it holds no data")
        return data

    # --- the connection -------------------------------------------------------------------

    def _open(self, version: MQTTProtocolVersion) -> paho.Client:
        broker = self._broker
        self._connected = queue.Queue()
        client = paho.Client(CallbackAPIVersion.VERSION2, protocol=version)
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if broker.tls is not None:
            client.tls_set_context(broker.tls.context())
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.reconnect_delay_set(RECONNECT_S, RECONNECT_S)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = lambda _c, _u, _mid, reasons, _p: self._granted.put(reasons)
        client.on_message = self._on_message
        try:
            client.connect(broker.host, broker.port, broker.keepalive_s)
        except OSError as error:
            raise ServiceUnavailableError(
                f"the broker at {broker} cannot be reached: {error}; check mqtt.host and mqtt.port"
            ) from error
        except ValueError as error:  # also what the resolver says of a name that cannot be
            raise ConfigurationError(f'mqtt.host = "{broker.host}": not a host name') from error
        client.loop_start()
        try:
            self._check_welcome(version)
            self._is_welcome = True
        except BaseException:
            self._close(client)
            raise
        return client

    def _check_welcome(self, version: MQTTProtocolVersion) -> None:
        broker = self._broker
        try:
            reason = self._connected.get(timeout=CONNECT_TIMEOUT_S)
        except queue.Empty:
            raise _unwilling(version, f"the broker at {broker} does not answer") from None
        if reason is None:
            raise _unwilling(
                version,
                f"whatever listens at {broker} closes the connection; check mqtt.port and mqtt.tls",
            )
        if not reason.is_failure:
            return
        if "version" in str(reason).lower():
            raise _unwilling(version, f"the broker at {broker} refuses us: {reason}")
        if reason.value in _REFUSED_PERSON:
            raise UnauthorizedError(
                f"the broker at {broker} refuses us: {reason}; check mqtt.username and the password"
            )
        raise ServiceUnavailableError(f"the broker at {broker} refuses us: {reason}")

    def _close(self, client: paho.Client) -> None:
        client.disconnect()
        client.loop_stop()

    def _listen(self, *filters: str) -> None:
        """Subscribe; returns when the broker has said yes."""
        assert self._client is not None
        new = [name for name in filters if name not in self._filters]
        if not new:
            return
        self._filters += new
        self._client.subscribe([(name, 1) for name in new])
        try:
            reasons = self._granted.get(timeout=CONNECT_TIMEOUT_S)
        except queue.Empty:
            raise ServiceUnavailableError(f"the broker at {self._broker} does not answer") from None
        refused = [name for name, reason in zip(new, reasons, strict=False) if reason.is_failure]
        if refused:
            raise UnauthorizedError(
                f"the broker at {self._broker} does not let us read {', '.join(refused)}; "
                "check its access rules for mqtt.username"
            )

    def _on_connect(
        self, client: paho.Client, _user: Any, _flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        self._connected.put(reason)
        if reason.is_failure:
            return
        lost_s, self._lost_s = self._lost_s, None
        if not self._filters:
            return
        # Again, after a break: the broker has forgotten us, and what was said meanwhile is lost.
        client.subscribe([(name, 1) for name in self._filters])
        is_known = lost_s is not None and time.monotonic() - lost_s < ASK_AGAIN_S
        if self._said is not None and is_known:
            client.publish(f"{self._root}/say", self._said, qos=1)

    def _on_disconnect(self, client: paho.Client, *_: Any) -> None:
        if self._lost_s is None:  # what follows are tries to come back
            self._lost_s = time.monotonic()
        self._connected.put(None)
        if not self._is_welcome:
            client.disconnect()  # or paho would try again by itself

    def _on_message(self, _client: paho.Client, _user: Any, message: paho.MQTTMessage) -> None:
        try:
            self._inbox.put_nowait((message.topic, bytes(message.payload)))
        except queue.Full:
            return  # nobody waits for that much

    def _receive(self, timeout_s: float, *topics: str) -> tuple[str, bytes]:
        """The next message on one of `topics`; others keep for later. Raises TimeoutError."""
        for kept in self._passed:
            if kept[0] in topics:
                self._passed.remove(kept)
                return kept
        end_s = time.monotonic() + timeout_s
        while (left_s := end_s - time.monotonic()) > 0:
            try:
                came = self._inbox.get(timeout=left_s)
            except queue.Empty:
                break
            if came[0] in topics:
                return came
            self._passed.append(came)
        raise TimeoutError

    def _publish(self, topic: str, payload: bytes) -> None:
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
