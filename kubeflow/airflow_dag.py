"""`kubetfx.airflow_dag`: a file with the DAG of a pipeline for Airflow, a task per node.

Each task runs one node as a process of its own in one workspace (`pipeline/node_runner.py`): beside Airflow, or in a
pod with the image and the resources of the section `kubeflow`. Decision 42 says why.
"""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kubetfx.config.kubeflow_section import Retries, TaskConfig
from kubetfx.config.loading import load_config
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import ConfigError, UsageError
from kubetfx.kubeflow.airflow_pods import pod_arguments, shared_arguments
from kubetfx.kubeflow.cron import to_kfp
from kubetfx.kubeflow.names import identifier, snake_case, unique
from kubetfx.kubeflow.python_source import Call, Name, source
from kubetfx.pipeline.run_result import component_of
from kubetfx.pipeline.spared_imports import imports_without_beam
from kubetfx.redirection import logged_to
from kubetfx.run_record import FOLDER
from kubetfx.storage import write_text
from kubetfx.user_code import check_imports, importable

if TYPE_CHECKING:
    from kubetfx.pipeline.node_graph import GraphNode

_TEMPLATES = Path(__file__).parent / "templates"
_MARKER = "Written by kubetfx for Airflow"
"""In each file that is written, so that it may be written again."""
_FINAL = [3, 4]
"""Exit codes of `kubetfx node` that another try would have again: anomalies, and a missed threshold."""


@dataclass(frozen=True)
class _Task:
    """A task of the file."""

    variable: str
    call: str


def airflow_dag(
    config: str | Path,
    path: str | Path,
    *,
    pods: bool = False,
    config_in_pods: str | None = None,
    command: str = "kubetfx",
    schedule: str | None = None,
    overrides: Sequence[str] = (),
) -> list[str]:
    """Write a file with a DAG for Airflow 3, a task per node of the pipeline.

    Args:
        config: path of pipeline.yaml, which each task reads.
        path: file to write, ending in .py, for Airflow's folder of DAGs.
        pods: each task is a pod with the image and resources of the section `kubeflow`, and not a process where
            Airflow's tasks run.
        config_in_pods: path of pipeline.yaml as the pods see it. Default: as it is here.
        command: kubetfx, where the tasks run.
        schedule: five fields as cron has them, or a name such as `@daily`, in UTC. None: runs are started by hand.
        overrides: what is put over pipeline.yaml in each run: `dotted.key=value`.

    Returns:
        What pods may not see: a warning each.

    Raises:
        ConfigError: the config is wrong, or the pods would not share a workspace.
        UsageError: the file cannot be written or is something other than such a DAG, or the schedule is not a schedule.

    Example:
        >>> import kubetfx
        >>> kubetfx.airflow_dag("examples/penguins/pipeline.yaml", "penguins_dag.py", schedule="@daily")
        []
    """
    config, path = Path(config), Path(path)
    _check_target(path)
    loaded = load_config(config, overrides=overrides)
    config_path, warnings = str(config.resolve()), []
    if pods:
        config_path = config_in_pods or config_path
        if not config_path.startswith("/"):
            raise UsageError(f"The path of the config in the pods is absolute. Received: {config_path}.")
        loaded = load_config(config, overrides=overrides, folder=Path(config_path).parent)
        if loaded.kubeflow.of_component("Trainer").gpu and loaded.training.require_gpu is None:
            overrides = [*overrides, "training.require_gpu=true"]  # as on Kubeflow Pipelines
    checked = _checked(schedule)
    with logged_to(Path(os.devnull)), imports_without_beam(), importable(config.resolve().parent):
        check_imports(loaded.own_modules)
        from kubetfx.pipeline.node_graph import graph_of

        nodes = graph_of(loaded)
    if pods:
        warnings = _check_pods(loaded, nodes, config_path)
    text = _rendered(loaded, nodes, config_path, command=command, schedule=checked, overrides=overrides, pods=pods)
    try:
        write_text(path, text)
    except OSError as error:
        raise UsageError(
            f"The DAG cannot be written. Received: {path} ({error.strerror}). Choose a file in a folder that you may "
            "write to."
        ) from None
    return warnings


