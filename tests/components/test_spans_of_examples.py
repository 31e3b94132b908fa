"""Tables in spans: each is read once, and what comes out is what a fresh workspace has."""

import os
import time
from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from kubetfx.artifacts import ORIGIN, SPANS
from kubetfx.components.data import span_store, table_shards
from kubetfx.components.data.shard_writer import ShardWriter
from kubetfx.components.data.span_store import SpanStore
from kubetfx.components.data.tables import find_files, inspect_table
from kubetfx.components.example_driver import Driver
from kubetfx.components.example_gen import ExampleGen
from kubetfx.components.example_gen import Executor as WritesExamples
from kubetfx.components.statistics_gen import Executor as DescribesExamples
from kubetfx.components.statistics_gen import Statistics
from kubetfx.config.data_section import DataConfig
from kubetfx.errors import DataError
from kubetfx.models.examples import files_in, read_blocks
from kubetfx.workspace import METADATA

PATH = "day={YYYY}-{MM}-{DD}/*.csv"


class Workspace:
    """Runs ExampleGen and StatisticsGen as a pipeline in a workspace does."""

    def __init__(self, folder: Path, data: Path) -> None:
        self._folder = folder
        self._data = data
        self._number = 0
        folder.mkdir()
        (folder / METADATA).touch()

    @property
    def store(self) -> SpanStore:
        return SpanStore(self._folder / span_store.FOLDER)

    def run(self, *, arguments: list[str] | None = None, **fields: object) -> Path:
        """The folder of the examples; that of the statistics is beside it."""
        self._number += 1
        config = DataConfig.model_validate(
            {"path": str(self._data / PATH), "label": "y", "drop": ["day"], "window": {"spans": 3}, **fields}
        )
        component = ExampleGen(config)
        examples, statistics = standard_artifacts.Examples(), standard_artifacts.ExampleStatistics()
        examples.uri = self._place("TableExampleGen/examples")
        statistics.uri = self._place("StatisticsGen/statistics")
        properties = Driver(None).resolve_exec_properties(dict(component.exec_properties), None, None)
        self.span = properties["span"]
        context = WritesExamples.Context(beam_pipeline_args=arguments or [], tmp_dir=str(self._folder / "tmp"))
        WritesExamples(context).Do({}, {"examples": [examples]}, properties)
        DescribesExamples(context).Do({"examples": [examples]}, {"statistics": [statistics]}, {})
        return Path(examples.uri)

    def _place(self, name: str) -> str:
        folder = self._folder / "artifacts" / name / str(self._number)
        folder.mkdir(parents=True)
        return str(folder)


def write(data: Path, day: int, *, rows: int = 120, start: int | None = None) -> None:
    first = day * 1_000 if start is None else start
    lines = [f"{i},{i % 7 / 4},{'abc'[i % 3]},{'no' if i % 2 else 'yes'}" for i in range(first, first + rows)]
    (data / f"day=2026-02-{day:02d}").mkdir(parents=True, exist_ok=True)
    (data / f"day=2026-02-{day:02d}" / "part.csv").write_text("i,f,s,y\n" + "\n".join(lines) + "\n")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for day in (24, 25, 26):
        write(tmp_path / "data", day)
    return tmp_path / "data"


@pytest.fixture
def workspace(tmp_path: Path, data: Path) -> Workspace:
    return Workspace(tmp_path / "workspace", data)


def contents(examples: Path) -> dict[str, bytes]:
    """Of all files of both artifacts but those that say what changed."""
    statistics = Path(str(examples).replace("TableExampleGen/examples", "StatisticsGen/statistics"))
    files = [file for folder in (examples, statistics) for file in folder.rglob("*") if file.is_file()]
    return {
        f"{file.parent.name}/{file.name}": file.read_bytes()
        for file in files
        if file.name not in ("table_profile.json", SPANS, ORIGIN)
    }


