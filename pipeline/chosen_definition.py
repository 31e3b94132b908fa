"""Chooses the pipeline of a config: kubetfx's, kubetfx's behind a gate, or the user's."""

from tfx.orchestration.pipeline import Pipeline

from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import ConfigError
from kubetfx.pipeline.definition import Definition
from kubetfx.pipeline.gated_definition import GatedDefinition
from kubetfx.pipeline.placement import in_workspace
from kubetfx.user_code import importable, load_object


def pipeline_of(config: PipelineConfig, *, in_cluster: bool = False, retrain_gate: bool = False) -> Pipeline:
    """Make the pipeline of a config.

    Args:
        config: The config of the pipeline.
        in_cluster: Whether it is made for Kubeflow Pipelines.
        retrain_gate: Whether a gate first decides if there is a reason to run.

    Returns:
        The pipeline, in the workspace of the config.

    Raises:
        ConfigError: the frozen schema or a module of the user's cannot be read, or the definition makes no pipeline.
    """
    with importable(config.folder):
        if config.definition is None:
            ours = GatedDefinition if retrain_gate else Definition
            return ours(config, in_cluster=in_cluster).pipeline()
        pipeline = load_object(config.definition, key="definition")(config)
    if not isinstance(pipeline, Pipeline):
        raise ConfigError(
            f"definition makes a tfx.dsl.Pipeline out of the config. Received: {type(pipeline).__name__} from "
            f"{config.definition}. Return the pipeline."
        )
    return in_workspace(pipeline, config)
