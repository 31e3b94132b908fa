"""The reader of examples, over files of a few rows."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from kubetfx.errors import DataError
from kubetfx.models import examples

TABLE = pa.table(
    {
        "i": pa.array([1, None, -(2**62), 4, 5], pa.int64()),
        "f": pa.array([0.1, None, -0.25, float("inf"), 17.4]),
        "s": pa.array(["größe", None, "", "a", "b"]),
        "is": pa.array([0, 1, 2, 3, 4], pa.int64()),
        "is.female?": pa.array(["no", "yes", "no", "yes", "no"]),
    }
)


@pytest.fixture
def files(tmp_path) -> list[str]:
    folder = tmp_path / "Split-train"
    folder.mkdir()
    pq.write_table(TABLE.slice(0, 3), folder / "data-00000-of-00002.parquet", row_group_size=2)
    pq.write_table(TABLE.slice(3), folder / "data-00001-of-00002.parquet", row_group_size=2)
    return examples.files_in(folder)


def values_of(serialized: bytes) -> dict[str, list]:
    """The features of a tf.Example that are not missing: tfx_bsl writes a missing one as one without a kind."""
    features = tf.train.Example.FromString(serialized).features.feature
    kinds = {name: feature.WhichOneof("kind") for name, feature in features.items()}
    return {name: list(getattr(features[name], kind).value) for name, kind in kinds.items() if kind}


def test_row_groups_come_in_the_order_of_the_files_and_of_the_rows(files):
    blocks = list(examples.read_blocks(files))

    assert [block.num_rows for block in blocks] == [2, 1, 2]
    assert pa.Table.from_batches(blocks).equals(TABLE)


def test_only_the_columns_that_are_wanted_are_read_in_their_order(files):
    (block, *_) = examples.read_blocks(files, ["is", "f"])  # and not `is.female?`, which Parquet's paths begin alike

    assert block.schema.names == ["is", "f"]
    assert [b.schema.names for b in examples.read_blocks(files, ["is.female?"])] == [["is.female?"]] * 3


def test_column_that_the_files_do_not_have_is_null(files):
    (block, *_) = examples.read_blocks(files, ["none", "i"])

    assert block.column("none").null_count == 2
    assert [b.num_rows for b in examples.read_blocks(files, ["none"])] == [2, 1, 2]


def test_blocks_are_cut_where_fewer_rows_are_wanted(files):
    assert [block.num_rows for block in examples.read_blocks(files, max_rows=1)] == [1] * 5


def test_footers_say_how_many_rows_there_are(files):
    assert examples.count_rows(files) == 5
    assert examples.count_rows(files[1:]) == 2


@pytest.mark.parametrize(("number", "found"), [(1, 1), (2, 2), (3, 3), (4, 4), (50, 5)])
def test_first_rows_are_read(files, number, found):
    block = examples.first_rows(files, number, ["is"])

    assert block is not None
    assert block.column("is").to_pylist() == list(range(found))


def test_no_rows_are_none(files):
    assert examples.first_rows(files, 0) is None
    assert examples.first_rows([], 3) is None


def test_files_of_an_earlier_version_are_refused_in_words(tmp_path):
    (tmp_path / "data_tfrecord-00000-of-00001.gz").write_bytes(b"")

    with pytest.raises(DataError, match=r"not Parquet files: .* earlier version .*tfrecord.*Run the pipeline again"):
        examples.files_in(tmp_path)


def test_patterns_of_a_folder_are_understood_and_what_is_half_written_is_not_read(files):
    folder = Path(files[0]).parent
    (folder / ".data-00002-of-00002.parquet.partial").write_bytes(b"PAR1")

    assert examples.files_in(f"{folder}/*") == files


def test_lists_have_one_value_or_none_and_copy_nothing_of_a_whole_column():
    block = TABLE.append_column("e", pa.nulls(5, pa.string())).to_batches()[0]
    lists = examples.as_lists(block)

    assert lists.column("i").to_pylist() == [[1], None, [-(2**62)], [4], [5]]
    assert lists.column("s").to_pylist() == [["größe".encode()], None, [b""], [b"a"], [b"b"]]
    assert lists.column("e").type == pa.null()
    assert lists.column("is").values.buffers()[1].address == block.column("is").buffers()[1].address


def test_rows_become_tf_examples():
    first, second, third, *_ = map(values_of, examples.to_examples(TABLE.to_batches()[0]))

    assert first == {"i": [1], "f": [pytest.approx(0.1)], "s": ["größe".encode()], "is": [0], "is.female?": [b"no"]}
    assert second == {"is": [1], "is.female?": [b"yes"]}
    assert third == {"i": [-(2**62)], "f": [-0.25], "s": [b""], "is": [2], "is.female?": [b"no"]}


def test_slice_of_a_block_becomes_tf_examples():
    block = TABLE.to_batches()[0]

    whole, part = examples.to_examples(block), examples.to_examples(block.slice(2))
    assert [values_of(record) for record in part] == [values_of(record) for record in whole[2:]]


def test_column_without_any_value_becomes_no_feature():
    block = pa.RecordBatch.from_pydict({"a": pa.nulls(2, pa.string()), "y": pa.array([0, 1], pa.int64())})

    assert [values_of(record) for record in examples.to_examples(block)] == [{"y": [0]}, {"y": [1]}]


def test_blocks_of_many_columns_have_few_rows():
    assert examples.block_rows(2) == examples.BLOCK_ROWS
    assert examples.block_rows(2_000) * 2_000 <= examples.BLOCK_CELLS


def test_error_of_a_file_comes_out_where_its_rows_are_due(files):
    Path(files[1]).write_bytes(Path(files[1]).read_bytes()[:-20])

    with pytest.raises(pa.ArrowInvalid):
        list(examples.read_blocks(files))
