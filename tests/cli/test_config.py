"""`config`: show, check, init, schema."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path

import pytest

from kugel_bridge.settings.manual import example_file
from tests.cli.conftest import Command


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(
        '[mqtt]\nhost = "broker"\nusername = "u"\npassword = "hunter2"\n'
        '[gateway]\nkeys = ["hunter3"]\n[zones.hall]\nsink = "null:"\nchime = true\n'
        '[words.de]\n"K N X" = "x"\n'
    )
    return path


def test_show_prints_toml_with_origins_and_without_secrets(
    command: Command, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUGEL_BRIDGE_MQTT__PORT", "1999")
    said = command("config", "show", "--config", str(file))
    assert said.code == 0
    assert "hunter" not in said.out + said.err
    shown = tomllib.loads(said.out)
    assert shown["mqtt"]["host"] == "broker"
    assert shown["mqtt"]["password"] == "********"
    assert shown["gateway"]["keys"] == ["********"]
    assert shown["zones"] == {
        "hall": {
            "sink": "null:",
            "volume": 100,
            "lead_in_ms": 0,
            "tail_ms": 0,
            "keep_open_s": -1,
            "chime": "ding-dong",
        }
    }
    assert shown["words"] == {"de": {"K N X": "x"}}
    origins = {line.split(" =")[0]: line.rpartition("# ")[2] for line in said.out.splitlines()}
    assert origins["host"] != ""
    assert 'host = "broker"'.ljust(48) + f"  # {file}, line 2" in said.out
    assert "port = 1999".ljust(48) + "  # $KUGEL_BRIDGE_MQTT__PORT" in said.out
    assert "keepalive_s = 10".ljust(48) + "  # default" in said.out
    assert "# client_id is not set" in said.out


def test_show_as_json_has_value_and_origin(command: Command, file: Path) -> None:
    said = command("config", "show", "--json", "--config", str(file))
    shown = json.loads(said.out)
    assert shown["mqtt"]["host"] == {"value": "broker", "origin": f"{file}, line 2"}
    assert shown["mqtt"]["password"]["value"] == "********"
    assert shown["mqtt"]["client_id"] == {"value": None, "origin": "default"}
    assert "hunter" not in said.out


def test_check_is_fine_with_a_right_file(command: Command, file: Path) -> None:
    said = command("config", "check", "--config", str(file))
    assert (said.code, said.err) == (0, "")
    assert said.out == f"{file}: fine\n"


def test_check_prints_each_mistake_and_ends_with_2(command: Command, file: Path) -> None:
    file.write_text('[mqtt]\nport = 0\nhots = "x"\n')
    said = command("config", "check", "--config", str(file))
    assert (said.code, said.out) == (2, "")
    assert said.err.splitlines() == [
        f"kugel-bridge: mqtt.port = 0 ({file}, line 2): must be at least 1",
        f'kugel-bridge: mqtt.hots = "x" ({file}, line 3): unknown key; did you mean mqtt.host?',
    ]


def test_check_as_json(command: Command, file: Path) -> None:
    file.write_text("[mqtt]\nport = 0\n")
    said = command("config", "check", "--json", "--config", str(file))
    assert said.code == 2
    answer = json.loads(said.out)
    assert answer["ok"] is False
    assert answer["problems"] == [f"mqtt.port = 0 ({file}, line 2): must be at least 1"]


def test_any_command_tells_a_mistake_in_one_line(command: Command, file: Path) -> None:
    file.write_text("[mqtt]\nport = 0\n")
    said = command("voices", "--config", str(file))
    assert (said.code, said.out) == (2, "")
    assert said.err == f"kugel-bridge: mqtt.port = 0 ({file}, line 2): must be at least 1\n"


def test_init_writes_a_file_for_its_owner_only(command: Command, tmp_path: Path) -> None:
    new = tmp_path / "deep" / "new.toml"
    said = command("config", "init", str(new))
    assert (said.code, said.out) == (0, f"wrote {new}\n")
    assert new.read_text() == example_file()
    assert stat.S_IMODE(new.stat().st_mode) == 0o600
    assert [path.name for path in new.parent.iterdir()] == ["new.toml"]
    assert command("config", "check", "--config", str(new)).code == 0


def test_init_takes_the_place_that_config_names(command: Command, tmp_path: Path) -> None:
    new = tmp_path / "new.toml"
    assert command("--config", str(new), "config", "init").code == 0
    assert new.exists()


def test_init_replaces_nothing_unless_forced(command: Command, file: Path) -> None:
    before = file.read_text()
    said = command("config", "init", str(file))
    assert (said.code, file.read_text()) == (1, before)
    assert "--force" in said.err
    assert command("config", "init", "--force", str(file)).code == 0
    assert file.read_text() == example_file()


def test_init_to_standard_output(command: Command) -> None:
    assert command("config", "init", "-").out == example_file()


def test_init_where_nothing_can_be_written(command: Command, file: Path) -> None:
    said = command("config", "init", str(file / "below"))
    assert said.code == 1
    assert said.err.startswith(f"kugel-bridge: {file}/below: cannot be written: ")


def test_schema_is_json_schema_with_every_section(command: Command) -> None:
    schema = json.loads(command("config", "schema").out)
    assert {"device", "mqtt", "cloud", "zones", "log"} <= set(schema["properties"])
