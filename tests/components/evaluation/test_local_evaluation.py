"""An evaluation in this process against TFMA's own, on the same models and rows."""

from typing import Any

import numpy as np
import pytest
import tensorflow_model_analysis as tfma

from kubetfx.components.data import beam_mode
from tests.components.test_evaluator import evaluate, predictions

NUM_ROWS = 90


def records(folder) -> dict[tuple[str, str], float]:
    """Every value that was written, by slice and metric."""
    return {
        (str(record.slice_key), str(entry.key)): entry.value.double_value.value
        for record in tfma.load_metrics(str(folder / "evaluation"))
        for entry in record.metric_keys_and_values
    }


CLASSIFICATION: dict[str, Any] = {
    "thresholds": {
        "accuracy": {"at_least": 0.5, "worse_by_at_most": 0.01},
        "cross_entropy": {"at_most": 0.01},
        "auc_precision_recall": {"worse_by_at_most": 0.3},
    },
    "slices": ["island"],
}
REGRESSION: dict[str, Any] = {"thresholds": {"mean_absolute_error": {"worse_by_at_most": 0.01}}, "slices": ["island"]}


def classes_case(num_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = np.arange(NUM_ROWS) % num_classes
    candidate, baseline = (predictions(labels, num_classes, right=right) for right in (0.6, 0.8))
    candidate[0] = np.eye(num_classes)[0]  # 0 and 1, the ends of TFMA's thresholds
    candidate[1] = np.eye(num_classes)[1]
    return labels, candidate, baseline


def numbers_case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    labels = random.normal(100, 10, NUM_ROWS).astype(np.float32)
    return labels, labels + random.normal(0, 3, NUM_ROWS), labels + random.normal(0, 1, NUM_ROWS)


@pytest.mark.parametrize(
    ("case", "classes", "evaluation", "has_baseline"),
    [
        (classes_case(2), ("no", "yes"), CLASSIFICATION, True),
        (classes_case(2), ("no", "yes"), CLASSIFICATION, False),
        (classes_case(4), ("a", "b", "c", "d"), CLASSIFICATION, True),
        (numbers_case(), (), REGRESSION, True),
    ],
    ids=["two classes", "two classes and nothing served", "four classes", "regression"],
)
def test_every_number_and_the_verdict_are_those_of_tfma(tmp_path, monkeypatch, case, classes, evaluation, has_baseline):
    labels, candidate, baseline = case
    outcomes = {}
    for name, is_in_process in (("ours", True), ("tfma", False)):
        monkeypatch.setattr(beam_mode, "is_in_process", lambda _, answer=is_in_process: answer)
        outcomes[name] = evaluate(
            tmp_path / name,
            labels, candidate, baseline if has_baseline else None, evaluation=evaluation, classes=classes,
        )  # fmt: skip

    ours, theirs = records(tmp_path / "ours"), records(tmp_path / "tfma")
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert ours[key] == pytest.approx(value, rel=1e-5, abs=1e-7, nan_ok=True), key
    assert outcomes["ours"][2] == outcomes["tfma"][2]
    ours_failed, tfma_failed = (
        {(str(v.slice_key), f.metric_key.name) for v in outcome[1].metric_validations_per_slice for f in v.failures}
        for outcome in (outcomes["ours"], outcomes["tfma"])
    )
    assert ours_failed == tfma_failed
    assert outcomes["ours"][1].validation_details == outcomes["tfma"][1].validation_details
    files = {name: sorted(path.name for path in (tmp_path / name / "evaluation").iterdir()) for name in outcomes}
    assert files["ours"] == files["tfma"]
