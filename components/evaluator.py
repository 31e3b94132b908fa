"""Evaluator: evaluates the candidate and the served model, and decides whether the candidate may be pushed.

Both are evaluated on the evaluation split. Metrics and verdict come from components/evaluation; both are also written
as TFMA's files.
"""

import functools
import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from tfx import types
from tfx.components.evaluator import constants as tfx_constants
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts

from kubetfx.artifacts import EVAL, EVALUATION, SCHEMA, TRAIN
from kubetfx.components.cross_validation import CrossValidationResult
from kubetfx.components.data import beam_mode, block_work
from kubetfx.components.declaration import Artifacts, Component
from kubetfx.components.evaluation import (
    baselines,
    cross_validated,
    golden,
    image_evaluation,
    intervals,
    scores,
    tfma_files,
)
from kubetfx.components.evaluation.baselines import LINEAR, Baseline, Constant
from kubetfx.components.evaluation.confusion import class_scores
from kubetfx.components.evaluation.evaluation import Evaluation, Outcome, Request
from kubetfx.components.evaluation.evaluation_request import request_of
from kubetfx.components.evaluation.evaluation_result import COUNT, MAX_CLASSES, Check, EvaluationResult, format_metric
from kubetfx.components.evaluation.kept_answers import KeptAnswers
from kubetfx.components.evaluation.metric_registry import find_metric
from kubetfx.components.evaluation.slices import OVERALL, slice_name
from kubetfx.components.evaluation.tfma_files import BASELINE, CANDIDATE
from kubetfx.components.evaluation.thresholds import checks, effective_thresholds, references, slice_checks
from kubetfx.components.push.push_directory import model_digest
from kubetfx.components.served_model_resolver import saved_model_path
from kubetfx.config.evaluation_section import EvaluationConfig
from kubetfx.config.metric_catalogue import worsening
from kubetfx.errors import DataError
from kubetfx.models.examples import files_in, row_groups
from kubetfx.models.features import Features, read_features, read_schema
from kubetfx.provenance import read_origin, write_origin
from kubetfx.serving.model_facts import read_facts


