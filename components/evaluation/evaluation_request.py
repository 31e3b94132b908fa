"""Makes requests for evaluations of models that kubetfx exported."""

from collections.abc import Mapping
from pathlib import Path

from kubetfx.components.evaluation.baselines import Baseline
from kubetfx.components.evaluation.evaluation import Request
from kubetfx.components.evaluation.kept_answers import KeptAnswers
from kubetfx.config.evaluation_section import EvaluationConfig
from kubetfx.config.metric_catalogue import Task
from kubetfx.engine.shared_places import folder_of
from kubetfx.models.columns.image.pixels import Pixels
from kubetfx.serving.model_facts import read_facts


def request_of(
    saved_models: Mapping[str, Path],
    evaluation: EvaluationConfig,
    task: Task,
    *,
    baselines: Mapping[str, Baseline] | None = None,
    weight: str | None,
    kept: KeptAnswers | None = None,
) -> Request:
    """Make the request for an evaluation.

    Args:
        saved_models: The folders of the models by name; the first is the candidate.
        evaluation: The section of the config with metrics and slices.
        task: The task of the models.
        baselines: The baselines of the candidate besides the other models, by name.
        weight: The column of row weights; None: each row counts once.
        kept: Answers of the models in earlier runs.

    Returns:
        The request.
    """
    facts = read_facts(next(iter(saved_models.values())))
    has_images = facts is not None and facts.image is not None
    return Request(
        saved_models=saved_models,
        task=task,
        metrics=evaluation.metric_names(task, sees_images=has_images),
        slices=evaluation.sliced,
        baselines=baselines or {},
        weight=weight,
        kept=kept,
        places={name: folder_of(path) for name, path in saved_models.items()},
        top_k=Pixels.of_facts(facts).model.top_k if facts is not None and has_images else 1,
    )
