"""How a run ended: tables and words for people, and the document of `--format json`."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubetfx.cli.invocation import MAX_SLICES, quoted, shown
from kubetfx.cli.output import Output
from kubetfx.cli.serve_commands import MISSING_IN_REQUESTS
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.errors import NotBlessedError

if TYPE_CHECKING:
    from kubetfx.components.evaluation.evaluation_result import EvaluationResult
    from kubetfx.pipeline.run_result import RunResult


def check_blessed(result: "RunResult", config: PipelineConfig, output: Output) -> None:
    """Let the command fail, with the metrics, if the model missed a threshold.

    Args:
        result: The result of the run.
        config: The config of the pipeline.
        output: The output of the command.

    Raises:
        NotBlessedError: it did.
    """
    if result.evaluation is None or result.blessed:
        return
    if output.format == "human":
        _print_metrics(result, output)
    error = NotBlessedError(
        "The model was not pushed, because it missed a threshold:\n"
        + "\n".join(f"  {failure}" for failure in result.evaluation.failures),
        run=as_document(result, config),
    )
    error.report_path = result.report_path
    raise error


def print_result(result: "RunResult", config: PipelineConfig, output: Output, *, config_path: Path) -> None:
    """Print how a run ended, and how to ask the model.

    Args:
        result: The result of the run.
        config: The config of the pipeline.
        output: The output of the command.
        config_path: The path of pipeline.yaml, for the commands.
    """
    if output.format == "json":
        output.document(as_document(result, config))
        return
    _print_metrics(result, output)
    if not result.changed:
        output.say("Nothing changed: every node was taken from the cache.")
    if result.pushed_version is not None:
        verb = "Pushed" if result.is_new_version else "Still served:"
        output.say(
            f"{verb} {config.model_name} version {result.pushed_version} in {shown(config.push_path)}", style="green"
        )
        _print_calls(config, output, config_path=config_path)
    if result.waiting_version is not None:
        output.say(f"{config.model_name} version {result.waiting_version} waits for approval.", style="yellow")
        output.say(f"Next: kubetfx approve {quoted(config_path)} {result.waiting_version} --reason WHY")
    if result.report_path:
        output.say(f"Report: {shown(result.report_path)}")


def _print_calls(config: PipelineConfig, output: Output, *, config_path: Path) -> None:
    """Print how to ask the model, in commands that can be copied."""
    from kubetfx.components.push import push_directory

    request = push_directory.request_path(config.push_path)
    if request is None:
        output.say(f"Next: kubetfx predict {quoted(config_path)} --rows ROWS.csv; kubetfx serve {quoted(config_path)}")
        return
    copy = config.workspace_path / "request.json"
    copy.write_bytes(request.read_bytes())
    endpoint = config.serving.endpoint
    rest = (endpoint and endpoint.rest) or "http://localhost:8501"
    grpc = (endpoint and endpoint.grpc) or "localhost:8500"
    output.say("Next:")
    output.say(f"  kubetfx serve {quoted(config_path)}")
    output.say(f"  curl -d {shlex.quote(f'@{shown(copy)}')} {rest}/v1/models/{config.model_name}:predict")
    output.say(f"  kubetfx predict {quoted(config_path)} --rows {quoted(copy)} --grpc {grpc}")
    if config.data.format != "images":
        output.say(f"  {MISSING_IN_REQUESTS}")


def _print_metrics(result: "RunResult", output: Output) -> None:
    for warning in result.warnings:
        output.say(f"Anomaly: {warning}", style="yellow")
    for column, reason in result.excluded_columns.items():
        output.say(f"Not used as a feature: {column}, {reason}")
    for note in result.notes:
        output.say(note)
    if result.evaluation is not None:
        _print_evaluation(result.evaluation, output)


def _print_evaluation(evaluation: "EvaluationResult", output: Output) -> None:
    if evaluation.not_compared_because:
        reason = evaluation.not_compared_because
        output.say(f"Not compared with what is served: {reason}.", style="yellow")
    for note in evaluation.notes:
        output.say(note, style="yellow")
    others = {"served": evaluation.baseline_metrics, **evaluation.simple_metrics}
    columns = {name: metrics for name, metrics in others.items() if metrics}
    output.table(
        ["metric", "value ", *(f"{name} " for name in columns), "threshold", ""],
        _metric_rows(evaluation, list(columns.values())),
    )
    if evaluation.by_class:
        _print_classes(evaluation, output)
    if evaluation.slices:
        _print_slices(evaluation, output)


def _metric_rows(evaluation: "EvaluationResult", others: list[dict[str, float]]) -> list[list[str]]:
    from kubetfx.components.evaluation.evaluation_result import format_metric

    rows = []
    for name, value in evaluation.metrics.items():
        checks = [check for check in evaluation.checks if check.metric == name and check.slice is None]
        bounds = "; ".join(check.describe_bound() for check in checks)
        verdict = "" if not checks else "ok" if all(check.passed for check in checks) else "MISSED"
        beside = [format_metric(metrics[name]) if name in metrics else "" for metrics in others]
        rows.append([name, format_metric(value), *beside, bounds, verdict])
    return rows


def _print_classes(evaluation: "EvaluationResult", output: Output) -> None:
    """Print the classes of images by their F1, the weakest first."""
    with_images = [entry for entry in evaluation.by_class.items() if entry[1]["images"]]
    ranked = sorted(with_images, key=lambda entry: entry[1]["f1"])
    rows = [
        [name, f"{values['images']:,.0f}", *(f"{values[key]:.4f}" for key in ("precision", "recall", "f1"))]
        for name, values in ranked[:MAX_SLICES]
    ]
    title = f"Classes, the weakest {len(rows)} of {len(ranked)}" if len(rows) < len(ranked) else "Classes"
    output.table(["class", "images ", "precision ", "recall ", "f1 "], rows, title=title)


def _print_slices(evaluation: "EvaluationResult", output: Output) -> None:
    """Print the slices by the metric that ranks them, the weakest first."""
    from kubetfx.components.evaluation.evaluation_result import COUNT, format_metric

    metric = evaluation.ranked_by
    slices = [one for one in evaluation.ranked_slices if one.behind is not None]
    shown = slices[:MAX_SLICES]
    verdicts = {name: _slice_verdict(evaluation, name) for name in evaluation.slices}
    rows = [
        [one.name, format_metric(one.metrics[COUNT]), format_metric(one.metrics[metric]), verdicts[one.name]]
        for one in shown
    ]
    title = (
        f"Slices, the weakest {len(shown)} of {len(slices)}"
        if len(shown) < len(slices)
        else "Slices, the weakest first"
    )
    output.table(["slice", "rows ", f"{metric} ", ""], rows, title=title)


def _slice_verdict(evaluation: "EvaluationResult", name: str) -> str:
    checks = [check for check in evaluation.checks if check.slice == name]
    if not all(check.passed for check in checks):
        return "MISSED"
    return "too few rows" if any(check.unjudged for check in checks) else "ok" if checks else ""


def as_document(result: "RunResult", config: PipelineConfig) -> dict[str, Any]:
    """Return the document of `--format json`.

    Args:
        result: The result of the run.
        config: The config of the pipeline.
    """
    evaluation = result.evaluation
    return {
        "name": config.name,
        "run_id": result.run_id,
        "changed": result.changed,
        "nodes": [
            {"id": node.node_id, "state": node.state, "seconds": round(node.seconds, 3), "log": str(node.log_path)}
            for node in result.nodes
        ],
        "metrics": result.metrics,
        "served_metrics": evaluation.baseline_metrics if evaluation else {},
        "simple_metrics": evaluation.simple_metrics if evaluation else {},
        "slices": evaluation.slices if evaluation else [],
        "by_class": evaluation.by_class if evaluation else {},
        "checks": [asdict(check) for check in evaluation.checks] if evaluation else [],
        "excluded_columns": result.excluded_columns,
        "warnings": result.warnings,
        "notes": result.notes,
        "evaluation_notes": evaluation.notes if evaluation else [],
        "not_compared_because": evaluation.not_compared_because if evaluation else None,
        "blessed": result.blessed,
        "pushed_version": result.pushed_version,
        "is_new_version": result.is_new_version,
        "waiting_version": result.waiting_version,
        "push_directory": str(config.push_path),
        "report": str(result.report_path) if result.report_path else None,
    }
