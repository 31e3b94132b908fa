"""Which rows of which batch are whose."""

import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from kubetfx.errors import TrainingError
from kubetfx.models import training_rows
from kubetfx.models.features import LABEL
from kubetfx.models.optimization import weighted_by_class
from kubetfx.models.preprocessing import Preprocessing
from kubetfx.models.stored_rows import StoredRows
from kubetfx.models.team import Share, Team
from kubetfx.models.training_loop import with_dense_gradients
from kubetfx.models.training_rows import TrainingRows, load_rows
from tests.models.conftest import write_split


def team(number: int, size: int, replicas: int) -> Team:
    return Team(SimpleNamespace(num_replicas_in_sync=replicas), number, size)  # type: ignore[arg-type]


def parts(share: Share, rows: int, *, is_averaged: bool) -> list[tuple[list[int], float]]:
    batches = tf.data.Dataset.from_tensors((tf.range(rows),))
    return [
        (kept.tolist(), float(weight))
        for kept, weight in share.of(batches, is_averaged=is_averaged).as_numpy_iterator()
    ]


@pytest.mark.parametrize("rows", [8, 9, 11])
def test_parts_of_all_replicas_are_the_batch_and_their_weighted_averages_its_average(rows):
    shares = [team(number, 2, 4).share for number in range(2)]
    found = [part for share in shares for part in parts(share, rows, is_averaged=True)]
    assert [row for kept, _ in found for row in kept] == list(range(rows))
    average = sum(weight * np.mean(kept) for kept, weight in found) / len(found)
    assert average == pytest.approx(np.mean(range(rows)))


def test_a_part_without_rows_weighs_nothing():
    found = parts(Share(0, 4, 4), 3, is_averaged=True)
    assert sum(weight == 0 for _, weight in found) == 1
    assert sum(weight * np.mean(kept) for kept, weight in found) / 4 == pytest.approx(1.0)
    assert [weight for _, weight in parts(Share(0, 4, 4), 3, is_averaged=False)].count(1.0) == 3


@pytest.mark.parametrize(
    ("batch_size", "rows", "expected"), [(4, 9, 5), (4, 8, 4), (4, 2, 4), (10, 12, 10), (10, 11, 11)]
)
def test_the_last_batch_of_a_validation_has_a_row_for_each_replica(batch_size, rows, expected):
    assert Share(0, 1, 2).divisible(batch_size, rows) == expected


def rows_in_memory(number: int, own: Team) -> TrainingRows:
    arrays = {"numeric": np.arange(number, dtype=np.float32)[:, np.newaxis], LABEL: np.zeros((number, 1), np.int64)}
    return TrainingRows(number, arrays[LABEL][:, 0], arrays, sample=arrays, team=own)


def test_processes_go_through_the_order_of_one(tmp_path):
    def order(own: Team) -> list[list[float]]:
        batches = rows_in_memory(22, own).shuffled_batches(6, seed=3, epochs=range(1, 3), first_step=1)
        return [batch[0]["numeric"][:, 0].tolist() for batch in batches.as_numpy_iterator()]

    alone = order(Team())
    first, second = order(team(0, 2, 2)), order(team(1, 2, 2))
    assert [before + after for before, after in zip(first, second, strict=True)] == alone


@pytest.mark.parametrize("own", [Team(), team(0, 2, 2)], ids=["alone", "team"])
def test_iterators_of_batches_end_without_waiting_for_a_model_of_their_speed(own):
    rows = rows_in_memory(22, own)
    weighted = weighted_by_class(rows.shuffled_batches(6, seed=3, epochs=range(1)), {0: 2.0})

    assert not any(
        batches.options().autotune.enabled is not False
        for batches in (rows.shuffled_batches(6, seed=3, epochs=range(1)), rows.validation_batches(6)[0], weighted)
    )


class Kept(Preprocessing):
    """The columns as they are."""

    def __init__(self) -> None:
        self.inputs: Any = SimpleNamespace(columns=["number", LABEL], pack=lambda block: block)
        self._rows_at_a_time = None

    def __call__(self, block: Any) -> dict[str, tf.Tensor]:
        return {name: tf.constant(np.asarray(block.column(name))[:, np.newaxis]) for name in ("number", LABEL)}


def load(folder: Path, own: Team, **options: Any) -> TrainingRows:
    files = write_split(folder / "split", [{"number": index, LABEL: index % 2} for index in range(95)], group_rows=10)
    return load_rows(files, Kept(), cache_bytes=0, scratch=folder, team=own, **options)


