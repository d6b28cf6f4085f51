"""`kugel-bridge voices`: the voices of the cloud, or of the gateway in its place."""

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
    """Which of them."""
    parser.add_argument("--language", metavar="CODE", help="only those that speak it, as de")
    parser.epilog = (
        "examples:\n  kugel-bridge voices --language de\n  kugel-bridge voices --json | jq '.[].id'"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print them; 1 if there is none."""
    catalogue = parts.catalogue(load(arguments.config).settings)
    voices = asyncio.run(catalogue.voices(arguments.language))
    if arguments.json:
        print_json([dataclasses.asdict(voice) for voice in voices])
    elif voices:
        rows = [(v.id, v.handle, v.name, v.languages, v.category) for v in voices]
        print("\n".join(table(("id", "handle", "name", "languages", "category"), rows)))
    else:
        print("kugel-bridge voices: the service has none of that kind", file=sys.stderr)
    return EXIT_OK if voices else EXIT_NO