def _check_target(path: Path) -> None:
    if path.suffix != ".py":
        raise UsageError(f"A DAG is a Python file. Received: {path}. Give it a name that ends in .py.")
    if path.is_dir():
        raise UsageError(f"The DAG cannot be written. Received: {path}, which is a folder. Choose another name.")
    if path.is_file() and path.stat().st_size and _MARKER not in path.read_text(encoding="utf-8", errors="replace"):
        raise UsageError(
            f"A file that is not such a DAG would be overwritten. Received: {path}. Choose another name, or remove it."
        )


def _checked(schedule: str | None) -> str | None:
    if schedule is None:
        return None
    if len(schedule.split()) not in (1, 5) or (len(schedule.split()) == 1 and not schedule.startswith("@")):
        raise UsageError(
            f"A schedule of Airflow has five fields: minute, hour, day of the month, month, day of the week. Received: "
            f"{schedule!r}. Every day at six: '0 6 * * *'."
        )
    to_kfp(schedule)  # which says what is wrong with a field
    return schedule


def _check_pods(config: PipelineConfig, nodes: "Sequence[GraphNode]", config_path: str) -> list[str]:
    """Refuse what cannot work in pods, and return a warning for each place that they may not see."""
    from kubetfx.kubeflow.pod_paths import unseen_paths

    distribution = config.training.distribution
    if distribution is not None and distribution.is_in_cluster:
        raise ConfigError(
            "Workers that are pods are made of the pod of a task of Kubeflow Pipelines. Received: "
            f"training.distribution.launcher: {distribution.launcher}. Take launcher: processes, or ray; or compile "
            "for Kubeflow Pipelines."
        )
    bucket = config.artifacts.bucket
    for what, key, place in (
        ("the workspace", "workspace.local" if bucket else "workspace", str(config.workspace_path)),
        ("pipeline.yaml", "the config", config_path),
    ):
        blind = [node.node_id for node in nodes if not _is_seen(place, _settings(config, node.node_id))]
        if blind:
            remedy = (
                "Mount a ReadWriteMany claim in all of them, kubeflow.every_component.volumes: [{claim: NAME, "
                f"mount_path: /shared}}], and set {key}: /shared/NAME"
                if key.startswith("workspace")
                else "Put it on the volume of the workspace, or into a ConfigMap, "
                "kubeflow.every_component.config_maps: [{name: NAME, mount_path: /config}]; and say where pods see it"
            )
            raise ConfigError(
                f"Each pod needs {what}, and none of the volumes of {', '.join(blind[:3])} has it. Received: {key} "
                f"{place}. {remedy}."
            )
    return unseen_paths(config)


def _is_seen(path: str, task: TaskConfig) -> bool:
    sources = [source.mount_path for source in (*task.secrets, *task.config_maps) if source.mount_path]
    mounts = [*(volume.mount_path for volume in task.volumes), *sources]
    return any(PurePosixPath(path).is_relative_to(mount) for mount in mounts)


def _settings(config: PipelineConfig, node_id: str) -> TaskConfig:
    """Return what `kubeflow` says about a node, which may be a copy: FoldTrainer.3."""
    return config.kubeflow.of_component(component_of(node_id))