def days_of(examples: Path, split: str) -> set[int]:
    return {
        row["i"] // 1_000 for block in read_blocks(files_in(examples / f"Split-{split}")) for row in block.to_pylist()
    }


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was written, and described, of examples: a word for each shard and row group."""
    done: list[str] = []
    close, blocks = ShardWriter.close, Statistics.blocks

    def closed(self):
        done.append("shard")
        return close(self)

    def described(self, item):
        done.append("statistics")
        yield from blocks(self, item)

    monkeypatch.setattr(ShardWriter, "close", closed)
    monkeypatch.setattr(Statistics, "blocks", described)
    return done


def test_each_span_is_read_once_and_all_is_as_in_a_fresh_workspace(workspace, data, read, tmp_path):
    workspace.run()
    assert (read.count("shard"), read.count("statistics")) == (3, 9)
    write(data, 27)
    read.clear()

    second = workspace.run()

    assert (read.count("shard"), read.count("statistics")) == (1, 3)
    assert days_of(second, "train") == {25, 26, 27}
    assert workspace.span == 20_511  # days since 1970
    fresh = Workspace(tmp_path / "fresh", data).run()
    assert contents(second) == contents(fresh)
    assert (second / SPANS).read_text() == (fresh / SPANS).read_text()


def test_span_that_was_written_anew_is_read_anew(workspace, data, read, tmp_path):
    workspace.run()
    write(data, 25, rows=100)
    read.clear()

    second = workspace.run()

    assert read.count("shard") == 1
    assert contents(second) == contents(Workspace(tmp_path / "fresh", data).run())


@pytest.mark.parametrize(
    "change", [{"drop": ["day", "f"]}, {"types": {"i": "text"}}, {"splits": {"train": 0.5, "eval": 0.4}}]
)
def test_what_is_asked_of_spans_decides_whether_they_are_known(workspace, data, read, tmp_path, change):
    workspace.run()
    read.clear()

    second = workspace.run(**change)

    assert read.count("shard") == 3
    assert contents(second) == contents(Workspace(tmp_path / "fresh", data).run(**change))


def test_column_whose_type_a_new_span_changes_is_read_anew(workspace, data, tmp_path):
    workspace.run()
    write(data, 27)
    path = data / "day=2026-02-27" / "part.csv"
    path.write_text(path.read_text().replace("\n27000,", "\n27000.5,"))

    second = workspace.run()

    assert contents(second) == contents(Workspace(tmp_path / "fresh", data).run())


def test_newest_span_is_for_evaluation(workspace, data, tmp_path):
    first = workspace.run(splits={"eval": "newest"})
    assert (days_of(first, "eval"), days_of(first, "train"), days_of(first, "validation")) == ({26}, {24, 25}, {24, 25})
    write(data, 27)

    second = workspace.run(splits={"eval": "newest"})

    assert (days_of(second, "eval"), days_of(second, "train")) == ({27}, {25, 26})
    assert contents(second) == contents(Workspace(tmp_path / "fresh", data).run(splits={"eval": "newest"}))


def test_one_span_is_not_enough_to_evaluate_on_the_newest(workspace, data):
    for day in (24, 25):
        (data / f"day=2026-02-{day}" / "part.csv").unlink()

    with pytest.raises(DataError, match=r"leaves no span for training.* Received: 2026-02-26 alone"):
        workspace.run(splits={"eval": "newest"})


def test_beam_writes_and_describes_the_new_span_alone(workspace, data, tmp_path):
    workspace.run()
    write(data, 27)

    second = workspace.run(arguments=["--direct_running_mode=in_memory"])

    assert contents(second) == contents(Workspace(tmp_path / "fresh", data).run())


def test_torn_and_foreign_entries_are_read_anew(workspace, data, read):
    first = contents(workspace.run())
    for number, entry in enumerate(sorted(path for path in workspace.store.folder.rglob("*") if path.is_file())):
        if number % 2:
            entry.unlink()
        else:
            entry.write_bytes(b"torn")
    read.clear()

    assert contents(workspace.run()) == first
    assert read.count("shard") == 3


def test_large_spans_are_several_shards(workspace, data, monkeypatch, tmp_path):
    monkeypatch.setattr(table_shards, "PART_BYTES", 500)
    monkeypatch.setattr(table_shards, "COLUMN_BYTES", 0)
    first = workspace.run()
    assert len(files_in(first / "Split-train")) > 3
    write(data, 27)

    assert contents(workspace.run()) == contents(Workspace(tmp_path / "fresh", data).run())


def test_new_late_and_rewritten_spans_are_said(workspace, data):
    config = DataConfig.model_validate({"path": str(data / PATH), "label": "y", "window": {"spans": 5}})

    def notes() -> tuple[str, ...]:
        return inspect_table(find_files(config), config, store=workspace.store).file_notes

    assert notes() == ()
    workspace.run(window={"spans": 5})
    write(data, 25, rows=90)
    write(data, 28)
    write(data, 23, start=1)

    assert notes() == (
        "The window from 2026-02-24 to 2026-02-28 has 4 spans; without files are: 2026-02-27.",
        "New since the last run: 2026-02-28.",
        "Rewritten since the last run: 2026-02-25.",
    )
    workspace.run(window={"spans": 2})
    write(data, 27)
    assert notes() == ("Arrived late since the last run: 2026-02-27.", "Rewritten since the last run: 2026-02-25.")


def test_what_no_window_has_goes_when_nobody_used_it_for_a_week(workspace, data):
    workspace.run()
    write(data, 27)
    old = workspace.store.folder / "2026-02-24"
    workspace.run()
    assert old.is_dir()

    for entry in old.iterdir():
        os.utime(entry, (time.time() - 8 * 24 * 3_600,) * 2)
    workspace.run()

    assert not old.exists()
    assert (workspace.store.folder / "2026-02-25").is_dir()


def test_pod_has_no_store(data, tmp_path):
    assert SpanStore.beside(str(tmp_path / "artifacts" / "TableExampleGen" / "examples" / "1")) is None
