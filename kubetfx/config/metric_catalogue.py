"""The metrics that kubetfx knows: name, label, direction and range of each.

Descriptions are data. The config is checked against them, and reports take their words from them, without NumPy. The
accumulator of a metric is in components/evaluation, under the same name.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

Task = Literal["classification", "regression"]
Better = Literal["higher", "lower"]
Average = Literal["macro", "weighted", "micro"]
"""How a metric of each class becomes one number: the mean over the classes that have rows, that mean weighted by their
rows, or the metric over the rows of all classes together. `precision_weighted` is one.
"""
AVERAGES: tuple[Average, ...] = ("macro", "weighted", "micro")
_Need = Literal["images", "top_k", "changed_images", "folds"]
"""What a metric needs besides labels and predictions. `images`: a model that takes images. `top_k`: `model.top_k`.
`changed_images`: predictions for changed images and for the original ones. `folds`: models of folds."""

ROBUSTNESS_PREFIX = "drop_"
"""Start of the names of the robustness metrics: `drop_blur_1.5` is the accuracy that a blur of 1.5 pixels costs."""

CROSS_VALIDATED_PREFIX = "cross_validated_"
"""Start of the names of means over folds: `cross_validated_auc` is that of the AUC."""

CALIBRATION_ERROR = "calibration_error"
"""Name of the metric that `evaluation.calibrate` lowers."""

_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_CHANGES = {"fgsm": "a gradient attack of", "jpeg": "JPEG quality", "rotation": "a rotation of", "blur": "a blur of"}


@dataclass(frozen=True, kw_only=True)
class Description:
    """The description of a metric."""

    name: str
    """Its name in pipeline.yaml."""
    label: str
    """Its label in reports."""
    tasks: tuple[Task, ...]
    better: Better = "higher"
    bounds: tuple[float, float] = (0.0, 1.0)
    """Its lowest and highest possible value."""
    needs: frozenset[_Need] = frozenset()
    of_each_class: bool = False
    """Whether it compares one class with the rest: the second of two classes; with more classes it is the mean over
    those that have rows. Precision, recall and F1 assign each row to its likeliest class.
    """
    by_default: bool = True
    """Whether it is computed if the config names no metrics."""
    is_share_of_rows: bool = False
    """Whether it is a proportion of rows, for which Wilson's interval holds."""
    constant_can_be_best: bool = False
    """Whether a constant prediction can reach its best value: the recall of that class, or the accuracy among the top k
    of k classes.
    """

    @property
    def is_of_predictions(self) -> bool:
        """Whether it can be computed from predictions alone.

        Predictions can be resampled and compared with those of a baseline.
        """
        return self.needs.isdisjoint({"changed_images", "folds"})


_CLASSIFICATION: tuple[Task, ...] = ("classification",)
_REGRESSION: tuple[Task, ...] = ("regression",)
_ERROR = (0.0, math.inf)
_BY_CLASS = (("f1", "F1"), ("precision", "Precision"), ("recall", "Recall"))

CATALOGUE: Mapping[str, Description] = {
    description.name: description
    for description in (
        Description(name="accuracy", label="Accuracy", tasks=_CLASSIFICATION, is_share_of_rows=True),
        Description(name="auc", label="AUC", tasks=_CLASSIFICATION, of_each_class=True),
        Description(
            name="auc_precision_recall", label="AUC (precision-recall)", tasks=_CLASSIFICATION, of_each_class=True
        ),
        Description(
            name="cross_entropy", label="Cross entropy", tasks=_CLASSIFICATION, better="lower", bounds=_ERROR
        ),
        Description(name="f1", label="F1", tasks=_CLASSIFICATION, of_each_class=True),
        Description(name="precision", label="Precision", tasks=_CLASSIFICATION, of_each_class=True),
        Description(
            name="recall", label="Recall", tasks=_CLASSIFICATION, of_each_class=True, constant_can_be_best=True
        ),
        *(
            Description(name=f"{name}_{way}", label=f"{label} ({way})", tasks=_CLASSIFICATION, by_default=False)
            for name, label in _BY_CLASS
            for way in AVERAGES
        ),
        Description(
            name="top_k_accuracy",
            label="Top-k accuracy",
            tasks=_CLASSIFICATION,
            needs=frozenset({"images", "top_k"}),
            is_share_of_rows=True,
            constant_can_be_best=True,
        ),
        Description(
            name=CALIBRATION_ERROR,
            label="Calibration error",
            tasks=_CLASSIFICATION,
            better="lower",
            by_default=False,
            constant_can_be_best=True,
        ),
        Description(
            name="kappa", label="Kappa", tasks=_CLASSIFICATION, bounds=(-1.0, 1.0), needs=frozenset({"images"})
        ),
        Description(
            name="mean_absolute_error", label="Mean absolute error", tasks=_REGRESSION, better="lower", bounds=_ERROR
        ),
        Description(
            name="mean_squared_error", label="Mean squared error", tasks=_REGRESSION, better="lower", bounds=_ERROR
        ),
        Description(
            name="root_mean_squared_error",
            label="Root mean squared error",
            tasks=_REGRESSION,
            better="lower",
            bounds=_ERROR,
        ),
        Description(
            name="squared_pearson_correlation", label="Squared Pearson correlation", tasks=_REGRESSION
        ),
    )
}  # fmt: skip
"""Metrics by name, in display order."""


