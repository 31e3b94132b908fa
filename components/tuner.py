"""Tuner: searches for better settings between Transform and Trainer, by the validation split.

components/tuning runs the trials. The output is the same as that of TFX's Tuner, the best hyperparameters, which the
Trainer reads. If keys of `features` are searched, the schema and transform graph of the best trial come with them.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from absl import logging
from google.protobuf import text_format
from tfx.dsl.components.base import base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import json_utils

from kubetfx.artifacts import SCHEMA, TRAIN
from kubetfx.components.declaration import Artifacts, Component
from kubetfx.components.schema_gen import statistics_files
from kubetfx.components.tuning import tuning_results
from kubetfx.components.tuning.analyses import Analyses, Analysis, AnalysisSources
from kubetfx.components.tuning.default_space import default_space
from kubetfx.components.tuning.search_space import SearchSpace
from kubetfx.components.tuning.study import Plan, Search, check_some_succeeded, named
from kubetfx.components.tuning.trial_processes import run_side_by_side
from kubetfx.components.tuning.trials import Trials, Workplace
from kubetfx.components.tuning.tuning_results import TuningResults
from kubetfx.config.dotted_keys import keys_of
from kubetfx.config.metric_catalogue import Better, better_of
from kubetfx.config.model_section import ModelConfig
from kubetfx.config.training_section import TrainingConfig
from kubetfx.config.tuning_section import Interval, TuningConfig
from kubetfx.models.examples import count_rows, files_in
from kubetfx.models.features import read_features, read_schema, set_searched
from kubetfx.models.training_launch import TrainingJob
from kubetfx.models.trees import MAX_ROUNDS
from kubetfx.models.tuned_settings import with_settings
from kubetfx.progress import Advances, report
from kubetfx.storage import write_text

_WITHOUT_EFFECT = ("checkpoint_directory", "checkpoint_seconds", "require_gpu", "memory_growth", "cache_bytes")
"""Keys of `training` that a model does not depend on."""


class Executor(base_executor.BaseExecutor):
    """Runs the trials, in this process or in several."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the component."""
        self._log_startup(input_dict, output_dict, exec_properties)
        tuning = TuningConfig.model_validate_json(exec_properties["tuning"])
        place = _workplace(input_dict, exec_properties)
        folder = Path(artifact_utils.get_single_uri(output_dict["tuner_results"]))
        folder.mkdir(parents=True, exist_ok=True)
        with _studies_beside(folder) as studies:
            plan = _plan(tuning, place, exec_properties, studies)
            logging.info("The study %s: %s", plan.name, plan.space)
            own = _own_settings(plan, place)
            progress = _Progress(plan, own, studies / tuning_results.LATEST)
            with tempfile.TemporaryDirectory(prefix=".trials-", dir=studies) as scratch:
                search = _search(
                    plan,
                    place,
                    Path(scratch),
                    index=exec_properties.get("index") or 0,
                    logs=studies / plan.name,
                    after=progress,
                )
                check_some_succeeded(search)
                results = tuning_results.describe(search, own)
                _write(results, plan, place, output_dict, folder)
        for error in dict.fromkeys(one.error for one in results.trials if one.error):
            logging.warning("A trial failed: %s", error)


def _search(
    plan: Plan, place: Workplace, scratch: Path, *, index: int, logs: Path, after: Callable[[Search], None]
) -> Search:
    """Run the trials, and return the study."""
    if plan.tuning.parallel > 1 and plan.run_here:
        search = Search(plan, index=plan.tuning.parallel)
        _take_over(search)
        run_side_by_side(plan, place, logs=logs, search=search, after=after)
        return search
    trials = Trials(plan, place, index=index, folder=scratch)
    _take_over(trials.search)
    after(trials.search)
    trials.run(after=after)
    return trials.search


def _take_over(search: Search) -> None:
    """Restart trials that a killed search was running. In a database they may belong to another machine."""
    if search.plan.tuning.storage is None:
        search.retry_killed()


