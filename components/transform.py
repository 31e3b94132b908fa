"""Transform: TFX's, with the schema in reach of preprocessing_fn."""

from collections.abc import Callable, Mapping
from typing import Any

from tfx.components.transform import component as tfx_transform
from tfx.components.transform import executor as tfx_executor
from tfx.components.transform import labels
from tfx.dsl.components.base import executor_spec
from tfx.utils import json_utils


class Executor(tfx_executor.Executor):
    """Adds `schema_path` to the custom config that preprocessing_fn receives: the schema says what columns are used
    for."""

    def _GetPreprocessingFn(self, inputs: Mapping[str, Any], unused_outputs: Mapping[str, Any]) -> Callable[..., Any]:
        custom_config = json_utils.loads(inputs[labels.CUSTOM_CONFIG])
        custom_config["schema_path"] = inputs[labels.SCHEMA_PATH_LABEL]
        inputs = {**inputs, labels.CUSTOM_CONFIG: json_utils.dumps(custom_config)}
        return super()._GetPreprocessingFn(inputs, unused_outputs)


class Transform(tfx_transform.Transform):
    """TFX's Transform whose preprocessing_fn(inputs, custom_config) finds the schema at
    custom_config["schema_path"]."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
