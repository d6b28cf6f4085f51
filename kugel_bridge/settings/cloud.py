"""`[cloud]`: the KugelAudio service, or a gateway that speaks its API."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from kugel_bridge.kugelaudio.hosts import is_loopback
from kugel_bridge.settings.values import Language, Number, Section, Wait, Whole

HOSTS = {"default": "https://api.kugelaudio.com", "eu": "https://api.eu.kugelaudio.com"}
"""Base URL of each region (API reference, "Hosts")."""
KEY_PREFIXES = {"eu-": "eu", "us-": "default", "global-": "default"}
"""A key may begin with the region it is for; the server never sees that (API reference, "Keys")."""


def _key(value: SecretStr) -> SecretStr | None:
    text = value.get_secret_value().strip()
    # The key travels in a URL and in a header line.
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must not contain spaces or signs outside ASCII")
    return SecretStr(text) if text else None


def _base_url(value: str) -> str:
    parts = urlsplit(value)
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username:
        raise ValueError("must look like https://host, http://host:port or https://host/prefix")
    return value.rstrip("/")


def _voice(value: Any) -> Any:
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str) or value in (0, ""):
        raise ValueError("must be the number or the handle of a voice; see `kugel-bridge voices`")
    return value.strip() if isinstance(value, str) else value


class Cloud(Section):
    """The KugelAudio service; without a key and a base_url it is not used."""

    api_key: Annotated[SecretStr, AfterValidator(_key)] | None = Field(
        default=None,
        description="The key. Better kept out of this file: $KUGELAUDIO_API_KEY, "
        "or the credential cloud_api_key. A prefix eu-, us- or global- chooses the region.",
        examples=["ka_..."],
    )
    region: Literal["default", "eu"] = Field(
        default="default",
        description="Which hosts: default (nearest), or eu; wins over the key's prefix.",
    )
    base_url: Annotated[str, AfterValidator(_base_url)] | None = Field(
        default=None,
        description="Another server with the same API, as a kugel-bridge gateway; wins over all.",
        examples=["http://127.0.0.1:8780"],
    )
    model: str = Field(
        default="kugel-3.5", min_length=1, description="Model; see `kugel-bridge models`."
    )
    voice_id: Annotated[int | str, BeforeValidator(_voice)] | None = Field(
        default=None,
        description="Voice, as number or handle; see `kugel-bridge voices`. "
        "The service has no default voice.",
        examples=[1071],
    )
    language: Language = Field(
        default="en", description="Language of announcements that name none."
    )
    speed: Annotated[Number, Field(ge=0.8, le=1.2)] = Field(
        default=1.0, description="Rate of speech, 0.8 to 1.2."
    )
    connect_timeout_s: Wait = Field(
        default=5.0, description="How long opening a connection may take (s)."
    )
    first_audio_timeout_s: Wait = Field(
        default=8.0,
        description="How long the first sound may take (s); the ladder moves on earlier, "
        "see priority.<level>.first_sound_s.",
    )
    stall_timeout_s: Wait = Field(
        default=5.0,
        description="How long sound may pause in the middle (s) before it counts as broken.",
    )
    max_generations: Annotated[Whole, Field(ge=1, le=20)] = Field(
        default=1, description="Generations at a time; an account's first tier allows one."
    )
    max_characters: Annotated[Whole, Field(ge=200, le=15_800)] = Field(
        default=2000,
        description="Longest text of one request; longer ones are cut at sentence ends. "
        "An account's first tier allows 2000.",
    )
    characters_per_day: Annotated[Whole, Field(ge=0)] | None = Field(
        default=None,
        description="Soft budget of characters sent to the cloud per day.",
        examples=[20000],
    )

    @property
    def effective_base_url(self) -> str:
        """The server's address: base_url, else region, else the key's prefix, else the default."""
        if self.base_url is not None:
            return self.base_url
        if "region" in self.model_fields_set:
            return HOSTS[self.region]
        return HOSTS[self._split_key[0]]

    @property
    def effective_key(self) -> str:
        """The key as the server wants it, without a region in front; empty = no key."""
        return self._split_key[1]

    @property
    def enabled(self) -> bool:
        """Whether there is anything to ask: a key, or a server of one's own."""
        return bool(self.effective_key) or self.base_url is not None

    @property
    def voice(self) -> str | None:
        """`voice_id` as text."""
        return None if self.voice_id is None else str(self.voice_id)

    @property
    def sends_key_in_clear(self) -> bool:
        """Whether the key would cross a network without encryption."""
        parts = urlsplit(self.effective_base_url)
        return bool(self.effective_key and parts.scheme == "http") and not is_loopback(
            parts.hostname or ""
        )

    @property
    def _split_key(self) -> tuple[str, str]:
        key = self.api_key.get_secret_value() if self.api_key else ""
        for prefix, region in KEY_PREFIXES.items():
            if key.startswith(prefix):
                return region, key.removeprefix(prefix)
        return "default", key
