"""Transform: TFX's component with the schema available to preprocessing_fn, and the analysis as work on blocks.

Only the analysis is done: the Trainer and the SavedModel apply the graph themselves. TFX's cache of analyzers stays
empty, since nothing reads it. A request for more outputs, or an analyzer that components/data/analysis.py does not
know, uses TFX's executor on Beam. Features that a search found come with the schema.
"""

import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from absl import logging
from tfx.components.transform import component as tfx_transform
from tfx.components.transform import executor as tfx_executor
from tfx.components.transform import labels
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import json_utils

from kubetfx.artifacts import SCHEMA, TRAIN
from kubetfx.components.data import analysis, beam_mode, block_work, tfx_patches
from kubetfx.components.data.analysis_graphs import Unsupported
from kubetfx.components.data.span_work import run_by_span
from kubetfx.components.declaration import Artifacts
from kubetfx.engine.shared_places import refuse
from kubetfx.models.examples import files_in, row_groups
from kubetfx.models.features import read_schema, searched_features


class Executor(tfx_executor.Executor):
    """Adds `schema_path` to the custom config that preprocessing_fn receives.

    The schema says what columns are used for. It may contain the section `features` that a search found, which takes
    precedence over the config's.
    """

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the component."""
        if _only_analyzes(input_dict, output_dict, exec_properties):
            self._log_startup(input_dict, output_dict, exec_properties)
            try:
                self._analyze(input_dict, output_dict, exec_properties)
                return
            except Unsupported as reason:
                logging.warning("tf.Transform analyzes the data on Beam: the analyzer %s is known to it alone.", reason)
        refuse("tf.Transform reads and writes files in its Beam pipelines")
        beam_mode.prepare_workers(self._beam_pipeline_args)
        with tfx_patches.parquet_read():
            super().Do(input_dict, output_dict, exec_properties)

    def _analyze(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        folder = artifact_utils.get_single_uri(input_dict[standard_component_specs.SCHEMA_KEY])
        schema_path = str(Path(folder) / SCHEMA)
        schema = read_schema(schema_path)
        keys = standard_component_specs
        sources = {
            labels.MODULE_FILE: exec_properties.get(keys.MODULE_FILE_KEY),
            labels.MODULE_PATH: exec_properties.get(keys.MODULE_PATH_KEY),
            labels.PREPROCESSING_FN: exec_properties.get(keys.PREPROCESSING_FN_KEY),
            labels.CUSTOM_CONFIG: exec_properties.get(keys.CUSTOM_CONFIG_KEY),
            labels.SCHEMA_PATH_LABEL: schema_path,
        }
        examples = artifact_utils.get_single_instance(input_dict[keys.EXAMPLES_KEY])
        groups = [group for group, _ in row_groups(files_in(artifact_utils.get_split_uri([examples], TRAIN)))]
        output = Path(artifact_utils.get_single_uri(output_dict[keys.TRANSFORM_GRAPH_KEY]))
        output.mkdir(parents=True, exist_ok=True)
        asked = (Path(schema_path).read_bytes(), *sorted(exec_properties.items()))
        with tempfile.TemporaryDirectory(prefix=".analysis-", dir=output) as temporary:
            run = functools.partial(block_work.run, executor=self, folder=Path(temporary))

            def run_phase(phase: analysis.Phase) -> list[Any]:
                if not phase.is_first:  # what it looks for in a span depends on the others
                    return run(phase, groups)
                return run_by_span(
                    phase,
                    groups,
                    kind="analysis",
                    examples=Path(examples.uri),
                    output=str(output),
                    describe=lambda group: (group, asked),
                    run=run,
                )

            analysis.analyze(
                self._GetPreprocessingFn(sources, {}),
                schema,
                run=run_phase,
                output=output,
                temporary=Path(temporary),
            )

    def _GetPreprocessingFn(self, inputs: Mapping[str, Any], unused_outputs: Mapping[str, Any]) -> Callable[..., Any]:
        custom_config = json_utils.loads(inputs[labels.CUSTOM_CONFIG])
        schema_path = inputs[labels.SCHEMA_PATH_LABEL]
        custom_config["schema_path"] = schema_path
        if (searched := searched_features(read_schema(schema_path))) is not None:
            custom_config["features"] = searched
        inputs = {**inputs, labels.CUSTOM_CONFIG: json_utils.dumps(custom_config)}
        function: Callable[..., Any] = super()._GetPreprocessingFn(inputs, unused_outputs)
        return function


def _only_analyzes(
    input_dict: Mapping[str, Any], output_dict: Mapping[str, Any], exec_properties: Mapping[str, Any]
) -> bool:
    """Return whether only the split `train` of one artifact is analyzed.

    Neither statistics nor transformed examples are asked for then.
    """
    keys = standard_component_specs
    return (
        len(input_dict[keys.EXAMPLES_KEY]) == 1
        and not exec_properties.get(keys.SPLITS_CONFIG_KEY)
        and bool(exec_properties.get(keys.DISABLE_STATISTICS_KEY))
        and keys.TRANSFORMED_EXAMPLES_KEY not in output_dict
    )


class Transform(tfx_transform.Transform):
    """TFX's Transform whose preprocessing_fn has the schema.

    preprocessing_fn(inputs, custom_config) finds it at custom_config["schema_path"].
    """

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