def names_for(task: Task, *, sees_images: bool = False) -> tuple[str, ...]:
    """Return the metrics that fit a task.

    Args:
        task: The task of the model.
        sees_images: whether one of the model's columns has images.
    """
    return tuple(
        name
        for name, description in CATALOGUE.items()
        if task in description.tasks and (sees_images or "images" not in description.needs)
    )


def default_names(task: Task, *, sees_images: bool = False) -> tuple[str, ...]:
    """Return the metrics that are computed for a task by default.

    Args:
        task: The task of the model.
        sees_images: whether one of the model's columns has images.
    """
    return tuple(name for name in names_for(task, sees_images=sees_images) if CATALOGUE[name].by_default)


def describe(name: str) -> Description | None:
    """Describe a metric of kubetfx, including those of the robustness check and means over folds.

    Args:
        name: The name of the metric.

    Returns:
        None for any other name, such as that of the user's own metric.
    """
    if name.startswith(ROBUSTNESS_PREFIX):
        return Description(
            name=name,
            label=label_of(name),
            tasks=_CLASSIFICATION,
            better="lower",
            bounds=(-1.0, 1.0),
            needs=frozenset({"images", "changed_images"}),
        )
    of_fold = CATALOGUE.get(name.removeprefix(CROSS_VALIDATED_PREFIX))
    if of_fold is None or not name.startswith(CROSS_VALIDATED_PREFIX):
        return of_fold
    return replace(of_fold, name=name, label=label_of(name), needs=of_fold.needs | {"folds"}, is_share_of_rows=False)


def is_reference(name: str) -> bool:
    """Return whether a name has the form `module:attribute`, that of the user's own metric.

    Args:
        name: as pipeline.yaml has it.
    """
    return _REFERENCE.fullmatch(name) is not None


def label_of(name: str) -> str:
    """Return a metric's label: `auc_precision_recall` is `AUC (precision-recall)`.

    Args:
        name: The name of a metric. The label of a user's own metric is made from its name.
    """
    if name in CATALOGUE:
        return CATALOGUE[name].label
    if name.startswith(ROBUSTNESS_PREFIX):
        change, _, strength = name.removeprefix(ROBUSTNESS_PREFIX).rpartition("_")
        return f"Accuracy lost to {_CHANGES.get(change, change)} {strength}"
    if name.startswith(CROSS_VALIDATED_PREFIX):
        return f"{label_of(name.removeprefix(CROSS_VALIDATED_PREFIX))}, cross-validated"
    return name.rpartition(":")[2].replace("_", " ").capitalize()


def better_of(name: str, known: Mapping[str, Better] | None = None) -> Better:
    """Return which values of a metric are better; `higher` if this is not known.

    Args:
        name: The name of the metric.
        known: for the metrics of the user's own, which the catalogue lacks.
    """
    description = describe(name)
    return description.better if description else (known or {}).get(name, "higher")


def worsening(value: float, reference: float, better: Better) -> float:
    """Return how much worse a value of a metric is than another one; negative if it is better.

    Args:
        value: in the metric's own unit.
        reference: the other one.
        better: which values of the metric are better.
    """
    return reference - value if better == "higher" else value - reference
