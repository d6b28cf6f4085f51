"""The table of commands: what there is, without loading any of it."""

from __future__ import annotations

import argparse
import gc
import importlib
from dataclasses import dataclass
from typing import Protocol, cast


class CommandModule(Protocol):
    """What the module of a command offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's own arguments; --config and --json are there already."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it and return the exit code; a BridgeError is reported by the caller."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command."""

    name: str
    help: str
    module: str = ""
    """Below `kugel_bridge.cli`; empty = not supported yet."""
    json: bool = False
    """Whether it prints a result, and so takes --json."""
    service: bool = False
    """Whether a service manager runs it: a configuration error must not be retried."""
    instead: str = ""
    """What works today, for one that is not supported yet."""

    def load(self) -> CommandModule:
        """The module that does it."""
        # What is being loaded is no garbage yet; looking for some takes 3 % of the start.
        gc.disable()
        try:
            return cast(CommandModule, importlib.import_module(f"kugel_bridge.cli.{self.module}"))
        finally:
            gc.enable()


COMMANDS: tuple[Command, ...] = (
    Command("run", "the daemon", "run", service=True),
    Command("demo", "everything on this machine, without account or broker", "demo", json=True),
    Command("say", "send an announcement and wait for its outcome", "say", json=True),
    Command("gateway", "a server that speaks the KugelAudio API", "gateway", service=True),
    Command("devices", "sound cards by stable name", "devices", json=True),
    Command("voices", "the voices of the cloud", "voices", json=True),
    Command("models", "the models of the cloud", "models", json=True),
    Command("cache", "list, warm, pin and purge stored phrases", "cache", json=True),
    Command("queue", "list and clear what still has to be said", "queue", json=True),
    Command("config", "show, check and write the configuration", "config", json=True),
    Command(
        "doctor",
        "check everything, with a fix for each fault",
        json=True,
        instead="`kugel-bridge config check` finds mistakes in the configuration",
    ),
    Command(
        "usage",
        "what the cloud has counted",
        json=True,
        instead="ask the bridge over MQTT: <base>/<device>/request/usage",
    ),
    Command(
        "alerts",
        "list, play and check stored alerts",
        json=True,
        instead="ask the bridge over MQTT: <base>/<device>/request/alerts/check",
    ),
)


def command(name: str) -> Command | None:
    """The command of that name."""
    return next((entry for entry in COMMANDS if entry.name == name), None)
