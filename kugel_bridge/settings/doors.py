"""How the world reaches the bridge: MQTT, the gateway, Home Assistant, Hermes, Wyoming."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, model_validator

from kugel_bridge.kugelaudio.hosts import is_loopback
from kugel_bridge.settings.places import queue_path, usage_path
from kugel_bridge.settings.values import (
    AsList,
    FilePath,
    Port,
    Section,
    Slug,
    Topic,
    Whole,
    Words,
    WrongKeyError,
)
from kugel_bridge.settings.voice import VoiceEntry

if TYPE_CHECKING:
    from kugel_bridge.gateway.voices import VoiceWish

MQTT_PORT = 1883
MQTT_TLS_PORT = 8883


class Mqtt(Section):
    """The broker."""

    host: str = Field(
        default="localhost", min_length=1, description="The broker's name or address."
    )
    port: Port | None = Field(
        default=None, description="Its port; 1883 if not set, 8883 with tls.", examples=[1883]
    )
    username: str | None = Field(
        default=None, description="Name to log in with.", examples=["kugel"]
    )
    password: SecretStr | None = Field(
        default=None,
        description="Password. Better kept out of this file: the credential mqtt_password.",
        examples=["..."],
    )
    tls: bool = Field(default=False, description="Encrypt the connection, and verify the broker.")
    ca_file: FilePath | None = Field(
        default=None,
        description="Certificates to trust instead of the system's, for a broker with its own CA.",
        examples=["/etc/kugel-bridge/ca.crt"],
    )
    cert_file: FilePath | None = Field(
        default=None, description="Client certificate.", examples=["/etc/kugel-bridge/client.crt"]
    )
    key_file: FilePath | None = Field(
        default=None,
        description="Its key, if in a file of its own.",
        examples=["/etc/kugel-bridge/c.key"],
    )
    base_topic: Topic = Field(default="kugel", description="First part of every topic.")
    client_id: str | None = Field(
        default=None,
        min_length=1,
        description="MQTT client id; kugel-bridge-<device.id> if not set. "
        "Two clients with one id throw each other out.",
        examples=["kugel-bridge-kitchen"],
    )
    extra_topics: Words = Field(
        default=[], description="Further topics that are read as <base>/<device>/say."
    )
    # A dead peer is noticed after twice this time.
    keepalive_s: Annotated[Whole, Field(ge=1, le=65535)] = Field(
        default=10, description="Seconds between signs of life."
    )

    @property
    def effective_port(self) -> int:
        """The port that is really used."""
        return self.port or (MQTT_TLS_PORT if self.tls else MQTT_PORT)

    @model_validator(mode="after")
    def _fits_together(self) -> Mqtt:
        if self.password is not None and self.username is None:
            raise WrongKeyError("password", "needs a username; set mqtt.username")
        for name in ("ca_file", "cert_file", "key_file"):
            # Else a person who gave certificates would talk in clear without knowing.
            if getattr(self, name) is not None and not self.tls:
                raise WrongKeyError(name, "needs tls; set mqtt.tls = true")
        if self.key_file is not None and self.cert_file is None:
            raise WrongKeyError("key_file", "needs a certificate; set mqtt.cert_file")
        return self


def _gateway_keys(keys: list[SecretStr]) -> list[SecretStr]:
    for key in keys:
        text = key.get_secret_value()
        if text.startswith("sha256:"):
            if not re.fullmatch(r"sha256:[0-9a-fA-F]{64}", text):
                raise ValueError("has a sha256: key that is not followed by 64 hexadecimal digits")
        # Clients put the key into a URL without encoding it (API reference, "Presenting the key").
        elif not re.fullmatch(r"[A-Za-z0-9_.~-]+", text):
            raise ValueError("has a key with other signs than A-Z a-z 0-9 - _ . ~")
        elif found := re.match(r"eu-|us-|global-", text):
            raise ValueError(
                f"has a key that begins with {found[0]}, which clients take for a region and cut "
                "off before they send it; choose another key"
            )
    return keys


class Gateway(Section):
    """A server that speaks the KugelAudio API."""

    enabled: bool = Field(default=False, description="Serve it from the daemon.")
    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on; others need keys, or open_to_all.",
    )
    port: Port = Field(default=8780, description="Port to listen on.")
    keys: Annotated[list[SecretStr], AsList, AfterValidator(_gateway_keys)] = Field(
        default=[],
        description='Keys that are let in, plain or as "sha256:<hex digest>"; none = no check.',
    )
    open_to_all: bool = Field(
        default=False, description="Let everybody in who can reach host, without any key."
    )
    engine: Literal["local", "upstream"] = Field(
        default="local",
        description="Where its sound comes from: local (the local engine), or upstream "
        "(the service of [cloud], through the phrase cache).",
    )
    fallback: bool = Field(
        default=True,
        description="With upstream: let the local engine speak what the service cannot say now.",
    )
    hidden_voices: Annotated[list[Annotated[str, Field(coerce_numbers_to_str=True)]], AsList] = (
        Field(default=[], description="Voices that are not offered, as numbers or handles.")
    )
    voices: dict[Slug, VoiceEntry] = Field(
        default={}, description="Voices of one's own, by handle."
    )
    requests_per_minute: Annotated[Whole, Field(ge=1, le=100_000)] = Field(
        default=1200, description="Texts each key may have spoken within any minute."
    )
    concurrent_generations: Annotated[Whole, Field(ge=1)] = Field(
        default=20, description="Texts each key may have under way."
    )
    connections: Annotated[Whole, Field(ge=1)] = Field(
        default=200, description="WebSocket connections each key may hold."
    )
    characters_per_day: Annotated[Whole, Field(ge=1)] | None = Field(
        default=None,
        description="Characters each key may have spoken per day; no budget if not set.",
        examples=[100_000],
    )
    characters_per_request: Annotated[Whole, Field(ge=1, le=15_800)] = Field(
        default=10_000, description="Longest text of one request."
    )
    usage_path: FilePath = Field(
        default_factory=lambda: usage_path(queue_path()),
        description="Database of what each key has used; beside the queue's if not set.",
        examples=["/var/lib/kugel-bridge/usage.db"],
    )
    faults: bool = Field(
        default=False,
        description="Take orders to misbehave at /faults, for testing clients; on loopback only.",
    )

    @property
    def wishes(self) -> tuple[VoiceWish, ...]:
        """`voices`, as the local engine's line-up takes them."""
        if not self.voices:
            return ()
        # Few have voices of their own; the others do not wait for the catalogue to be loaded.
        from kugel_bridge.gateway.voices import VoiceWish

        return tuple(
            VoiceWish(
                handle=handle,
                id=entry.id,
                name=entry.name,
                languages=None if entry.languages is None else tuple(entry.languages),
                sex=entry.sex,
                description=entry.description,
                espeak=entry.espeak,
                wyoming=entry.wyoming,
                wyoming_voice=entry.wyoming_voice,
            )
            for handle, entry in self.voices.items()
        )

    @property
    def hidden_local_voices(self) -> list[str]:
        """`hidden_voices`, where they can only be the local engine's: upstream has others."""
        return [] if self.engine == "upstream" else self.hidden_voices

    @model_validator(mode="after")
    def _guarded(self) -> Gateway:
        if not self.keys and not self.open_to_all and not is_loopback(self.host):
            raise WrongKeyError(
                "host",
                "would be open to everybody; set gateway.keys, "
                'gateway.host = "127.0.0.1", or gateway.open_to_all = true if that is meant',
            )
        if self.faults and not is_loopback(self.host):
            raise WrongKeyError(
                "faults",
                f"would let others on {self.host} order faults; set gateway.faults = false, "
                'or gateway.host = "127.0.0.1"',
            )
        return self


class HomeAssistant(Section):
    """MQTT discovery for Home Assistant."""

    enabled: bool = Field(default=False, description="Announce entities.")
    discovery_prefix: Topic = Field(
        default="homeassistant", description="Home Assistant's own prefix."
    )
    status_topic: Topic = Field(
        default="homeassistant/status", description="Where Home Assistant says that it started."
    )


class Hermes(Section):
    """The Hermes protocol of Rhasspy and Snips."""

    enabled: bool = Field(default=False, description="Listen to hermes/tts/say.")
    site_ids: Words = Field(default=[], description="Sites to speak for; none = every site.")


class Wyoming(Section):
    """The Wyoming protocol, for Home Assistant's text to speech."""

    enabled: bool = Field(default=False, description="Serve it.")
    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: Port = Field(default=10200, description="Port to listen on.")
    zeroconf: bool = Field(default=True, description="Make it known in the network.")
