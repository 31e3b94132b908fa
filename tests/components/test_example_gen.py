import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to
from google.protobuf import json_format
from tfx.components.example_gen import base_example_gen_executor
from tfx.components.util import tfxio_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.artifacts import ORIGIN, TABLE_PROFILE
from kubetfx.components.data import table_profile, table_shards, tables
from kubetfx.components.data.row_splits import hashed, row_keys
from kubetfx.components.data.table_reader import _one_ahead
from kubetfx.components.example_driver import Driver
from kubetfx.components.example_gen import ExampleGen, Executor
from kubetfx.config.data_section import DataConfig, FeaturesConfig
from kubetfx.errors import DataError
from kubetfx.models import examples as example_files
from kubetfx.models.examples import files_in, read_blocks
from kubetfx.storage import ObjectPath
from tests.components.pictures import write_picture

BLOCK = pa.RecordBatch.from_pydict(
    {
        "i": pa.array([1, None, -(2**62)], pa.int64()),
        "f": pa.array([1.5, None, -0.25], pa.float32()),
        "s": pa.array(["größe", None, ""], pa.string()),
        "y": pa.array([0, 1, 0], pa.int64()),
    }
)

ROOT = Path(__file__).resolve().parents[2]


def test_blocks_come_in_order_with_one_made_ahead():
    made = [threading.Event() for _ in range(4)]

    def blocks():
        for number, event in enumerate(made):
            event.set()
            yield number

    found = []
    for number in _one_ahead(blocks()):
        found.append(number)
        assert all(event.wait(10) for event in made[: number + 2])
        assert not any(event.is_set() for event in made[number + 2 :])
    assert found == [0, 1, 2, 3]


def test_error_in_a_block_made_ahead_comes_after_the_blocks_before_it():
    def blocks():
        yield 1
        raise DataError("the second block is broken")

    found = _one_ahead(blocks())
    assert next(found) == 1
    with pytest.raises(DataError, match="the second block is broken"):
        next(found)


def test_fingerprint_tells_changed_data_in_a_bucket(any_bucket):
    (any_bucket / "rows.csv").write_text("x,y\n1,0\n")
    component = ExampleGen(DataConfig(path=str(any_bucket), label="y"))

    def fingerprint() -> str:
        return Driver(None).resolve_exec_properties(dict(component.exec_properties), None, None)["input_fingerprint"]

    first = fingerprint()
    assert "num_files:1,total_bytes:8," in first
    assert fingerprint() == first
    (any_bucket / "rows.csv").write_text("x,y\n1,0\n2,1\n")
    larger = fingerprint()
    assert larger != first
    time.sleep(1.1)  # stores keep times to the second
    (any_bucket / "rows.csv").write_text("x,y\n1,0\n3,1\n")
    assert fingerprint() != larger


def test_examples_of_a_bucket_are_those_of_the_folder(examples, table, bucket, tmp_path):
    for path in table.iterdir():
        (bucket / path.name).upload(path)

    assert rows_by_split(run_executor(bucket, tmp_path / "out")) == rows_by_split(examples)


@pytest.mark.parametrize("buckets", [[700, 800, 1000], [800, 1000], [1, 2]], ids=["three", "two", "halves"])
def test_split_of_a_row_is_that_of_tfx(buckets):
    config = example_gen_pb2.SplitConfig()
    keys = [f"row {number}\x1fgröße" for number in range(200)]

    ours = hashed(pa.array(keys), buckets).tolist()
    tfx = [base_example_gen_executor._PartitionFn(key.encode(), len(buckets), buckets, config) for key in keys]

    assert ours == tfx
    assert set(ours) == set(range(len(buckets)))


def test_key_of_a_row_is_independent_of_the_order_of_columns():
    assert row_keys(BLOCK).equals(row_keys(BLOCK.select(["y", "s", "f", "i"])))


def test_key_of_a_row_is_its_cells_in_the_order_of_the_names_of_the_columns():
    """The split of a row depends on this text: another one would move rows between the splits of tables in use."""
    assert row_keys(BLOCK).to_pylist() == [
        "1.5\x1f1\x1fgröße\x1f0",
        "\x00\x1f\x00\x1f\x00\x1f1",
        f"-0.25\x1f{-(2**62)}\x1f\x1f0",
    ]


def test_key_has_decimal_numbers_with_the_32_bits_that_examples_had_once():
    block = pa.RecordBatch.from_pydict({"f": pa.array([17.4, 1e300, None, 0.1 + 0.2], pa.float64())})

    assert row_keys(block).to_pylist() == ["17.4", "inf", "\x00", "0.3"]


