"""`kugel-bridge models`: the models of the cloud, or of the gateway in its place."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys

from kugel_bridge.app import parts
from kugel_bridge.cli.parser import EXIT_NO, EXIT_OK
from kugel_bridge.cli.table import print_json, table
from kugel_bridge.settings.load import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none of its own."""
    parser.epilog = "examples:\n  kugel-bridge models\n  kugel-bridge models --json"


def run(arguments: argparse.Namespace) -> int:
    """Print them; 1 if there is none."""
    models = asyncio.run(parts.catalogue(load(arguments.config).settings).models())
    if arguments.json:
        print_json([dataclasses.asdict(model) for model in models])
    elif models:
        rows = [(m.id, m.name, m.max_input_characters, m.sample_rate) for m in models]
        print("\n".join(table(("id", "name", "max characters", "rate (Hz)"), rows)))
    else:
        print("kugel-bridge models: the service has none", file=sys.stderr)
    return EXIT_OK if models else EXIT_NO
