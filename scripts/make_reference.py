"""Write docs/reference from what the code says: keys of pipeline.yaml, commands, exit codes, metrics, Python, server.

    python scripts/make_reference.py

`tests/test_reference.py` fails where a page is not what this writes.
"""

import ast
import inspect
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import python_reference
import typer
import yaml
from config_examples import Effects, example_of, nested
from typer.cli import get_docs_for_click

from kubetfx import errors
from kubetfx.cli.app import app
from kubetfx.config.metric_catalogue import CATALOGUE
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.serving import rest
from kubetfx.serving.grpc_server import GrpcOptions
from kubetfx.serving.prometheus import Metrics
from kubetfx.serving.status import Code

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
Schema = Mapping[str, Any]


def config_page() -> str:
    """Return the page of every key of pipeline.yaml."""
    schema = PipelineConfig.model_json_schema()
    sections = [
        "# Keys of pipeline.yaml\n",
        "<!-- scripts/make_reference.py writes this page. -->\n",
        "A key with dots is one below another: `training.epochs` is `training: {epochs: ...}`. `--set KEY=VALUE` of a "
        "command overrides a value in the file, and `kubetfx schema` prints all of this for an editor.\n",
        "*Runs again from* is the first component that is executed again when the key is changed; those that need its "
        "outputs follow, and the others come from the cache. It is what the example changes in the pipeline.\n",
    ]
    effects = Effects()
    sections += _section(schema, schema["$defs"], effects, path="")
    effects.end()
    return "\n".join(sections)


def examples(section: Schema, definitions: Schema, *, path: str = "") -> Iterator[tuple[str, Any]]:
    """Give each key that has an example, and the example.

    Args:
        section: its JSON schema.
        definitions: those of the schema.
        path: of the section, with a dot at its end.
    """
    for key, field in section["properties"].items():
        parts = [_followed(part, definitions) for part in field.get("anyOf", [field])]
        example = example_of(f"{path}{key}", field, parts)
        if example is not None:
            yield f"{path}{key}", example
        for part in parts:
            if "properties" in part:
                yield from examples(part, definitions, path=f"{path}{key}.")


def _section(section: Schema, definitions: Schema, effects: Effects, *, path: str) -> Iterator[str]:
    """Yield the table of a section, and after it those of the sections below it."""
    below: list[tuple[str, Schema]] = []
    rows = []
    required = section.get("required", ())
    for key, field in section["properties"].items():
        dotted = f"{path}{key}"
        parts = [_followed(part, definitions) for part in field.get("anyOf", [field])]
        own = [part for part in parts if "properties" in part]
        below += [(dotted, part) for part in own]
        words = _one_line(field.get("description") or (own[0].get("description", "") if own else ""))
        default = "required" if key in required else _default(field, is_section=bool(own))
        example = example_of(dotted, field, parts)
        effect = ""
        if example is not None:
            words += f" Example: `{_flow(nested(key, example))}`.".replace("|", "\\|")
            effect = effects.of(dotted, example)
        rows.append(f"| `{dotted}` | {_takes(parts, definitions)} | {default} | {effect} | {words} |")
    if path:
        yield f"\n## {path.removesuffix('.')}\n"
        yield f"{_one_line(section.get('description', ''))}\n"
    yield "| key | takes | default | runs again from | |\n|---|---|---|---|---|"
    yield from rows
    for dotted, part in below:
        yield from _section(part, definitions, effects, path=f"{dotted}.")


def _followed(part: Schema, definitions: Schema) -> Schema:
    return definitions[part["$ref"].rpartition("/")[2]] if "$ref" in part else part


def _takes(parts: list[Schema], definitions: Schema) -> str:
    return " or ".join(dict.fromkeys(words for part in parts if (words := _type(part, definitions))))


