"""This machine: its name, its cache and queue on disk, its local voice, its log."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from kugel_bridge.settings.places import cache_directory, device_id, queue_path
from kugel_bridge.settings.values import (
    FilePath,
    Section,
    Slug,
    Slugs,
    Whole,
    WrongKeyError,
)
from kugel_bridge.settings.voice import WyomingUri


def _lowercase(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class Device(Section):
    """Who this bridge is."""

    id: Slug = Field(
        default_factory=device_id,
        description="Its part of every topic; the host name if not set.",
        examples=["kitchen"],
    )
    name: str | None = Field(
        default=None,
        min_length=1,
        description="Name for people; the id if not set.",
        examples=["Kitchen"],
    )
    area: str | None = Field(
        default=None, min_length=1, description="The room it stands in.", examples=["Kitchen"]
    )
    groups: Slugs = Field(default=[], description="Groups it listens to: <base>/group/<group>/say.")


class Cache(Section):
    """Phrases said before, kept on disk."""

    dir: FilePath = Field(
        default_factory=cache_directory,
        description="Its directory; $CACHE_DIRECTORY (systemd), else the user's cache directory.",
        examples=["/var/cache/kugel-bridge"],
    )
    max_mb: Annotated[Whole, Field(ge=0, le=1_000_000)] = Field(
        default=512, description="Largest size (MB); 0 = no cache. A minute of speech takes 3 MB."
    )
    warm: FilePath | None = Field(
        default=None,
        description="A file with phrases, a line each, to be fetched ahead.",
        examples=["/etc/kugel-bridge/phrases.txt"],
    )
    admit: Literal["always", "second-use"] = Field(
        default="always", description="Keep a phrase always, or from its second use on."
    )


class Queue(Section):
    """What still has to be said."""

    path: FilePath = Field(
        default_factory=queue_path,
        description="Its database; in $STATE_DIRECTORY (systemd), else the user's state directory.",
        examples=["/var/lib/kugel-bridge/queue.db"],
    )
    max_waiting: Annotated[Whole, Field(ge=1, le=100_000)] = Field(
        default=1000, description="How many announcements may wait; more are skipped."
    )


class Local(Section):
    """The voice that needs no internet."""

    engine: Literal["auto", "espeak-ng", "wyoming", "none"] = Field(
        default="auto", description="auto (what is installed), espeak-ng, wyoming or none."
    )
    wyoming_uri: WyomingUri | None = Field(
        default=None,
        description="The server for the engine wyoming; its voices have one speed.",
        examples=["tcp://127.0.0.1:10200"],
    )
    voice: str | None = Field(
        default=None,
        min_length=1,
        description="Its voice; chosen by language if not set.",
        examples=["en-gb"],
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Local:
        if self.engine == "wyoming" and self.wyoming_uri is None:
            raise WrongKeyError(
                "engine", 'needs a server; set local.wyoming_uri = "tcp://host:port"'
            )
        if self.engine != "wyoming" and self.wyoming_uri is not None:
            raise WrongKeyError(
                "wyoming_uri",
                f'is not used by local.engine = "{self.engine}"; '
                'set local.engine = "wyoming", or remove local.wyoming_uri',
            )
        return self


class Log(Section):
    """What is logged."""

    level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lowercase)] = (
        Field(
            default="info", description="debug, info, warning or error; texts appear at debug only."
        )
    )
    format: Annotated[Literal["auto", "text", "json", "journal"], BeforeValidator(_lowercase)] = (
        Field(
            default="auto",
            description="text, json, journal, or auto (journal under systemd, else text).",
        )
    )
