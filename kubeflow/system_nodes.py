"""Executors for what TFX itself does with ML Metadata, which a cluster does not have: Importer and Resolver."""

import json
import os
import re
from typing import Any

from absl import logging
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.value_artifact import ValueArtifact
from tfx.utils import path_utils

from components import push_directory, tfx_filesystem
from pipeline.errors import DataError
from pipeline.storage import locate


class ImporterExecutor(base_executor.BaseExecutor):
    """Copies what an Importer names into the run's artifacts, from where every later task can take it."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Run the node.

        Raises:
            DataError: there is nothing at `artifact_uri`.
        """
        tfx_filesystem.register()
        source = exec_properties["artifact_uri"]
        (artifacts,) = output_dict.values()
        target = artifact_utils.get_single_uri(artifacts)
        if not fileio.exists(source):
            raise DataError(
                f"An Importer finds nothing to import. Received: {source}. Mount the volume that holds it, or name a "
                "place that this container can read."
            )
        if isinstance(artifacts[0], ValueArtifact) or not fileio.isdir(source):
            name = "" if isinstance(artifacts[0], ValueArtifact) else os.path.basename(source)
            fileio.copy(source, os.path.join(target, name) if name else target, overwrite=True)
            return
        copy_folder(source, target)


class LatestPushedModelExecutor(base_executor.BaseExecutor):
    """TFX's LatestBlessedModelStrategy without ML Metadata: the newest version where the pipeline pushes to.

    Nothing is pushed that was not blessed, so the newest version is the latest blessed model that clients get.
    """

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Run the node. Without a version the output channels stay empty."""
        directory = exec_properties.get("push_directory") or push_directory_of(exec_properties["push_destination"])
        tfx_filesystem.register()
        versions = _versions(directory)
        if not versions:
            logging.info("No version is pushed to %s: there is no latest blessed model.", directory)
            for artifacts in output_dict.values():
                artifacts.clear()
            return
        for artifacts in output_dict.values():
            artifact = artifact_utils.get_single_instance(artifacts)
            artifact.set_int_custom_property("version", versions[-1])
            if artifact.type_name == "Model":
                copy_folder(os.path.join(directory, str(versions[-1])), path_utils.serving_model_dir(artifact.uri))
            else:
                artifact.set_int_custom_property("blessed", 1)
                fileio.open(os.path.join(artifact.uri, "BLESSED"), "w").close()
        logging.info("Latest blessed model: version %d.", versions[-1])


def _versions(directory: str) -> list[int]:
    if directory.startswith(tuple(tfx_filesystem.ObjectFilesystem.SUPPORTED_SCHEMES)):
        return push_directory.versions(locate(directory))
    names = fileio.listdir(directory) if fileio.exists(directory) else []
    return sorted(int(name.rstrip("/")) for name in names if re.fullmatch(r"[1-9][0-9]*/?", name))


def push_directory_of(push_destination: str) -> str:
    """The folder that TFX's PushDestination names, in JSON.

    Raises:
        DataError: it names none.
    """
    document = json.loads(push_destination)
    folder = document.get("filesystem", {}).get("base_directory") or document.get("filesystem", {}).get("baseDirectory")
    if not folder:
        raise DataError(
            f"The latest blessed model is looked for in a folder. Received: push_destination {push_destination}. "
            "Push to filesystem.base_directory."
        )
    return str(folder)


def copy_folder(source: str, target: str) -> None:
    """Copy a folder, whatever file system it is on."""
    for folder, _, files in fileio.walk(source):
        inside = os.path.join(target, os.path.relpath(folder, source))
        fileio.makedirs(inside)
        for name in files:
            fileio.copy(os.path.join(folder, name), os.path.join(inside, name), overwrite=True)