def _rendered(
    config: PipelineConfig,
    nodes: "Sequence[GraphNode]",
    config_path: str,
    *,
    command: str,
    schedule: str | None,
    overrides: Sequence[str],
    pods: bool,
) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    )
    environment.filters["source"] = source
    every = _arguments(config, config.kubeflow.every_component, pods)
    defaults = {**_shared(config, config_path, pods), **every}
    variables = _variables(nodes)
    lasts = {node.node_id for node in nodes} - {name for node in nodes for name in node.upstream}
    tasks = []
    for node in nodes:
        own = _arguments(config, _settings(config, node.node_id), pods)
        arguments: dict[str, Any] = {"task_id": node.node_id}
        arguments |= {name: value for name, value in own.items() if value != every.get(name)}
        if not pods and node.node_id in lasts:
            arguments["do_xcom_push"] = True
        call = source(Call("Node", arguments), indent=4, before=len(variables[node.node_id]) + 3)
        tasks.append(_Task(variables[node.node_id], call + (".as_teardown()" if node.is_exit_handler else "")))
    reports = f"file://{quote(str(config.workspace_path / FOLDER))}"
    return environment.get_template("airflow_dag.py.j2").render(
        name=config.name,
        target="airflow" if not pods else "airflow-kubernetes",
        marker=_MARKER,
        pods=pods,
        config_path=config_path,
        config_argument=_literal(shlex.quote(config_path)),
        workspace=config.workspace_path,
        command=command,
        reports=reports,
        overrides=[_literal(shlex.quote(override)) for override in overrides],
        schedule=schedule,
        constants={"IMAGE": source(config.kubeflow.image)} if pods else {},
        defaults={name: source(value, indent=8, before=len(name) + 4) for name, value in defaults.items()},
        nodes=tasks,
        **_edges(nodes, variables),
    )


def _literal(text: str) -> str:
    """Return a text in which Airflow finds nothing to fill in."""
    return f"{{% raw %}}{text}{{% endraw %}}" if re.search(r"\{[{%#]", text) else text


def _shared(config: PipelineConfig, config_path: str, pods: bool) -> dict[str, Any]:
    """Return arguments of all tasks, whatever their components."""
    if not pods:
        return {
            "bash_command": Name("NODE"),
            "cwd": str(Path(config_path).parent),
            "skip_on_exit_code": _FINAL,
            "do_xcom_push": False,
        }
    return {
        "image": Name("IMAGE"),
        "cmds": ["sh", "-c"],
        "arguments": [Name("NODE")],
        "skip_on_exit_code": _FINAL,
        **shared_arguments(config.kubeflow),
    }


def _arguments(config: PipelineConfig, task: TaskConfig, pods: bool) -> dict[str, Any]:
    """Return arguments of the task of a component."""
    retries = task.retries if "retries" in task.model_fields_set else Retries()
    timeout = Call("timedelta", {"seconds": task.timeout_seconds}) if task.timeout_seconds else None
    found: dict[str, Any] = {
        "retries": retries.count,
        "retry_delay": Call("timedelta", {"seconds": retries.backoff_seconds}),
        "retry_exponential_backoff": retries.backoff_factor > 1,
        "execution_timeout": timeout if not pods else None,
    }
    if pods:
        found |= pod_arguments(task)
    return {name: value for name, value in found.items() if value is not None}


def _variables(nodes: "Sequence[GraphNode]") -> dict[str, str]:
    taken: set[str] = set()
    return {node.node_id: unique(identifier(snake_case(node.node_id)), taken) for node in nodes}


def _edges(nodes: "Sequence[GraphNode]", variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the order of the tasks as a person writes it: one chain, or a line per task that waits."""
    is_chain = all(node.upstream == ((nodes[place - 1].node_id,) if place else ()) for place, node in enumerate(nodes))
    names = [variables[node.node_id] for node in nodes]
    if is_chain and len(nodes) > 2:
        return {"chain": True, "edges": [_chain(names)]}
    lines = []
    for node in nodes:
        upstream = [variables[name] for name in node.upstream]
        if upstream:
            before = upstream[0] if len(upstream) == 1 else f"[{', '.join(upstream)}]"
            lines.append(f"{before} >> {variables[node.node_id]}")
    return {"chain": False, "edges": lines}


def _chain(names: Sequence[str]) -> str:
    line = f"chain({', '.join(names)})"
    if len(line) <= 100:
        return line
    return "\n".join(["chain(", *(f"        {name}," for name in names), "    )"])
