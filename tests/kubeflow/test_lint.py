import copy
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler

from kubetfx.errors import UsageError
from kubetfx.kubeflow import lint as linter
from kubetfx.kubeflow.package_document import read_package
from tests.kubeflow import sdk_packages

ROOT = Path(__file__).resolve().parents[2]
TRAIN = "exec-train"
Document = dict[str, Any]


@pytest.fixture(scope="module")
def kitchen_sink(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("packages") / "kitchen-sink.yaml"
    compiler.Compiler().compile(sdk_packages.kitchen_sink, str(path))
    return path


def test_packages_of_the_sdk_are_clean(kitchen_sink):
    assert linter.lint(kitchen_sink) == []


def test_artifact_that_a_task_takes_twice_is_found_at_any_depth(tmp_path):
    """Given twice to a DAG, taken twice within it, under two names of a DAG that hands it out, and imported twice."""
    path = tmp_path / "package.yaml"
    compiler.Compiler().compile(sdk_packages.everything_twice, str(path))

    findings = linter.lint(path)

    assert {(finding.rule, finding.severity) for finding in findings} == {("artifact-twice", "error")}
    assert {finding.place for finding in findings} == {
        "components.comp-condition-1.dag.tasks.compare.inputs.artifacts.right",
        "components.comp-hand-on.dag.tasks.compare.inputs.artifacts.right",
        "root.dag.tasks.hand-on.inputs.artifacts.right",
        "root.dag.tasks.compare-2.inputs.artifacts.right",
        "root.dag.tasks.compare-3.inputs.artifacts.right",
    }
    lines = path.read_text().splitlines()
    assert {lines[finding.line - 2].strip() for finding in findings if finding.line} == {"right:"}
    assert all("UNIQUE(artifact, execution, type)" in finding.what for finding in findings)
    assert "the artifact of the input 'left' again" in findings[0].what


def test_task_that_reads_an_artifact_of_each_input_is_clean(tmp_path):
    """Two outputs of one task, one output of two tasks, an import that is made anew each time."""
    path = tmp_path / "package.yaml"
    compiler.Compiler().compile(sdk_packages.each_once, str(path))

    assert linter.lint(path) == []


def test_a_pipeline_version_for_git_ops_is_clean(tmp_path):
    path = tmp_path / "manifest.yaml"
    compiler.Compiler().compile(
        sdk_packages.kitchen_sink,
        str(path),
        kubernetes_manifest_format=True,
        kubernetes_manifest_options=compiler.compiler_utils.KubernetesManifestOptions(
            pipeline_name="sink", pipeline_version_name="sink-1", namespace="kubeflow"
        ),
    )

    assert linter.lint(path) == []


def test_what_the_sdk_itself_gets_wrong_is_found(tmp_path):
    path = tmp_path / "pipeline.yaml"
    compiler.Compiler().compile(sdk_packages.item_in_a_text, str(path))

    (finding,) = linter.lint(path)

    assert (finding.rule, finding.severity) == ("dag-input", "error")
    assert finding.place.startswith("root.dag.tasks.exit-handler-1.inputs.parameters.pipelinechannel--loop-item-param")


def test_place_and_line_lead_to_the_fault(two_steps, write):
    document = copy.deepcopy(two_steps)
    document["deploymentSpec"]["executors"][TRAIN]["container"]["resources"] = {
        "accelerator": {"type": "NVIDIA_TESLA_K80", "count": "1"}
    }
    path = write(document)

    (finding,) = linter.lint(path)

    assert finding.place == "deploymentSpec.executors.exec-train.container.resources.accelerator"
    assert finding.line is not None
    assert {"count: '1'", "type: NVIDIA_TESLA_K80"} & {path.read_text().splitlines()[finding.line - 1].strip()}
    assert "NVIDIA_TESLA_K80" in finding.what
    assert "nvidia.com/gpu" in finding.remedy


def test_a_job_spec_loses_what_stands_around_the_pipeline(two_steps, tmp_path):
    path = tmp_path / "pipeline.json"
    job = {
        "displayName": "two steps",
        "pipelineSpec": two_steps,
        "runtimeConfig": {"gcsOutputDirectory": "minio://mlpipeline/x", "parameterValues": {"side": "tails"}},
    }
    path.write_text(json.dumps(job))

    findings = linter.lint(path)

    assert [(finding.rule, finding.severity, finding.place, finding.line) for finding in findings] == [
        ("job-spec", "error", "", None),
        ("runtime-config", "warning", "runtimeConfig.gcsOutputDirectory", None),
        ("runtime-config", "warning", "runtimeConfig.parameterValues", None),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "The package cannot be read"),
        (b"", "which is empty"),
        (b"- 1\n- 2\n", "which is a list"),
        (b"a: [1\nb: 2\n", "neither YAML nor JSON"),
        (b"\x1f\x8b\x08\xff\xff", "Unpack an archive"),
        (b"name: penguins\ndata: {path: data}\n", "with the keys data, name"),
        (b"apiVersion: argoproj.io/v1alpha1\nkind: Workflow\n", "what KFP v1 ran"),
        (b"pipelineInfo: {name: a}\n---\npipelineInfo: {name: b}\n", "2 pipelines"),
    ],
    ids=["missing", "empty", "list", "no YAML", "archive", "a config", "Argo", "two"],
)
def test_what_is_no_package_is_refused(tmp_path, content, message):
    path = tmp_path / "pipeline.yaml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(UsageError, match=message):
        linter.lint(path)


