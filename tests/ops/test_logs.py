"""The formats of the log."""

from __future__ import annotations

import io
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kugel_bridge.ops.logs import configure, goes_to_journal, set_level, syslog_level


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The root logger is as before afterwards."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)
    for name in ("httpx", "websockets"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def logged(form: str) -> str:
    stream = io.StringIO()
    configure("info", form, stream=stream)
    logger = logging.getLogger("kugel_bridge.test")
    logger.debug("unseen")
    logger.warning("two\nlines %s", "ü")
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("failed")
    return stream.getvalue()


def test_text_has_time_level_and_place() -> None:
    first = logged("text").splitlines()[0]
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} WARNING kugel_bridge\.test: two", first)


def test_json_is_one_object_a_line_with_the_traceback_inside() -> None:
    lines = [json.loads(line) for line in logged("json").splitlines()]
    assert [line["level"] for line in lines] == ["warning", "error"]
    assert lines[0]["message"] == "two\nlines ü"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", lines[0]["at"])
    assert "ValueError: no" in lines[1]["error"]


def test_journal_lines_each_carry_their_level_and_no_time() -> None:
    lines = logged("journal").splitlines()
    assert lines[:2] == ["<4>kugel_bridge.test: two", "<4>lines ü"]
    assert all(line.startswith("<3>") for line in lines[2:])


@pytest.mark.parametrize(
    ("level", "syslog"),
    [(logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (5, 7)],
)
def test_levels_are_those_of_syslog(level: int, syslog: int) -> None:
    assert syslog_level(level) == syslog


def test_auto_is_journal_only_where_systemd_reads_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "log").open("w") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert goes_to_journal(stream)
        configure("info", "auto", stream=stream)
        logging.getLogger("a").info("hello")
        # A daemon of systemd whose output was redirected inherits the variable all the same.
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:1")
        assert not goes_to_journal(stream)
    assert (tmp_path / "log").read_text() == "<6>a: hello\n"
    assert not goes_to_journal(io.StringIO())


def test_configuring_again_replaces_the_former_output() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure("info", "text", stream=first)
    configure("info", "text", stream=second)
    logging.getLogger("a").info("hello")
    assert first.getvalue() == ""
    assert second.getvalue().count("hello") == 1


def test_talkative_libraries_are_quiet_unless_at_debug() -> None:
    stream = io.StringIO()
    configure("info", "text", stream=stream)
    logging.getLogger("httpx").info("GET https://host/?api_key=x")
    assert stream.getvalue() == ""
    set_level("debug")
    logging.getLogger("httpx").info("GET https://host/")
    assert "GET https://host/" in stream.getvalue()
    set_level("error")
    logging.getLogger("kugel_bridge").warning("unseen")
    assert "unseen" not in stream.getvalue()
