"""`kugel-bridge models`: the models of the cloud, or of the gateway in its place."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses

from kugel_bridge.cli.catalogue import catalogue
from kugel_bridge.cli.parser import EXIT_NO, EXIT_OK
from kugel_bridge.cli.table import print_json, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none of its own."""


def run(arguments: argparse.Namespace) -> int:
    """Print them; 1 if there is none."""
    models = asyncio.run(catalogue(arguments.config).models())
    if arguments.json:
        print_json([dataclasses.asdict(model) for model in models])
    else:
        rows = [(m.id, m.name, m.max_input_characters, m.sample_rate) for m in models]
        print("\n".join(table(("id", "name", "max characters", "rate (Hz)"), rows)))
    return EXIT_OK if models else EXIT_NO