def _nested(levels: int) -> bytes:
    return b"a: " + b"[" * levels + b"]" * levels


def _unfolding() -> bytes:
    lines = [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 10)]
    return "\n".join(["x0: &x0 [a]", *lines]).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_nested(300), "nested more than 200 levels deep, at line 1"),
        (_nested(100_000), "nested more than 200 levels deep, at line 1"),
        (b"- " * 100_000, "nested more than 200 levels deep, at line 1"),
        (b"a: 1\nb: &b {c: *b}\n", "the anchor at line 2 holds an alias of itself"),
        (_unfolding(), r"unfold \d+ values to .* excessive aliasing"),
        (b"a: *b\n", "found undefined alias"),
        (b"? [a]\n: 1\n", "found unhashable key"),
        (b"a: !b c\n", "could not determine a constructor for the tag '!b'"),
        (b"a: \x00\n", "control characters are not allowed"),
        (b"# nothing\n---\n", "which is empty"),
    ],
    ids=["deep", "deeper", "dashes", "itself", "unfolding", "no anchor", "key", "tag", "control", "comment"],
)
def test_what_cannot_be_read_is_refused_with_its_reason(tmp_path, content, message):
    path = tmp_path / "pipeline.yaml"
    path.write_bytes(content)

    with pytest.raises(UsageError, match=message):
        linter.lint(path)


def test_package_that_is_too_large_is_refused_or_warned_of(two_steps, write, tmp_path):
    document = copy.deepcopy(two_steps)
    document["root"]["inputDefinitions"]["parameters"]["side"]["defaultValue"] = "a" * 2_000_000
    (finding,) = linter.lint(write(document))
    assert (finding.rule, finding.severity) == ("size", "warning")

    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate((32 << 20) + 1)
    with pytest.raises(UsageError, match=r"at most 33,554,432 bytes\. Received: .*huge.yaml, 33,554,433 bytes"):
        linter.lint(path)


@pytest.mark.parametrize(
    ("documents", "rule", "severity", "place"),
    [
        ([{"platforms": []}], "unread-document", "warning", "platforms"),
        ([{"platforms": {"kubernetes": []}}], "unread-document", "warning", "platforms.kubernetes"),
        ([{"platforms": {"kubernetes": {"nodes": 1}}}], "unread-document", "warning", "platforms.kubernetes"),
        (
            [{"platforms": {"kubernetes": {"deploymentSpec": {"executors": {TRAIN: 3}}}}}],
            "unread-document",
            "warning",
            f"platforms.kubernetes.deploymentSpec.executors.{TRAIN}",
        ),
        ([{"notes": "mine"}], "unread-document", "warning", ""),
        ([{"platforms": {"kubernetes": {}}}, {"platforms": {"kubernetes": {}}}], "document", "error", ""),
        ([[1, 2]], "document", "error", ""),
        (["text"], "document", "error", ""),
    ],
)
def test_documents_that_kfp_drops_or_refuses_are_found(two_steps, write, documents, rule, severity, place):
    (finding,) = linter.lint(write(two_steps, *documents))

    assert (finding.rule, finding.severity, finding.place) == (rule, severity, place)
    assert f"document {len(documents) + 1} " in finding.what