class _Progress:
    """Reports and writes the progress of a search."""

    def __init__(self, plan: Plan, own: dict[str, Any], path: Path) -> None:
        self._plan, self._own, self._path = plan, own, path
        self._started = time.monotonic()
        self._before: int | None = None

    def __call__(self, search: Search) -> None:
        results = tuning_results.describe(search, self._own)
        write_text(self._path, results.model_dump_json())  # others may read it meanwhile
        done = len(search.finished)
        if self._before is None:
            self._before = done
        report(Advances(done, results.asked, self._words(results, done - self._before)))

    def _words(self, results: TuningResults, done: int) -> str:
        best = results.best_trial
        parts = [f"{results.metric} {best.value:.5g} at best" if best else "no trial is over"]
        minutes = (time.monotonic() - self._started) / 60
        if done:
            parts.append(f"{done / minutes:.2g} trials per minute")
            missing = 0 if results.asked is None else results.asked - len(results.trials) + results.count("running")
            if missing > 0:
                left = missing * minutes / done
                parts.append(f"about {math.ceil(left)} min left" if left >= 1 else "less than a minute left")
        return ", ".join(parts)


@contextlib.contextmanager
def _studies_beside(folder: Path) -> Iterator[Path]:
    """Provide the folder of studies.

    It is beside the artifacts, since those of a killed search are removed; in a cluster, a temporary one.
    """
    if folder.parent.name == "tuner_results":
        latest = tuning_results.latest_path(folder.parent.parent)
        latest.parent.mkdir(exist_ok=True)
        yield latest.parent
        return
    with tempfile.TemporaryDirectory(prefix="kubetfx-studies-") as temporary:
        yield Path(temporary)


def _workplace(inputs: Artifacts, properties: dict[str, Any]) -> Workplace:
    custom_config = json_utils.loads(properties["custom_config"])
    examples = inputs["examples"]
    train_files = files_in(artifact_utils.get_split_uri(examples, TRAIN))
    schema_path = str(Path(artifact_utils.get_single_uri(inputs["schema"])) / SCHEMA)
    graph = artifact_utils.get_single_uri(inputs["transform_graph"])
    job = TrainingJob(
        train_files=[artifact_utils.get_split_uri(examples, TRAIN)],
        eval_files=[artifact_utils.get_split_uri(examples, properties["validation_split"])],
        schema_path=schema_path,
        transform_graph_path=graph,
        serving_model_dir="",
        model_run_dir="",
        custom_config=custom_config,
    )
    sources = AnalysisSources(
        given=Analysis(schema_path, graph),
        train_files=tuple(train_files),
        statistics_files=tuple(map(str, statistics_files(inputs["statistics"]))),
        examples=artifact_utils.get_single_uri(examples),
        custom_config=custom_config,
        task=properties["task"],
    )
    return Workplace(job, sources)


def _plan(tuning: TuningConfig, place: Workplace, properties: dict[str, Any], studies: Path) -> Plan:
    sections = place.job.custom_config
    model, training = ModelConfig.model_validate(sections["model"]), TrainingConfig.model_validate(sections["training"])
    features = read_features(read_schema(place.job.schema_path))
    num_rows = count_rows(place.sources.train_files)
    search = tuning.search or default_space(model, training, features, num_rows=num_rows)
    better: Better = better_of(properties["metric"], {properties["metric"]: properties["better"]})
    settings = {key: value for key, value in sections["training"].items() if key not in _WITHOUT_EFFECT}
    searched = {key: value.model_dump() if isinstance(value, Interval) else value for key, value in search.items()}
    text = json.dumps(
        [
            {**sections, "training": settings},
            [tuning.sampler, tuning.pruner, properties["metric"], searched],
            _digest([*place.job.train_files, *place.job.eval_files]),
        ],
        sort_keys=True,
    )
    plan = Plan(
        name=properties["pipeline_name"],
        digest=hashlib.sha256(text.encode()).hexdigest(),
        tuning=tuning,
        space=SearchSpace(search),
        metric=properties["metric"],
        better=better,
        journal="",
        seed=training.seed,
        max_resource=_max_resource(model, training, tuning, SearchSpace(search)),
        run_here=properties.get("index") is None,
    )
    plan = named(plan)
    return dataclasses.replace(plan, journal=str(studies / f"{plan.name}.journal"))


