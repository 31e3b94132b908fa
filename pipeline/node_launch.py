"""How a node runs on this machine.

TFX's launcher asks the cache, has the executor work, and records both in ML Metadata.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kubetfx.artifact_store import ArtifactStore
from kubetfx.engine.session import Session
from kubetfx.engine.shared_places import why_refused
from kubetfx.errors import UsageError
from kubetfx.pipeline.node_files import DriverHere, run_here
from kubetfx.pipeline.run_result import NodeState
from kubetfx.pipeline.side_by_side import ExecutorProcesses, OperatorElsewhere, UnwatchedOperator
from kubetfx.storage import patiently
from kubetfx.workspace import Turn

if TYPE_CHECKING:  # importing TFX takes seconds
    from ml_metadata import MetadataStore


def connection_of(pipeline: Any) -> Any:
    """Return TFX's connection to ML Metadata.

    Args:
        pipeline: TFX's, compiled.
    """
    from tfx.orchestration import metadata
    from tfx.orchestration.local import runner_utils

    connection = runner_utils.extract_local_deployment_config(pipeline).metadata_connection_config
    return metadata.Metadata(getattr(connection, connection.WhichOneof("connection_config")))


def launch(
    node: Any,
    pipeline: Any,
    *,
    imports: Callable[[], contextlib.AbstractContextManager[None]],
    session: Session,
    artifacts: ArtifactStore,
    processes: ExecutorProcesses | None,
    turn: Turn | None = None,
) -> int:
    """Let TFX execute a node, or find it in the cache.

    Args:
        node: of the pipeline.
        pipeline: TFX's, compiled.
        imports: a context to import executors in.
        session: The session of the engine that goes through the data.
        artifacts: Where artifacts are.
        processes: that run the executor; None: this one does.
        turn: that this process has, and gives away while the executor works; None: there are no others.

    Returns:
        The id of the execution; 0 where a condition did not hold.
    """
    from tfx.orchestration.local import runner_utils
    from tfx.orchestration.portable.launcher import DEFAULT_DRIVER_OPERATORS, DEFAULT_EXECUTOR_OPERATORS, Launcher

    drivers: dict[Any, Callable[..., Any]] = {}
    if artifacts.bucket is not None:
        from kubetfx.components.data import tfx_filesystem

        tfx_filesystem.register()  # the launcher looks whether outputs in the cache are there
        drivers = {
            spec: functools.partial(DriverHere, cls, artifacts) for spec, cls in DEFAULT_DRIVER_OPERATORS.items()
        }

    def operator_of(operator_class: type) -> Callable[..., Any]:
        if processes:
            return functools.partial(OperatorElsewhere, operator_class, processes)
        here = functools.partial(OperatorWhenNeeded, operator_class, imports, session, artifacts)
        return functools.partial(OperatorOutOfTurn, here, turn) if turn else here

    deployment = runner_utils.extract_local_deployment_config(pipeline)
    launcher = Launcher(
        pipeline_node=node,
        mlmd_connection=connection_of(pipeline),
        pipeline_info=pipeline.pipeline_info,
        pipeline_runtime_spec=pipeline.runtime_spec,
        executor_spec=runner_utils.extract_executor_spec(deployment, node.node_info.id),
        custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node.node_info.id),
        custom_driver_operators=drivers,
        custom_executor_operators={spec: operator_of(cls) for spec, cls in DEFAULT_EXECUTOR_OPERATORS.items()},
    )
    with patiently() if artifacts.bucket else contextlib.nullcontext():
        execution_info = launcher.launch()
    assert execution_info is not None  # only for TFX's system nodes, which we have none of
    return int(execution_info.execution_id or 0)


def check_executors(pipeline: Any, artifacts: ArtifactStore, session: Session) -> None:
    """Refuse executors that give paths to workers who do not see them.

    Args:
        pipeline: TFX's, compiled.
        artifacts: Where artifacts are.
        session: The session of the engine that goes through the data.

    Raises:
        UsageError: an executor that is not kubetfx's runs on an engine, and artifacts are in a bucket.
    """
    from tfx.orchestration.local import runner_utils
    from tfx.proto.orchestration.executable_spec_pb2 import BeamExecutableSpec

    if artifacts.bucket is None or not session.engine.is_elsewhere:
        return
    deployment = runner_utils.extract_local_deployment_config(pipeline)
    for node in pipeline.nodes:
        node_id = node.pipeline_node.node_info.id
        spec = runner_utils.extract_executor_spec(deployment, node_id)
        if isinstance(spec, BeamExecutableSpec) and (
            why := why_refused(node_id, spec.python_executor_spec.class_path, session.engine, unseen="this machine's")
        ):
            raise UsageError(
                f"{why}, and a workspace in a bucket, {artifacts.bucket}. Set the workspace to a folder that the "
                "workers mount, or leave `beam` out."
            )


class OperatorWhenNeeded:
    """TFX's operator of an executor, which imports the executor when it is made.

    Here it is made only for a node that is not in the cache.

    Only here an executor learns of the engine: where the data is gone through is not part of the cache's key.
    """

    def __init__(
        self,
        operator_class: type,
        imports: Callable[[], contextlib.AbstractContextManager[None]],
        session: Session,
        artifacts: ArtifactStore,
        executor_spec: Any,
        platform_config: Any = None,
    ) -> None:
        """Remember what to run.

        Args:
            operator_class: The operator class of TFX.
            imports: a context to import the executor in.
            session: The session of the engine that goes through the data.
            artifacts: Where artifacts are.
            executor_spec: TFX's specification of the executor.
            platform_config: what TFX hands over besides.
        """
        self._imports = imports
        self._session = session
        self._artifacts = artifacts
        self._make = functools.partial(operator_class, executor_spec=executor_spec, platform_config=platform_config)

    @functools.cached_property
    def _operator(self) -> Any:
        with self._imports():
            return self._make()

    def with_execution_watcher(self, address: str) -> Any:
        """Pass the address of TFX's execution watcher on.

        Args:
            address: host and port.

        Returns:
            The operator.
        """
        return self._operator.with_execution_watcher(address)

    def run_executor(self, execution_info: Any) -> Any:
        """Execute the node.

        Args:
            execution_info: of TFX: inputs, outputs and properties.

        Returns:
            What the executor says about its outputs.
        """
        operator = self._operator
        if not hasattr(operator, "beam_pipeline_args"):
            return run_here(self._artifacts, execution_info, operator.run_executor)
        own = [argument.value.string_value for argument in operator.beam_pipeline_args]  # of the component itself
        arguments = self._session.with_own(own)
        operator.beam_pipeline_args = [_as_placeholder(argument) for argument in arguments]
        make_pipeline = self._session.pipelines(arguments)
        run = functools.partial(operator.run_executor, make_beam_pipeline_fn=make_pipeline)
        return run_here(self._artifacts, execution_info, run, has_workers=make_pipeline is not None)


class OperatorOutOfTurn(UnwatchedOperator):
    """TFX's operator of an executor, which is imported and works while other processes may have their turn."""

    def __init__(
        self, make_operator: Callable[..., Any], turn: Turn, executor_spec: Any, platform_config: Any = None
    ) -> None:
        """Remember what to run.

        Args:
            make_operator: makes the operator.
            turn: that this process has.
            executor_spec: TFX's specification of the executor.
            platform_config: what TFX hands over besides.
        """
        self._make = functools.partial(make_operator, executor_spec, platform_config)
        self._turn = turn

    def run_executor(self, execution_info: Any) -> Any:
        """Execute the node.

        Args:
            execution_info: of TFX: inputs, outputs and properties.

        Returns:
            What the executor says about its outputs.
        """
        with self._turn.released():
            return self._make().run_executor(execution_info)