def test_pipeline_config_of_a_later_release_is_read(two_steps, write):
    config = {"activeDeadlineSeconds": 60, "ofTheFuture": {"a": 1}}
    assert linter.lint(write(two_steps, {"platforms": {"kubernetes": {"pipelineConfig": config}}})) == []

    config = {"activeDeadlineSeconds": 0}
    (finding,) = linter.lint(write(two_steps, {"platforms": {"kubernetes": {"pipelineConfig": config}}}))
    assert (finding.rule, finding.place) == ("deadline", "platforms.kubernetes.pipelineConfig.activeDeadlineSeconds")


def test_values_are_read_as_go_reads_them(two_steps, write):
    path = write(two_steps)
    declared = "      side:\n        defaultValue: heads\n"
    assert declared in path.read_text()
    for written, read in {
        "yes": "yes",
        "1:30": "1:30",
        "2026-12-01": "2026-12-01T00:00:00Z",
        "2026-12-01 03:04:05": "2026-12-01T03:04:05Z",
        "2026-12-01T03:04:05+02:00": "2026-12-01T03:04:05+02:00",
        "1e3": 1000.0,
        "0o17": 15,
        "TRUE": True,
    }.items():
        path.write_text(path.read_text().replace(declared, declared.replace("heads", written)))
        found = read_package(path).parameters["side"]["defaultValue"]
        assert (found, type(found)) == (read, type(read))
        path.write_text(path.read_text().replace(declared.replace("heads", written), declared))


def test_merged_mapping_has_each_key_once(two_steps, write):
    path = write(two_steps)
    text = path.read_text().replace(
        "schemaVersion: 2.1.0", "<<: {schemaVersion: 2.0.0, sdkVersion: x}\nschemaVersion: 2.1.0"
    )
    path.write_text(text)

    assert linter.lint(path) == []


@pytest.mark.parametrize(
    "content",
    ["root: 3", "root: {}\ncomponents: {a: 1}", "root: {dag: {tasks: {a: null, b: {inputs: 3}}}}"],
)
def test_nonsense_is_malformed_and_breaks_nothing(tmp_path, content):
    path = tmp_path / "pipeline.yaml"
    path.write_text(f"schemaVersion: 2.1.0\npipelineInfo: {{name: a}}\n{content}\n")

    findings = linter.lint(path)
    assert "malformed" in {finding.rule for finding in findings}
    assert all("no other fault was looked for" in finding.remedy for finding in findings)


def _places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield above
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _places(inner, (*above, key))


@pytest.mark.parametrize("junk", [None, 3, "text", [], ["{{$.x}}"], {}, {"a": None}])
def test_junk_at_any_place_breaks_nothing(two_steps, tmp_path, junk):
    path = tmp_path / "package.json"
    for *above, last in list(_places(two_steps))[1:]:
        document = copy.deepcopy(two_steps)
        parent = functools.reduce(lambda value, key: value[key], above, document)
        parent[last] = junk
        path.write_text(json.dumps(document, default=str))

        assert all(finding.what for finding in linter.lint(path))


def kubetfx(*arguments: object) -> subprocess.CompletedProcess[str]:
    """One whole process: what the shell sees."""
    command = [sys.executable, "-m", "kubetfx", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_ends_with_0_where_nothing_is_refused(two_steps, write):
    warned = copy.deepcopy(two_steps)
    warned["deploymentSpec"]["executors"][TRAIN]["container"]["lifecycle"] = {"preCacheCheck": {"command": ["python"]}}

    result = kubetfx("lint", write(warned))

    assert result.returncode == 0
    assert "warning [pre-cache-check]" in result.stdout
    assert "0 that KFP refuses, 1 that it misreads" in result.stderr


def test_the_command_says_that_a_package_is_clean(kitchen_sink):
    result = kubetfx("lint", kitchen_sink)

    assert (result.returncode, result.stdout) == (0, "")
    assert "nothing that open-source Kubeflow Pipelines refuses or misreads" in result.stderr


def test_the_command_ends_with_2_where_there_is_no_package(tmp_path):
    result = kubetfx("lint", tmp_path / "pipeline.yaml", "--format", "json")

    assert result.returncode == 2
    assert json.loads(result.stdout)["error"]["type"] == "UsageError"