def _digest(folders: list[str]) -> str:
    """Return a digest of the rows of both splits, as stored."""
    found = hashlib.sha256()
    for file in files_in(*folders):
        with open(file, "rb") as content:
            found.update(hashlib.file_digest(content, "sha256").digest())
    return found.hexdigest()


def _max_resource(model: ModelConfig, training: TrainingConfig, tuning: TuningConfig, space: SearchSpace) -> int | None:
    """Return the maximum number of epochs or rounds of a trial; None if those of two trials are not comparable."""
    if tuning.pruner == "none" or model.kind == "auto" or "model.kind" in space.search:
        return None
    if model.kind == "trees":
        return _highest(space, "model.trees.num_iterations", model.trees.num_iterations or MAX_ROUNDS)
    fine_tune = training.fine_tune.epochs if training.fine_tune else 0
    of_fine_tune = _highest(space, "training.fine_tune.epochs", fine_tune)
    return _highest(space, "training.epochs", training.epochs) + of_fine_tune


def _highest(space: SearchSpace, key: str, own: int) -> int:
    values = space.search.get(key)
    if values is None:
        return own
    return int(values.bounds[1]) if isinstance(values, Interval) else max(map(int, filter(None, values)), default=own)


def _own_settings(plan: Plan, place: Workplace) -> dict[str, Any]:
    """Return the config's values of the searched keys, without those that depend on the data."""
    found: dict[str, Any] = {}
    for key in plan.space.search:
        value: Any = place.job.custom_config
        for part in keys_of(key):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            found[key] = value
    return found


def _write(results: TuningResults, plan: Plan, place: Workplace, outputs: Artifacts, folder: Path) -> None:
    tuning_results.write(results, folder)
    best = Path(artifact_utils.get_single_uri(outputs["best_hyperparameters"]))
    best.mkdir(parents=True, exist_ok=True)
    tuning_results.write_hyperparameters(plan.space.hyperparameters(results.best_settings), best)
    if "best_transform_graph" not in outputs:
        return
    sections = with_settings(place.job.custom_config, results.best_settings)
    with tempfile.TemporaryDirectory() as scratch:
        found = Analyses(place.sources, Path(scratch)).of(sections["features"])
        shutil.copytree(
            found.transform_graph_path,
            artifact_utils.get_single_uri(outputs["best_transform_graph"]),
            dirs_exist_ok=True,
        )
        schema = read_schema(found.schema_path)
        set_searched(schema, sections["features"])
        schema_folder = Path(artifact_utils.get_single_uri(outputs["best_schema"]))
        schema_folder.mkdir(parents=True, exist_ok=True)
        (schema_folder / SCHEMA).write_text(text_format.MessageToString(schema), encoding="utf-8")


class Tuner(Component):
    """The best settings that a search has found."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
    INPUTS = {
        "examples": standard_artifacts.Examples,
        "statistics": standard_artifacts.ExampleStatistics,
        "schema": standard_artifacts.Schema,
        "transform_graph": standard_artifacts.TransformGraph,
    }
    OUTPUTS = {
        "best_hyperparameters": standard_artifacts.HyperParameters,
        "tuner_results": standard_artifacts.TunerResults,
    }
    PARAMETERS = {
        "tuning": TuningConfig,
        "custom_config": str,
        "metric": str,
        "better": str,
        "task": str,
        "validation_split": str,
        "pipeline_name": str,
        "index": int,
    }
    OPTIONAL = ("index",)
    """Index of this task among several that pull trials from one study; None if it is the only one."""


class FeaturesTuner(Tuner):
    """The same, with the schema and the transform graph of the best features."""

    OUTPUTS = {
        **Tuner.OUTPUTS,
        "best_schema": standard_artifacts.Schema,
        "best_transform_graph": standard_artifacts.TransformGraph,
    }
