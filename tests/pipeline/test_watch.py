"""What `kubetfx run --watch` looks at, and how it ends."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kubetfx.pipeline import watch

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "houses.csv").write_text("price,rooms\n1,2\n")
    path = tmp_path / "pipeline.yaml"
    path.write_text("name: houses\ndata: {path: data, label: price}\n")
    return path


def changed(config: Path, change: object, *overrides: str) -> list[str]:
    before = watch.look(config, overrides)
    change()  # type: ignore[operator]
    after = watch.look(config, overrides)
    return [str(path.relative_to(config.parent)) for path in after.changed_since(before)]


def test_nothing_changes_by_itself(config):
    assert changed(config, lambda: None) == []


def test_data_that_is_written_added_or_removed_is_a_change(config):
    data = config.parent / "data"
    assert changed(config, lambda: (data / "houses.csv").write_text("price,rooms\n1,2\n3,4\n")) == ["data/houses.csv"]
    assert changed(config, lambda: (data / "more.csv").write_text("price,rooms\n5,6\n")) == ["data/more.csv"]
    assert changed(config, (data / "more.csv").unlink) == ["data/more.csv"]


def test_data_that_is_written_again_within_a_second_is_a_change(config):
    data = config.parent / "data" / "houses.csv"
    second = data.stat().st_mtime_ns // 10**9 * 10**9
    os.utime(data, ns=(second, second))

    def write_again() -> None:
        data.write_text("price,rooms\n3,4\n")
        os.utime(data, ns=(second + 1_000, second + 1_000))

    assert changed(config, write_again) == ["data/houses.csv"]


@pytest.mark.parametrize("replace", [shutil.copy2, os.replace])
def test_data_that_is_replaced_by_an_older_file_is_a_change(config, replace):
    data, older = config.parent / "data" / "houses.csv", config.parent / "older.csv"
    older.write_text("price,rooms\n3,4\n")
    os.utime(older, (1e9, 1e9))
    assert changed(config, lambda: replace(older, data)) == ["data/houses.csv"]


def test_hidden_files_and_the_workspace_are_no_change(config):
    def work() -> None:
        (config.parent / "data" / ".houses.csv.swp").write_text("x")
        (config.parent / ".kubetfx").mkdir()
        (config.parent / ".kubetfx" / "metadata.sqlite").write_text("x")

    assert changed(config, work) == []


def test_new_span_is_a_change(config):
    path = f"data.path={config.parent}/span-{{SPAN}}/*.csv"
    (config.parent / "span-1").mkdir()
    (config.parent / "span-1" / "a.csv").write_text("price,rooms\n1,2\n")

    def arrive() -> None:
        (config.parent / "span-2").mkdir()
        (config.parent / "span-2" / "a.csv").write_text("price,rooms\n1,2\n")

    assert changed(config, arrive, path) == ["span-2/a.csv"]


def test_image_in_the_folder_of_a_class_is_a_change(config):
    config.write_text("name: birds\ndata: {path: data, format: images}\nmodel: {kind: image}\n")

    def arrive() -> None:
        (config.parent / "data" / "wren").mkdir()
        (config.parent / "data" / "wren" / "1.png").write_bytes(b"x")

    assert changed(config, arrive) == ["data/wren/1.png"]


def test_module_and_what_stands_beside_it_are_watched(config):
    (config.parent / "network.py").write_text("")
    assert changed(config, lambda: (config.parent / "network.py").write_text("x = 1\n")) == []
    module = "model.module=network"
    assert changed(config, lambda: (config.parent / "network.py").write_text("x = 2 \n"), module) == ["network.py"]
    assert changed(config, lambda: (config.parent / "layers.py").write_text("y = 1\n"), module) == ["layers.py"]


@pytest.mark.parametrize("key", ["definition=own:pipeline", "evaluation.metrics=[own:cost]"])
def test_modules_of_the_pipeline_and_of_metrics_are_watched(config, key):
    (config.parent / "own.py").write_text("")
    assert changed(config, lambda: (config.parent / "own.py").write_text("x = 1\n"), key) == ["own.py"]
    assert changed(config, lambda: (config.parent / "steps.py").write_text("y = 1\n"), key) == ["steps.py"]


def test_config_with_an_error_is_watched_alone(config):
    config.write_text("name: houses\ndata: {path: data, label: price}\nepochs: 3\n")
    assert [Path(place).name for place in watch.look(config, ()).places] == ["pipeline.yaml"]
    assert changed(config, lambda: config.write_text("name: houses\n")) == ["pipeline.yaml"]
    mended = "name: houses\ndata: {path: data, label: price}\n"
    assert changed(config, lambda: config.write_text(mended)) == ["pipeline.yaml"]


def test_bucket_is_not_watched(config):
    assert watch.look(config, ("data.path=s3://team/houses",)).places == (str(config),)


WATCHING = """
import sys, time
from pathlib import Path
from kubetfx.pipeline import watch
from kubetfx.progress import Console

watch.import_for_runs = lambda *arguments: None  # the runs below need none of it

def run():
    print("run", Path(sys.argv[1]).read_text().count("x"), flush=True)
    time.sleep(float(sys.argv[2]))
    return 0

sys.exit(watch.watch(Path(sys.argv[1]), (), Console(sys.stdout), run=run))
"""


def start(config: Path, *, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-c", WATCHING, str(config), str(seconds)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def lines_until(process: subprocess.Popen[str], text: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if text in line:
            return lines
    raise AssertionError(lines)


def test_change_starts_a_run_and_the_end_comes_with_ctrl_c(config):
    process = start(config, seconds=0)
    try:
        assert lines_until(process, "Ctrl-C ends it.")[0] == "run 0"
        config.write_text(config.read_text() + "# x\n")
        again = lines_until(process, "Ctrl-C ends it.")
        assert "Changed: " in " ".join(again)
        assert "run 1" in again
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_is_interrupted_with_the_process_that_waits_for_it(config, number):
    process = start(config, seconds=60)
    try:
        lines_until(process, "run 0")
        process.send_signal(number)
        assert process.wait(timeout=30) != 0
    finally:
        process.kill()
        process.wait()
