"""What the tests of an engine share: an environment of workers, Prism, and two pools behind one address."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scale.engine import Process, Turns, pool, prism, program, worker_environment


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of workers."""
    for name in ("prism", "container"):
        program(name)
    return worker_environment(tmp_path_factory.mktemp("workers") / "environment")


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory, environment: Path) -> Iterator[Process]:
    """Prism."""
    with prism(tmp_path_factory.mktemp("prism")) as running:
        yield running


@pytest.fixture(scope="session")
def pools(tmp_path_factory: pytest.TempPathFactory, environment: Path) -> Iterator[Turns]:
    """Two pools of workers behind one address."""
    folder = tmp_path_factory.mktemp("pools")
    with (
        pool(folder / "a", environment) as first,
        pool(folder / "b", environment) as second,
        Turns([first, second]) as turns,
    ):
        yield turns