def _type(part: Schema, definitions: Schema) -> str:
    part = _followed(part, definitions)
    if "properties" in part:
        return "a section"
    if "anyOf" in part:
        return _takes([_followed(one, definitions) for one in part["anyOf"]], definitions)
    if "enum" in part or "const" in part:
        return ", ".join(f"`{_yaml(value)}`" for value in part.get("enum", [part.get("const")]))
    kind = part.get("type")
    if kind == "array":
        item = part.get("items") or {}
        if not item and "prefixItems" in part:
            return f"a list of {len(part['prefixItems'])}: {_type(part['prefixItems'][0], definitions)}"
        return f"a list of {_type(item, definitions)}" if item else "a list"
    if kind == "object":
        values = part.get("additionalProperties")
        return f"names with {_type(values, definitions)}" if isinstance(values, dict) else "names with values"
    words = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`", "string": "text"}
    bounds = [
        f"{sign} {_yaml(part[name])}"
        for name, sign in (
            ("exclusiveMinimum", "above"), ("minimum", "from"), ("exclusiveMaximum", "below"), ("maximum", "to"),
        )
        if name in part
    ]  # fmt: skip
    return " ".join([words.get(str(kind), ""), *bounds]).strip()


def _default(field: Schema, *, is_section: bool) -> str:
    value = field.get("default")
    if is_section and isinstance(value, dict):
        return "as below"
    return f"`{_yaml(value)}`" if value is not None else ""


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _flow(content: Any) -> str:
    """One key and its value, as a line of YAML."""
    text = yaml.safe_dump(content, default_flow_style=True, sort_keys=False, width=1_000, allow_unicode=True).strip()
    return text.removeprefix("{").removesuffix("}")


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def commands_page() -> str:
    """Return the page of every command."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="kubetfx", title="Commands")
    head, _, rest = text.partition("\n")
    return f"{head}\n\n<!-- scripts/make_reference.py writes this page. -->\n{rest.rstrip()}\n"


_EXIT_CODES = {
    0: "The command did what it was asked. A run pushed a model, or there was nothing new to push.",
    1: "Something failed while it ran.",
    2: "Nothing was started: the command, the config or the data is wrong.",
    3: "Stopped by anomalies of the data. `kubetfx monitor`: a bound is crossed.",
    4: "The model missed a threshold, so nothing was pushed.",
    130: "Interrupted by Ctrl-C. A run on Kubeflow that is no longer followed goes on.",
}
_COMMAND_CODES = {
    "lint": (
        "1: Kubeflow Pipelines would refuse something; 0: it would not, though there may be warnings; 2: there is no "
        "package to read."
    ),
    "monitor": "3: a bound of the section `monitoring` is crossed; 2: nothing could be compared.",
    "submit` and `kubetfx retry": (
        "0: the run succeeded, or was started with `--no-wait`; 1: it failed; 130: it is no longer followed, and goes "
        "on."
    ),
    "watch --once": "That of the run, or 0 if there was no reason to run.",
    "run --watch": "0 after Ctrl-C while it waits, 130 during a run.",
    "node": "The last node of a run ends as `kubetfx run` does.",
    "track": "1: a run still waits to be sent.",
    "doctor": "1: something is wrong; each finding is printed.",
    "mirror --once": "1: a model was not copied.",
}


def exit_codes_page() -> str:
    """Return the page of exit codes and of the errors that they belong to."""
    by_code = defaultdict(list)
    for name, error in inspect.getmembers(errors, inspect.isclass):
        if issubclass(error, errors.KubetfxError) and not name.startswith("_"):
            by_code[error.exit_code].append((name, _one_line((error.__doc__ or "").partition("\n\n")[0])))
    lines = [
        "# Exit codes and errors\n",
        "<!-- scripts/make_reference.py writes this page. -->\n",
        "| exit code | meaning |\n|---|---|",
        *(f"| {code} | {words} |" for code, words in _EXIT_CODES.items()),
        "\nSome commands use them as follows:\n",
        "| command | |\n|---|---|",
        *(f"| `kubetfx {command}` | {words} |" for command, words in _COMMAND_CODES.items()),
        "\n## Errors\n",
        "Every message says what is wrong, then `Received: ...`, then what to do. With `--format json` it is "
        "printed as "
        '`{"error": {"message": ..., "exit_code": ...}}`. In Python each is an exception of `kubetfx.errors`:\n',
        "| exception | exit code | |\n|---|---|---|",
    ]
    for code, found in sorted(by_code.items()):
        lines += [f"| `{name}` | {code} | {words} |" for name, words in found]
    lines += ["\nWhich is a subclass of which:\n", "```"]
    tree = (errors.__doc__ or "").partition("\n\n")[2].partition("\n\n")[0]
    lines += [line.removeprefix("    ") for line in tree.splitlines()]
    return "\n".join([*lines, "```"]) + "\n"


_MEANINGS = {
    "accuracy": "Share of the rows whose likeliest class is right.",
    "auc": "Area under the ROC curve.",
    "auc_precision_recall": "Area under the curve of precision over recall.",
    "cross_entropy": "Mean of the negative natural logarithm of the probability of the right class.",
    "f1": "Harmonic mean of precision and recall.",
    "precision": "Share of the rows given a class that are of that class.",
    "recall": "Share of the rows of a class that are given it.",
    "top_k_accuracy": "Share of the images whose class is among the `model.top_k` likeliest.",
    "calibration_error": (
        "How far probabilities are from the share that comes true: [calibration](../metrics.md#calibration)."
    ),
    "kappa": "Cohen's kappa: agreement beyond chance.",
    "mean_absolute_error": "Mean of the absolute error, in the unit of the label.",
    "mean_squared_error": "Mean of the squared error.",
    "root_mean_squared_error": "Square root of the mean of the squared error, in the unit of the label.",
    "squared_pearson_correlation": "Square of Pearson's correlation of labels and predictions.",
}
_WAYS = {
    "macro": "The mean over the classes that have rows.",
    "weighted": "The mean over the classes, weighted by their rows.",
    "micro": "Over the rows of all classes together.",
}


