"""BestTrial: the result of a search whose trials ran in several tasks of a cluster.

Each task writes the trials that it knew when it ended. The last one knows every trial, so its artifacts are the result
of the search.
"""

import shutil
from pathlib import Path
from typing import Any

from tfx.dsl.components.base import base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.components.declaration import Artifacts, Component
from kubetfx.components.tuning import tuning_results
from kubetfx.components.tuning.tuning_results import TrialResult, TuningResults

INPUT_OF = {
    "best_hyperparameters": "hyperparameters",
    "tuner_results": "results",
    "best_schema": "schemas",
    "best_transform_graph": "transform_graphs",
}
"""Input that takes an output of the Tuners, by that output."""


class Executor(base_executor.BaseExecutor):
    """Takes the artifacts of the task that knew the most trials."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the component."""
        seen = [_read(Path(artifact.uri)) for artifact in input_dict["results"]]
        last = max(range(len(seen)), key=lambda index: _finished(seen[index]))
        for key in output_dict:
            target = Path(artifact_utils.get_single_uri(output_dict[key]))
            shutil.copytree(input_dict[INPUT_OF[key]][last].uri, target, dirs_exist_ok=True)
        tuning_results.write(
            _merged(seen[last], seen), Path(artifact_utils.get_single_uri(output_dict["tuner_results"]))
        )


def _read(folder: Path) -> TuningResults:
    found = tuning_results.read(folder)
    assert found is not None  # the Tuner has written it
    return found


def _finished(results: TuningResults) -> int:
    return len(results.trials) - results.count("running")


def _merged(last: TuningResults, seen: list[TuningResults]) -> TuningResults:
    """Return the last view, completed by the ends of trials that other tasks have seen."""
    ended: dict[int, TrialResult] = {one.number: one for view in seen for one in view.trials if one.state != "running"}
    return last.model_copy(update={"trials": [ended.get(one.number, one) for one in last.trials]})


class BestTrial(Component):
    """The best settings that several tasks have found."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    INPUTS = {
        "hyperparameters": standard_artifacts.HyperParameters,
        "results": standard_artifacts.TunerResults,
    }
    OUTPUTS = {
        "best_hyperparameters": standard_artifacts.HyperParameters,
        "tuner_results": standard_artifacts.TunerResults,
    }


class BestFeaturesTrial(BestTrial):
    """The same, with the schema and the transform graph of the best features."""

    INPUTS = {
        **BestTrial.INPUTS,
        "schemas": standard_artifacts.Schema,
        "transform_graphs": standard_artifacts.TransformGraph,
    }
    OUTPUTS = {
        **BestTrial.OUTPUTS,
        "best_schema": standard_artifacts.Schema,
        "best_transform_graph": standard_artifacts.TransformGraph,
    }
