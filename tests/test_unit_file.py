"""The systemd unit: correct, and closed to all it does not need."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[1] / "systemd" / "kugel-bridge.service"
analyze = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(analyze is None, reason="systemd-analyze is not installed")


@needs_systemd
def test_exposure_is_low() -> None:
    done = subprocess.run(
        [str(analyze), "security", "--offline=true", "--no-pager", "--threshold=15", str(UNIT)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, (done.stdout[-200:], done.stderr)


@needs_systemd
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    # Where the program is not installed, systemd says so; it is not the question here.
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/kugel-bridge/bin/kugel-bridge", "/bin/true"))
    done = subprocess.run(
        [str(analyze), "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    # "verify" also looks at units of the machine.
    assert not [line for line in done.stderr.splitlines() if UNIT.name in line]


@pytest.mark.parametrize(
    "line",
    [
        "Type=notify",
        "NotifyAccess=main",
        "WatchdogSec=30",
        "TimeoutStopSec=10",
        "Restart=on-failure",
        "RestartPreventExitStatus=78 2",
        "SupplementaryGroups=audio",
        "DeviceAllow=char-alsa rw",
        "StateDirectory=kugel-bridge",
        "CacheDirectory=kugel-bridge",
    ],
)
def test_what_the_program_relies_on_is_there(line: str) -> None:
    assert line in UNIT.read_text().splitlines()


def test_sound_cards_stay_visible() -> None:
    # The kernel tells of its cards in /proc/asound and /dev/snd.
    lines = UNIT.read_text().splitlines()
    assert "PrivateDevices=yes" not in lines
    assert "ProcSubset=pid" not in lines
