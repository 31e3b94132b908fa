"""Runs a pipeline on this machine, node by node.

It has TFX's cache, a log file per node, and resumption after an interruption.

TFX's own launcher executes each node and records it in ML Metadata. What TFX and TensorFlow write to the screen goes
to the logs. pipeline/definition.py assembles the pipeline.
"""

import contextlib
import functools
import gc
import importlib
import time
import traceback
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from kubetfx.code_digest import code_digest
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.references import redacted
from kubetfx.engine.session import Session
from kubetfx.errors import KubetfxError, NodeFailedError, StorageError, UsageError, root_cause
from kubetfx.machine_errors import explained
from kubetfx.pipeline import compiled_pipeline, final_status
from kubetfx.pipeline.for_each import iterations
from kubetfx.pipeline.node_launch import (
    OperatorWhenNeeded,
    check_executors,
    connection_of,
    launch,
    outputs_of,
    state_of,
)
from kubetfx.pipeline.run_result import NodeResult, NodeState
from kubetfx.pipeline.runner import Runner, needed
from kubetfx.pipeline.side_by_side import ExecutorProcesses, Work, folds_at_once, groups, in_best_order, is_of_fold
from kubetfx.pipeline.spared_imports import (
    deferred_tensorflow,
    imports_without_beam,
    spared_imports,
    tensorflow_is_needed,
    uncollected,
)
from kubetfx.progress import Begin, End, NodeBegins, NodeEnds, reported_to
from kubetfx.redirection import logged_to
from kubetfx.run_record import RunRecord
from kubetfx.storage import is_url
from kubetfx.workspace import METADATA, Turn

if TYPE_CHECKING:  # importing TFX takes seconds, and the first line is to be on the screen before that
    from ml_metadata import MetadataStore
    from ml_metadata.proto import metadata_store_pb2
    from tfx.orchestration.pipeline import Pipeline
    from tfx.proto.orchestration import pipeline_pb2

_MODULES_OF_DRIVERS = (
    "tfx.orchestration.portable.launcher",
    "kubetfx.components.example_driver",
    "kubetfx.components.served_model_resolver",
    "kubetfx.components.pusher",
)
"""Modules that a run imports even if every node comes from the cache."""

_MODULES_OF_RUNS = (
    "kubetfx.components.evaluation.evaluation",
    "kubetfx.components.report.predictions",
    "kubetfx.components.report.run_report",
    "kubetfx.models.training",
    "tfx.components.trainer.executor",
)
"""Modules that nodes import when they are executed, besides the components themselves."""

_MODULE_OF_FOLDS = "sklearn.model_selection"
"""Module that the nodes of folds import besides, which takes half a second."""

_CODE_DIGEST = "code_digest"
"""File of the workspace with the digest of the code that made the cached outputs."""


def import_for_runs(config: PipelineConfig | None) -> None:
    """Import what runs need into the process from which they are forked, without using any of it.

    Args:
        config: The config of the first run; None if it has an error: then everything is imported that some run may
            need.
    """
    with _imports_for(config) if config else _imports_with_beam():
        for module in (
            "tfx.dsl.compiler.compiler",
            "kubetfx.pipeline.definition",
            *_MODULES_OF_DRIVERS,
            *_MODULES_OF_RUNS,
        ):
            importlib.import_module(module)


