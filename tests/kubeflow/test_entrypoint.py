"""The container's main as a process: exit status, termination, users without a home, and what it imports."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from kubetfx.errors import DataError
from kubetfx.kubeflow import entrypoint
from kubetfx.kubeflow.executor_io import LAUNCHER_ROOT
from kubetfx.kubeflow.task_spec import Node, OutputSlot, TaskSpec
from kubetfx.pipeline.spared_imports import LIGHT_MODULES
from tests.kubeflow.test_task_run import artifact, gate_document, gate_spec, pusher_spec

NO_OUTPUTS = json.dumps({"outputs": {"outputFile": "/no/such/folder/output.json"}})
REPOSITORY = Path(__file__).parents[2]


def command(spec: TaskSpec, document: str) -> list[str]:
    task = spec.to_argument()
    return [sys.executable, "-m", "kubetfx.kubeflow.entrypoint", "--task", task, "--executor-input", document]


def environment(root: Path, **variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), LAUNCHER_ROOT: str(root), **variables}


def pusher_document(root: Path, output_file: Path) -> str:
    saved_model = root / "minio" / "b" / "model" / "Format-Serving"
    saved_model.mkdir(parents=True)
    (saved_model / "saved_model.pb").write_text("model")
    evaluation = root / "minio" / "b" / "evaluation"
    evaluation.mkdir()
    (evaluation / "evaluation.json").write_text('{"metrics": {"accuracy": 0.75}}')
    blessing = json.dumps({"custom_properties": {"blessed": {"int_value": "1"}}})
    inputs = {
        "model": artifact("minio://b/model"),
        "model_blessing": artifact("minio://b/blessing", tfx_artifact=blessing),
        "evaluation": artifact("minio://b/evaluation"),
    }
    return json.dumps({"inputs": {"artifacts": inputs}, "outputs": outputs("pushed_model", output_file)})


def outputs(slot: str, output_file: Path) -> dict[str, Any]:
    return {
        "artifacts": {slot: {"artifacts": [{"name": slot, "uri": f"minio://b/out/{slot}"}]}},
        "outputFile": str(output_file),
    }


def writing_spec(executor: str) -> TaskSpec:
    return TaskSpec(
        nodes=(Node(id="Write", executor=f"tests.kubeflow.executors.{executor}", outputs={"model": "model"}),),
        outputs={"model": OutputSlot(type="tfx.types.standard_artifacts.Model")},
    )


def wait_for(file: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_task_ends_with_0_and_its_output(tmp_path):
    document = pusher_document(tmp_path, tmp_path / "outputs" / "output.json")
    done = subprocess.run(
        command(pusher_spec(tmp_path / "serving"), document),
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "Pushed version" in done.stderr
    assert "pushed_model" in (tmp_path / "outputs" / "output.json").read_text()


@pytest.mark.parametrize(
    ("task", "document", "message"),
    [
        (
            '{"role": "nodes", "walks": 1}',
            "{}",
            r"The task: .*Received: walks: Extra inputs .*Build the image",
        ),
        ("{", "{}", r"The task: .*Received: no JSON: .*Build the image"),
        ("{}", "{{$}}", r"The task: .*not an ExecutorInput .*Received: \{\{\$\}\} .*kfp-local"),
        ('{"nodes": [{"id": "Own", "executor": "json.No"}]}', NO_OUTPUTS, "Own: what the node runs cannot be imported"),
        ("{}", '{"outputs": {}}', r"The task: .*not an ExecutorInput .*Received: .*'outputFile'"),
    ],
    ids=["another version's task", "no task", "no launcher", "no module", "another launcher"],
)
def test_what_cannot_be_read_is_told_in_words_and_in_the_pods_message(
    monkeypatch, tmp_path, capsys, task, document, message
):
    log = tmp_path / "termination-log"
    log.touch()
    monkeypatch.setattr(entrypoint, "_TERMINATION_LOG", log)
    monkeypatch.setattr(entrypoint, "_settle_environment", lambda: None)
    monkeypatch.setattr(entrypoint.os, "_exit", sys.exit)
    with pytest.raises(SystemExit, match="1"):
        entrypoint.main(["--task", task, "--executor-input", document])

    assert re.search(rf"Error: {message}", " ".join(capsys.readouterr().err.split()))
    assert re.search(rf"^{message}", log.read_text())


def test_stop_at_anomalies_ends_with_3_and_the_reason_last(tmp_path):
    document = gate_document(tmp_path, tmp_path / "output.json")
    done = subprocess.run(
        command(gate_spec(), document), env=environment(tmp_path), capture_output=True, text=True, check=False
    )

    assert done.returncode == 3
    assert "Error: AnomalyGate: The data has an anomaly" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "minio" / "b" / "approved").exists()
    assert not (tmp_path / "output.json").exists()


def test_sigterm_in_the_middle_of_c_code_leaves_nothing_half_written(tmp_path):
    half = tmp_path / "minio" / "b" / "out" / "model" / "half"
    document = json.dumps({"outputs": outputs("model", tmp_path / "output.json")})
    with subprocess.Popen(
        command(writing_spec("Slow"), document), env=environment(tmp_path), stderr=subprocess.PIPE
    ) as process:
        wait_for(half, process)
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=20)

    assert process.returncode == 143
    assert time.monotonic() - asked < 5
    assert b"Terminated: what was half written is removed." in stderr
    assert not half.parent.exists()
    assert not (tmp_path / "output.json").exists()


@pytest.mark.parametrize("ends", [pytest.param("well", marks=pytest.mark.long), "badly", "by SIGTERM"])
def test_the_launchers_log_is_left_alone(tmp_path, ends):
    """The launcher opens it before the command, and uploads it afterwards."""
    log, half = tmp_path / "minio/b/logs/executor-logs-0", tmp_path / "minio/b/out/model/half"
    log.parent.mkdir(parents=True)
    written = outputs("model", tmp_path / "output.json")
    written["artifacts"]["executor-logs"] = {
        "artifacts": [{"name": "executor-logs", "uri": "minio://b/logs/executor-logs-0"}]
    }
    executor = {"well": "Quick", "badly": "Broken", "by SIGTERM": "Slow"}[ends]
    line = command(writing_spec(executor), json.dumps({"outputs": written}))
    with log.open("wb") as file, subprocess.Popen(line, env=environment(tmp_path), stderr=file) as process:
        if ends == "by SIGTERM":
            wait_for(half, process)
            process.send_signal(signal.SIGTERM)
        exit_code = process.wait(60)

    assert exit_code == {"well": 0, "badly": 1, "by SIGTERM": 143}[ends]
    assert {"well": "begins", "badly": "broken on purpose", "by SIGTERM": "Terminated"}[ends] in log.read_text()
    assert half.exists() == (ends == "well")


@pytest.fixture
def open_folder():
    """pytest keeps its own folders from other users."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_user_without_name_and_home_can_run_a_task(open_folder):
    document = pusher_document(open_folder, open_folder / "output.json")
    for path in (open_folder, *open_folder.rglob("*")):
        path.chmod(0o777)
    spec = pusher_spec(open_folder / "serving")
    program = (
        "import os, sys\n"
        "from kubetfx.kubeflow import entrypoint\n"
        "from kubetfx.pipeline.spared_imports import spared_imports\n"
        "with spared_imports(['kubetfx.components.pusher']):\n"
        "    import kubetfx.components.pusher, kubetfx.kubeflow.task_run  # this Python's files may be root's alone\n"
        "import email.parser\n"
        "os.setgroups([]); os.setgid(12345); os.setuid(12345)\n"
        "entrypoint.main(sys.argv[1:])\n"
    )
    variables = environment(open_folder, HOME="/")
    variables.pop("USER", None)
    done = subprocess.run(
        [sys.executable, "-c", program, *command(spec, document)[3:]],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    (version,) = (open_folder / "serving").iterdir()
    assert version.stat().st_uid == 12345


@pytest.mark.parametrize("home", ["", "/", "/no/such/folder"])
def test_home_that_cannot_be_written_becomes_the_folder_for_temporary_files(monkeypatch, tmp_path, home):
    monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(entrypoint.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(entrypoint.os, "access", lambda path, mode: False)
    monkeypatch.delenv("USER", raising=False)

    entrypoint._settle_environment()

    assert os.environ["HOME"] == str(tmp_path)
    assert os.environ["USER"] == str(os.getuid())


@pytest.mark.long
def test_components_of_tfx_can_still_be_imported_from_their_package():
    program = (
        "import sys\n"
        "from kubetfx.pipeline.spared_imports import spared_imports\n"
        "with spared_imports():\n"
        "    import tfx.components.example_gen\n"
        "    assert 'tfx.components.tuner.component' not in sys.modules\n"
        "    from tfx.components import Tuner\n"
        "import tensorflow_model_analysis as tfma\n"
        "print(Tuner.__name__, callable(tfma.default_eval_shared_model))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(Path("/")), capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "Tuner True"


@pytest.mark.long
def test_module_of_the_user_s_may_import_tfx_as_its_guides_do():
    program = (
        "from kubetfx.pipeline.spared_imports import spared_imports\n"
        "with spared_imports(['my_components']):\n"
        "    import kubetfx.kubeflow.task_run\n"
        "    from tfx import v1 as tfx\n"
        "import tensorflow_model_analysis as tfma\n"
        "print(tfx.components.Evaluator.__name__, tfma.EvalConfig.__name__, tfx.dsl.components.component.__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(Path("/")), capture_output=True, text=True, check=False
    )

    assert done.stdout.strip() == "Evaluator EvalConfig component", done.stderr


@pytest.mark.parametrize("module", sorted(LIGHT_MODULES))
def test_light_node_starts_with_what_it_needs_alone(module):
    program = (
        "import sys\n"
        "from kubetfx.pipeline.spared_imports import spared_imports\n"
        f"with spared_imports(['{module}']):\n"
        f"    import kubetfx.kubeflow.task_run, {module}\n"
        "heavy = {'tensorflow', 'apache_beam', 'keras', 'tensorflow_model_analysis'}\n"
        "heavy |= {'asyncio', 'numpy', 'pyarrow', 'rich', 'setuptools', 'tfx_bsl', 'unittest.mock'}\n"
        "heavy |= {'kubetfx.config.pipeline'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(Path("/")), capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


@pytest.mark.long
def test_what_a_light_node_goes_without_can_still_be_imported():
    module = "kubetfx.components.pusher"
    program = (
        "from kubetfx.pipeline.spared_imports import spared_imports\n"
        f"with spared_imports(['{module}']):\n"
        f"    import kubetfx.kubeflow.task_run, {module}\n"
        "import ml_metadata, ml_metadata.proto, setuptools, tfx_bsl.arrow.sql_util, unittest.mock\n"
        "import grpc, kubetfx.components.push.push_verification\n"
        "grpc.insecure_channel('127.0.0.1:1').close()\n"
        "print(ml_metadata.MetadataStore.__name__, ml_metadata.proto.Artifact().id, tfx_bsl.arrow.sql_util.__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(Path("/")), capture_output=True, text=True, check=True
    )

    assert re.fullmatch(r"MetadataStore 0 /\S+/tfx_bsl/arrow/sql_util.py", done.stdout.strip())


def test_schema_is_inferred_without_tensorflow_and_beam(tmp_path):
    """As in its container: the extension of TFDV is imported when there is something to infer."""
    program = (
        "import sys\n"
        "from kubetfx.pipeline.spared_imports import spared_imports\n"
        "with spared_imports(['kubetfx.components.schema_gen']):\n"
        "    from kubetfx.components.schema_gen import infer_schema\n"
        "    from tensorflow_metadata.proto.v0 import statistics_pb2\n"
        "    split = statistics_pb2.DatasetFeatureStatisticsList()\n"
        "    feature = split.datasets.add(num_examples=3).features.add(type='STRING')\n"
        "    feature.path.step.append('colour')\n"
        "    feature.string_stats.common_stats.num_non_missing = 3\n"
        "    (found,) = infer_schema([split, split]).feature\n"
        "print(found.name, sorted({'tensorflow', 'apache_beam', 'keras'} & set(sys.modules)))\n"
        "import tensorflow_data_validation as tfdv\n"
        "print(callable(tfdv.infer_schema))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(Path("/")), capture_output=True, text=True, check=False
    )

    assert done.stdout.splitlines() == ["colour []", "True"], done.stderr


def test_reason_exit_status_and_last_log_lines_are_the_pods_message(tmp_path):
    message = tmp_path / "termination-log"
    message.touch()
    program = (
        "import pathlib, sys\n"
        "from kubetfx.kubeflow import entrypoint\n"
        f"entrypoint._TERMINATION_LOG = pathlib.Path({str(message)!r})\n"
        "entrypoint.main(sys.argv[1:])\n"
    )
    document = gate_document(tmp_path, tmp_path / "output.json")
    line = [sys.executable, "-c", program, *command(gate_spec(), document)[3:]]
    done = subprocess.run(line, env=environment(tmp_path), capture_output=True, text=True, check=False)

    reason, _, log = message.read_text().partition("\nExit status 3. The end of the log:\n")
    assert reason.startswith("AnomalyGate: The data has an anomaly")
    assert "AnomalyGate begins," in log
    assert log.splitlines()[-1] in done.stderr


def test_pods_message_shows_whole_lines_of_the_traceback_and_no_more_than_kubernetes_keeps(
    monkeypatch, tmp_path, capsys
):
    message = tmp_path / "termination-log"
    message.touch()
    monkeypatch.setattr(entrypoint, "_TERMINATION_LOG", message)
    try:
        try:
            raise OSError("the printer is empty")
        except OSError as cause:
            raise RuntimeError("wrapped") from cause
    except RuntimeError as error:
        entrypoint._report(
            error, gate_spec().title, exit_code=1, last_lines=[f"line {i} {'é' * 20}" for i in range(200)]
        )

    assert "Traceback" in capsys.readouterr().err
    assert 4_000 < len(message.read_bytes()) <= 4_096
    lines = message.read_text().splitlines()
    assert lines[:2] == ["AnomalyGate failed: OSError: the printer is empty", "Exit status 1. The end of the log:"]
    assert lines[2].startswith("line ")
    assert lines[-1] == "RuntimeError: wrapped"

    entrypoint._report(DataError("x" * 5_000), gate_spec().title, exit_code=2, last_lines=["a line"])
    assert message.read_text() == f"AnomalyGate: {'x' * 5_000}"[:4_096]


def test_sigterm_for_a_forked_process_ends_that_process_and_not_the_task():
    program = (
        "import multiprocessing, pathlib, time\n"
        "from kubetfx.kubeflow import entrypoint\n"
        "from kubetfx.kubeflow.executor_io import ExecutorInput\n"
        "from kubetfx.kubeflow.task_spec import TaskSpec\n"
        "entrypoint._end_on_sigterm(TaskSpec(), ExecutorInput({}, {}, {}, pathlib.Path('/no/such/file')))\n"
        "child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))\n"
        "child.start()\n"
        "child.terminate()\n"
        "child.join(10)\n"
        "time.sleep(0.2)\n"
        "print('the task goes on after', child.exitcode)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(Path("/")),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "the task goes on after -15\n"), done.stderr
