"""Chooses the figure of each fact, with the words that a screen reader says instead. figures.py draws them."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from kubetfx.components.evaluation.evaluation_result import format_metric
from kubetfx.components.report import figures
from kubetfx.components.report.comparison import Comparison
from kubetfx.components.report.facts import Curve, Quality, Training
from kubetfx.components.report.formats import number
from kubetfx.config.metric_catalogue import label_of
from kubetfx.run_record import FUSED, RunRecord


def is_curve(name: str) -> bool:
    """Return whether a series of the history has a figure of its own.

    Args:
        name: The name of the series.
    """
    return not name.startswith("val_") and name not in ("learning_rate", "lr")


def training_curve(training: Training, name: str) -> Markup:
    """Return a metric over the epochs, for training and validation.

    Args:
        training: with its history.
        name: The name of the metric.
    """
    series = [figures.Series("training", training.history[name])]
    validation = training.history.get(f"val_{name}")
    if validation:
        series.append(figures.Series("validation", validation, color=2))
    words = "; ".join(
        f"{one.name} from {number(one.values[0])} to {number(one.values[-1])}" for one in series if one.values
    )
    best = f"; the best {training.unit} is {training.best_epoch}" if training.best_epoch else ""
    return figures.lines(
        series,
        label=f"{label_of(name)} over {training.epochs} {training.unit}s: {words}{best}",
        y_label=name.replace("_", " "),
        unit=training.unit,
        best=training.best_epoch,
        stopped=training.epochs if training.stopped_early else None,
    )


def learning_rate(training: Training) -> Markup:
    """Return the learning rate over the epochs.

    Args:
        training: with its learning rates.
    """
    rates = training.learning_rate
    label = f"Learning rate from {number(rates[0])} to {number(rates[-1])}"
    return figures.lines([figures.Series("rate", rates)], label=label, y_label="learning rate")


def overlaid(found: Comparison) -> Iterator[tuple[str, Markup]]:
    """Yield the name of a curve, and both runs in one figure, of the validation rows where there are some.

    Args:
        found: the two runs.
    """
    first, second = found.first.training, found.second.training
    if first is None or second is None:
        return
    for name in (name for name in first.history if is_curve(name) and name in second.history):
        key = f"val_{name}" if {f"val_{name}"} <= first.history.keys() & second.history.keys() else name
        of = "validation" if key != name else "training"
        series = [figures.Series("first", first.history[key]), figures.Series("second", second.history[key], color=2)]
        ends = "; ".join(f"{one.name} run ends at {number(one.values[-1])}" for one in series if one.values)
        label = f"{label_of(name)} of the {of} rows over the epochs: {ends}"
        yield f"{label_of(name)}, {of}", figures.lines(series, label=label, y_label=name.replace("_", " "))


def roc(found: Sequence[Curve]) -> Markup:
    """Return recall over the false-positive rate.

    Args:
        found: a curve per class.
    """
    return figures.curves(
        found, label=_in_words(found, "ROC curve"), x_label="false-positive rate", y_label="recall", diagonal=True
    )


def precision_recall(found: Sequence[Curve]) -> Markup:
    """Return precision over recall.

    Args:
        found: a curve per class.
    """
    return figures.curves(
        found, label=_in_words(found, "Precision over recall"), x_label="recall", y_label="precision", diagonal=False
    )


def _in_words(found: Sequence[Curve], name: str) -> str:
    return f"{name}. Area under the curve: " + "; ".join(f"{one.name} {format_metric(one.area or 0)}" for one in found)


def calibration(quality: Quality) -> Markup:
    """Return the observed share over the predicted probability.

    Args:
        quality: with its calibration.
    """
    words = "; ".join(f"predicted {one.predicted:.2f}, observed {one.observed:.2f}" for one in quality.calibration)
    return figures.calibration(quality.calibration, label=f"Calibration: {words}")


def scatter(quality: Quality) -> Markup:
    """Return predicted over true values.

    Args:
        quality: The quality of a regression.
    """
    points = quality.predicted_against_true
    return figures.scatter(points, label=f"Predicted against true values of {len(points)} rows")


def residuals(quality: Quality) -> Markup:
    """Return the histogram of the residuals.

    Args:
        quality: The quality of a regression.
    """
    mean, deviation = quality.residual_mean or 0.0, quality.residual_deviation or 0.0
    return figures.histogram(
        quality.residual_edges,
        quality.residual_counts,
        label=f"Histogram of the residuals, mean {format_metric(mean)}, standard deviation {format_metric(deviation)}",
        x_label="predicted less true",
    )


def steps(record: RunRecord) -> list[figures.Step]:
    """Return the nodes of a run, those that were not reached included.

    Args:
        record: how the run went.
    """
    by_id = {name: node for node in record.nodes for name in node.id.split(FUSED)}
    found = []
    for name in dict.fromkeys([*record.planned_nodes, *by_id]):
        node = by_id.get(name)
        if node is None:
            found.append(figures.Step(name, "not reached"))
        else:
            found.append(figures.Step(name, node.state, node.seconds, tuple(node.upstream), tuple(node.outputs)))
    return found
