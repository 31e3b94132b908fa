"""What a client sends cannot look like a line of the server's log, nor move the cursor of a terminal."""

import io
import logging

import pytest

from kubetfx.serving.log_lines import LineFormatter


@pytest.fixture
def log() -> tuple[logging.Logger, io.StringIO]:
    """A log of its own, and what is written to it."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(LineFormatter("%(levelname)s %(message)s"))
    logger = logging.Logger("of a test")
    logger.addHandler(handler)
    return logger, written


@pytest.mark.parametrize(
    ("sent", "line"),
    [
        ("m\nINFO model bank: unloaded", r"m\nINFO model bank: unloaded"),
        ("m\r\x1b[2K", r"m\r\x1b[2K"),
        ("m\x85\u2028\x00", r"m\x85\u2028\x00"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("größe 模型", "größe 模型"),
    ],
)
def test_record_is_one_line(log: tuple[logging.Logger, io.StringIO], sent: str, line: str) -> None:
    logger, written = log
    logger.info("GRPC Predict %s", sent)
    assert written.getvalue() == f"INFO GRPC Predict {line}\n"


def test_traceback_is_indented_and_its_message_too(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, written = log
    try:
        raise ValueError("no\nINFO model bank: unloaded\x1b[2K")
    except ValueError:
        logger.exception("failed")
    first, *others = written.getvalue().splitlines()
    assert first == "ERROR failed"
    assert len(others) >= 4
    assert all(line.startswith("    ") for line in others)
    assert "\x1b" not in written.getvalue()
