import pytest

from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import ConfigError

CALIBRATED = {"calibrate": True}


def config(*, splits=None, **sections) -> PipelineConfig:
    data = {"path": "a.csv", "label": "y"} | ({"splits": splits} if splits else {})
    return PipelineConfig(name="a", data=data, **sections)


def test_calibrated_model_has_its_error_among_its_metrics():
    found = config(evaluation=CALIBRATED).evaluation

    assert "calibration_error" in found.metric_names("classification")
    assert found.of_folds.calibrate
    assert "calibration_error" not in config().evaluation.metric_names("classification")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"model": {"task": "regression"}},
            r"to probabilities, which a regression does not have\. Received: model\.task: regression\. Leave",
        ),
        (
            {"splits": {"train": 0.8, "validation": 0, "eval": 0.2}},
            r"Received: data\.splits\.validation: 0\. Give it a share, 0\.1 for example",
        ),
        (
            {"splits": {"files": {"train": "train.csv", "eval": "eval.csv"}}},
            r"Received: data\.splits\.files without validation\. Name a file for it",
        ),
    ],
)
def test_what_cannot_be_calibrated_is_refused_in_words(sections, message):
    with pytest.raises(ConfigError, match=message):
        config(evaluation=CALIBRATED, **sections)


def test_what_the_refusals_advise_is_accepted():
    files = {"train": "train.csv", "validation": "validation.csv", "eval": "eval.csv"}

    assert config(evaluation=CALIBRATED, splits={"files": files}).evaluation.calibrate
    assert config(evaluation=CALIBRATED, splits={"train": 0.7, "validation": 0.1, "eval": 0.2}).evaluation.calibrate
