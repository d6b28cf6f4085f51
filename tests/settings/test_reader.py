"""The settings that the daemon carries are those that were checked, without what checked them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from kugel_bridge.model.errors import ConfigurationError
from kugel_bridge.settings import reader
from kugel_bridge.settings.flat import flattened
from kugel_bridge.settings.plain import Secret, Section
from kugel_bridge.settings.reader import Reader, Reading
from tests.settings.conftest import Loader

FULL = """
[device]
id = "hall"
groups = ["down"]
[mqtt]
username = "kugel"
password = "pw-secret"
[cloud]
api_key = "eu-ka_secret"
[gateway]
keys = ["gw-secret"]
[gateway.voices.anna]
id = 1001
languages = "de"
espeak = "de+f4"
[zones.kitchen]
sink = "wav:/tmp/kitchen.wav"
[priority.low]
ttl_s = 5
[alerts.smoke]
text = { de = "Rauch!", en = "Smoke!" }
[phrases.door]
text = "{who} is at the door"
[words.en]
kWh = "kilowatt hours"
"""


def same(checked: Any, plain: Any) -> int:
    """Compare everything that can be read from both; how many values that were."""
    if isinstance(checked, BaseModel):
        own = [k for k in type(checked).__mro__ if k.__module__.startswith("kugel_bridge")]
        names = {name for kind in own for name, each in vars(kind).items() if _is_property(each)}
        names |= set(type(checked).model_fields)
        shown = [name for name in names if not name.startswith("_")]
        return sum(same(getattr(checked, name), getattr(plain, name)) for name in shown)
    if isinstance(checked, SecretStr):
        assert checked.get_secret_value() == plain.get_secret_value()
        return 1
    if isinstance(checked, dict):
        assert list(checked) == list(plain)
        return sum(same(checked[name], plain[name]) for name in checked)
    if isinstance(checked, list):
        assert len(checked) == len(plain)
        return sum(same(one, other) for one, other in zip(checked, plain, strict=True))
    assert (type(checked), checked) == (type(plain), plain)
    return 1


def _is_property(attribute: object) -> bool:
    return isinstance(attribute, property)


def test_plain_settings_have_every_value_and_property(loaded: Loader) -> None:
    checked = loaded(FULL).settings
    plain = pickle.loads(pickle.dumps(flattened(checked)))
    assert isinstance(plain, Section)
    assert same(checked, plain) > 100


def test_plain_settings_cannot_be_changed_and_secrets_do_not_show(loaded: Loader) -> None:
    plain = flattened(loaded(FULL).settings)
    with pytest.raises(AttributeError, match="volume"):
        plain.zones["kitchen"].volume = 5
    assert "secret" not in repr(Secret("a secret")).replace("Secret", "")
    assert "secret" not in repr(vars(plain.mqtt))


def test_a_child_reads_the_file_and_leaves_no_zombie(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(FULL)
    reading = Reader(file).result()
    assert reading.settings.device.id == "hall"
    assert isinstance(reading.settings, Section)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_what_is_wrong_with_the_file_is_told_as_ever(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[mqtt]\nhots = 1\n")
    with pytest.raises(ConfigurationError, match=r"mqtt\.hots"):
        Reader(file).result()


@pytest.mark.parametrize("accident", ["raise MemoryError", "import os; os._exit(0)"])
def test_an_accident_of_the_child_costs_time_and_nothing_else(
    accident: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, real, parent = tmp_path / "config.toml", reader._read, os.getpid()
    file.write_text(FULL)

    def struck(chosen: Path | None) -> Reading | ConfigurationError:
        if os.getpid() != parent:
            exec(accident)
        return real(chosen)

    monkeypatch.setattr(reader, "_read", struck)
    assert Reader(file).result().settings.device.id == "hall"


def test_the_daemon_does_not_load_pydantic(tmp_path: Path) -> None:
    """Fifteen megabytes, of which a small machine has other uses."""
    program = (
        "import sys; from kugel_bridge.settings.reader import Reader; reader = Reader(None);"
        "from kugel_bridge.app.bridge import Bridge; Bridge(reader.result().settings);"
        "print([name for name in sys.modules if name.startswith(('pydantic', 'httpx'))])"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert told.stdout.strip() == "[]", told.stderr
