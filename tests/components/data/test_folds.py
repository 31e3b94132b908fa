import numpy as np
import pyarrow as pa
import pytest

from kubetfx.components.data.folds import LEFT_OUT, FoldRule, Keys, fold_splits, missing_classes
from kubetfx.config.cross_validation_section import CrossValidationConfig
from kubetfx.errors import DataError

CLASSES = pa.array((["a"] * 6 + ["b"] * 3 + ["c"]) * 20)
TRAINING, VALIDATION, HELD_OUT = 0, 1, 2


def rule(*, validation: float = 0.2, seed: int = 0, **folds) -> FoldRule:
    return FoldRule(folds=CrossValidationConfig(**folds), validation=validation, seed=seed)


def splits_of(rule: FoldRule, keys: Keys) -> np.ndarray:
    """(folds, rows)."""
    return np.array([fold_splits(rule, number, keys) for number in range(rule.folds.num_trainings)])


@pytest.mark.parametrize("stratified", [False, True])
def test_each_row_is_held_out_once(stratified):
    found = splits_of(rule(folds=4, stratified=stratified), Keys(CLASSES, None))

    assert ((found == HELD_OUT).sum(axis=0) == 1).all()
    assert ((found == HELD_OUT).sum(axis=1) == 50).all()
    assert ((found == VALIDATION).sum(axis=1) == 30).all()  # a fifth of what is not held out


def test_stratified_folds_have_the_classes_in_the_shares_of_the_table():
    found = splits_of(rule(folds=4, stratified=True), Keys(CLASSES, None))

    labels = np.array(CLASSES.to_pylist())
    for fold in found:
        held_out = labels[fold == HELD_OUT]
        assert {name: int((held_out == name).sum()) for name in "abc"} == {"a": 30, "b": 15, "c": 5}


def test_the_seed_gives_the_same_folds_and_another_one_others():
    keys = Keys(CLASSES, None)

    assert (splits_of(rule(folds=3), keys) == splits_of(rule(folds=3), keys)).all()
    assert (splits_of(rule(folds=3), keys) != splits_of(rule(folds=3, seed=1), keys)).any()


def test_repeats_cut_anew():
    found = splits_of(rule(folds=3, repeats=2), Keys(CLASSES, None))

    assert len(found) == 6
    assert ((found == HELD_OUT).sum(axis=0) == 2).all()
    assert (found[:3] != found[3:]).any()


@pytest.mark.parametrize("stratified", [False, True])
def test_rows_of_a_group_are_together(stratified):
    groups = np.arange(len(CLASSES)) % 23
    found = splits_of(rule(folds=4, group="customer", stratified=stratified), Keys(CLASSES, pa.array(groups)))

    for fold in found:
        for group in range(23):
            assert len(set(fold[groups == group].tolist())) == 1
    assert ((found == HELD_OUT).sum(axis=0) == 1).all()
    assert (found == VALIDATION).any(axis=1).all()


@pytest.mark.parametrize("stratified", [False, True])
def test_near_copies_follow_their_leader(stratified):
    leaders = np.arange(len(CLASSES))
    leaders[100:150] = np.arange(50)

    found = splits_of(rule(folds=4, stratified=stratified), Keys(CLASSES, None, leaders=leaders))

    assert (found[:, 100:150] == found[:, :50]).all()
    assert ((found == HELD_OUT).sum(axis=0) == 1).all()


def test_folds_in_time_never_train_on_the_future():
    days = np.random.default_rng(0).integers(0, 100, len(CLASSES))
    found = splits_of(rule(folds=4, time="day"), Keys(CLASSES, pa.array(days)))

    for fold in found:
        assert days[fold == TRAINING].max() < days[fold == VALIDATION].min()
        assert days[fold == VALIDATION].max() < days[fold == HELD_OUT].min()
        assert (days[fold == LEFT_OUT] > days[fold == HELD_OUT].max()).all()
    assert ((found == HELD_OUT).sum(axis=0) <= 1).all()
    assert (found[-1] != LEFT_OUT).all()


def test_dates_are_put_in_order_as_dates():
    days = pa.array([f"{1 + i % 28}.{1 + i // 28}.2024" for i in range(len(CLASSES))])
    found = splits_of(rule(folds=2, time="day"), Keys(CLASSES, days, "%d.%m.%Y"))

    order = np.arange(len(CLASSES))
    for fold in found:
        assert order[fold <= VALIDATION].max() > order[fold == TRAINING].max()
        assert order[fold == HELD_OUT].min() > order[(fold == TRAINING) | (fold == VALIDATION)].max()


def test_without_validation_what_is_held_out_validates():
    found = splits_of(rule(folds=4, validation=0), Keys(CLASSES, None))

    assert set(found.ravel().tolist()) == {0, 1}
    assert ((found == 1).sum(axis=0) == 1).all()


def test_class_that_only_held_out_rows_have_is_named():
    labels, groups = pa.array(["a", "a", "a", "b", "b"]), pa.array([1, 2, 3, 4, 4])
    keys = Keys(labels, groups)
    found = splits_of(rule(folds=4, group="customer", stratified=False, validation=0), keys)

    assert sorted(missing_classes(keys, fold) for fold in found) == [[], [], [], ["b"]]


@pytest.mark.parametrize(
    ("folds", "keys", "message"),
    [
        ({"folds": 5}, Keys(pa.array([0, 1, 1]), None), r"fewer rows than folds\. Received: 3 rows, and 5 folds\. "
         r"Lower evaluation\.cross_validation\.folds to 3\."),
        ({"folds": 5}, Keys(pa.array([0]), None), r"Received: 1 rows, and 5 folds\. Give more data\."),
        ({"folds": 3, "stratified": True}, Keys(pa.array(["a"] * 9 + ["b"] * 2), None),
         r"a class with fewer rows than folds\. Received: 2 of 'b', and 3 folds\. Lower .*folds to 2; or let folds "
         r"differ in their classes, stratified: false\."),
        ({"folds": 3, "group": "customer"}, Keys(pa.array(["a"] * 9), pa.array([1, 2] * 4 + [1])),
         r"fewer groups than folds\. Received: 2 in 'customer', and 3 folds\. Lower .*folds to 2\."),
        ({"folds": 2, "group": "customer"}, Keys(pa.array(["a"] * 3), pa.array([1, None, 2])),
         r"no value in 1 rows\. Received: 'customer'\. Fill it in"),
        ({"folds": 3, "time": "day"}, Keys(pa.array(["a"] * 8), pa.array([1, 2] * 4)),
         r"too few points in time\. Received: 2 in 'day', and 3 folds\. Give more data\."),
        ({"folds": 2, "time": "day"}, Keys(pa.array(["a"] * 3), pa.array(["x", "y", "z"])),
         r"numbers or valid dates.*Received: 'x' in column 'day'"),
    ],
)  # fmt: skip
def test_folds_that_cannot_be_made_are_refused_in_words(folds, keys, message):
    with pytest.raises(DataError, match=message):
        fold_splits(rule(**folds), 0, keys)
