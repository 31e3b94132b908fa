"""The driver of ExampleGen: finds the data, and whether it has changed since the last run.

It is separate from the executor because a run in which every node comes from the cache only imports drivers.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format, wrappers_pb2
from tfx.components.example_gen import driver, utils
from tfx.proto import example_gen_pb2
from tfx.types import standard_component_specs
from tfx.utils import proto_utils

from kubetfx.components.data import tfx_filesystem
from kubetfx.components.data.example_reader import ALL, ExampleReader
from kubetfx.components.data.image_folder import ImageFolderReader
from kubetfx.components.data.span_store import SpanStore
from kubetfx.components.data.table_reader import TableReader
from kubetfx.config.data_section import DataConfig, FeaturesConfig

FEATURES = "features"
"""Key of the columns that `features` names, beside those of the section `data` in the component's custom config."""


class Driver(driver.FileBasedDriver):
    """TFX's driver, which finds files by `data.path` alone.

    The path is resolved where the node runs: the machine that assembles a pipeline may not see the data.
    """

    def resolve_exec_properties(
        self, exec_properties: dict[str, Any], pipeline_info: Any, component_info: Any
    ) -> dict[str, Any]:
        """Set base, pattern, span, version and fingerprint.

        Args:
            exec_properties: The exec properties of the component.
            pipeline_info: not used.
            component_info: not used.

        Returns:
            The properties, completed.

        Raises:
            DataError: the path matches no file.
        """
        reader, _ = reader_of(exec_properties)
        if (files := reader.files()) is None:
            known = {utils.SPAN_PROPERTY_NAME: 0, utils.VERSION_PROPERTY_NAME: None}
            return {**exec_properties, **known, utils.FINGERPRINT_PROPERTY_NAME: reader.fingerprint()}
        tfx_filesystem.register()  # TFX looks for the files too, and uses their sizes and times as a fingerprint
        inputs = input_config(files.patterns)
        resolved = {
            **exec_properties,
            standard_component_specs.INPUT_BASE_KEY: files.folder,
            standard_component_specs.INPUT_CONFIG_KEY: proto_utils.proto_to_json(inputs),
        }
        found: dict[str, Any] = super().resolve_exec_properties(resolved, pipeline_info, component_info)
        found[utils.FINGERPRINT_PROPERTY_NAME] += reader.fingerprint()
        if ALL not in files.patterns:  # the executor needs to know the spans, and where to look for them
            path = exec_properties[standard_component_specs.INPUT_BASE_KEY]
            of_newest = {utils.SPAN_PROPERTY_NAME: files.span, utils.VERSION_PROPERTY_NAME: files.version}
            found |= {standard_component_specs.INPUT_BASE_KEY: path, **of_newest}
        return found


def reader_of(
    exec_properties: dict[str, Any],
    *,
    patterns: Mapping[str, str] | None = None,
    store: SpanStore | None = None,
) -> tuple[ExampleReader, DataConfig]:
    """Make the reader of a component.

    Args:
        exec_properties: The exec properties of the component.
        patterns: The patterns of the files of a table, once the driver has resolved them.
        store: The store of the workspace, where spans that were read before are.

    Returns:
        The reader; and the section `data`, without splits and schema file.
    """
    path = exec_properties[standard_component_specs.INPUT_BASE_KEY]
    data, features = _unpack(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY], path)
    if data.format == "images":
        return ImageFolderReader(data), data
    if patterns is None or data.source or data.splits.files:
        return TableReader(data, features), data
    if ALL in patterns:
        data = data.model_copy(update={"path": os.path.join(data.path, patterns[ALL])})
        return TableReader(data, features), data
    return TableReader(data, features, spans=frozenset(patterns.values()), store=store), data


def input_config(patterns: Mapping[str, str]) -> example_gen_pb2.Input:
    """Describe the input for TFX: its splits are spans here, whose rows kubetfx assigns to splits.

    Args:
        patterns: The globs below the base, by name.

    Returns:
        The description.
    """
    splits = [example_gen_pb2.Input.Split(name=name, pattern=pattern) for name, pattern in patterns.items()]
    return example_gen_pb2.Input(splits=splits)


def _unpack(custom_config_json: str, path: str) -> tuple[DataConfig, FeaturesConfig]:
    """Return what the component packed: the section `data`, and the columns that `features` names."""
    value = wrappers_pb2.StringValue()
    json_format.Parse(custom_config_json, example_gen_pb2.CustomConfig()).custom_config.Unpack(value)
    document = json.loads(value.value)
    features = FeaturesConfig.model_validate(document.pop(FEATURES, {}))
    return DataConfig.model_validate({**document, "path": path}), features
