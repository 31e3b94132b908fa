"""Sets where a pipeline keeps its outputs, and which engine processes its data."""

from pathlib import Path

from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.components.base import executor_spec
from tfx.orchestration import data_types
from tfx.orchestration.pipeline import Pipeline

from kubetfx.config.pipeline import PipelineConfig
from kubetfx.workspace import METADATA


def with_engine(pipeline: Pipeline, config: PipelineConfig) -> Pipeline:
    """Tell the components of a pipeline which engine goes through the data: for whoever does not run it here.

    Args:
        pipeline: which is changed.
        config: The config of the pipeline.

    Returns:
        The same pipeline.
    """
    line = config.beam.command_line
    for component in pipeline.components:
        if isinstance(component.executor_spec, executor_spec.BeamExecutorSpec):
            own = component.executor_spec.beam_pipeline_args
            if own[: len(line)] != line:  # a pipeline may be compiled twice
                component.executor_spec.beam_pipeline_args = [*line, *own]
    return pipeline


def in_workspace(pipeline: Pipeline, config: PipelineConfig) -> Pipeline:
    """Let a pipeline keep its artifacts and their metadata in the workspace of a config.

    Args:
        pipeline: which is changed.
        config: The config of the pipeline.

    Returns:
        The same pipeline.
    """
    root = config.artifacts.root
    pipeline.pipeline_info = data_types.PipelineInfo(pipeline_name=pipeline.id, pipeline_root=root)
    pipeline.metadata_connection_config = _metadata_in(config.workspace_path)
    return pipeline


def _metadata_in(workspace: Path) -> metadata_store_pb2.ConnectionConfig:
    """ML Metadata in a workspace. TFX's own function also makes the folder, which compiling a package must not."""
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = str(workspace / METADATA)
    config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    return config
