"""Renders facts: the whole report, and its parts, each as a self-contained HTML page.

Jinja2 escapes everything that comes from data; pages have no scripts and send no requests.
"""

import functools
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from kubetfx.byte_counts import readable
from kubetfx.components.evaluation.cross_validated import CrossValidated
from kubetfx.components.evaluation.evaluation_result import format_metric
from kubetfx.components.report import card, figures, formats, plots, tuning_figures
from kubetfx.components.report.answer import answer
from kubetfx.components.report.comparison import Comparison
from kubetfx.components.report.evaluation_facts import Evaluation
from kubetfx.components.report.facts import AnomalyFact, Column, Data, Facts, Training
from kubetfx.config.metric_catalogue import ROBUSTNESS_PREFIX, label_of
from kubetfx.provenance import said_of_files
from kubetfx.run_record import RunRecord
from kubetfx.version import own_version

TEMPLATES = Path(__file__).parent / "templates"
MAX_ROWS = 200
"""Rows of a plain table."""
_NO_HTML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""Characters that no HTML file may have, and a column's name can."""


def report(facts: Facts, record: RunRecord | None = None, *, history: Sequence[str] = ()) -> str:
    """Return the whole report.

    Args:
        facts: The facts of the run.
        record: The record of the run, or None.
        history: The events of the pushed version, a line each.
    """
    importances = {one.column: one for one in facts.quality.importance} if facts.quality else {}
    has_slices = bool(facts.evaluation and facts.evaluation.slices)
    contents = [("answer", "Answer")]
    contents += [("data", "Data")] * (facts.data is not None)
    contents += [("tuning", "Search for settings")] * (facts.tuning is not None)
    contents += [("training", "Training")] * (facts.training is not None)
    contents += [("quality", "Quality")] * (facts.quality is not None or has_slices)
    contents += [("cross-validation", "Cross-validation")] * (facts.cross_validation is not None)
    contents += [("evaluation", "Why this verdict")] * (facts.evaluation is not None)
    contents += [("provenance", "Provenance"), ("card", "Model card")]
    return rendered(
        "report.html.j2",
        facts=facts,
        record=record,
        answer=answer(facts, record),
        contents=contents,
        importances=importances,
        steps=plots.steps(record) if record else [],
        machine=_machine(facts, record),
        command=shlex.join(record.command or ["kubetfx", "run", "pipeline.yaml"]) if record else "",
        config_yaml=yaml.safe_dump(record.config, sort_keys=False, allow_unicode=True) if record else "",
        card=card.sections(facts),
        version=own_version(),
        files=said_of_files(facts.origin.files) if facts.origin else [],
        history=history,
    )


def _machine(facts: Facts, record: RunRecord | None) -> list[tuple[str, str]]:
    machine = record.machine if record else {}
    hardware = facts.training.hardware if facts.training else {}
    memory = machine.get("memory_bytes")
    entries = {
        "System": machine.get("system"),
        "Architecture": machine.get("architecture"),
        "Processor": hardware.get("processor"),
        "Accelerators": ", ".join(hardware.get("accelerators", [])),
        "Cores": machine.get("cores"),
        "Memory": readable(memory) if memory else None,
        "Python": machine.get("python"),
    }
    return [(name, str(value)) for name, value in entries.items() if value]


def comparison(found: Comparison) -> str:
    """Return two runs side by side.

    Args:
        found: the runs.
    """
    return rendered("comparison.html.j2", comparison=found, curves=list(plots.overlaid(found)))


# The pieces, one by one.


def page(title: str, content: Markup) -> str:
    """Return a piece as a page of its own.

    Args:
        title: The title of the page.
        content: the piece.
    """
    return rendered("page.html.j2", title=title, content=content)


def text_page(title: str, text: str) -> str:
    """Return a page with a sentence.

    Args:
        title: The title of the page.
        text: the sentence.
    """
    return page(title, Markup("<p>{}</p>").format(text))


def table_page(
    title: str, headers: Sequence[str], rows: Sequence[Sequence[object]], *, notes: Sequence[str] = ()
) -> str:
    """Return a page with a table.

    Args:
        title: The title of the page.
        headers: The headers of the columns.
        rows: the cells of each; MAX_ROWS of them at most are shown.
        notes: sentences above the table.
    """
    return page(title, Markup(_parts().plain_table(headers, rows[:MAX_ROWS], notes, len(rows))))


