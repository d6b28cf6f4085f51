"""The log: one line per change of state, as text, as JSON, or for the journal."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterable
from typing import TextIO

from kugel_bridge.ops.secrets import SecretFilter

_TALKATIVE = ("asyncio", "httpx", "httpcore", "websockets", "amqtt", "transitions", "uvicorn")
"""Libraries that log every step, some with whole URLs: only warnings unless at debug."""
_SYSLOG_LEVELS = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)


def configure(
    level: str = "info",
    format: str = "auto",  # noqa: A002  the name of the setting
    *,
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> SecretFilter:
    """Send the log of the whole process to `stream` (stderr) and mask `secrets` in it.

    `level` and `format` are those of `[log]`. Gives the filter, so that more secrets can be
    added. May be called again; the last call counts.
    """
    out = sys.stderr if stream is None else stream
    chosen = format if format != "auto" else ("journal" if goes_to_journal(out) else "text")
    mask = SecretFilter(secrets)
    handler = logging.StreamHandler(out)
    handler.addFilter(mask)
    handler.setFormatter(_FORMATTERS[chosen]())
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, logging.StreamHandler) and any(
            isinstance(entry, SecretFilter) for entry in old.filters
        ):
            root.removeHandler(old)
    root.addHandler(handler)
    set_level(level)
    logging.captureWarnings(True)
    return mask


def set_level(level: str) -> None:
    """Change how much is logged while the bridge runs: debug, info, warning or error."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger().setLevel(number)
    for name in _TALKATIVE:
        # At debug they may talk; the filter masks what they say.
        quiet = logging.NOTSET if number <= logging.DEBUG else max(number, logging.WARNING)
        logging.getLogger(name).setLevel(quiet)


def goes_to_journal(stream: TextIO) -> bool:
    """Whether systemd reads this stream: $JOURNAL_STREAM names its device and inode."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


class TextFormatter(logging.Formatter):
    """For people: time, level, where, what."""

    default_time_format = "%H:%M:%S"
    default_msec_format = "%s.%03d"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")


class JournalFormatter(logging.Formatter):
    """For journald: it adds the time itself and reads the level from `<n>` (sd-daemon(3))."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Each line with its level: journald takes lines for entries."""
        prefix = f"<{syslog_level(record.levelno)}>"
        text = super().format(record)
        return "\n".join(f"{prefix}{line}" for line in text.splitlines() or [""])


class JsonFormatter(logging.Formatter):
    """For programs: one object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """`at` is UTC with milliseconds; `error` holds the traceback."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        out = {
            "at": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            out["error"] = record.exc_text
        return json.dumps(out, ensure_ascii=False)


def syslog_level(number: int) -> int:
    """The syslog priority of a logging level: 2 critical to 7 debug."""
    return next((syslog for least, syslog in _SYSLOG_LEVELS if number >= least), 7)


_FORMATTERS: dict[str, type[logging.Formatter]] = {
    "text": TextFormatter,
    "json": JsonFormatter,
    "journal": JournalFormatter,
}
