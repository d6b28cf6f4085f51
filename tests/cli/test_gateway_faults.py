"""`gateway --fault` and `--faults` as a process."""

from __future__ import annotations

import os

import httpx
import pytest

from tests.cli.conftest import Command
from tests.cli.test_gateway import Gateway


@pytest.mark.parametrize(
    ("argv", "environment", "orders"),
    [
        (["--fault", "on=/health do=refuse status=418"], {}, ["on=/health do=refuse status=418"]),
        (["--faults"], {}, []),
        ([], {"KUGEL_BRIDGE_GATEWAY__FAULTS": "true"}, []),
    ],
)
def test_faults_are_switched_on(
    argv: list[str], environment: dict[str, str], orders: list[str]
) -> None:
    running = Gateway(*argv, KUGEL_BRIDGE_CONFIG=os.devnull, **environment)
    try:
        with httpx.Client(base_url=running.url, trust_env=False) as client:
            listed = client.get("/faults").json()["faults"]
            assert [each["order"] for each in listed] == orders
            assert client.get("/health").status_code == (418 if orders else 200)
            client.post("/faults", json={"on": "/ready", "do": "refuse", "status": 500})
            assert client.get("/ready").status_code == 500
    finally:
        assert running.end() == 0
    assert "Traceback" not in running.log


def test_a_wrong_order_is_one_line_and_2(command: Command) -> None:
    said = command("gateway", "--fault", "do=explode")
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "do='explode'" in said.err


@pytest.mark.parametrize("argv", [["--faults"], ["--fault", "do=reset"]])
def test_faults_are_for_this_machine_only(
    command: Command, monkeypatch: pytest.MonkeyPatch, argv: list[str]
) -> None:
    monkeypatch.setenv("KUGEL_BRIDGE_GATEWAY__KEYS", "a-key-of-mine")
    said = command("gateway", "--host", "0.0.0.0", "--port", "0", *argv)
    assert (said.code, said.out, said.err.count("\n")) == (78, "", 1)
    assert "this machine only" in said.err


def test_the_setting_is_refused_with_a_host_for_others(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUGEL_BRIDGE_GATEWAY__KEYS", "a-key-of-mine")
    monkeypatch.setenv("KUGEL_BRIDGE_GATEWAY__HOST", "0.0.0.0")
    monkeypatch.setenv("KUGEL_BRIDGE_GATEWAY__FAULTS", "true")
    said = command("gateway", "--port", "0")
    assert (said.code, said.out, said.err.count("\n")) == (78, "", 1)
    assert "gateway.faults = false" in said.err