class Wide(Kept):
    """A megabyte per block."""

    def of_block(self, block: Any) -> dict[str, Any]:
        labels = np.asarray(block.column(LABEL))[:, np.newaxis]
        return {"number": np.zeros((len(labels), 2**18 // len(labels)), np.float32), LABEL: labels}


def test_no_block_stays_in_memory_for_the_sake_of_its_rows_in_the_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(training_rows, "SAMPLE_ROWS", 100)
    files = write_split(tmp_path / "split", [{"number": 0, LABEL: 0}] * 3_200, group_rows=32)
    tracemalloc.start()
    try:
        rows = load_rows(files, Wide(), cache_bytes=0, scratch=tmp_path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(rows.sample["number"]) == 100
    assert most < 25 * 2**20  # of 100 MiB


def validated(rows: TrainingRows) -> list[list[int]]:
    batches, steps = rows.validation_batches(7)
    return [batch[0]["number"][:, 0].tolist() for batch in batches.take(steps).as_numpy_iterator()]


def test_rows_that_do_not_fit_in_memory_are_divided_and_the_sample_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(training_rows, "SAMPLE_ROWS", 30)
    loaded = [load(tmp_path, team(number, 2, 2)) for number in range(2)]
    own = [[number for batch in validated(rows) for number in batch] for rows in loaded]
    assert sorted(set(own[0]) | set(own[1])) == list(range(95))
    assert not set(own[0]) & set(own[1])
    np.testing.assert_array_equal(loaded[0].sample["number"], loaded[1].sample["number"])
    assert loaded[0].digest == loaded[1].digest
    assert [rows.num_rows for rows in loaded] == [95, 95]


def test_all_processes_have_as_many_steps_where_one_has_fewer_rows(tmp_path):
    """The one with fewer begins again."""
    counts = set()
    for number in range(2):
        rows = load(tmp_path, team(number, 2, 2))
        batches = list(rows.shuffled_batches(20, seed=1, epochs=range(2)).as_numpy_iterator())
        assert {len(batch[1]) for batch in batches} == {10}
        seen = {int(value) for batch in batches[: rows.num_steps(20)] for value in batch[0]["number"][:, 0]}
        assert rows.stored is not None
        assert len(seen) == rows.stored.num_rows
        counts.add(len(batches))
    assert counts == {2 * 5}


def test_more_workers_than_row_groups_are_refused(tmp_path):
    with pytest.raises(TrainingError, match="10 row groups, and 11 workers"):
        load(tmp_path, team(0, 11, 11))


def test_an_epoch_of_stored_rows_may_be_longer_or_shorter(tmp_path):
    stored = StoredRows(tmp_path, 10, {"number": np.arange(10)})
    stored.append({"number": np.arange(10)})
    stored.flush()

    def numbers(**options: Any) -> list[int]:
        batches = stored.batches(4, epochs=range(1), seed=None, **options).as_numpy_iterator()
        return [number for batch in batches for number in batch["number"].tolist()]

    assert numbers(rows_of_epoch=24) == [*range(10), *range(10), *range(4)]
    assert numbers(rows_of_epoch=8) == [*range(8)]
    assert numbers(rows_of_epoch=24, first_step=3) == [*range(2, 10), *range(4)]


def test_processes_draw_other_random_numbers_and_the_chief_those_of_one():
    def first_seed(own: Team) -> list[int]:
        keras.utils.set_random_seed(1)
        inputs = keras.Input((2,))
        model = keras.Model(inputs, keras.layers.Dropout(0.5)(inputs))
        own.vary_seeds(model.variables)
        return np.asarray(model.variables[0]).tolist()

    alone, chief, other, third = (first_seed(own) for own in (Team(), team(0, 3, 3), team(1, 3, 3), team(2, 3, 3)))
    assert alone == chief
    assert len({tuple(seed) for seed in (chief, other, third)}) == 3


def test_gradients_of_embeddings_are_whole_tensors_with_repeated_rows_added_up():
    rows = tf.IndexedSlices(tf.constant([[1.0, 2.0], [3.0, 4.0]]), indices=tf.constant([1, 1]), dense_shape=(3, 2))

    pairs = with_dense_gradients(list)([(rows, "vectors"), (tf.constant(5.0), "bias"), (None, "unused")])

    assert [of for _, of in pairs] == ["vectors", "bias", "unused"]
    assert pairs[0][0].numpy().tolist() == [[0, 0], [4, 6], [0, 0]]
    assert pairs[1][0].numpy() == 5
    assert pairs[2][0] is None
