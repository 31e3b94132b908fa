"""The node that sends a run to MLflow, in a cluster; and the config as tasks there keep it."""

from collections.abc import Callable, Mapping

from tfx.dsl.components.base.base_node import BaseNode
from tfx.types.channel import BaseChannel

from kubetfx.config.pipeline import PipelineConfig
from kubetfx.provenance import packed


def written(config: PipelineConfig) -> str:
    """Return the config for records, without defaults, which the version of kubetfx says.

    Args:
        config: The config of the pipeline.
    """
    return packed(config.model_dump(mode="json", exclude_defaults=True, by_alias=True))


def add_tracker(
    config: PipelineConfig,
    report: BaseChannel,
    channels: Mapping[str, BaseChannel],
    *,
    add: Callable[[BaseNode], BaseNode],
) -> None:
    """Add Tracker.

    Args:
        config: The config of the pipeline.
        report: output of the component Report.
        channels: `model` and `pushed_model`.
        add: makes a component part of the pipeline.
    """
    from kubetfx.components.tracker import Tracker

    of_run = {name: channels[name] for name in ("model", "pushed_model")}
    add(Tracker(report=report, tracking=config.tracking, config=written(config), **of_run))
