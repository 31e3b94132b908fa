"""The page docs/reference/python.md: every public name of `import kubetfx`, from its signature and its docstring."""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import kubetfx

_HEAD = """# Python

<!-- scripts/make_reference.py writes this page. -->

`import kubetfx` gives these names; each is imported when it is used. [How to use kubetfx from
Python](../how-to/python.md) has examples. Errors are in `kubetfx.errors`: see [exit codes](exit-codes.md).
"""
_GROUPS = {
    "Configuration": ("load_config", "PipelineConfig"),
    "Runs": ("run", "run_node", "tune", "prune", "track", "RunResult", "progress"),
    "Models": ("load_model", "Model", "Client", "approve", "promote", "lineage", "monitor", "MonitorResult"),
    "Kubeflow and Airflow": ("compile", "lint", "submit", "airflow_dag"),
    "Pipelines and metrics of your own": ("create_pipeline", "Definition", "fan_out", "metric", "Metric"),
}
_ELSEWHERE = ("__version__", "errors")
"""Names that have no section of their own."""
_SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Example):$")
_ENTRY = re.compile(r"^(\*{0,2}[\w.]+): ?(.*)$")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def page() -> str:
    """Return the page.

    Raises:
        ValueError: a public name is in no group.
    """
    missing = set(kubetfx.__all__) - {name for names in _GROUPS.values() for name in names} - set(_ELSEWHERE)
    if missing:
        raise ValueError(f"A public name has no group. Received: {sorted(missing)}. Put it into _GROUPS.")
    parts = [_HEAD]
    for title, names in _GROUPS.items():
        parts.append(f"\n## {title}\n")
        for name in names:
            parts.extend(_of_module(name) if name == "progress" else _of_name(name))
    return "\n".join(parts).rstrip() + "\n"


def _source_of(module_name: str) -> tuple[list[str], ast.Module]:
    path = Path(str(importlib.import_module(module_name).__file__))
    text = path.read_text(encoding="utf-8")
    return text.splitlines(), ast.parse(text)


def _of_name(name: str) -> Iterator[str]:
    lines, tree = _source_of(inspect.unwrap(getattr(kubetfx, name)).__module__)
    node = next(node for node in tree.body if isinstance(node, Function | ast.ClassDef) and node.name == name)
    yield f"\n### kubetfx.{name}\n"
    if isinstance(node, Function):
        yield from _of_function(node, lines)
    elif name == "PipelineConfig":
        yield _paragraph(ast.get_docstring(node) or "")
        yield "\nIts fields are the [keys of pipeline.yaml](config.md), in snake case as there."
    else:
        yield from _of_class(node, lines)


def _of_module(name: str) -> Iterator[str]:
    lines, tree = _source_of(f"kubetfx.{name}")
    yield f"\n### kubetfx.{name}\n"
    yield _paragraph(ast.get_docstring(tree) or "")
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and ast.get_docstring(node):
            yield f"\n#### kubetfx.{name}.{node.name}\n"
            yield from _of_class(node, lines, level=5)


def _of_class(node: ast.ClassDef, lines: list[str], *, level: int = 4) -> Iterator[str]:
    yield from _of_docstring(ast.get_docstring(node) or "")
    initial = next((each for each in node.body if isinstance(each, Function) and each.name == "__init__"), None)
    if initial and ast.get_docstring(initial):
        yield ""
        yield from _of_function(initial, lines)
    fields = list(_fields(node))
    if fields:
        yield "\n| field | |\n|---|---|"
        yield from fields
    for each in node.body:
        if isinstance(each, Function) and not each.name.startswith("_") and ast.get_docstring(each):
            yield f"\n{'#' * level} {node.name}.{each.name}\n"
            yield from _of_function(each, lines)


def _fields(node: ast.ClassDef) -> Iterator[str]:
    """Rows of a table, of the fields of a class and what their docstrings say."""
    for each, after in zip(node.body, [*node.body[1:], None], strict=True):
        if not (isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)):
            continue
        if each.target.id.startswith("_"):
            continue
        words = str(after.value.value) if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
        kind = ast.unparse(each.annotation).replace("|", "\\|").replace("'", "")
        yield f"| `{each.target.id}: {kind}` | {_paragraph(words).replace('|', chr(92) + '|')} |"


def _of_function(node: Function, lines: list[str]) -> Iterator[str]:
    first = node.body[0].lineno - 1
    decorators = [line.lineno for line in node.decorator_list]
    is_property = any("property" in ast.unparse(line) for line in node.decorator_list)
    header = textwrap.dedent("\n".join(lines[node.lineno - 1 : first])).rstrip().removesuffix(":")
    assert all(number < node.lineno for number in decorators)
    yield f"```python\n{'@property' + chr(10) if is_property else ''}{header}: ...\n```\n"
    yield from _of_docstring(ast.get_docstring(node) or "")


def _of_docstring(text: str) -> Iterator[str]:
    """Markdown of a docstring in Google's style."""
    section, block = "", []
    for line in [*text.splitlines(), "Args:"]:
        found = _SECTION.match(line)
        if not found:
            block.append(line)
            continue
        yield from _of_section(section, textwrap.dedent("\n".join(block)).strip())
        section, block = found[1], []


def _of_section(section: str, text: str) -> Iterator[str]:
    if not text:
        return
    if not section:
        yield _prose(text)
    elif section == "Example":
        yield f"\n**Example**\n\n```pycon\n{text}\n```"
    elif section in ("Returns", "Yields"):
        yield f"\n**{section}:** {_paragraph(text)}"
    else:
        yield f"\n**{section.replace('Args', 'Arguments')}:**\n"
        yield from _entries(text)


def _prose(text: str) -> str:
    """Paragraphs; one that is indented is code, and stays as it is."""
    paragraphs = re.split(r"\n\s*\n", text)
    return "\n\n".join(each if each.startswith("    ") else _paragraph(each) for each in paragraphs)


def _entries(text: str) -> Iterator[str]:
    entries: list[str] = []
    for line in text.splitlines():
        found = None if line.startswith(" ") else _ENTRY.match(line)
        if found:
            entries.append(f"- `{found[1]}`: {found[2]}")
        elif entries:
            entries[-1] += f" {line.strip()}"
    yield from (entry.replace("<", "&lt;").rstrip() for entry in entries)


def _paragraph(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;")
