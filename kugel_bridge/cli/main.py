"""Picks a command, runs it, and turns every deliberate error into one line and an exit code."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from kugel_bridge import __version__
from kugel_bridge.cli.commands import COMMANDS, Command, command
from kugel_bridge.cli.parser import (
    EXIT_INTERRUPTED,
    EXIT_NO,
    EXIT_OK,
    EXIT_SERVICE_CONFIG,
    EXIT_WRONG,
    CommandParser,
)
from kugel_bridge.model.errors import BridgeError, ConfigurationError, NotSupportedError

PROGRAM = "kugel-bridge"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal without UTF-8 gets a question mark, not an error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        return _dispatched(sys.argv[1:] if argv is None else list(argv))
    except SystemExit as leaving:  # argparse leaves this way after --help and after errors
        return leaving.code if isinstance(leaving.code, int) else EXIT_OK
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader, as `head`, has enough. Python would complain again while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_NO


def _dispatched(argv: list[str]) -> int:
    top = _top_parser()
    chosen = top.parse_args(argv)
    if chosen.command is None:
        print(top.format_help().rstrip(), file=sys.stderr)
        return EXIT_WRONG
    entry = command(chosen.command)
    if entry is None:
        return _complain(_unknown(chosen.command), EXIT_WRONG)
    if not entry.module:
        return _complain(f"{entry.name}: not yet supported; {entry.instead}", EXIT_WRONG)
    try:
        module = entry.load()
        parser = CommandParser(
            prog=f"{PROGRAM} {entry.name}",
            description=entry.help[0].upper() + entry.help[1:] + ".",
            json=entry.json,
        )
        module.add_arguments(parser)
        before = argparse.Namespace(config=getattr(chosen, "config", None), json=False)
        code = module.run(parser.parse_args(chosen.rest, before))
        # Here, so that a reader who is gone is noticed while it can still be handled.
        sys.stdout.flush()
        return code
    except ConfigurationError as error:
        return _complain(str(error), EXIT_SERVICE_CONFIG if entry.service else EXIT_WRONG)
    except NotSupportedError as error:
        return _complain(str(error), EXIT_WRONG)
    except BridgeError as error:
        return _complain(str(error), EXIT_NO)


def _top_parser() -> CommandParser:
    parser = CommandParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [--config FILE] <command> [arguments]",
        description="Gives a house its voice: speaks announcements that arrive over MQTT.",
        epilog=_listing(COMMANDS),
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _listing(commands: Sequence[Command]) -> str:
    lines = [
        f"  {entry.name:<9} {entry.help}{'' if entry.module else ' (not yet supported)'}"
        for entry in commands
    ]
    example = f'{PROGRAM} demo\n  {PROGRAM} say "Dinner is ready" --priority high'
    more = f"`{PROGRAM} <command> --help` tells more.\n\nexamples:\n  {example}"
    return "commands:\n" + "\n".join(lines) + "\n\n" + more


def _unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, [entry.name for entry in COMMANDS], n=1, cutoff=0.5)
    hint = f"did you mean `{PROGRAM} {near[0]}`?" if near else f"see `{PROGRAM} --help`"
    return f"there is no command {name!r}; {hint}"


def _complain(text: str, code: int) -> int:
    # One line, whatever a foreign library put into its message.
    print(f"{PROGRAM}: {' '.join(text.split())}", file=sys.stderr)
    return code
