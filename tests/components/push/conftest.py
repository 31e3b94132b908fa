"""A server of an empty push directory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kubetfx.serving.model_config import ModelConfig as ServedModel
from kubetfx.serving.server import RunningServer
from tests.serving.conftest import options


@pytest.fixture
def served(tmp_path) -> Path:
    folder = tmp_path / "penguins"
    folder.mkdir()
    return folder


@pytest.fixture
def server(served) -> Iterator[RunningServer]:
    with RunningServer(options(ServedModel("penguins", served))) as running:
        yield running
