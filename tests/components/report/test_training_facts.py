import json
from pathlib import Path

import pytest

from kubetfx.components.report import training_facts as training
from kubetfx.components.report.facts import Choice, Pretraining, Training, WarmStart


def trained(losses: list[float], validation: list[float]) -> Training:
    return Training(epochs=len(losses), history={"loss": losses, "val_loss": validation})


@pytest.mark.parametrize(
    ("losses", "validation", "says"),
    [
        ([1, 0.5, 0.3, 0.1], [1, 0.6, 0.7, 0.9], "Overfitting after epoch 2: .* rises from 0.6 to 0.9"),
        ([1, 0.8, 0.6, 0.4, 0.3], [1, 0.8, 0.6, 0.45, 0.35], "Underfitting rather than overfitting"),
        ([1, 0.2, 0.1, 0.1, 0.1], [1, 0.4, 0.31, 0.3, 0.3], "Some overfitting: .* 3.0 times the training loss"),
        ([1, 0.6, 0.50, 0.5, 0.5], [1, 0.6, 0.52, 0.52, 0.52], "Neither: the validation loss levels out at 0.52"),
        ([1.0], [1.0], "Too few epochs"),
        ([1.0, float("nan")], [1.0, 0.5], "Too few epochs with a finite loss"),
    ],
    ids=["overfit", "underfit", "gap", "neither", "one epoch", "nan"],
)
def test_curves_tell_over_from_underfitting(losses: list[float], validation: list[float], says: str) -> None:
    import re

    assert re.search(says, training.diagnose(trained(losses, validation)))


def test_advice_on_trees_names_their_keys() -> None:
    trees = trained([1, 0.2, 0.1, 0.1, 0.1], [1, 0.4, 0.31, 0.3, 0.3]).model_copy(update={"kind": "trees"})

    assert "at the best round" in training.diagnose(trees)
    assert "Fewer leaves (model.trees.num_leaves)" in training.diagnose(trees)


def test_choice_is_told_with_what_the_others_reach() -> None:
    values = {"network": 0.44, "trees": 0.4, "average": 0.41}
    choice = Choice(kind="trees", metric="cross_entropy", values=values, trees_share=0.7, rows=4_300)

    assert choice.words == (
        "Model: trees. Cross entropy on the 4,300 validation rows: 0.4; network 0.44 (+10.0%), "
        "average with 70% trees 0.41 (+2.5%)."
    )


def test_history_of_an_older_trainer_is_enough(tmp_path: Path) -> None:
    (tmp_path / "history.json").write_text(json.dumps({"epochs": 2, "best_epoch": 1, "history": {"loss": [1, 0.5]}}))
    found = training.read(tmp_path)

    assert found is not None
    assert (found.epochs, found.best_epoch, found.layers) == (2, 1, [])
    assert "Too few epochs" in found.diagnosis


def test_model_without_history_has_no_training(tmp_path: Path) -> None:
    assert training.read(tmp_path) is None


@pytest.mark.parametrize(
    ("best_epoch", "stopped_early", "may_stop_early", "is_said"),
    [(50, False, True, True), (45, False, True, True), (30, False, True, False), (50, True, True, False),
     (50, False, False, False)],
    ids=["last epoch", "late", "long past", "stopped early", "not to stop early"],
)  # fmt: skip
def test_training_that_the_number_of_epochs_ended_is_told_what_to_change(
    best_epoch: int, stopped_early: bool, may_stop_early: bool, is_said: bool
) -> None:
    found = training.cut_short(
        Training(
            epochs=50, best_epoch=best_epoch, stopped_early=stopped_early, may_stop_early=may_stop_early, history={}
        )
    )

    assert is_said == (found is not None)
    if found:
        assert "training.epochs is 50" in found
        assert f"epoch {best_epoch}. Raise training.epochs" in found


def test_warm_start_says_what_did_not_fit() -> None:
    anew = {"hidden_1/kernel": "the columns have changed", "hidden_1/bias": "the columns have changed"}
    for found, words in (
        (WarmStart(why="nothing is served yet"), "began with initial weights, since nothing is served yet."),
        (WarmStart(version=3, started=8), "Warm start: all 8 weights come from version 3."),
        (
            WarmStart(version=3, started=2, anew=anew),
            "Warm start: 2 of 4 weights come from version 3. These began with initial values: hidden_1/kernel, "
            "hidden_1/bias (the columns have changed).",
        ),
    ):
        assert words in trained([1.0], [1.0]).model_copy(update={"warm_start": found}).taken


def test_pretraining_is_told_of_the_network_wherever_it_is() -> None:
    learned = Pretraining(texts=900, loss=[3.5, 2.0], val_loss=[3.0, 2.5])
    network = trained([1.0], [1.0]).model_copy(update={"pretraining": {"text_transformer": learned}})
    words = (
        "Pretrained for 2 epochs by guessing masked tokens of 900 texts: the loss on the tenth that was held out was 3 "
        "after the first epoch, 2.5 after the last."
    )

    assert words in network.taken
    assert words in trained([1.0], [1.0]).model_copy(update={"beside": network}).taken
    assert "no text has two tokens" in Pretraining(texts=0, loss=[], val_loss=[]).words