class Executor(base_beam_executor.BaseBeamExecutor):
    """Evaluates the candidate and the served model, in this process or on Beam."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:
        """Run the component, and log each check."""
        self._log_startup(input_dict, output_dict, exec_properties)
        evaluation = EvaluationConfig.model_validate_json(exec_properties["evaluation_config"])
        folder = Path(artifact_utils.get_single_uri(output_dict["evaluation"]))
        folder.mkdir(parents=True, exist_ok=True)
        saved_models, difference = _models(input_dict)
        training_files = files_in(artifact_utils.get_split_uri(input_dict["examples"], TRAIN))
        features = _features(input_dict["schema"])
        run = functools.partial(block_work.run, executor=self, folder=folder)
        simple = baselines.fit(saved_models[CANDIDATE], training_files, weight=features.weight, run=run)
        kept = None
        if (
            beam_mode.num_threads(self._beam_pipeline_args) is not None
        ):  # an engine's workers need not see the workspace
            rows = Path(artifact_utils.get_single_uri(input_dict["examples"]))
            kept = KeptAnswers.beside(str(folder), examples=rows, saved_models=saved_models, digest=model_digest)
        request = request_of(
            saved_models,
            evaluation,
            exec_properties["task"],
            baselines=simple,
            weight=features.weight,
            kept=kept,
        )
        outcome = _evaluate(request, input_dict["examples"], run)
        if input_dict.get("cross_validation"):
            found = cross_validated.read(Path(artifact_utils.get_single_uri(input_dict["cross_validation"])))
            outcome.values[OVERALL][CANDIDATE] |= found.means(evaluation.cross_validated)
        split = artifact_utils.get_split_uri(input_dict["examples"], EVAL)
        if evaluation.robustness.metrics:
            for name, saved_model in saved_models.items():
                outcome.values[OVERALL][name] |= image_evaluation.robustness(split, saved_model, evaluation.robustness)
        result = _write(outcome, request, evaluation, folder, features, difference)
        _bless(input_dict, output_dict, is_blessed=result.is_blessed, is_compared=BASELINE in saved_models)
        if num_golden_rows := exec_properties["golden_rows"]:
            golden_rows = golden.predict_golden_rows(
                split,
                number=golden.number_of_rows(
                    split, at_least=num_golden_rows, share=exec_properties.get("golden_share") or 0.0
                ),
                transform_graph=artifact_utils.get_single_uri(input_dict["transform_graph"]),
                saved_model=saved_models[CANDIDATE],
            )
            golden.write(golden_rows, folder)
        if (origin := read_origin(Path(artifact_utils.get_single_uri(input_dict["examples"])))) is not None:
            write_origin(folder, origin)  # Pusher only gets the evaluation: the rows may be large
        for check in result.checks:
            logging.info("%s", check)


def _evaluate(request: Request, examples: list[types.Artifact], run: block_work.Run) -> Outcome:
    files = files_in(artifact_utils.get_split_uri(examples, EVAL))
    outcome: Outcome = run(Evaluation(request), [group for group, _ in row_groups(files)])
    if OVERALL not in outcome.values:
        raise DataError(
            f"The evaluation split has no rows. Received: {len(files)} files without any. Give data.splits.eval a "
            "larger share, or more data."
        )
    return outcome


def _models(inputs: Artifacts) -> tuple[dict[str, Path], str | None]:
    """Return the folders of the candidate and, if comparable, of the served model; otherwise the reason."""
    candidate = saved_model_path(inputs["model"])
    if not inputs.get("baseline_model"):
        return {CANDIDATE: candidate}, None
    baseline = saved_model_path(inputs["baseline_model"])
    difference = why_not_comparable(candidate, baseline)
    return {CANDIDATE: candidate} | ({} if difference else {BASELINE: baseline}), difference


def _write(
    outcome: Outcome,
    request: Request,
    evaluation: EvaluationConfig,
    folder: Path,
    features: Features,
    difference: str | None,
) -> EvaluationResult:
    """Write TFMA's files and the result, and return the result."""
    overall = outcome.values[OVERALL]
    metrics, baseline = overall[CANDIDATE], overall.get(BASELINE, {})
    thresholds = effective_thresholds(evaluation, request.task)
    names = (*request.metrics, *evaluation.robustness.metrics, *evaluation.cross_validated)
    better = {name: find_metric(name).better for name in names}
    assert outcome.drawn is not None  # the split has rows
    rows = int(metrics[COUNT])
    words = {name: _words(own, features) for name, own in request.baselines.items()}
    held = references(thresholds, overall, outcome.drawn, candidate=CANDIDATE, rows=rows, words=words)
    slices = {key: own for key, own in outcome.values.items() if key != OVERALL}
    by_slice = {key: (own[CANDIDATE], own.get(BASELINE, {})) for key, own in slices.items()}
    found = [
        *checks(thresholds, metrics, baseline, better, held),
        *slice_checks(evaluation.slice_bounds, by_slice, better),
    ]
    tfma_files.write(
        folder,
        values=outcome.values,
        checks=found,
        thresholds=thresholds,
        better=better,
        request=request,
        num_classes=len(features.classes),
    )
    facts = read_facts(request.saved_models[CANDIDATE])
    classes = facts.classes if facts is not None and facts.image is not None else ()
    result = EvaluationResult(
        metrics=metrics,
        baseline_metrics=baseline,
        slices=dict(sorted((slice_name(key), _defined(own[CANDIDATE])) for key, own in slices.items())),
        checks=found,
        is_blessed=all(check.passed for check in found),
        better=better,
        by_class=_by_class(outcome, classes),
        confusion=_confusion(outcome),
        not_compared_because=difference,
        simple_metrics={name: _of_baseline(overall[name]) for name in request.baselines},
        notes=list(_notes(outcome, found, features)),
        weight=request.weight,
        scores=scores.describe(outcome.drawn.outputs[CANDIDATE]),
    )
    (folder / EVALUATION).write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")
    return result


def _words(baseline: Baseline, features: Features) -> str:
    if not isinstance(baseline, Constant):
        return "a linear model"
    if features.classes:
        return f"always saying {features.classes[int(baseline.output.argmax())]!r}"
    return f"always saying {format_metric(float(baseline.output))}, the mean of the training rows"


def _notes(outcome: Outcome, found: list[Check], features: Features) -> Iterator[str]:
    """Yield notes for readers of the metrics."""
    if features.weight:
        yield f"Metrics are weighted: each row counts as often as its {features.weight!r} says."
    metrics = outcome.values[OVERALL][CANDIDATE]
    if outcome.confusion is not None:
        named = np.flatnonzero(outcome.confusion.sum(axis=0))
        if len(named) == 1:
            yield f"The model says {features.classes[int(named[0])]!r} of every evaluation row."
    if outcome.drawn is not None and found:
        metric, rows = find_metric(found[0].metric), int(metrics[COUNT])
        value = metrics[metric.name]
        between = intervals.interval(metric, outcome.drawn.of(CANDIDATE), value=value, total_rows=rows, seed=0)
        if between and intervals.is_wide(metric, value, between):
            half = (between.upper - between.lower) / 2
            yield f"Few evaluation rows, {rows:,}: by chance alone, {metric.label} may be off by {half:.1g}."
        linear = outcome.values[OVERALL].get(LINEAR, {}).get(metric.name, math.nan)
        if worsening(value, linear, metric.better) > 0:
            yield (
                f"A linear model of the same features does better: its {metric.label} is {format_metric(linear)}, and "
                f"this model's {format_metric(value)}. `model.kind: auto`, or a search with the section `tuning`, may "
                "find a better one."
            )
    if small := list(dict.fromkeys(str(check.slice) for check in found if check.unjudged)):
        more = f" and {len(small) - 5:,} more" if len(small) > 5 else ""
        yield f"Slices with too few rows to be judged: {'; '.join(small[:5])}{more}."
    if any(check.reference and not check.passed for check in found):
        yield (
            "A model that is not better than a baseline has learned too little from the columns, or the evaluation "
            "rows are too "
            "few to tell. Where one class is rare, accuracy says little: set a threshold for auc or f1 in its place, "
            "with training.class_weights: balanced. `better_than_baseline: false` turns the comparison off."
        )


