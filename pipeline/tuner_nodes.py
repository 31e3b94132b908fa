"""The nodes of a search: one Tuner, whose processes share a machine; in a cluster several, and BestTrial."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from tfx.dsl.components.base.base_node import BaseNode
from tfx.types.channel import BaseChannel
from tfx.utils import json_utils

from kubetfx.components.best_trial import INPUT_OF, BestFeaturesTrial, BestTrial
from kubetfx.components.evaluation.metric_registry import find_metric
from kubetfx.components.tuner import FeaturesTuner, Tuner
from kubetfx.config import tunable_keys
from kubetfx.config.metric_catalogue import is_reference
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import ConfigError
from kubetfx.pipeline.fan_out import fan_out

Node = TypeVar("Node", bound=BaseNode)


class Definition(Protocol):
    """The definition of a pipeline, to which nodes are added."""

    in_cluster: bool
    """Whether trials at the same time are tasks, and not processes of one."""

    def add(self, component: Node) -> Node:
        """Make a component part of the pipeline.

        Args:
            component: any TFX component.

        Returns:
            The same component.
        """


def add_tuner(
    config: PipelineConfig,
    channels: Mapping[str, BaseChannel],
    *,
    training_config: Mapping[str, Any],
    validation_split: str,
    definition: Definition,
) -> dict[str, BaseChannel]:
    """Add the nodes of a search.

    Args:
        config: with the section `tuning`.
        channels: by input of the Tuner.
        training_config: what a training reads of the config.
        validation_split: by which trials are judged.
        definition: of the pipeline.

    Returns:
        `hyperparameters` and `results`; and where keys of `features` are searched, `schema` and `transform_graph`.

    Raises:
        ConfigError: several tasks would have no study together.
    """
    tuning = config.tuning
    assert tuning is not None
    of_features = any(key.startswith("features.") for key in tuning.search)
    metric, better = tunable_keys.metric_of(config)
    one_network = {  # is what a trial trains
        **training_config,
        "model": {**training_config["model"], "ensemble": 1},
        "training": {**training_config["training"], "warm_start": None},
    }
    properties: dict[str, Any] = {
        "tuning": tuning,
        "custom_config": json_utils.dumps(one_network),
        "metric": metric,
        "better": find_metric(metric, task=config.model.task).better if is_reference(metric) else better,
        "task": config.model.task,
        "validation_split": validation_split,
        "pipeline_name": config.name,
    }

    def tuner(index: int | None = None) -> BaseNode:
        made = FeaturesTuner if of_features else Tuner
        return definition.add(made(**channels, **properties, index=index).with_id("Tuner"))

    if tuning.parallel == 1 or not definition.in_cluster:
        outputs = dict(tuner().outputs)
    else:
        if tuning.storage is None:
            raise ConfigError(
                "tuning.parallel: tasks on Kubeflow pull trials from a database that all of them reach. Received: "
                f"tuning.parallel: {tuning.parallel}, and no tuning.storage. Name one, for example tuning.storage: "
                "postgresql://USER:${PASSWORD}@HOST/NAME, or set tuning.parallel: 1."
            )
        found = fan_out(tuner, tuning.parallel).outputs
        inputs = {INPUT_OF[key]: channel for key, channel in found.items()}
        made = BestFeaturesTrial if of_features else BestTrial
        outputs = dict(definition.add(made(**inputs).with_id("BestTrial")).outputs)
    of_best = {
        "results": "tuner_results",
        "hyperparameters": "best_hyperparameters",
        "schema": "best_schema",
        "transform_graph": "best_transform_graph",
    }
    return {name: outputs[key] for name, key in of_best.items() if key in outputs}
