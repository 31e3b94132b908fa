"""The model card: statements from the config, and measured facts. As Markdown, and for the report.

After M. Mitchell et al., "Model Cards for Model Reporting", 2019.
"""

from collections.abc import Iterator

from kubetfx.components.evaluation.evaluation_result import format_metric
from kubetfx.components.report.facts import Facts
from kubetfx.components.report.markdown import escaped
from kubetfx.config.metric_catalogue import label_of

Block = str | list[str]
"""A paragraph, or the items of a list."""

MISSING = "Not stated. It belongs in the config: card.{}."


def sections(facts: Facts) -> list[tuple[str, list[Block]]]:
    """Return headings, each with its content.

    Args:
        facts: The facts of the run.
    """
    card = facts.settings.card
    found: list[tuple[str, list[Block]]] = [
        ("Purpose", [card.purpose or MISSING.format("purpose")]),
        ("Owner", [card.owner or MISSING.format("owner"), *([f"Contact: {card.contact}"] if card.contact else [])]),
        ("Limits", [list(card.limits) or MISSING.format("limits"), *_measured_limits(facts)]),
    ]
    if card.ethics:
        found.append(("Ethical considerations", [card.ethics]))
    found.append(("Model", [list(_model(facts))]))
    if facts.data:
        found.append(("Data", [list(_data(facts))]))
    if facts.evaluation:
        found.append(("Measured on the evaluation split", [list(_metrics(facts))]))
    if card.license:
        found.append(("License", [card.license]))
    return found


def markdown(facts: Facts) -> str:
    """Return the card as Markdown.

    Args:
        facts: The facts of the run.
    """
    lines = [f"# Model card: {escaped(facts.settings.model_name)}", ""]
    for heading, blocks in sections(facts):
        lines += [f"## {heading}", ""]
        for block in blocks:
            lines += [f"- {escaped(item)}" for item in block] if isinstance(block, list) else [escaped(block)]
            lines.append("")
    return "\n".join(lines)


def _model(facts: Facts) -> Iterator[str]:
    settings, training = facts.settings, facts.training
    yield f"Predicts {facts.label or 'the label'}, a {settings.task}."
    if facts.quality and facts.quality.classes:
        yield f"Classes: {', '.join(facts.quality.classes[:50])}."
    if training and training.taken:
        yield training.taken
    for one in filter(None, (training, training and training.beside)):
        if one.kind == "trees":
            yield f"{one.trees:,} boosted trees with {one.parameters:,} leaves."
        elif one.parameters is not None:
            yield f"A network of {len(one.layers)} layers and {one.parameters:,} parameters."
        learned = "weights" if one.kind == "network" else "trees"
        kept = f"; the {learned} are those of {one.unit} {one.best_epoch}" if one.best_epoch else ""
        yield f"Trained for {one.epochs} {one.unit}s{kept}."
    if facts.push and facts.push.version:
        yield f"Pushed as version {facts.push.version}."


def _data(facts: Facts) -> Iterator[str]:
    data = facts.data
    assert data is not None
    if facts.settings.card.data_source:
        yield f"Source: {facts.settings.card.data_source}"
    splits = ", ".join(f"{split.rows:,} {split.name}" for split in data.splits)
    yield f"{data.rows:,} rows ({splits}), {len(data.columns):,} columns."
    if data.excluded:
        yield f"Left out as features: {', '.join(column.name for column in data.excluded[:20])}."


def _metrics(facts: Facts) -> Iterator[str]:
    evaluation = facts.evaluation
    assert evaluation is not None
    for metric in evaluation.metrics:
        interval = metric.interval
        between = (
            f", 95 % between {format_metric(interval.lower)} and {format_metric(interval.upper)}" if interval else ""
        )
        yield f"{label_of(metric.name)}: {format_metric(metric.value)}{between}."


def _measured_limits(facts: Facts) -> Iterator[Block]:
    """Yield weaknesses of the model according to the figures."""
    evaluation = facts.evaluation
    weak = [one for one in evaluation.slices if (one.behind or 0) > 0 and not one.is_small][:3] if evaluation else []
    if evaluation and weak:
        names = "; ".join(f"{one.name} ({format_metric(one.value or 0)})" for one in weak)
        yield f"Measured: weakest by {label_of(evaluation.ranked_by)} where {names}."
    if facts.data and facts.data.rows and min((split.rows for split in facts.data.splits), default=0) < 100:
        yield "Measured on few rows: the intervals are wide."
