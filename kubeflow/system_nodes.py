"""Executors for Importer and Resolver, which TFX runs with the help of ML Metadata; a cluster does not have it."""

import json
import shutil
from pathlib import Path
from typing import Any

from absl import logging
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.types.value_artifact import ValueArtifact
from tfx.utils import path_utils

from kubetfx.components.declaration import Artifacts
from kubetfx.components.push import push_directory
from kubetfx.errors import DataError
from kubetfx.storage import copy_folder, locate


class ImporterExecutor(base_executor.BaseExecutor):
    """Copies what an Importer names into the run's artifacts, where every later task finds it."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the node.

        Raises:
            DataError: there is nothing at `artifact_uri`.
        """
        source = locate(exec_properties["artifact_uri"])
        (artifacts,) = output_dict.values()
        target = Path(artifact_utils.get_single_uri(artifacts))
        if source.is_dir():
            copy_folder(source, target)
            return
        if not source.is_file():
            raise DataError(
                f"An Importer finds nothing to import. Received: {source}. Mount the volume that holds it, or name a "
                "place that this container can read."
            )
        file = target if isinstance(artifacts[0], ValueArtifact) else target / source.name
        if isinstance(source, Path):
            shutil.copyfile(source, file)
        else:
            source.download(file)


class LatestPushedModelExecutor(base_executor.BaseExecutor):
    """TFX's LatestBlessedModelStrategy without ML Metadata: takes the newest version of the push directory.

    Only blessed models are pushed, so the newest version is the latest blessed model.
    """

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the node. Without a version the output channels stay empty."""
        place = exec_properties.get("push_directory") or _push_directory_of(exec_properties["push_destination"])
        directory = locate(place)
        version = max(push_directory.versions(directory), default=None)
        if version is None:
            logging.info("No version is pushed to %s: there is no latest blessed model.", directory)
            for artifacts in output_dict.values():
                artifacts.clear()
            return
        for artifacts in output_dict.values():
            artifact = artifact_utils.get_single_instance(artifacts)
            artifact.set_int_custom_property("version", version)
            if artifact.type_name == "Model":
                push_directory.copy_version(directory, version, Path(path_utils.serving_model_dir(artifact.uri)))
            else:
                artifact.set_int_custom_property("blessed", 1)
                Path(artifact.uri, "BLESSED").touch()
        logging.info("Latest blessed model: version %d.", version)


def _push_directory_of(push_destination: str) -> str:
    """Return the folder that TFX's PushDestination names, in JSON."""
    document = json.loads(push_destination)
    folder = document.get("filesystem", {}).get("base_directory") or document.get("filesystem", {}).get("baseDirectory")
    if not folder:
        raise DataError(
            f"The latest blessed model is looked for in a folder. Received: push_destination {push_destination}. "
            "Push to filesystem.base_directory."
        )
    return str(folder)
