from kubetfx.components.report import comparison, render
from kubetfx.components.report.facts import Split
from tests.components.report import sample


def side(**fields) -> comparison.Side:
    return comparison.Side(sample.record().model_copy(update=fields), sample.facts())


def test_metrics_stand_side_by_side_with_their_difference() -> None:
    found = comparison.compare(side(metrics={"accuracy": 0.5, "auc": 0.6}), side(metrics={"accuracy": 0.7}))
    accuracy, auc = found.metrics

    assert (round(accuracy.difference, 6), accuracy.is_better) == (0.2, True)
    assert (auc.second, auc.difference, auc.is_better) == (None, None, None)


def test_less_of_a_loss_is_better_and_of_rows_is_neither() -> None:
    found = comparison.compare(
        side(metrics={"cross_entropy": 0.5, "example_count": 10}),
        side(metrics={"cross_entropy": 0.4, "example_count": 9}),
    )
    assert [pair.is_better for pair in found.metrics] == [True, None]


def test_config_differences_have_dotted_keys() -> None:
    first = {"training": {"epochs": 5, "seed": 0}, "name": "a", "slices": []}
    second = {"training": {"epochs": 9, "seed": 0}, "name": "a", "card": {"owner": "me", "license": None}, "slices": []}
    found = list(comparison.config_differences(first, second))

    assert [(one.key, one.first, one.second) for one in found] == [
        ("training.epochs", "5", "9"),
        ("card.owner", "–", "me"),
    ]


def test_slices_that_got_worse_most_come_first() -> None:
    first, second = side(), side()
    slices = [
        one.model_copy(update={"metrics": {"accuracy": {"colour=red": 0.55, "colour=green": 0.6}.get(one.name, 0.5)}})
        for one in second.facts.evaluation.slices
    ]
    evaluation = second.facts.evaluation.model_copy(update={"slices": slices})
    second = comparison.Side(second.record, second.facts.model_copy(update={"evaluation": evaluation}))
    found = comparison.compare(first, second)

    assert found.slices_by == "accuracy"
    assert [pair.name for pair in found.slices][:2] == ["colour=green", "colour=red"]


def test_run_that_failed_early_can_be_compared() -> None:
    bare = comparison.Side(sample.record("failed", nodes=2).model_copy(update={"metrics": {}}), None)
    found = comparison.compare(bare, side())

    assert found.slices == []
    assert [pair.first for pair in found.metrics] == [None]
    assert "<svg" not in render.comparison(found)


def test_other_rows_are_said_to_be_others() -> None:
    first, second = side(), side()
    fewer = sample.data_facts().model_copy(update={"splits": [Split(name="train", rows=9)]})
    other = comparison.Side(second.record, second.facts.model_copy(update={"data": fewer}))

    assert "data changed" not in render.comparison(comparison.compare(first, second))
    assert "data changed" in render.comparison(comparison.compare(first, other))


def test_page_has_the_curves_of_both_runs_in_one_figure() -> None:
    html = render.comparison(comparison.compare(side(), side()))

    assert html.count("<svg") == 2
    assert html.count("<polyline") == 4


def test_sums_in_another_order_and_another_sample_are_no_other_rows() -> None:
    first, second = side(), side()
    columns = [
        column.model_copy(
            update={
                "splits": {
                    name: split.model_copy(update={"mean": split.mean and split.mean * (1 + 1e-7)})
                    for name, split in column.splits.items()
                }
            }
        )
        for column in first.facts.data.columns
    ]
    rounded = first.facts.data.model_copy(update={"columns": columns})
    assert rounded != first.facts.data

    for data in (rounded, first.facts.data.model_copy(update={"columns": [], "sampled_rows": 100})):
        other = comparison.Side(second.record, second.facts.model_copy(update={"data": data}))
        assert not comparison.compare(first, other).has_other_data