class LocalRunner(Runner):
    """Runs a pipeline node by node in this process."""

    can_stop_early = True
    _store: "MetadataStore | None" = None
    _session: Session
    _processes: ExecutorProcesses | None
    _code_digest = ""
    _planned: list[str]
    """Ids of all nodes, in the order in which they run."""
    _skipped: set[str]
    """Ids of those whose condition did not hold, and of what comes after them."""
    _turn: Turn | None = None
    """Which other processes of the run wait for; None: there are none."""

    def _run_nodes(self) -> None:
        self._config.artifacts.begin(self._config.workspace_path / METADATA)
        self._progress(Begin("Loading TFX"))
        with logged_to(self._log_folder / "startup.log"):
            pipeline = self._load()
            self._store = self._open(pipeline)
        self._progress(End())
        self._session = Session.of(self._config, progress=self._progress)
        check_executors(pipeline, self._config.artifacts, self._session)
        self._processes = self._forked([node.pipeline_node.node_info.id for node in pipeline.nodes])
        nodes = needed([node.pipeline_node for node in pipeline.nodes], self._until)
        handlers = [node for node in nodes if final_status.is_exit_handler(node)]
        others = [node for node in nodes if node not in handlers]
        self._skipped = set()
        self._planned = [node.node_info.id for node in (*others, *handlers)]
        self._recorder.plan(self._planned)
        try:
            for nodes in groups(others):
                if self._processes is None or len(nodes) == 1:
                    for node in nodes:
                        self._run_iterations(node, pipeline, self._store)
                    if self._processes and any(result.state == "done" for result in self._results):
                        self._processes.warm_up(_import_for_folds)
                else:
                    self._run_side_by_side(nodes, pipeline, self._store, self._processes)
        except Exception:
            with contextlib.suppress(Exception):  # what failed first is what the run fails with
                self._run_exit_handlers(handlers, pipeline, self._store, state="FAILED")
            raise
        finally:
            if self._processes is not None:
                self._processes.end()
        self._run_exit_handlers(handlers, pipeline, self._store, state="SUCCEEDED")
        self._keep_code_digest()

    def _forked(self, node_ids: Sequence[str]) -> ExecutorProcesses | None:
        """Return processes for folds of cross-validation; None if the folds run in turn."""
        number = folds_at_once(self._config)
        if number == 1 or not any(map(is_of_fold, node_ids)):
            return None
        imports, session = functools.partial(_imports_for, self._config), self._session
        artifacts = self._config.artifacts
        return ExecutorProcesses(
            number, lambda operator_class, spec: OperatorWhenNeeded(operator_class, imports, session, artifacts, spec)
        )

    def _run_side_by_side(
        self, nodes: Sequence[Any], pipeline: Any, store: "MetadataStore", processes: ExecutorProcesses
    ) -> None:
        """Run nodes as soon as those before them have ended, with their executors in processes."""
        total = len(self._planned)
        works = []
        for number, node in enumerate(nodes, start=len(self._results) + 1):
            begins = NodeBegins(number, total, node.node_info.id)
            do = functools.partial(self._run_node, node, pipeline, store, begins, processes)
            works.append(Work(begins.node_id, do, after=node.upstream_nodes))
        try:
            processes.side_by_side(in_best_order(works, processes.number))
        except KeyboardInterrupt:
            with logged_to(self._log_folder / "startup.log"), contextlib.suppress(StorageError):
                self._discard_broken_executions(store)
            raise

    def _run_iterations(self, node: Any, pipeline: Any, store: "MetadataStore") -> None:
        """Run a node, once per artifact if a ForEach goes over several."""
        node_id = node.node_info.id
        found = {node_id: node}
        if not self._skipped.intersection(node.upstream_nodes):
            found = iterations(node, lambda: connection_of(pipeline), run_id=self._run_id)
        if len(found) > 1:
            place = self._planned.index(node_id)
            self._planned[place : place + 1] = found
            self._recorder.plan(self._planned)
        for name, iteration in found.items():
            self._run_node(iteration, pipeline, store, NodeBegins(len(self._results) + 1, len(self._planned), name))

    def _run_exit_handlers(
        self,
        handlers: Sequence[Any],
        pipeline: Any,
        store: "MetadataStore",
        *,
        state: Literal["SUCCEEDED", "FAILED"],
    ) -> None:
        for node in handlers:
            final_status.tell(node, state=state, run_id=self._run_id, pipeline=pipeline.pipeline_info.id)
            begins = NodeBegins(len(self._results) + 1, len(self._planned), node.node_info.id)
            self._run_node(node, pipeline, store, begins)

    def _end(
        self,
        begins: NodeBegins,
        node: Any,
        state: NodeState,
        *,
        started: float,
        outputs: dict[str, list[str]] | None = None,
    ) -> None:
        log_path = self._log_folder / f"{begins.node_id}.log"
        result = NodeResult(begins.node_id, state, time.monotonic() - started, log_path, outputs or {})
        self._progress(NodeEnds(begins.number, begins.total, begins.node_id, state, result.seconds))
        self._recorder.add(result.record(upstream=list(node.upstream_nodes)))
        self._results.append(result)
        if state == "skipped":
            self._skipped.add(node.node_info.id)

    def _examples_properties(self, record: RunRecord) -> dict[str, Any]:
        if self._store is None or record.examples_uri is None:
            return {}
        artifacts = self._store.get_artifacts_by_uri(record.examples_uri)
        return {
            name: getattr(value, value.WhichOneof("value"))
            for artifact in artifacts
            for name, value in artifact.custom_properties.items()
        }

    def _load(self) -> "pipeline_pb2.Pipeline":
        """Return the compiled pipeline."""
        from absl import logging

        logging.set_verbosity(logging.INFO)
        return self._compiled(self._pipeline) if self._pipeline else self._compiled_before() or self._compile()

    def _open(self, pipeline: "pipeline_pb2.Pipeline") -> "MetadataStore":
        """Prepare the pipeline for this run, and return ML Metadata."""
        from ml_metadata import MetadataStore
        from tfx.dsl.compiler.constants import PIPELINE_RUN_ID_PARAMETER_NAME
        from tfx.orchestration.local import runner_utils
        from tfx.orchestration.portable import runtime_parameter_utils

        runtime_parameter_utils.substitute_runtime_parameter(pipeline, {PIPELINE_RUN_ID_PARAMETER_NAME: self._run_id})
        self._code_digest = code_digest()
        if not self._is_cache_of_this_code():
            for node in pipeline.nodes:
                node.pipeline_node.execution_options.caching_options.enable_cache = False
        connection = runner_utils.extract_local_deployment_config(pipeline).metadata_connection_config
        store = MetadataStore(getattr(connection, connection.WhichOneof("connection_config")))
        self._discard_broken_executions(store)
        return store

    def _compiled_before(self) -> "pipeline_pb2.Pipeline | None":
        """Return the pipeline of the last run, if nothing that it is made of has changed.

        Then every node may be in the cache, and TensorFlow is not imported until one is not.
        """
        if any(
            is_url(path) for path in (self._config.data.path, str(self._config.push_path), self._config.artifacts.root)
        ):
            return None
        importlib.import_module("kubetfx.components.report.run_report")  # before TFX, whose modules pydantic looks into
        with deferred_tensorflow():
            pipeline = compiled_pipeline.load(self._config.workspace_path, compiled_pipeline.key_of(self._config))
            if pipeline is not None:
                for module in _MODULES_OF_DRIVERS:
                    importlib.import_module(module)
                gc.freeze()
        return pipeline

    def _compile(self) -> "pipeline_pb2.Pipeline":
        with _imports_for(self._config):
            import tfx.dsl.compiler.compiler  # noqa: F401 - of all that it needs

            from kubetfx.pipeline.chosen_definition import pipeline_of

            gc.freeze()  # a full collection that looks at what is imported takes 0.2 s, several times per run
        pipeline = compile_tfx(pipeline_of(self._config))
        compiled_pipeline.save(self._config.workspace_path, compiled_pipeline.key_of(self._config), pipeline)
        return pipeline

    def _compiled(self, pipeline: "Pipeline") -> "pipeline_pb2.Pipeline":
        """Return a pipeline that was handed over, in the workspace of the config."""
        from kubetfx.pipeline.placement import in_workspace

        return compile_tfx(in_workspace(pipeline, self._config))

    def _keep_code_digest(self) -> None:
        """Note that all that is in the cache was made by this code."""
        (self._config.workspace_path / _CODE_DIGEST).write_text(self._code_digest)

    def _is_cache_of_this_code(self) -> bool:
        """Return whether the cache was filled by this code.

        TFX's cache keys cover inputs and properties, but not code.
        """
        path = self._config.workspace_path / _CODE_DIGEST
        if not path.is_file():
            path.write_text(self._code_digest)
        return path.read_text() == self._code_digest

    def _broken_executions(self, store: "MetadataStore") -> "list[metadata_store_pb2.Execution]":
        """Return what a killed run left RUNNING: no other process uses the workspace."""
        from ml_metadata.proto import metadata_store_pb2

        unfinished = (metadata_store_pb2.Execution.NEW, metadata_store_pb2.Execution.RUNNING)
        return [execution for execution in store.get_executions() if execution.last_known_state in unfinished]

    def _discard_broken_executions(self, store: "MetadataStore") -> None:
        """Mark what was killed as failed, and delete the outputs that it left half written."""
        from ml_metadata.proto import metadata_store_pb2

        broken = self._broken_executions(store)
        for execution in broken:
            execution.last_known_state = metadata_store_pb2.Execution.FAILED
            for folder in self._config.artifacts.of_execution(execution.id):
                self._config.artifacts.remove(folder)
        if broken:
            store.put_executions(broken)

    def _run_node(
        self,
        node: Any,
        pipeline: Any,
        store: "MetadataStore",
        begins: NodeBegins,
        processes: ExecutorProcesses | None = None,
    ) -> None:
        node_id = begins.node_id
        log_path = self._log_folder / f"{node_id}.log"
        started = time.monotonic()
        self._progress(begins)

        end = functools.partial(self._end, begins, node, started=started)
        if self._skipped.intersection(node.upstream_nodes):
            end("skipped")
            return
        try:
            logged = processes.turns.logged_to(log_path) if processes else logged_to(log_path)
            with reported_to(self._progress), logged:
                imports = functools.partial(_imports_for, self._config)
                execution_id = launch(
                    node,
                    pipeline,
                    imports=imports,
                    session=self._session,
                    artifacts=self._config.artifacts,
                    processes=processes,
                    turn=self._turn,
                )
        except KubetfxError:
            end("failed")
            raise
        except KeyboardInterrupt:
            with logged_to(log_path), contextlib.suppress(StorageError):  # else the next run does it
                self._discard_broken_executions(store)
            end("interrupted")
            raise
        except Exception as error:
            with contextlib.suppress(OSError), log_path.open("a") as log:  # the disk may be full
                traceback.print_exc(file=log)
            end("failed")
            reason = explained(error, *self._places, node=node_id) or root_cause(error)
            raise NodeFailedError(node_id, redacted(reason), log_path=log_path) from error
        if not execution_id:
            end("skipped")
            return
        state = state_of(execution_id, store)
        if state is None:
            end("failed")
            raise NodeFailedError(node_id, "its inputs could not be resolved", log_path=log_path)
        outputs = outputs_of(execution_id, store)
        end(state, outputs=outputs)
        if state == "done" and "pushed_model" in outputs:
            self._recorder.pushed(self._pushed_version())

    def _pushed_version(self) -> int | None:
        return self._version_of("pushed_version")

    def _waiting_version(self) -> int | None:
        return self._version_of("waiting_version")

    def _version_of(self, name: str) -> int | None:
        uris = [uri for result in self._results for uri in result.outputs.get("pushed_model", ())]
        if not uris or self._store is None:
            return None
        (artifact,) = self._store.get_artifacts_by_uri(uris[-1])
        properties = artifact.custom_properties
        version = properties[name].string_value if name in properties else ""
        return int(version) if version else None  # None: TFX's own Pusher, of a model that was not blessed


