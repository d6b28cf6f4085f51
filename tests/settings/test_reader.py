"""The settings that the daemon carries are those that were checked, without what checked them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from kugel_bridge.model.errors import ConfigurationError
from kugel_bridge.settings.flat import flattened
from kugel_bridge.settings.load import load
from kugel_bridge.settings.plain import Secret, Section
from tests.settings.conftest import Loader

TIMEOUT_S = 30
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


def told(program: str, file: Path) -> list[str]:
    """What a process says that reads `file`, with `reader` and `parent` at hand.

    One of its own, for the child is a fork of a process without threads.
    """
    begin = (
        "import os, sys, threading; from pathlib import Path; parent = os.getpid();"
        "from kugel_bridge.settings import reader; real, file = reader._read, Path(sys.argv[1])\n"
    )
    command = [sys.executable, "-c", begin + textwrap.dedent(program), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


READ = """
reading = reader.Reader(file).result()
print(reading.settings.device.id, "pydantic" in sys.modules)
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("childless")
"""


def test_a_child_reads_the_file_and_leaves_no_zombie(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(FULL)
    assert told(READ, file) == ["hall", "False", "childless"]


def test_what_is_wrong_with_the_file_is_told_as_ever(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[mqtt]\nhots = 1\n")
    program = """
    try:
        reader.Reader(file).result()
    except Exception as error:
        print(type(error).__name__, "pydantic" in sys.modules, error)
    """
    with pytest.raises(ConfigurationError) as caught:
        load(file)
    assert told(program, file) == ["ConfigurationError", "False", *str(caught.value).split()]


@pytest.mark.parametrize(
    "accident",
    [
        "raise MemoryError",
        "os._exit(0)",
        "import signal; signal.pause()",
        "import signal; os.kill(os.getpid(), signal.SIGSTOP)",
        "print('half', end=' '); sys.stdout.flush(); os.kill(os.getpid(), 9)",
    ],
)
def test_a_child_that_dies_or_hangs_costs_time_and_nothing_else(
    accident: str, tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(FULL)
    struck = f"""
def struck(chosen):
    if os.getpid() != parent:
        {accident}
    return real(chosen)
reader._read, reader.PATIENCE_S = struck, 0.2
"""
    assert told(struck + READ, file)[-3:] == ["hall", "True", "childless"]


def test_beside_other_threads_there_is_no_child(tmp_path: Path) -> None:
    """A lock that one of them holds would never be let go in it."""
    file = tmp_path / "config.toml"
    file.write_text(FULL)
    thread = """
os.fork = None
over = threading.Event()
threading.Thread(target=over.wait).start()
"""
    assert told(thread + READ + "over.set()", file) == ["hall", "True", "childless"]


def test_the_child_does_without_what_it_has_no_use_for(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(FULL)
    program = """
    reader._lighten()
    print(reader._read(file).settings.device.id)
    heavy = {"asyncio.events", "email", "zipfile", "shutil", "dotenv.main", "threading"}
    print(*sorted(heavy & set(sys.modules)))
    """
    # The last one is there to show that a module that is loaded would be noticed.
    assert told(program, file) == ["hall", "threading"]


def test_nothing_heavy_is_loaded_before_the_child_begins(tmp_path: Path) -> None:
    program = """
    from kugel_bridge.cli.commands import command
    command("run").load()
    print(*sorted({"asyncio", "logging", "socket", "argparse"} & set(sys.modules)))
    """
    assert told(program, tmp_path) == ["argparse"]


def test_the_daemon_does_not_load_pydantic(tmp_path: Path) -> None:
    """Fifteen megabytes, of which a small machine has other uses."""
    program = (
        "import sys; from kugel_bridge.settings.reader import Reader; reader = Reader(None);"
        "from kugel_bridge.app.bridge import Bridge; Bridge(reader.result().settings);"
        "print([name for name in sys.modules if name.startswith(('pydantic', 'httpx'))])"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
