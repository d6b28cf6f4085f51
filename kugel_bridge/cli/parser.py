"""Argument parsing as every command wants it: one line for an error, the same options."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any, NoReturn

EXIT_OK = 0
EXIT_NO = 1
"""It ran, and the answer is no."""
EXIT_WRONG = 2
"""Wrong use or wrong configuration."""
EXIT_SERVICE_CONFIG = 78
"""Wrong configuration of a service: EX_CONFIG of sysexits.h, which the unit does not retry."""
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""


class CommandParser(argparse.ArgumentParser):
    """A parser for one command; its sub-parsers are of the same kind.

    `examples` are shown below the help, a line each. With `json`, --json is accepted.
    """

    def __init__(self, *args: Any, json: bool = False, examples: str = "", **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        if examples:
            lines = "".join(f"\n  {line.strip()}" for line in examples.strip().splitlines())
            kwargs["epilog"] = f"examples:{lines}"
        super().__init__(*args, **kwargs)
        # No defaults here: a sub-parser's would overwrite what stood before its name.
        self.add_argument(
            "--config",
            metavar="FILE",
            type=Path,
            default=argparse.SUPPRESS,
            help="configuration file (else $KUGEL_BRIDGE_CONFIG, /etc/kugel-bridge/config.toml)",
        )
        if json:
            self.add_argument(
                "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON"
            )

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line and leave with 2."""
        line = " ".join(message.split())
        print(f"{self.prog}: {line} (`{self.prog} --help`)", file=sys.stderr)
        raise SystemExit(EXIT_WRONG)


def number(text: str) -> float:
    """An option that is a number, and not one that JSON does not know."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def seconds(text: str) -> float:
    """An option that is a time to wait (s)."""
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError
    return value


def port(text: str) -> int:
    """An option that is a TCP port; 0 = any that is free."""
    value = int(text)
    if not 0 <= value <= 0xFFFF:
        raise ValueError
    return value


def count(text: str) -> int:
    """An option that is a number of things, at least one."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value
