"""The nodes of cross-validation: those of each fold, what collects them, and the mean of their models."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from tfx.dsl.components.base.base_node import BaseNode
from tfx.types.channel import BaseChannel

from kubetfx.components.cross_validation import CrossValidation
from kubetfx.components.data.folds import FoldRule
from kubetfx.components.fold_ensemble import FoldEnsemble
from kubetfx.components.fold_evaluator import FoldEvaluator
from kubetfx.components.fold_examples import FoldExamples
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.pipeline.component_inputs import metrics_digest
from kubetfx.pipeline.fan_out import fan_out

Node = TypeVar("Node", bound=BaseNode)


class Add(Protocol):
    """Adds to a pipeline."""

    def __call__(self, component: Node, /) -> Node:
        """Make a component part of it.

        Args:
            component: any TFX component.

        Returns:
            The same component.
        """


def add_folds(
    config: PipelineConfig,
    rule: FoldRule,
    examples: BaseChannel,
    schema: BaseChannel,
    *,
    train: Callable[[BaseChannel], BaseChannel],
    add: Add,
) -> dict[str, BaseChannel]:
    """Add the nodes of all folds, and the one that collects them.

    Args:
        config: The config of the pipeline.
        rule: how rows are cut.
        examples: The examples of the whole table.
        schema: The schema of the examples.
        train: adds what makes a model of the examples of a fold, and returns the model.
        add: makes a component part of the pipeline.

    Returns:
        `cross_validation`: metrics and predictions of the folds; and where the model is to be the mean of theirs,
        `model`.
    """

    def fold(number: int) -> dict[str, BaseChannel]:
        rows = add(FoldExamples(examples=examples, schema=schema, rule=rule, fold=number)).outputs["fold_examples"]
        model = train(rows)
        evaluator = FoldEvaluator(
            fold_examples=rows,
            model=model,
            schema=schema,
            evaluation_config=config.evaluation.of_folds,
            task=config.model.task,
            metrics_digest=metrics_digest(config),
        )
        return {"evaluation": add(evaluator).outputs["fold_evaluation"], "model": model}

    folds = fan_out(fold, rule.folds.num_trainings, at_once=rule.folds.parallel).outputs
    collected = add(CrossValidation(folds=folds["evaluation"], rule=rule))
    found = {"cross_validation": collected.outputs["cross_validation"]}
    if config.model.ensemble == "folds":
        ensemble = FoldEnsemble(
            models=folds["model"],
            examples=examples,
            schema=schema,
            warmup_rows=config.serving.warmup_rows,
            calibrate=int(config.evaluation.calibrate),
        )
        found["model"] = add(ensemble).outputs["model"]
    return found