def _defined(metrics: dict[str, float]) -> dict[str, float]:
    """Drop undefined values, such as the area under the curve of a slice without rows of a class."""
    return {name: value for name, value in metrics.items() if not math.isnan(value)}


def _of_baseline(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in _defined(metrics).items() if name != COUNT}


def _confusion(outcome: Outcome) -> list[list[int | float]]:
    matrix = outcome.confusion
    return [] if matrix is None or len(matrix) > MAX_CLASSES else matrix.tolist()


def _by_class(outcome: Outcome, classes: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Return precision, recall, F1 and number of images of each class.

    They are 0 if no row is assigned to it, or none is of it.
    """
    if not classes or outcome.confusion is None:
        return {}
    return {
        name: {
            "images": scores.support,
            "precision": scores.precision or 0.0,
            "recall": scores.recall or 0.0,
            "f1": scores.f1 or 0.0,
        }
        for name, scores in zip(classes, class_scores(outcome.confusion), strict=True)
    }


def _bless(inputs: Artifacts, outputs: Artifacts, *, is_blessed: bool, is_compared: bool) -> None:
    """Write the verdict like TFX's executor."""
    blessing = artifact_utils.get_single_instance(outputs["blessing"])
    for kind, key in (("current", "model"), *((("baseline", "baseline_model"),) if is_compared else ())):
        model = artifact_utils.get_single_instance(inputs[key])
        blessing.set_string_custom_property(f"{kind}_model", model.uri)
        blessing.set_int_custom_property(f"{kind}_model_id", model.id)
    blessing.set_int_custom_property(tfx_constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(is_blessed))
    name = tfx_constants.BLESSED_FILE_NAME if is_blessed else tfx_constants.NOT_BLESSED_FILE_NAME
    Path(blessing.uri).mkdir(parents=True, exist_ok=True)
    (Path(blessing.uri) / name).touch()
    logging.info("Blessing result %s written to %s.", is_blessed, blessing.uri)


def why_not_comparable(candidate: Path, baseline: Path) -> str | None:
    """Return the reason why two models cannot be evaluated on the same rows by the same metrics, or None.

    Args:
        candidate: The folder of a SavedModel.
        baseline: The folder of the served one.
    """
    ours, theirs = read_facts(candidate), read_facts(baseline)
    if ours is None or theirs is None:
        return "the served model was not exported by kubetfx"
    if (ours.image is None) != (theirs.image is None):
        return f"the served model is one of {'tables' if ours.image else 'images'}"
    if (ours.label, ours.classes) != (theirs.label, theirs.classes):
        return f"the served model predicts another label or other classes ({theirs.label})"
    for column, dtype in theirs.columns.items():
        if column not in ours.columns and column in theirs.inputs:
            return f"the served model reads the column {column!r}, which the data no longer has"
        if ours.columns.get(column, dtype) != dtype:
            return f"the served model reads the column {column!r} as {dtype}, and it is {ours.columns[column]} now"
    return None


def _features(schemas: list[types.Artifact]) -> Features:
    return read_features(read_schema(Path(artifact_utils.get_single_uri(schemas)) / SCHEMA))


class Evaluator(Component, base_beam_component.BaseBeamComponent):
    """Metrics of the candidate on the evaluation split, and whether it may be pushed.

    `golden_rows` is the number of rows that a server will be asked for, or `golden_share` of all rows if that is more;
    `metrics_digest` is the digest of the user's own metric modules, so that an edit invalidates the cache.
    """

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
    INPUTS = {
        "examples": standard_artifacts.Examples,
        "transform_graph": standard_artifacts.TransformGraph,
        "model": standard_artifacts.Model,
        "baseline_model": standard_artifacts.Model,
        "schema": standard_artifacts.Schema,
        "cross_validation": CrossValidationResult,
    }
    OUTPUTS = {"evaluation": standard_artifacts.ModelEvaluation, "blessing": standard_artifacts.ModelBlessing}
    PARAMETERS = {
        "evaluation_config": EvaluationConfig,
        "task": str,
        "golden_rows": int,
        "golden_share": float,
        "metrics_digest": str,
    }
    OPTIONAL = ("baseline_model", "cross_validation", "golden_share")
