"""`kugel-bridge voices`: the voices of the cloud, or of the gateway in its place."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses

from kugel_bridge.cli.catalogue import catalogue
from kugel_bridge.cli.parser import EXIT_NO, EXIT_OK
from kugel_bridge.cli.table import print_json, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which of them."""
    parser.add_argument("--language", metavar="CODE", help="only those that speak it, as de")


def run(arguments: argparse.Namespace) -> int:
    """Print them; 1 if there is none."""
    voices = asyncio.run(catalogue(arguments.config).voices(arguments.language))
    if arguments.json:
        print_json([dataclasses.asdict(voice) for voice in voices])
    else:
        rows = [(v.id, v.handle, v.name, v.languages, v.category) for v in voices]
        print("\n".join(table(("id", "handle", "name", "languages", "category"), rows)))
    return EXIT_OK if voices else EXIT_NO
