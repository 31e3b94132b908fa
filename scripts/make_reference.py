"""Write docs/reference: every key of pipeline.yaml and every command, from what the code says of them.

    python scripts/make_reference.py

`tests/test_reference.py` fails where a page is not what this writes.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from typer.cli import get_docs_for_click

from kubetfx.cli.app import app
from kubetfx.config.pipeline import PipelineConfig

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
    ]
    sections += _section(schema, schema["$defs"], path="")
    return "\n".join(sections)


def _section(section: Schema, definitions: Schema, *, path: str) -> Iterator[str]:
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
        rows.append(f"| `{dotted}` | {_takes(parts, definitions)} | {default} | {words} |")
    if path:
        yield f"\n## {path.removesuffix('.')}\n"
        yield f"{_one_line(section.get('description', ''))}\n"
    yield "| key | takes | default | |\n|---|---|---|---|"
    yield from rows
    for dotted, part in below:
        yield from _section(part, definitions, path=f"{dotted}.")


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


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def commands_page() -> str:
    """Return the page of every command."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="kubetfx", title="Commands")
    head, _, rest = text.partition("\n")
    return f"{head}\n\n<!-- scripts/make_reference.py writes this page. -->\n{rest.rstrip()}\n"


PAGES = {"config.md": config_page, "commands.md": commands_page}
"""By the name of the file."""


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
