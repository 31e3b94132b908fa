"""Whoever watches a training sees what would be kept after each epoch or round, and may end it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from kubetfx.config.model_section import ModelConfig
from kubetfx.config.training_section import TrainingConfig
from kubetfx.models.features import LABEL
from kubetfx.models.fitting import Watch, Work, fit_model
from kubetfx.models.team import Team
from kubetfx.models.training_launch import TrainingJob
from kubetfx.models.training_record import Fitted
from kubetfx.models.training_rows import TrainingRows
from tests.models.conftest import make_rows

MODELS = {
    "network": {"kind": "network", "hidden_units": (8,), "members": 2},
    "trees": {"kind": "trees", "trees": {"num_iterations": 8, "min_data_in_leaf": 2}},
}
TRAINING = {"epochs": 3, "batch_size": 16, "learning_rate": 0.05, "early_stopping": {"enabled": False}}


class Stopped(Exception):  # noqa: N818
    """What a watch raises."""


def fitted(preprocessed: Any, folder: Path, watch: Watch, **model: Any) -> Fitted:
    """Trained on 60 rows, and validated on 30."""
    graph = Path(preprocessed.output.transform_savedmodel_dir).parent
    sections = {
        "model": ModelConfig.model_validate(model).model_dump(mode="json"),
        "features": preprocessed.config.model_dump(mode="json"),
        "max_pixels": 1,
    }
    places = {"schema_path": str(graph.parent / "schema.pbtxt"), "transform_graph_path": str(graph)}
    job = TrainingJob([], [], serving_model_dir="", model_run_dir=str(folder), custom_config=sections, **places)
    work = Work.of(job.fn_args(), TrainingConfig.model_validate(TRAINING), Team())
    train, validation = (rows_of(preprocessed, number) for number in (60, 30))
    return fit_model(replace(work, watch=watch), train, validation, None, load_seconds=0)


def rows_of(preprocessed: Any, number: int) -> TrainingRows:
    arrays = preprocessed.transform(make_rows(number))
    return TrainingRows(number, arrays[LABEL].reshape(-1), arrays, sample=arrays)


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        ("network", "multiclass"),
        ("network", "regression"),
        ("trees", "multiclass"),
        ("trees", "binary"),
        ("trees", "regression"),
    ],
)
def test_watch_sees_what_would_be_kept(request, tmp_path, kind, task):
    preprocessed, seen = request.getfixturevalue(task), {}

    def watch(step: int, predictions: Callable[[], np.ndarray]) -> None:
        seen[step] = predictions()

    history = fitted(preprocessed, tmp_path, watch, **MODELS[kind]).history

    labels = rows_of(preprocessed, 30).labels
    losses = history["history"]["val_loss"]
    assert list(seen) == list(range(1, len(losses) + 1))
    for step, loss in enumerate(losses, start=1):
        if task == "regression":
            variance = rows_of(preprocessed, 60).labels.var(dtype=np.float64)
            found = metrics.mean_squared_error(labels, seen[step][:, 0]) / variance
        else:
            scores = seen[step].astype(np.float64)
            found = metrics.log_loss(labels, scores / scores.sum(axis=1, keepdims=True), labels=range(scores.shape[1]))
        assert found == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("kind", ["network", "trees"])
def test_watch_ends_the_training_with_what_it_raises(multiclass, tmp_path, kind):
    seen = []

    def watch(step: int, predictions: Callable[[], np.ndarray]) -> None:
        seen.append(step)
        if step == 2:
            raise Stopped

    with pytest.raises(Stopped):
        fitted(multiclass, tmp_path, watch, **MODELS[kind])
    assert seen == [1, 2]