def _as_placeholder(argument: str) -> Any:
    from tfx.proto.orchestration import placeholder_pb2

    expression = placeholder_pb2.PlaceholderExpression()
    expression.value.string_value = argument
    return expression


def state_of(execution_id: int, store: "MetadataStore") -> NodeState | None:
    """Return how an execution ended; None where it did not come so far.

    Args:
        execution_id: in ML Metadata.
        store: The store of ML Metadata.
    """
    from ml_metadata.proto.metadata_store_pb2 import Execution

    states: dict[int, NodeState] = {Execution.COMPLETE: "done", Execution.CACHED: "cached"}
    executions = store.get_executions_by_id([execution_id])
    return states.get(executions[0].last_known_state) if executions else None


def outputs_of(execution_id: int, store: "MetadataStore") -> dict[str, list[str]]:
    """Return the URIs of what an execution wrote, by output key.

    Args:
        execution_id: in ML Metadata.
        store: The store of ML Metadata.
    """
    from ml_metadata.proto.metadata_store_pb2 import Event

    keys = {
        event.artifact_id: event.path.steps[0].key
        for event in store.get_events_by_execution_ids([execution_id])
        if event.type == Event.OUTPUT
    }
    outputs: dict[str, list[str]] = {}
    for artifact in store.get_artifacts_by_id(list(keys)):
        outputs.setdefault(keys[artifact.id], []).append(artifact.uri)
    return outputs