def metrics_page() -> str:
    """Return the page of the metrics that a pipeline.yaml may name."""
    lines = [
        "# Metrics\n",
        "<!-- scripts/make_reference.py writes this page. -->\n",
        "Names for `evaluation.metrics` and `evaluation.thresholds`. Those of a task are computed by default "
        "unless the table says otherwise. "
        "[Metrics, slices, weights and calibration](../metrics.md) explains how they are computed, and has the "
        "fields of metrics.json.\n",
        "| name | task | better | range | by default | meaning |\n|---|---|---|---|---|---|",
    ]
    for name, one in CATALOGUE.items():
        base, _, way = name.rpartition("_")
        words = _MEANINGS.get(name) or f"{_MEANINGS[base]} {_WAYS[way]}"
        classes = " It is that of the second of two classes, or a mean over more." if one.of_each_class else ""
        default = "with images" if "images" in one.needs and one.by_default else "yes" if one.by_default else "no"
        low, high = (f"{bound:g}" for bound in one.bounds)
        lines.append(
            f"| `{name}` | {', '.join(one.tasks)} | {one.better} | {low} to {high} | {default} | {words}{classes} |"
        )
    lines += [
        "\nBesides these:\n",
        "- `drop_CHANGE_STRENGTH`, such as `drop_blur_1.5`: the accuracy that a change of the images costs "
        "(`evaluation.robustness`).",
        "- `cross_validated_NAME`, such as `cross_validated_auc`: the mean over the folds of "
        "`evaluation.cross_validation`.",
        "- `module:attribute`: [a metric of your own](../how-to/own-component.md#a-metric).",
        "- `example_count`: rows of the evaluation split. It is always shown, and takes no threshold.",
    ]
    return "\n".join(lines) + "\n"


def server_page() -> str:
    """Return the page of the server's endpoints, limits, statuses and metrics."""
    routes = inspect.cleandoc(rest.__doc__ or "").partition("\n\n")[2].partition("\n\n")[0]
    lines = [
        "# The server\n",
        "<!-- scripts/make_reference.py writes this page. -->\n",
        "`kubetfx serve` speaks the REST and gRPC protocols of TensorFlow Serving. Its options are [among the "
        "commands](commands.md#kubetfx-serve). "
        "[Serving](../serving.md) shows how to use it.\n",
        "## REST\n",
        "```",
        *(line.removeprefix("    ") for line in routes.splitlines()),
        "```\n",
        "| setting | default | |\n|---|---|---|",
        *_options(rest.RestOptions),
        "\n## gRPC\n",
        "The services `tensorflow.serving.PredictionService` (Predict, Classify, Regress, MultiInference, "
        "GetModelMetadata) and "
        "`tensorflow.serving.ModelService` (GetModelStatus, HandleReloadConfigRequest), gRPC health checking and "
        "server reflection.\n",
        "| setting | default | |\n|---|---|---|",
        *_options(GrpcOptions),
        "\n## Status codes\n",
        "| gRPC | HTTP |\n|---|---|",
        *(f"| {code.name} | {rest._HTTP_STATUS[code]} |" for code in Code),
        "\n## Metrics\n",
        "`GET /monitoring/prometheus/metrics`, in Prometheus's text format, under the names of TensorFlow Serving:\n",
        "| name | kind | labels | |\n|---|---|---|---|",
    ]
    for metric in _observed().collect():
        labels = sorted({label for sample in metric.samples for label in sample.labels} - {"le"})
        kind = "histogram" if metric.type == "histogram" else "counter"
        lines.append(f"| `{metric.name}` | {kind} | {', '.join(labels)} | {metric.documentation} |")
    return "\n".join(lines) + "\n"


def _observed() -> Metrics:
    """Metrics that each have a value, so that each shows its labels."""
    metrics = Metrics()
    metrics.count_request("m", "predict", "REST", Code.OK, 0.1, is_served=True)
    metrics.observe_runtime("m", "Predict", 0.1)
    metrics.count_examples("m", 1)
    metrics.observe_load("m", 0.1)
    metrics.count_logged("m", Code.OK, 1)
    return metrics


def _options(options: type) -> Iterator[str]:
    """A row per field of a dataclass of options."""
    (tree,) = ast.parse(inspect.getsource(options)).body
    assert isinstance(tree, ast.ClassDef)
    for field, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(after, ast.Expr)
            assert isinstance(after.value, ast.Constant)
            value = getattr(options(), field.target.id)
            yield f"| `{field.target.id}` | {_yaml(value)} | {_one_line(str(after.value.value))} |"


PAGES = {
    "config.md": config_page,
    "commands.md": commands_page,
    "exit-codes.md": exit_codes_page,
    "metrics.md": metrics_page,
    "python.md": python_reference.page,
    "server.md": server_page,
}
"""By the name of the file."""


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
