"""Choosing a command, exit codes, and errors in one line."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from kugel_bridge import __version__
from kugel_bridge.cli import commands, main
from kugel_bridge.cli.commands import COMMANDS, Command
from kugel_bridge.model.errors import (
    ConfigurationError,
    NotSupportedError,
    ServiceUnavailableError,
)
from tests.cli.conftest import Command as Run


def one_line(text: str) -> bool:
    return text.count("\n") == 1 and text.endswith("\n")


def test_help_names_every_command(command: Run) -> None:
    said = command("--help")
    assert said.code == 0
    for entry in COMMANDS:
        assert f"  {entry.name} " in said.out
        assert entry.help in said.out


def test_version_is_told(command: Run) -> None:
    assert command("--version").out == f"kugel-bridge {__version__}\n"


def test_without_a_command_help_is_shown_and_it_counts_as_wrong_use(command: Run) -> None:
    said = command()
    assert (said.code, said.out) == (2, "")
    assert "commands:" in said.err


def test_an_unknown_command_gets_the_nearest_one(command: Run) -> None:
    said = command("sya", "hello")
    assert said.code == 2
    assert one_line(said.err)
    assert "did you mean `kugel-bridge say`?" in said.err


def test_a_command_like_no_other_gets_a_hint(command: Run) -> None:
    assert "kugel-bridge --help" in command("xyzzy").err


@pytest.mark.parametrize("name", [entry.name for entry in COMMANDS if not entry.module])
def test_what_is_not_built_is_said_so(command: Run, name: str) -> None:
    said = command(name, "--whatever")
    assert (said.code, one_line(said.err)) == (2, True)
    assert "not yet supported; " in said.err
    assert "`kugel-bridge config check`" in said.err or "<base>/<device>/request/" in said.err


def test_the_help_of_the_daemon_names_its_exit_codes(command: Run) -> None:
    told = command("run", "--help").out
    assert [code for code in ("0", "1", "78", "130") if f" {code} " not in told] == []


@pytest.mark.parametrize(
    "argv", [("config",), ("config", "shwo"), ("config", "show", "--jsn"), ("--confg", "x")]
)
def test_wrong_use_is_one_line_and_2(command: Run, argv: tuple[str, ...]) -> None:
    said = command(*argv)
    assert (said.code, said.out, one_line(said.err)) == (2, "", True)
    assert "--help" in said.err


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A command `try` that ends with the given exception."""

    def define(error: BaseException, *, service: bool = False) -> None:
        def run(arguments: argparse.Namespace) -> int:
            raise error

        monkeypatch.setitem(
            sys.modules,
            "kugel_bridge.cli.trying",
            SimpleNamespace(add_arguments=lambda parser: None, run=run),
        )
        row = Command("try", "fail on purpose", "trying", service=service)
        monkeypatch.setattr(main, "command", lambda name: row)

    return define


@pytest.mark.parametrize(
    ("error", "service", "code"),
    [
        (ConfigurationError("mqtt.port = 0:\nwrong"), False, 2),
        (ConfigurationError("mqtt.port = 0:\nwrong"), True, 78),
        (NotSupportedError("later"), False, 2),
        (ServiceUnavailableError("no answer"), False, 1),
        (ServiceUnavailableError("no answer"), True, 1),
    ],
)
def test_an_error_of_ours_is_one_line_with_its_code(
    command: Run,
    ending: Callable[..., None],
    error: Exception,
    service: bool,
    code: int,
) -> None:
    ending(error, service=service)
    said = command("try")
    assert (said.code, one_line(said.err)) == (code, True)
    assert " ".join(str(error).split()) in said.err


def test_ctrl_c_ends_with_130(command: Run, ending: Callable[..., None]) -> None:
    ending(KeyboardInterrupt())
    said = command("try")
    assert (said.code, said.err) == (130, "")


def test_services_end_with_78_on_a_wrong_configuration() -> None:
    assert [entry.name for entry in COMMANDS if entry.service] == ["run", "gateway"]


def test_config_may_stand_before_and_after_the_command(command: Run, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[device]\nid = "here"\n')
    for argv in (
        ("--config", str(file), "config", "show"),
        ("config", "--config", str(file), "show"),
        ("config", "show", "--config", str(file)),
    ):
        assert 'id = "here"' in command(*argv).out, argv


def test_help_loads_neither_settings_nor_sound(process: Run) -> None:
    code = (
        "import sys; from kugel_bridge.cli.main import main; main(['--help']);"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in"
        " ('pydantic', 'alsaaudio', 'httpx', 'paho', 'websockets', 'asyncio')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_who_leaves_early_is_no_error() -> None:
    shell = f"{sys.executable} -m kugel_bridge config schema | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[0] == "{"


def test_the_module_runs_as_the_command_does(process: Run) -> None:
    said = process("--version")
    assert (said.code, said.out) == (0, f"kugel-bridge {__version__}\n")


def test_names_in_the_table_are_unique() -> None:
    names = [entry.name for entry in commands.COMMANDS]
    assert len(set(names)) == len(names)
