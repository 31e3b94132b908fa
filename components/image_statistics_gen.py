"""StatisticsGen for images: TFX's, over what is known of each image, and not over its bytes."""

from typing import Any

import tensorflow_data_validation as tfdv
from tfx import types
from tfx.components.statistics_gen import component as tfx_statistics_gen
from tfx.components.statistics_gen import executor as tfx_executor
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils, standard_component_specs

from components import table_profile


class Executor(tfx_executor.Executor):
    """Leaves out the encoded bytes: each is another one, and counting them would hold them all in memory."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Run the component."""
        examples = artifact_utils.get_single_instance(input_dict[standard_component_specs.EXAMPLES_KEY])
        options = tfdv.StatsOptions(feature_allowlist=table_profile.read(examples).names)
        key = standard_component_specs.STATS_OPTIONS_JSON_KEY
        super().Do(input_dict, output_dict, {**exec_properties, key: options.to_json()})


class StatisticsGen(tfx_statistics_gen.StatisticsGen):
    """TFX's StatisticsGen without the encoded bytes of images."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
