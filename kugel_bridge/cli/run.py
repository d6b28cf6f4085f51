"""`kugel-bridge run`: the daemon."""

from __future__ import annotations

import argparse
import gc

from kugel_bridge.ops.postponed import postpone
from kugel_bridge.settings.reader import Reader

_UNUSED = ("urllib.request", "pickletools", "tempfile")
"""What paho and diskcache import for things we do not ask of them, with what is behind it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own: everything is in the configuration."""
    parser.epilog = (
        "It speaks what arrives at <base>/<device>/say until it gets SIGTERM or Ctrl-C.\n"
        "exit code: 0 stopped; 1 a fault; 78 wrong configuration, not to be retried; 130 Ctrl-C"
    )


def run(arguments: argparse.Namespace) -> int:
    """Speak until told to stop."""
    # First of all: what the child does takes about as long as loading the rest.
    reader = Reader(arguments.config)
    # What is being loaded is no garbage yet; looking for some goes on when the daemon is ready.
    gc.disable()
    try:
        for module in _UNUSED:
            postpone(module)
        from kugel_bridge.cli.daemon import speak

        return speak(reader)
    finally:
        gc.enable()
