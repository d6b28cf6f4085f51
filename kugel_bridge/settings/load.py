"""Reads the configuration: one file, overridden by the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from kugel_bridge.settings.checks import found_problems, found_warnings
from kugel_bridge.settings.places import CONFIGURATION_FILE
from kugel_bridge.settings.problems import SettingsError, problems_of
from kugel_bridge.settings.sources import (
    FILE_VARIABLE,
    from_conventional_variable,
    from_credentials,
    from_environment,
    from_file,
)
from kugel_bridge.settings.tree import SOURCES, Settings

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings, and where they came from."""

    settings: Settings
    origins: Mapping[tuple[str, ...], str]
    """By path; what is not in here is a default."""
    file: Path | None
    """The file that was read, if there is one."""
    warnings: tuple[str, ...] = ()
    """What works and is unwise, a line each."""

    def origin(self, path: tuple[str, ...]) -> str:
        """File and line, variable or credential that a setting came from, or "default"."""
        return self.origins.get(path, DEFAULT)


def configuration_file(chosen: Path | None = None) -> Path | None:
    """The file that would be read: `chosen`, else $KUGEL_BRIDGE_CONFIG, else the system's."""
    if chosen is not None:
        return chosen
    if given := os.environ.get(FILE_VARIABLE):
        return Path(given)
    return CONFIGURATION_FILE if CONFIGURATION_FILE.exists() else None


def load(chosen: Path | None = None) -> Configuration:
    """The configuration of this process.

    Raises ConfigurationError (SettingsError if the file could be read) whose text names the
    key, its value unless secret, where it was written, and the remedy.
    """
    file = configuration_file(chosen)
    sources = [from_environment(), from_credentials(), from_conventional_variable()]
    if file is not None:
        sources.append(from_file(file))
    origins: dict[tuple[str, ...], str] = {}
    for source in reversed(sources):
        origins |= source.origins
    token = SOURCES.set(tuple(sources))
    try:
        settings = Settings()
    except ValidationError as error:
        # "from None": the cause holds what was read, secrets included.
        raise SettingsError(problems_of(error, origins)) from None
    finally:
        SOURCES.reset(token)
    if problems := list(found_problems(settings, origins)):
        raise SettingsError(problems)
    return Configuration(settings, origins, file, tuple(found_warnings(settings, origins, file)))
