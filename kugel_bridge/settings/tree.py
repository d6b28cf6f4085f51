"""The whole configuration as one value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from kugel_bridge.ops.secrets import MASK
from kugel_bridge.settings.cloud import Cloud
from kugel_bridge.settings.doors import Gateway, Hermes, HomeAssistant, Mqtt, Wyoming
from kugel_bridge.settings.house import Alerts, Levels, Phrase, Quiet, Zones
from kugel_bridge.settings.machine import Cache, Device, Local, Log, Queue
from kugel_bridge.settings.places import usage_path
from kugel_bridge.settings.values import Language, Slug

SOURCES: ContextVar[tuple[PydanticBaseSettingsSource, ...]] = ContextVar("SOURCES", default=())
"""Where a `Settings` under construction takes its values from, the strongest first.

pydantic-settings asks a class method for them, and which file to read is known at run time only.
"""


class Settings(BaseSettings):
    """Every setting, valid and fixed; `load.load` makes it."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    device: Device = Field(default_factory=Device)
    mqtt: Mqtt = Field(default_factory=Mqtt)
    cloud: Cloud = Field(default_factory=Cloud)
    cache: Cache = Field(default_factory=Cache)
    queue: Queue = Field(default_factory=Queue)
    priority: Levels = Field(default_factory=Levels)
    quiet: Quiet = Field(default_factory=Quiet)
    zones: Zones = Field(default={}, validate_default=True)
    local: Local = Field(default_factory=Local)
    alerts: Alerts = Field(default_factory=Alerts)
    phrases: dict[Slug, Phrase] = Field(
        default={}, description="Texts with variables, said by name."
    )
    words: dict[Language, dict[str, str]] = Field(
        default={}, description="Per language: a word, and how it is spoken."
    )
    gateway: Gateway = Field(default_factory=Gateway)
    home_assistant: HomeAssistant = Field(default_factory=HomeAssistant)
    hermes: Hermes = Field(default_factory=Hermes)
    wyoming: Wyoming = Field(default_factory=Wyoming)
    log: Log = Field(default_factory=Log)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # pydantic-settings' own readers skip what they do not know and forget where a value
        # came from; ours (sources.py) do neither.
        return (init_settings, *SOURCES.get())

    @model_validator(mode="before")
    @classmethod
    def _usage_beside_the_queue(cls, data: Any) -> Any:
        match data:
            case {"queue": {"path": str() | Path() as queue}, **rest}:
                gateway = rest.get("gateway", {})
                if isinstance(gateway, Mapping):
                    beside = {"usage_path": usage_path(Path(queue))}
                    return {**data, "gateway": beside | dict(gateway)}
        return data

    @property
    def default_zone(self) -> str:
        """The zone of announcements that name none: the first one."""
        return next(iter(self.zones))

    @property
    def device_name(self) -> str:
        """The device's name for people."""
        return self.device.name or self.device.id

    @property
    def client_id(self) -> str:
        """The MQTT client id."""
        return self.mqtt.client_id or f"kugel-bridge-{self.device.id}"

    @property
    def shown(self) -> dict[str, Any]:
        """All of it as plain JSON values; every secret is a row of stars."""
        return cast(dict[str, Any], _masked(self))

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret value, for the filter that keeps them out of the log."""
        found = [
            value.get_secret_value() for _, value in leaves(self) if isinstance(value, SecretStr)
        ]
        found += [key.get_secret_value() for key in self.gateway.keys]
        return tuple(dict.fromkeys(filter(None, [*found, self.cloud.effective_key])))


def leaves(model: BaseModel, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every setting with its path, tables opened up; in the order of the sections."""
    named = {info.alias or name: getattr(model, name) for name, info in fields(model).items()}
    for name, value in (named | (model.__pydantic_extra__ or {})).items():
        yield from _opened(value, (*above, name))


def fields(model: BaseModel | type[BaseModel]) -> dict[str, Any]:
    """The declared fields of a section."""
    kind = model if isinstance(model, type) else type(model)
    return dict(kind.model_fields)


def _opened(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, BaseModel):
        yield from leaves(value, path)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _opened(inner, (*path, name))
    else:
        yield path, value


def _masked(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, BaseModel):
        extra = value.__pydantic_extra__ or {}
        named = {
            field.alias or name: getattr(value, name)
            for name, field in type(value).model_fields.items()
        }
        return _masked(named | extra)
    if isinstance(value, Mapping):
        return {str(name): _masked(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(inner) for inner in value]
    return value if isinstance(value, bool | int | float | None) else str(value)