def test_key_tells_rows_apart():
    cells = [("a", "b"), ("ab", ""), ("", "ab"), (None, "ab"), ("ab", None), (None, None)]
    block = pa.RecordBatch.from_pydict(
        {"p": pa.array([p for p, _ in cells], pa.string()), "q": pa.array([q for _, q in cells], pa.string())}
    )

    assert len(set(row_keys(block).to_pylist())) == len(cells)


def test_key_of_a_row_is_the_same_in_another_process():
    """Python's hashes, and the order of anything built on them, differ from process to process."""
    program = (
        "import pyarrow as pa, json, sys\n"
        "from kubetfx.components.data.row_splits import row_keys\n"
        "block = pa.RecordBatch.from_pydict({'i': pa.array([1, None], pa.int64()), 'f': pa.array([1.1, None],"
        " pa.float32()), 's': pa.array(['größe', None])})\n"
        "print(json.dumps(row_keys(block).to_pylist()))\n"
    )
    block = pa.RecordBatch.from_pydict(
        {
            "s": pa.array(["größe", None]),
            "f": pa.array([1.1, None], pa.float32()),
            "i": pa.array([1, None], pa.int64()),
        }
    )

    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "1234", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(result.stdout) == row_keys(block).to_pylist()


def run_executor(
    folder: Path | ObjectPath,
    output: Path,
    *,
    beam_arguments: list[str] | None = None,
    features: FeaturesConfig | None = None,
    **fields,
) -> standard_artifacts.Examples:
    """Run driver and executor as TFX's launcher does, with the exec properties of the component."""
    data = DataConfig.model_validate({"path": str(folder), "label": "y", **fields})
    component = ExampleGen(data, features=features)
    examples = standard_artifacts.Examples()
    examples.uri = str(output)
    output.mkdir(parents=True)
    properties = Driver(None).resolve_exec_properties(dict(component.exec_properties), None, None)
    executor = Executor(Executor.Context(beam_pipeline_args=beam_arguments or [], tmp_dir=str(output)))
    executor.Do({}, {"examples": [examples]}, properties)
    return examples


@pytest.mark.parametrize(
    ("splits", "is_key"),
    [({}, True), ({"key": ["x"]}, False), ({"by": "time", "column": "x"}, False), ({"eval": "newest"}, False)],
)
def test_features_are_an_input_where_they_decide_which_rows_are_together(splits, is_key):
    window = {"window": {"spans": 2}, "path": "/data/{YYYY}-{MM}-{DD}.csv"} if splits.get("eval") else {"path": "/data"}
    data = DataConfig.model_validate({"label": "y", "splits": splits, **window})

    def inputs(**features: object) -> str:
        return str(ExampleGen(data, features=FeaturesConfig.model_validate(features)).exec_properties)

    assert (inputs() != inputs(categorical=["x"])) == is_key
    assert inputs() != inputs(image=["photo"])


