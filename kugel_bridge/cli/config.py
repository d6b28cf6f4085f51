"""`kugel-bridge config`: what is in effect, what is wrong, and a file to begin with."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from kugel_bridge.cli.parser import EXIT_NO, EXIT_OK, EXIT_WRONG
from kugel_bridge.cli.table import print_json
from kugel_bridge.model.errors import ConfigurationError, StorageError
from kugel_bridge.ops.secrets import MASK
from kugel_bridge.settings.load import Configuration, configuration_file, load
from kugel_bridge.settings.manual import example_file, toml_key, toml_value
from kugel_bridge.settings.places import CONFIGURATION_FILE
from kugel_bridge.settings.problems import SettingsError
from kugel_bridge.settings.tree import Settings, leaves

_ORIGIN_COLUMN = 48


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The four things it does."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="show|check|init|schema")
    actions.add_parser(
        "show",
        json=True,
        help="every value in effect and where it comes from; secrets are masked",
        examples="kugel-bridge config show\nkugel-bridge config show --json",
    )
    actions.add_parser("check", json=True, help="look for mistakes; 0 if there is none")
    init = actions.add_parser(
        "init",
        help="write a commented file",
        examples="kugel-bridge config init\nkugel-bridge config init ~/kugel.toml\n"
        "kugel-bridge config init - | less",
    )
    init.add_argument("file", nargs="?", help="where to; - = standard output")
    init.add_argument("--force", action="store_true", help="replace a file that is there")
    actions.add_parser("schema", help="the JSON Schema of the file, for editors")


def run(arguments: argparse.Namespace) -> int:
    """Do one of the four."""
    match arguments.action:
        case "show":
            _show(load(arguments.config), as_json=arguments.json)
            return EXIT_OK
        case "check":
            return _check(arguments.config, as_json=arguments.json)
        case "init":
            return _init(arguments)
        case _:
            print_json(Settings.model_json_schema())
            return EXIT_OK


def _show(configuration: Configuration, *, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(configuration))
        return
    section: tuple[str, ...] = ()
    print(f"# read from {configuration.file}" if configuration.file else "# no file was read")
    for path, value in leaves(configuration.settings):
        if path[:-1] != section:
            section = path[:-1]
            print(f"\n[{'.'.join(toml_key(part) for part in section)}]")
        origin = configuration.origin(path)
        # TOML has no null: what is not set can only be a comment.
        line = f"{toml_key(path[-1])} = {toml_value(_visible(path, value))}"
        line = f"# {path[-1]} is not set" if value is None else line
        print(f"{line.ljust(_ORIGIN_COLUMN)}  # {origin}")
    for warning in configuration.warnings:
        print(f"{_program()}: {warning}", file=sys.stderr)


def _as_json(configuration: Configuration) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for path, value in leaves(configuration.settings):
        table = shown
        for part in path[:-1]:
            table = table.setdefault(part, {})
        plain = json.loads(json.dumps(_visible(path, value), default=str))
        table[path[-1]] = {"value": plain, "origin": configuration.origin(path)}
    return shown


def _visible(path: tuple[str, ...], value: Any) -> Any:
    if isinstance(value, SecretStr):
        return MASK
    if path == ("gateway", "keys"):
        return [MASK for _ in value]
    return value


def _check(chosen: Path | None, *, as_json: bool) -> int:
    problems: list[str] = []
    warnings: tuple[str, ...] = ()
    try:
        warnings = load(chosen).warnings
    except SettingsError as error:
        problems = [str(problem) for problem in error.problems]
    except ConfigurationError as error:
        problems = [str(error)]
    if as_json:
        print_json({"ok": not problems, "problems": problems, "warnings": list(warnings)})
    else:
        for line in (*problems, *(f"warning: {warning}" for warning in warnings)):
            print(f"{_program()}: {line}", file=sys.stderr)
        if not problems:
            print(f"{configuration_file(chosen) or 'defaults and environment'}: fine")
    return EXIT_WRONG if problems else EXIT_OK


def _init(arguments: argparse.Namespace) -> int:
    if arguments.file == "-":
        print(example_file(), end="")
        return EXIT_OK
    given = Path(arguments.file).expanduser() if arguments.file else None
    file = given or configuration_file(arguments.config) or CONFIGURATION_FILE
    if not arguments.force and os.path.lexists(file):
        print(f"{_program()}: {file} is there already; --force replaces it", file=sys.stderr)
        return EXIT_NO
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # The system's file is read by a service without a fixed user, and by whoever uses the
        # command; its secrets belong into credentials. Other files are for their owner.
        mode = 0o644 if file == CONFIGURATION_FILE else 0o600
        # Written beside and renamed: a full disk must not leave half a configuration.
        fresh = file.with_name(f".{file.name}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as out:
                out.write(example_file())
            fresh.replace(file)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(f"{file}: cannot be written: {error.strerror or error}") from error
    print(f"wrote {file}")
    return EXIT_OK


def _program() -> str:
    return "kugel-bridge"