def compile_tfx(pipeline: "Pipeline") -> "pipeline_pb2.Pipeline":
    """Compile a TFX pipeline as TFX does, with its exit handlers marked.

    Args:
        pipeline: any.

    Returns:
        TFX's message.

    Raises:
        UsageError: there is a pipeline inside of it.
    """
    from tfx.dsl.compiler.compiler import Compiler

    final_status.mark(pipeline)
    compiled = Compiler().compile(pipeline)
    inner = [node.sub_pipeline.pipeline_info.id for node in compiled.nodes if node.WhichOneof("node") == "sub_pipeline"]
    if inner:
        raise UsageError(
            f"A pipeline inside of a pipeline is not run. Received: {inner[0]} in {pipeline.id}. Put its components "
            "into the outer one."
        )
    return compiled


def _import_for_folds() -> None:
    importlib.import_module(_MODULE_OF_FOLDS)


def _imports_for(config: PipelineConfig) -> contextlib.AbstractContextManager[None]:
    """Import no more than the nodes of a config need while the context lasts. TensorFlow is imported."""
    if config.beam.command_line:
        return _imports_with_beam()
    return imports_without_beam(may_use=("sklearn",) if config.own_modules else ())  # keras.wrappers has a use for it


@contextlib.contextmanager
def _imports_with_beam() -> Iterator[None]:
    tensorflow_is_needed()
    with uncollected():
        _ = importlib.import_module("tfx.components").Evaluator  # executes the package, which makes TFMA whole
        with spared_imports({"kubetfx.components.evaluator"}):
            yield
