import pytest

from kubetfx.config.cross_validation_section import CrossValidationConfig
from kubetfx.config.data_section import Splits
from kubetfx.config.evaluation_section import EvaluationConfig
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import ConfigError

DATA = {"path": "a.csv", "label": "y"}


def config(**evaluation) -> PipelineConfig:
    return PipelineConfig(name="a", data=DATA, evaluation=evaluation)


def test_classes_are_stratified_unless_folds_are_in_time_or_it_is_said():
    splits = Splits()

    assert CrossValidationConfig().resolved(splits, "classification").stratified is True
    assert CrossValidationConfig().resolved(splits, "regression").stratified is False
    assert CrossValidationConfig(time="day").resolved(splits, "classification").stratified is False
    assert CrossValidationConfig(stratified=False).resolved(splits, "classification").stratified is False


@pytest.mark.parametrize("by", ["group", "time"])
def test_what_belongs_together_in_splits_does_so_in_folds(by):
    splits = Splits(by=by, column="key")

    assert getattr(CrossValidationConfig().resolved(splits, "classification"), by) == "key"
    assert CrossValidationConfig(group="other").resolved(splits, "classification").group == "other"


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ({"folds": 1}, "folds"),
        ({"group": "a", "time": "b"}, r"by group or by time\. Received: group: a, time: b"),
        ({"time": "b", "repeats": 2}, r"the same in each repeat\. Received: time: b, repeats: 2"),
        ({"time": "b", "stratified": True}, "not stratified"),
        ({"fold": 3}, r"fold"),
    ],
)
def test_what_does_not_go_together_is_refused(folds, message):
    with pytest.raises(ConfigError, match=message):
        config(cross_validation=folds)


def test_threshold_may_bound_the_mean_over_folds():
    evaluation = config(cross_validation={}, thresholds={"cross_validated_auc": {"at_least": 0.7}}).evaluation

    assert evaluation.cross_validated == ("cross_validated_auc",)
    assert "auc" in evaluation.metric_names("classification")
    assert evaluation.of_folds.metric_names("classification") == evaluation.metric_names("classification")
    assert evaluation.of_folds.cross_validation is None


def test_bound_of_a_threshold_changes_nothing_in_folds():
    def of_folds(bound: float) -> EvaluationConfig:
        return config(cross_validation={}, thresholds={"f1_macro": {"at_least": bound}}).evaluation.of_folds

    assert of_folds(0.1) == of_folds(0.2)
    assert "f1_macro" in of_folds(0.1).metric_names("classification")


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        (
            {"thresholds": {"cross_validated_auc": {"at_least": 0.7}}},
            r"needs cross-validation\. .*cross_validation: "
            r"\{folds: 5\}",
        ),
        (
            {"cross_validation": {}, "thresholds": {"cross_validated_auk": {"at_least": 0.7}}},
            "Did you mean 'cross_validated_auc'",
        ),
        (
            {"cross_validation": {}, "thresholds": {"cross_validated_auc": {"worse_by_at_most": 0.1}}},
            "be bounded by at_least and at_most",
        ),
        (
            {"cross_validation": {}, "thresholds": {"cross_validated_auc": {"at_most": 0.7}}},
            r"higher values are better, so the bound is at_least",
        ),
        ({"cross_validation": {}, "thresholds": {"cross_validated_auc": {"at_least": 70}}}, "from 0 to 1"),
        (
            {"cross_validation": {}, "thresholds": {"cross_validated_mine:score": {"at_least": 1}}},
            "of a metric of your own cannot be bounded",
        ),
    ],
)
def test_bound_of_a_mean_over_folds_that_cannot_be_kept_is_refused(evaluation, message):
    with pytest.raises(ConfigError, match=message):
        config(**evaluation)


def test_ensemble_is_of_one_network_per_fold():
    found = PipelineConfig(name="a", data=DATA, evaluation={"cross_validation": {}}, model={"ensemble": "folds"})

    assert found.model.num_networks == 1
    assert found.with_settings({"model.dropout": 0.3}).model.ensemble == "folds"


def test_ensemble_of_folds_may_be_of_trees():
    evaluation, model = {"cross_validation": {"group": "customer"}}, {"kind": "trees", "ensemble": "folds"}

    assert PipelineConfig(name="a", data=DATA, evaluation=evaluation, model=model).model.ensemble == "folds"


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"model": {"ensemble": "folds"}},
            r"averages the models of cross-validation\..*Add the section, \{folds: 5\}",
        ),
        (
            {"model": {"ensemble": "folds"}, "evaluation": {"cross_validation": {"time": "day"}}},
            r"know only older rows\. Received: folds by the column 'day'\. Give a number",
        ),
        (
            {
                "model": {"ensemble": "folds"},
                "evaluation": {"cross_validation": {}},
                "data": {**DATA, "splits": {"by": "time", "column": "day"}},
            },
            r"know only older rows\. Received: folds by the column 'day'",
        ),
        (
            {"model": {"ensemble": 3, "kind": "trees"}},
            r"model\.ensemble averages networks, and trees are the same with every seed\. Received: .*ensemble: 3",
        ),
        ({"model": {"ensemble": "fold"}}, "ensemble"),
        ({"model": {"ensemble": 0}}, "ensemble"),
    ],
)
def test_ensemble_that_makes_no_sense_is_refused(sections, message):
    with pytest.raises(ConfigError, match=message):
        PipelineConfig(**{"name": "a", "data": DATA, **sections})