def write_rows(folder: Path, number: int = 200, *, name: str = "a.csv", start: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    lines = [
        f"{i},{i / 8 if i % 5 else ''},{'abc'[i % 3]},{'no' if i % 2 else 'yes'}" for i in range(start, start + number)
    ]
    (folder / name).write_text("i,f,s,y\n" + "\n".join(lines) + "\n")


def rows_of(examples: standard_artifacts.Examples, split: str) -> list[dict]:
    files = files_in(artifact_utils.get_split_uri([examples], split))
    return [row for block in read_blocks(files) for row in block.to_pylist()]


def rows_by_split(examples: standard_artifacts.Examples) -> dict[str, list]:
    return {
        split: sorted(row["i"] for row in rows_of(examples, split))
        for split in artifact_utils.decode_split_names(examples.split_names)
    }


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    write_rows(folder, 120, name="a.csv")
    write_rows(folder, 80, name="b.csv", start=120)
    return folder


@pytest.fixture(scope="module")
def examples(table, tmp_path_factory) -> standard_artifacts.Examples:
    return run_executor(table, tmp_path_factory.mktemp("examples") / "1")


def test_every_row_is_in_one_split(examples):
    splits = rows_by_split(examples)

    assert list(splits) == ["train", "validation", "eval"]
    assert sorted(row for rows in splits.values() for row in rows) == list(range(200))
    assert 0.6 < len(splits["train"]) / 200 < 0.8


def test_cells_are_what_the_table_has(examples):
    row = next(row for row in rows_of(examples, "train") if row["i"] == 63)

    assert row == {"i": 63, "f": 63 / 8, "s": "a", "y": "no"}
    missing = next(row for split in rows_by_split(examples) for row in rows_of(examples, split) if row["i"] == 100)
    assert missing["f"] is None


def test_decimal_numbers_keep_their_64_bits(tmp_path):
    write_rows(tmp_path / "table")
    text = (
        (tmp_path / "table" / "a.csv").read_text().replace("i,f,s,y", "i,f,s,y").replace("0.125,", "0.1234567890123,")
    )
    (tmp_path / "table" / "a.csv").write_text(text)

    examples = run_executor(tmp_path / "table", tmp_path / "out")

    found = [row["f"] for split in rows_by_split(examples) for row in rows_of(examples, split) if row["i"] == 1]
    assert found == [0.1234567890123]


def test_row_groups_are_blocks_whatever_the_blocks_of_the_source(tmp_path, monkeypatch):
    write_rows(tmp_path / "table")
    monkeypatch.setattr(example_files, "BLOCK_ROWS", 50)

    examples = run_executor(tmp_path / "table", tmp_path / "out")

    for split, rows in rows_by_split(examples).items():
        (file,) = files_in(artifact_utils.get_split_uri([examples], split))
        footer = pq.read_metadata(file)
        sizes = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
        assert sizes[:-1] == [50] * (len(sizes) - 1)
        assert sum(sizes) == len(rows)


def test_tfx_reads_the_examples_by_its_own_factory(examples):
    """Its ParquetTFXIO hands plain columns on, as decision 16 has it."""
    factory = tfxio_utils.get_tfxio_factory_from_artifact([examples], ["test"])
    source = factory(f"{artifact_utils.get_split_uri([examples], 'train')}/*")

    with beam.Pipeline(runner="DirectRunner", options=PipelineOptions(["--direct_num_workers=1"])) as pipeline:
        rows = pipeline | source.BeamSource() | beam.FlatMap(lambda block: block.column("i").to_pylist())
        assert_that(rows | beam.combiners.ToList(), equal_to([rows_by_split(examples)["train"]], _same_values))


def _same_values(found, expected):
    return sorted(found) == sorted(expected)


def test_counts_of_the_splits_are_recorded(examples):
    counts = json.loads(examples.get_string_custom_property("num_examples"))

    assert counts == {split: len(rows) for split, rows in rows_by_split(examples).items()}


def test_files_are_named_whole_and_nothing_half_written_stays(examples):
    files = sorted(path.relative_to(examples.uri) for path in Path(examples.uri).rglob("*") if path.is_file())

    assert [str(file) for file in files if file.name not in (TABLE_PROFILE, ORIGIN)] == [
        f"Split-{split}/data-{number:05d}-of-00002.parquet"
        for split in ("eval", "train", "validation")
        for number in range(2)
    ]


@pytest.fixture
def small_shards(monkeypatch) -> None:
    monkeypatch.setattr(table_shards, "PART_BYTES", 500)
    monkeypatch.setattr(table_shards, "COLUMN_BYTES", 0)


def shards_of(examples: standard_artifacts.Examples) -> dict[str, bytes]:
    return {str(path.relative_to(examples.uri)): path.read_bytes() for path in Path(examples.uri).rglob("data-*")}


@pytest.mark.parametrize("beam_arguments", [None, ["--direct_running_mode=in_memory"]], ids=["here", "on Beam"])
def test_one_large_file_becomes_many_shards(examples, tmp_path, small_shards, beam_arguments):
    write_rows(tmp_path / "table")

    found = run_executor(tmp_path / "table", tmp_path / "out", beam_arguments=beam_arguments)

    assert len(shards_of(found)) == 3 * 6
    assert rows_by_split(found) == rows_by_split(examples)
    assert shards_of(run_executor(tmp_path / "table", tmp_path / "again")) == shards_of(found)


def test_row_groups_of_one_file_become_shards(examples, tmp_path, small_shards):
    write_rows(tmp_path / "csv")
    data = DataConfig(path=str(tmp_path / "csv"), label="y")
    files = tables.find_files(data)
    blocks = tables.read_blocks(files.paths[0], tables.inspect_table(files, data).columns, file_format="csv", data=data)
    (tmp_path / "table").mkdir()
    pq.write_table(pa.Table.from_batches(blocks), tmp_path / "table" / "a.parquet", row_group_size=50)

    found = run_executor(tmp_path / "table", tmp_path / "out")

    assert len(shards_of(found)) == 3 * 4
    assert rows_by_split(found) == rows_by_split(examples)


def test_workers_that_write_shards_need_neither_tfx_nor_tensorflow():
    """Their imports take longer than most shards."""
    modules = ["block_work_on_beam", "table_reader", "table_shards", "shard_writer"]
    program = f"import sys, {', '.join(f'kubetfx.components.data.{name}' for name in modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"tfx", "tensorflow"} & set(done.stdout.split())


def test_a_shard_of_many_columns_is_larger(examples, tmp_path, monkeypatch):
    monkeypatch.setattr(table_shards, "PART_BYTES", 500)
    write_rows(tmp_path / "table", 200)
    monkeypatch.setattr(table_shards, "COLUMN_BYTES", 0)
    several = run_executor(tmp_path / "table", tmp_path / "several")
    monkeypatch.setattr(table_shards, "COLUMN_BYTES", 2_000)

    one = run_executor(tmp_path / "table", tmp_path / "one")

    assert len(shards_of(several)) > len(shards_of(one)) == 3


def test_many_small_files_become_few_shards(examples, tmp_path, monkeypatch):
    monkeypatch.setattr(table_shards, "MAX_SHARDS", 5)
    for start in range(0, 200, 10):
        write_rows(tmp_path / "table", 10, name=f"{start:03d}.csv", start=start)

    found = run_executor(tmp_path / "table", tmp_path / "out")

    assert 3 * 4 <= len(shards_of(found)) <= 3 * 6
    assert rows_by_split(found) == rows_by_split(examples)


def test_profile_of_the_table_travels_with_the_examples(examples):
    profile = table_profile.read(Path(examples.uri))

    assert profile.num_rows == 200
    assert profile.column("y").values == ("no", "yes")
    assert profile.column("s").num_distinct == 3
    assert profile.column("s").values == ()
    assert profile.column("f").num_values == 160


def test_second_run_writes_the_same_split_of_rows(examples, table, tmp_path):
    again = run_executor(table, tmp_path / "2")

    assert rows_by_split(again) == rows_by_split(examples)
    for split in rows_by_split(examples):
        assert rows_of(again, split) == rows_of(examples, split)


def test_rows_without_a_label_are_left_out_if_asked(tmp_path):
    write_rows(tmp_path / "table")
    with (tmp_path / "table" / "a.csv").open("a") as file:
        file.write("1000,1,a,\n")

    examples = run_executor(tmp_path / "table", tmp_path / "out", drop_rows_without_label=True)

    assert sum(len(rows) for rows in rows_by_split(examples).values()) == 200


def test_parquet_is_split_like_the_csv_that_it_was_made_of(examples, table, tmp_path):
    data = DataConfig(path=str(table), label="y")
    files = tables.find_files(data)
    columns = tables.inspect_table(files, data).columns
    folder = tmp_path / "table"
    folder.mkdir()
    for path in files.paths:
        blocks = list(tables.read_blocks(path, columns, file_format="csv", data=data))
        pq.write_table(pa.Table.from_batches(blocks), folder / f"{Path(path).stem}.parquet")

    assert rows_by_split(run_executor(folder, tmp_path / "out")) == rows_by_split(examples)


def test_split_without_a_row_is_refused(tmp_path):
    write_rows(tmp_path / "table", number=4)

    with pytest.raises(DataError, match=r"The split '\w+' has no row\. Received rows by split: .*data\.splits\."):
        run_executor(tmp_path / "table", tmp_path / "out")


@pytest.mark.parametrize(
    ("splits", "remedy", "better"),
    [
        (
            {"column": "part"},
            r"Let cells of 'part' name it; or omit it: train: 0\.75, validation: 0 and eval: 0\.25",
            {"train": 0.75, "validation": 0, "eval": 0.25},
        ),
        ({"by": "group", "column": "part"}, "or split by a column with more values than part", {"column": "i"}),
    ],
    ids=["column", "group"],
)
def test_a_column_that_leaves_a_split_empty_is_refused_with_a_remedy_that_works(tmp_path, splits, remedy, better):
    rows = [f"{i},{['train', 'test'][i % 2]},{i // 2 % 2}" for i in range(40)]
    path = write_table(tmp_path / "data" / "a.csv", "i,part,y", rows)

    with pytest.raises(DataError, match=rf"The split 'validation' has no row\..*{remedy}"):
        run_executor(path, tmp_path / "out", splits=splits)
    assert all(shares_of(run_executor(path, tmp_path / "two", splits=splits | better)).values())


def test_validation_split_of_zero_is_no_split(tmp_path):
    write_rows(tmp_path / "table")

    examples = run_executor(tmp_path / "table", tmp_path / "out", splits={"train": 0.75, "validation": 0, "eval": 0.25})

    assert artifact_utils.decode_split_names(examples.split_names) == ["train", "eval"]


def test_error_of_the_table_comes_out_as_it_is(tmp_path):
    write_rows(tmp_path / "table")
    with (tmp_path / "table" / "a.csv").open("a") as file:
        file.write("1,2\n")

    with pytest.raises(DataError, match=r"a\.csv, line 202: the header has 4 columns, this row has 2"):
        run_executor(tmp_path / "table", tmp_path / "out")


def test_newest_span_is_taken_and_recorded(tmp_path):
    """In the properties that TFX has for it; the path stays, for the executor to look for the span there."""
    (tmp_path / "span-1").mkdir()
    write_rows(tmp_path / "span-1")
    data = DataConfig(path=str(tmp_path / "span-{SPAN}" / "*.csv"), label="y")

    write_rows(tmp_path / "span-2")

    properties = Driver(None).resolve_exec_properties(dict(ExampleGen(data).exec_properties), None, None)

    input_config = example_gen_pb2.Input()
    json_format.Parse(properties["input_config"], input_config)
    assert properties["input_base"] == data.path
    assert [(split.name, split.pattern) for split in input_config.splits] == [("2", "span-2/*.csv")]
    assert properties["span"] == 2
    assert properties["input_fingerprint"].startswith("split:2,num_files:1,")


def test_path_is_looked_at_where_the_node_runs(tmp_path):
    component = ExampleGen(DataConfig(path=str(tmp_path / "later"), label="y"))

    with pytest.raises(DataError, match=r"data\.path matches no file\. Received: .*later"):
        Driver(None).resolve_exec_properties(dict(component.exec_properties), None, None)


def test_fingerprint_tells_changed_data(tmp_path):
    write_rows(tmp_path / "table")
    component = ExampleGen(DataConfig(path=str(tmp_path / "table"), label="y"))

    def fingerprint():
        return Driver(None).resolve_exec_properties(dict(component.exec_properties), None, None)["input_fingerprint"]

    first = fingerprint()
    assert fingerprint() == first
    write_rows(tmp_path / "table", number=201)
    assert fingerprint() != first


def shares_of(examples: standard_artifacts.Examples) -> dict[str, list[dict]]:
    return {name: rows_of(examples, name) for name in artifact_utils.decode_split_names(examples.split_names)}


def write_table(path: Path, header: str, rows: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_table_of_few_distinct_rows_is_split_by_its_rows_and_not_by_its_kinds(tmp_path):
    """Counts of the people on the Titanic by class, age, sex and survival (R's `Titanic`): 24 kinds of 2,201 rows."""
    counts = {"crew": 885, "third": 706, "first": 325, "second": 285}
    rows = [f"{name},{i % 3 == 0:d}" for name, number in counts.items() for i in range(number)]
    found = shares_of(run_executor(write_table(tmp_path / "data" / "a.csv", "class,y", rows), tmp_path / "out"))

    assert sum(map(len, found.values())) == 2201
    for split, share in {"train": 0.7, "validation": 0.1, "eval": 0.2}.items():
        assert len(found[split]) == pytest.approx(2201 * share, rel=0.15), split
        survived = sum(row["y"] for row in found[split]) / len(found[split])
        assert survived == pytest.approx(1 / 3, abs=0.1), split


def test_three_hundred_rows_of_two_kinds_are_in_every_split_with_both_classes(tmp_path):
    found = shares_of(run_executor(write_table(tmp_path / "a.csv", "x,y", ["1,p", "2,n"] * 150), tmp_path / "out"))
    for split, share in {"train": 0.7, "validation": 0.1, "eval": 0.2}.items():
        deviation = (300 * share * (1 - share)) ** 0.5
        assert abs(len(found[split]) - 300 * share) < 4 * deviation, split
        assert {(row["x"], row["y"]) for row in found[split]} == {(1, "p"), (2, "n")}


def test_a_first_row_of_its_kind_stays_where_it_was_and_copies_are_spread(tmp_path):
    rows = [f"{i % 50},{i % 2}" for i in range(400)]
    once = shares_of(run_executor(write_table(tmp_path / "once" / "a.csv", "x,y", rows[:50]), tmp_path / "out1"))
    often = shares_of(run_executor(write_table(tmp_path / "often" / "a.csv", "x,y", rows), tmp_path / "out2"))

    for split, found in once.items():
        assert {row["x"] for row in found} <= {row["x"] for row in often[split]}
    assert {row["x"] for row in often["train"]} & {row["x"] for row in often["eval"]}


def test_dropping_a_column_does_not_change_the_split(tmp_path):
    rows = [f"{i},{i * 1.50:.2f},{'abc'[i % 3]},{i % 2}" for i in range(200)]
    path = write_table(tmp_path / "data" / "a.csv", "x,amount,s,y", rows)
    whole = shares_of(run_executor(path, tmp_path / "whole"))
    dropped = shares_of(run_executor(path, tmp_path / "dropped", drop=["amount", "s"]))

    for split, found in whole.items():
        assert [row["x"] for row in found] == [row["x"] for row in dropped[split]]
        assert set(dropped[split][0]) == {"x", "y"}


def test_groups_are_in_one_split_also_by_a_column_that_is_left_out(tmp_path):
    rows = [f"{i},c{i % 40:02d},{i % 2}" for i in range(800)]
    path = write_table(tmp_path / "data" / "a.csv", "x,customer,y", rows)
    splits = {"by": "group", "column": "customer"}
    found = shares_of(run_executor(path, tmp_path / "out", splits=splits, drop=["customer"]))

    customers = {split: {row["x"] % 40 for row in rows} for split, rows in found.items()}
    assert sum(map(len, customers.values())) == 40
    assert "customer" not in found["train"][0]


def test_copies_of_a_picture_are_one_group_whatever_their_files_are_called(tmp_path):
    rows = [f"{i}.png,{i},{i % 2}" for i in range(80)]
    (tmp_path / "data").mkdir()
    for number in range(80):
        write_picture(tmp_path / "data" / f"{number}.png", number // 4)
    path = write_table(tmp_path / "data" / "a.csv", "photo,x,y", rows)
    found = shares_of(run_executor(path, tmp_path / "out", splits={"by": "group", "column": "photo"}))

    pictures = {split: {row["x"] // 4 for row in rows} for split, rows in found.items()}
    assert sum(map(len, pictures.values())) == 20
    assert found["train"][0]["photo"].startswith(b"\x89PNG")


def test_key_columns_alone_decide(tmp_path):
    first = write_table(tmp_path / "one" / "a.csv", "id,x,y", [f"{i},{i},{i % 2}" for i in range(100)])
    other = write_table(tmp_path / "two" / "a.csv", "id,x,y", [f"{i},{i * 7},{i % 2}" for i in range(100)])
    found = [shares_of(run_executor(path, tmp_path / path.parent.name / "out", splits={"key": ["id"]}))
             for path in (first, other)]  # fmt: skip

    assert [[row["id"] for row in rows] for rows in found[0].values()] == [
        [row["id"] for row in rows] for rows in found[1].values()
    ]


@pytest.mark.parametrize("time", [str, lambda i: f"2024-{i // 28 + 1:02d}-{i % 28 + 1:02d}"], ids=["numbers", "dates"])
def test_the_newest_rows_are_for_evaluation(tmp_path, time):
    order = [(i * 37) % 200 for i in range(200)]
    path = write_table(tmp_path / "data" / "a.csv", "day,i,y", [f"{time(i)},{i},{i % 2}" for i in order])
    found = shares_of(run_executor(path, tmp_path / "out", splits={"by": "time", "column": "day"}))

    assert {split: sorted(row["i"] for row in rows) for split, rows in found.items()} == {
        "train": list(range(140)),
        "validation": list(range(140, 160)),
        "eval": list(range(160, 200)),
    }


def test_dates_are_points_in_time_however_they_are_written(tmp_path):
    days = [f"2024-05-{i // 24 + 1:02d}{' T'[i % 2]}{i % 24:02d}:00+0{i % 3}:00" for i in range(200)]
    path = write_table(tmp_path / "data" / "a.csv", "day,i,y", [f"{day},{i},{i % 2}" for i, day in enumerate(days)])
    found = shares_of(run_executor(path, tmp_path / "out", splits={"by": "time", "column": "day"}))

    utc = {split: [int(row["i"]) - int(row["i"]) % 3 for row in rows] for split, rows in found.items()}
    assert max(utc["train"]) < min(utc["validation"])
    assert max(utc["validation"]) < min(utc["eval"])


@pytest.mark.parametrize(
    ("days", "message"),
    [
        (["2024-13-01", "2024-05-02"], r"or valid dates, such as 2024-05-01\. Received: '2024-13-01'"),
        (["early", "late"], r"Received: 'early' in column 'day'\. .*data\.types: \{day: \{date: '%d/%m/%Y'\}\}"),
    ],
    ids=["no such month", "words"],
)
def test_dates_that_cannot_be_put_in_order_are_refused(tmp_path, days, message):
    path = write_table(tmp_path / "data" / "a.csv", "day,y", [f"{day},{i}" for i, day in enumerate(days)])

    with pytest.raises(DataError, match=message):
        run_executor(path, tmp_path / "out", splits={"by": "time", "column": "day"})


@pytest.mark.parametrize("drop", [[], ["day"]], ids=["a feature", "dropped"])
def test_dates_in_european_order_are_put_in_order(tmp_path, drop):
    order = [(i * 37) % 200 for i in range(200)]
    rows = [f"{i % 28 + 1}/{i // 28 + 1}/2024 9:0{i % 9},{i},{i % 2}" for i in order]
    path = write_table(tmp_path / "data" / "a.csv", "day,i,y", rows)
    found = shares_of(run_executor(path, tmp_path / "out", splits={"by": "time", "column": "day"}, drop=drop))

    assert sorted(row["i"] for row in found["eval"]) == list(range(160, 200))


def test_rows_of_one_time_are_never_divided(tmp_path):
    path = write_table(tmp_path / "data" / "a.csv", "day,y", [f"{i // 50},{i % 2}" for i in range(300)])
    found = shares_of(run_executor(path, tmp_path / "out", splits={"by": "time", "column": "day", "train": 0.6,
                                                                   "validation": 0.2, "eval": 0.2}))  # fmt: skip

    days = [{row["day"] for row in rows} for rows in found.values()]
    assert days == [{0, 1, 2}, {3}, {4, 5}]


def test_a_column_names_the_split_and_is_no_feature(tmp_path):
    names = ["train", "Test", "valid"]
    path = write_table(tmp_path / "data" / "a.csv", "i,split,y", [f"{i},{names[i % 3]},{i % 2}" for i in range(90)])
    found = shares_of(run_executor(path, tmp_path / "out", splits={"column": "split"}))

    assert {split: {row["i"] % 3 for row in rows} for split, rows in found.items()} == {
        "train": {0},
        "validation": {2},
        "eval": {1},
    }
    assert set(found["train"][0]) == {"i", "y"}


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("holdout2", r"names no split\. Received: 'holdout2'\. Known: train, validation, eval"),
        ("", "no value in 1 rows"),
    ],
)
def test_a_cell_that_names_no_split_is_refused(tmp_path, cell, message):
    rows = [f"{i},{'train' if i else cell},{i % 2}" for i in range(9)]
    path = write_table(tmp_path / "data" / "a.csv", "i,split,y", rows)

    with pytest.raises(DataError, match=message):
        run_executor(path, tmp_path / "out", splits={"column": "split"})


@pytest.mark.parametrize("nested", [False, True])
def test_files_that_are_split_already_are_taken_as_they_are(tmp_path, nested):
    names = {"train": "train", "validation": "valid", "eval": "test"}
    for number, name in enumerate(names.values()):
        place = f"{name}/part.csv" if nested else f"{name}.csv"
        write_table(tmp_path / "data" / place, "i,y", [f"{i},{i % 2}" for i in range(number * 10, number * 10 + 10)])
    files = {split: f"{name}/*.csv" if nested else f"{name}.csv" for split, name in names.items()}
    found = shares_of(run_executor(tmp_path / "data", tmp_path / "out", splits={"files": files}))

    assert {split: [row["i"] for row in rows] for split, rows in found.items()} == {
        "train": list(range(10)),
        "validation": list(range(10, 20)),
        "eval": list(range(20, 30)),
    }


def test_files_without_validation_are_two_splits(tmp_path):
    for name in ("train", "test"):
        write_table(tmp_path / "data" / f"{name}.csv", "i,y", [f"{i},{i % 2}" for i in range(10)])
    files = {"train": "train.csv", "eval": "test.csv"}
    found = shares_of(run_executor(tmp_path / "data", tmp_path / "out", splits={"files": files}))

    assert {split: len(rows) for split, rows in found.items()} == {"train": 10, "eval": 10}


def test_a_split_without_its_file_is_refused(tmp_path):
    write_table(tmp_path / "data" / "train.csv", "i,y", ["1,0", "2,1"])

    with pytest.raises(DataError, match=r"data\.splits\.files\.eval matches no file\. Received: test\.csv"):
        run_executor(tmp_path / "data", tmp_path / "out", splits={"files": {"train": "train.csv", "eval": "test.csv"}})


def test_a_column_of_a_later_file_alone_is_missing_before(tmp_path):
    write_table(tmp_path / "data" / "a.csv", "i,y", [f"{i},{i % 2}" for i in range(50)])
    write_table(tmp_path / "data" / "b.csv", "i,new,y", [f"{i},x,{i % 2}" for i in range(50, 100)])
    found = shares_of(run_executor(tmp_path / "data", tmp_path / "out"))

    rows = [row for rows in found.values() for row in rows]
    assert {(row["i"] >= 50, row["new"]) for row in rows} == {(False, None), (True, "x")}


def test_a_share_that_differs_beyond_chance_is_said(tmp_path):
    rows = [f"{i},c{0 if i < 900 else i},{i % 2}" for i in range(1000)]
    path = write_table(tmp_path / "data" / "a.csv", "x,customer,y", rows)
    run_executor(path, tmp_path / "grouped", splits={"by": "group", "column": "customer"})
    run_executor(path, tmp_path / "by_row")

    notes = table_profile.read(tmp_path / "grouped").split_notes
    assert len(notes) == 3
    assert all(" of 1,000 rows, " in note and "belong together" in note for note in notes)
    assert any("'eval' has" in note and "where 20.0% is configured" in note for note in notes)
    assert table_profile.read(tmp_path / "by_row").split_notes == ()


def messages(number: int, *, again: int = 0) -> list[str]:
    """Rows of a table of messages: some of them come again, with other signs and one word more."""
    drawn = np.random.default_rng(0)
    nouns, verbs = [f"noun{chr(97 + i)}" for i in range(26)], [f"verb{chr(97 + i)}" for i in range(26)]
    texts = [" ".join(drawn.choice(nouns + verbs, 14)) for _ in range(number)]
    rows = [*texts, *(f"RT: {text.upper()}!! :-)" for text in texts[:again])]
    return [f'{index},"{text}",{index % 2}' for index, text in enumerate(rows)]


@pytest.mark.parametrize("beam_arguments", [None, ["--direct_running_mode=in_memory"]], ids=["here", "on Beam"])
def test_near_copies_of_a_text_are_in_one_split_and_are_noted(tmp_path, small_shards, beam_arguments):
    number, again = 400, 150
    path = write_table(tmp_path / "data" / "a.csv", "x,text,y", messages(number, again=again))
    examples = run_executor(path, tmp_path / "out", beam_arguments=beam_arguments)
    found = shares_of(examples)

    split_of = {row["x"]: split for split, rows in found.items() for row in rows}
    assert [split_of[index] for index in range(again)] == [split_of[number + index] for index in range(again)]
    assert len({split_of[index] for index in range(again)}) == 3
    (note,) = table_profile.read(Path(examples.uri)).notes
    assert note == (
        "Column 'text': 300 rows have the text of another row, or nearly so. They form 150 groups, each in one split."
    )


def test_features_say_which_column_of_text_it_is(tmp_path):
    rows = [f'{row},"{row.split(chr(34))[1][::-1]} and more words of it"' for row in messages(300, again=100)]
    path = write_table(tmp_path / "data" / "a.csv", "x,text,y,longer", rows)
    named = {"longer": {"categorical": ["longer"]}, "both": {"categorical": ["longer", "text"]}}
    profiles = {
        key: table_profile.read(Path(run_executor(path, tmp_path / key, features=FeaturesConfig(**features)).uri))
        for key, features in ({"none": {}} | named).items()
    }

    assert {key: profile.copies_together for key, profile in profiles.items()} == {
        "none": "longer",
        "longer": "text",
        "both": None,
    }
    assert len(profiles["longer"].notes) == 1
    assert profiles["both"].notes == []


def test_text_without_copies_and_rules_of_the_config_stay_as_they_are(tmp_path):
    path = write_table(tmp_path / "data" / "a.csv", "x,text,y", messages(200))
    assert table_profile.read(Path(run_executor(path, tmp_path / "out").uri)).notes == []

    again = write_table(tmp_path / "again" / "a.csv", "x,text,y", messages(200, again=100))
    examples = run_executor(again, tmp_path / "by_key", splits={"key": ["x"]})
    assert table_profile.read(Path(examples.uri)).notes == []
