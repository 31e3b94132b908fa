"""A recurring run on Kubeflow that decides first whether there is a reason for it (`retrain`)."""

from tfx.dsl.experimental.conditionals.conditional import Cond
from tfx.types.channel import BaseChannel

from kubetfx.components.retrain_gate import RETRAIN, RetrainEnd, RetrainGate
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import ConfigError
from kubetfx.pipeline.definition import Definition


class GatedDefinition(Definition):
    """All of the pipeline is under the condition that RetrainGate has found a reason."""

    def __init__(self, config: PipelineConfig, *, in_cluster: bool = False) -> None:
        """Check that what `retrain` asks for can be known in a pod.

        Args:
            config: with the section `retrain`.
            in_cluster: whether its nodes become tasks.

        Raises:
            ConfigError: drift is asked for, which is known where the workspace is.
        """
        super().__init__(config, in_cluster=in_cluster)
        if config.retrain and "drift" in config.retrain.on:
            raise ConfigError(
                "retrain: drift is found where the runs are recorded, in a workspace, and a recurring run on Kubeflow "
                f"has none. Received: on: [{', '.join(config.retrain.on)}]. Leave drift out of the recurring run, and "
                "let a CronJob watch (docs/continuous.md)."
            )

    def add_all(self) -> None:
        """Call all steps under a condition."""
        place = str(self.config.push_path)
        gate = self.add(RetrainGate(retrain=self.config.retrain, data=self.config.data, push_directory=place))
        with Cond(gate.outputs["decision"].future()[0].custom_property(RETRAIN) == 1):
            super().add_all()

    def report(self, channels: dict[str, BaseChannel]) -> BaseChannel:
        """Add Report, and RetrainEnd after it.

        Args:
            channels: by the input of the component Report.

        Returns:
            The report.
        """
        report = super().report(channels)
        self.add(RetrainEnd(report=report, push_directory=str(self.config.push_path)))
        return report