def statistics_page(data: Data) -> str:
    """Return a page with histograms and top values of every column.

    Args:
        data: facts about the data.
    """
    return page("Statistics", Markup(_parts().rows_of(data) + _parts().statistics(data)))


def schema_page(columns: Sequence[Column]) -> str:
    """Return a page with the role of each column, and the reason.

    Args:
        columns: The columns of the data.
    """
    return page("Schema", _parts().schema_part(columns))


def anomalies_page(found: Sequence[AnomalyFact]) -> str:
    """Return a page of anomalies, each with its remedy.

    Args:
        found: the anomalies.
    """
    return page("Anomalies", _parts().anomalies(found))


def training_page(training: Training) -> str:
    """Return a page with curves, diagnosis and layers.

    Args:
        training: facts about the training.
    """
    return page("Training", _parts().training_part(training))


def evaluation_page(evaluation: Evaluation) -> str:
    """Return a page with the verdict and its reasons, metrics and slices.

    Args:
        evaluation: facts about the evaluation.
    """
    return page("Evaluation", _parts().evaluation_part(evaluation, full=False))


def cross_validation_page(found: CrossValidated) -> str:
    """Return a page with the metrics of all folds.

    Args:
        found: the folds.
    """
    return page("Cross-validation", _parts().cross_validation_part(found))


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "areas": lambda found: [f"{formats.shorten(one.name, 30)} ({format_metric(one.area)})" for one in found],
        "bound": lambda check: check.describe_bound(),
        "breakable": figures.break_long,
        "by_split": formats.by_split,
        "ceiling": formats.ceiling,
        "cell": formats.cell,
        "count": formats.count,
        "curve_names": lambda training: [name for name in training.history if plots.is_curve(name)],
        "margin": lambda check: "" if check.margin is None else formats.signed(check.margin),
        "digits1": lambda value: formats.number(value, digits=1),
        "digits2": lambda value: formats.number(value, digits=2),
        "digits3": lambda value: formats.number(value, digits=3),
        "distance": formats.distance,
        "distinct": formats.distinct,
        "duration": formats.duration,
        "ends": figures.ends,
        "importance_width": formats.importance_width,
        "metric": format_metric,
        "metric_label": label_of,
        "number": formats.number,
        "quoted": shlex.quote,
        "ranked": formats.ranked,
        "robustness": lambda metrics: [one for one in metrics if one.name.startswith(ROBUSTNESS_PREFIX)],
        "role": formats.role,
        "shade": figures.confusion_shade,
        "shape": formats.shape,
        "share": formats.share,
        "shares": formats.shares,
        "short": formats.shorten,
        "signed": formats.signed,
        "slice_range": formats.slice_range,
        "split_label": formats.split_label,
        "time": formats.time,
        "told_checks": formats.told_checks,
        "value_bars": formats.value_bars,
        "value_range": formats.value_range,
    }
    environment.tests["numeric"] = formats.is_number
    environment.globals |= {
        "calibration_figure": plots.calibration,
        "chain": figures.chain,
        "column_bars": figures.column_bars,
        "fold_strip": figures.fold_strip,
        "interval_figure": figures.interval,
        "learning_rate_curve": plots.learning_rate,
        "precision_recall_figure": plots.precision_recall,
        "residual_figure": plots.residuals,
        "roc_figure": plots.roc,
        "scatter_figure": plots.scatter,
        "version": own_version(),
        "style": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        "training_curve": plots.training_curve,
        "tuning_best": tuning_figures.best_trials,
        "tuning_history": tuning_figures.history,
        "tuning_importance": tuning_figures.importance,
        "tuning_parallel": tuning_figures.parallel_coordinates,
    }
    return environment


def rendered(template: str, **values: Any) -> str:
    """Return a document of a template.

    Args:
        template: name of its file.
        values: that it has.
    """
    text = _environment().get_template(template).render(**values).lstrip() + "\n"
    return _NO_HTML.sub("\N{REPLACEMENT CHARACTER}", text)


def _parts() -> Any:
    return _environment().get_template("parts.html.j2").module
