"""Where values come from: a TOML file, environment variables, credential files.

Each becomes one source for pydantic-settings, which merges them and checks the result.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from kugel_bridge.model.errors import ConfigurationError
from kugel_bridge.settings.lines import key_lines
from kugel_bridge.settings.tree import Settings

PREFIX = "KUGEL_BRIDGE_"
FILE_VARIABLE = "KUGEL_BRIDGE_CONFIG"
KEY_VARIABLE = "KUGELAUDIO_API_KEY"
"""The name that KugelAudio's own documentation uses."""
CREDENTIALS = {"cloud_api_key": ("cloud", "api_key"), "mqtt_password": ("mqtt", "password")}
"""Files in $CREDENTIALS_DIRECTORY (systemd.exec(5)), and the settings they hold."""
SECRET_PATHS = (*CREDENTIALS.values(), ("gateway", "keys"))

KeyPath = tuple[str, ...]


class Source(PydanticBaseSettingsSource):
    """Nested values, and for each of them where a person would look for it."""

    def __init__(self, values: dict[str, Any], origins: Mapping[KeyPath, str]) -> None:
        super().__init__(Settings)
        for path in SECRET_PATHS:
            _hide(values, path)
        self.values = values
        self.origins = origins

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """One section's values."""
        return self.values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self.values


def from_file(path: Path) -> Source:
    """The values of a TOML file; raises ConfigurationError with file, line and what is wrong."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}, line {line}: is not UTF-8 text") from error
    except OSError as error:
        raise ConfigurationError(_unreadable(path, error)) from error
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        # "from None": newer Pythons keep the whole text, secrets included, in the error.
        raise ConfigurationError(f"{path}: is not valid TOML: {error}") from None
    lines = key_lines(text)
    origins = {key: f"{path}, line {line}" for key, line in lines.items()}
    for key in _leaf_paths(values):
        # Keys of an inline table stand in the line of the table.
        line = next((lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in lines), 0)
        origins[key] = f"{path}, line {line}" if line else str(path)
    return Source(values, origins)


def from_environment() -> Source:
    """KUGEL_BRIDGE_<SECTION>__<KEY>, in any case; an empty variable counts as not set."""
    values: dict[str, Any] = {}
    origins: dict[KeyPath, str] = {}
    for variable, text in sorted(os.environ.items()):
        if not variable.startswith(PREFIX) or variable == FILE_VARIABLE or not text:
            continue
        path = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        if len(path) < 2 or not all(path):
            _refuse_near_miss(variable)
            continue
        table = values
        for part in path[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigurationError(f"${variable}: another variable sets the table it is in")
        if isinstance(table.get(path[-1]), dict):
            raise ConfigurationError(f"${variable}: another variable sets a key inside of it")
        table[path[-1]] = text
        origins[path] = f"${variable}"
    return Source(values, origins)


def from_credentials() -> Source:
    """The secrets in $CREDENTIALS_DIRECTORY; raises ConfigurationError if one is open to all."""
    values: dict[str, Any] = {}
    origins: dict[KeyPath, str] = {}
    directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
    for name, (section, key) in CREDENTIALS.items() if directory else ():
        file = Path(directory) / name
        try:
            if not file.exists():
                continue
            text = file.read_text("utf-8").strip("\r\n")
            exposed = readable_by_others(file)
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"{section}.{key}: {file} is not UTF-8 text") from error
        except OSError as error:
            raise ConfigurationError(f"{section}.{key}: {_unreadable(file, error)}") from error
        if exposed:
            raise ConfigurationError(
                f"{section}.{key}: everybody may read {file}; run `chmod 600 {file}`"
            )
        if text:
            values[section] = {key: text}
            origins[section, key] = f"credential {file}"
    return Source(values, origins)


def missing_credentials() -> str:
    """The directory in $CREDENTIALS_DIRECTORY if there is none of that name, else empty."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
    return directory if directory and not Path(directory).is_dir() else ""


def from_conventional_variable() -> Source:
    """The key, from the variable that KugelAudio's own programs use."""
    key = os.environ.get(KEY_VARIABLE, "")
    values = {"cloud": {"api_key": key}} if key else {}
    return Source(values, {("cloud", "api_key"): f"${KEY_VARIABLE}"} if key else {})


def readable_by_others(file: Path) -> bool:
    """Whether any user may read it: its own mode, and the way to it."""
    if not file.stat().st_mode & stat.S_IROTH:
        return False
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in file.resolve().parents)


def _leaf_paths(values: Mapping[str, Any], above: KeyPath = ()) -> Iterator[KeyPath]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaf_paths(value, (*above, name))
        else:
            yield (*above, name)


def _unreadable(path: Path, error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return f"{path}: no such file; `kugel-bridge config init {path}` writes one"
        case PermissionError():
            return f"{path}: cannot be read by this user; change its owner or its mode"
    return f"{path}: cannot be read: {error.strerror or error}"


def _refuse_near_miss(variable: str) -> None:
    # One underscore instead of two would be ignored without a word.
    rest = variable.removeprefix(PREFIX).lower().strip("_")
    for section in Settings.model_fields:
        key = rest.removeprefix(section).strip("_")
        if rest == section or (rest.startswith(f"{section}_") and key):
            meant = f"{PREFIX}{section}__{key or '<key>'}".upper()
            raise ConfigurationError(f"${variable}: names no setting; did you mean {meant}?")


def _hide(values: dict[str, Any], path: KeyPath) -> None:
    """Wrap secrets before anybody can print them."""
    section, key = path
    table = values.get(section)
    if not isinstance(table, dict):
        return
    if isinstance(secret := table.get(key), str):
        # A list of keys arrives as one text from the environment.
        table[key] = _keys(secret) if path == ("gateway", "keys") else SecretStr(secret)
    elif isinstance(secret, list):
        table[key] = [SecretStr(item) if isinstance(item, str) else item for item in secret]


def _keys(text: str) -> list[SecretStr]:
    parts = text.strip().removeprefix("[").removesuffix("]").split(",")
    return [SecretStr(part.strip().strip("\"'")) for part in parts if part.strip()]
