"""Rows that are larger than the memory they may take: in files, and read in another order in each epoch."""

import gc
import shutil
from collections import namedtuple

import numpy as np
import pytest

from kubetfx.errors import TrainingError
from kubetfx.models import stored_rows
from kubetfx.models.stored_rows import StoredRows

NUM_ROWS, BLOCK, BATCH = 103, 8, 5


@pytest.fixture
def rows(tmp_path, monkeypatch) -> StoredRows:
    """Thirteen blocks, of which the buffer holds three."""
    monkeypatch.setattr(stored_rows, "BLOCK_ROWS", BLOCK)
    arrays = {
        "numbers": np.arange(2 * NUM_ROWS, dtype=np.float32).reshape(NUM_ROWS, 2),
        "label": np.arange(NUM_ROWS, dtype=np.int64),
        "flags": np.arange(NUM_ROWS) % 2 == 0,
    }
    found = StoredRows(tmp_path, NUM_ROWS, arrays)
    monkeypatch.setattr(stored_rows, "BUFFER_BYTES", 3 * BLOCK * found.row_bytes)
    for start in range(0, NUM_ROWS, 40):
        found.append({name: array[start : start + 40] for name, array in arrays.items()})
    found.flush()
    return found


def labels(rows: StoredRows, **options: object) -> list[list[int]]:
    return [batch["label"].tolist() for batch in rows.batches(BATCH, **options).as_numpy_iterator()]


def test_without_a_seed_rows_come_as_they_were_written(rows):
    batches = list(rows.batches(BATCH, epochs=range(1), seed=None).as_numpy_iterator())

    found = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    assert found["label"].tolist() == list(range(NUM_ROWS))
    np.testing.assert_array_equal(found["numbers"][:, 1], 2 * found["label"] + 1)
    np.testing.assert_array_equal(found["flags"], found["label"] % 2 == 0)


def test_each_epoch_has_each_row_once_in_whole_batches_and_an_order_of_its_own(rows):
    batches = labels(rows, epochs=range(2), seed=1)

    per_epoch = len(batches) // 2
    assert [len(batch) for batch in batches[:per_epoch]] == [5] * 20 + [3]
    orders = [np.concatenate(part).tolist() for part in (batches[:per_epoch], batches[per_epoch:])]
    assert [sorted(order) for order in orders] == [list(range(NUM_ROWS))] * 2
    assert orders[0] != orders[1]
    assert labels(rows, epochs=range(1, 2), seed=1) == batches[per_epoch:]  # whatever was before
    assert labels(rows, epochs=range(1), seed=2) != batches[:per_epoch]


def test_order_is_shuffled_beyond_the_buffer(rows):
    order = np.concatenate(labels(rows, epochs=range(1), seed=0))

    assert np.corrcoef(order, np.arange(NUM_ROWS))[0, 1] < 0.5
    steps = np.diff(order)
    assert np.mean(np.abs(steps) == 1) < 0.2  # nor do rows of a block come one after the other


@pytest.mark.parametrize("first_step", [1, 7, 20])
def test_an_epoch_goes_on_at_any_of_its_steps(rows, first_step):
    expected = labels(rows, epochs=range(3, 5), seed=4)

    assert labels(rows, epochs=range(3, 5), seed=4, first_step=first_step) == expected[first_step:]


def test_what_is_before_the_step_is_not_read(rows, monkeypatch):
    read: list[int] = []
    blocks_of = StoredRows._blocks_of
    monkeypatch.setattr(
        StoredRows, "_blocks_of", lambda self, name, starts: read.append(len(starts)) or blocks_of(self, name, starts)
    )

    labels(rows, epochs=range(1), seed=0, first_step=20)

    assert read == [1, 1, 1]  # the last block, for each of three arrays


def test_files_go_with_the_rows(tmp_path):
    kept = StoredRows(tmp_path, 1, {"label": np.zeros(1, np.int64)})
    assert list(tmp_path.iterdir())

    del kept
    gc.collect()

    assert not list(tmp_path.iterdir())


def test_disk_without_room_is_told_before_anything_is_written(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 5000, 5000))

    with pytest.raises(TrainingError, match=r"no room for them. Received: 8,000 bytes for 1,000 rows, and 5,000 free"):
        StoredRows(tmp_path, 1_000, {"label": np.zeros(1, np.int64)})

    assert not list(tmp_path.iterdir())


def test_text_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="text in words"):
        StoredRows(tmp_path, 1, {"words": np.array(["a"], object)})


def test_file_that_somebody_cut_is_told(rows):
    rows._files["label"].truncate(40)

    with pytest.raises(Exception, match="ends too soon"):
        labels(rows, epochs=range(1), seed=0)
