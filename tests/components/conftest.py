import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
from tfx.types import standard_artifacts
from tfx.utils import dependency_utils, path_utils


@pytest.fixture(scope="session", autouse=True)
def one_package_of_tfx() -> Iterator[None]:
    """TFX packs itself for the workers of each executor that has arguments of Beam, in seconds: here once for all."""
    pack = functools.cache(dependency_utils.build_ephemeral_package)
    with mock.patch.object(dependency_utils, "build_ephemeral_package", pack):
        yield


@pytest.fixture
def make_model(tmp_path) -> Callable[..., standard_artifacts.Model]:
    """Model artifacts as the Trainer leaves them, with a SavedModel of the given content."""

    def make(content: str) -> standard_artifacts.Model:
        model = standard_artifacts.Model()
        model.uri = str(tmp_path / f"model-{content}")
        saved_model = Path(path_utils.serving_model_dir(model.uri))
        saved_model.mkdir(parents=True)
        (saved_model / "saved_model.pb").write_text(content)
        return model

    return make
