from collections.abc import Callable
from pathlib import Path

import pytest
from tfx.types import standard_artifacts
from tfx.utils import path_utils


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
