"""What is public and takes arguments documents them: Google's sections Args, Returns or Yields, and Raises.

Ruff has no rule that fails where a section is missing; it holds that each public name has a docstring at all.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("kubetfx", "cli", "serving", "models", "components", "pipeline", "kubeflow")
MODULES = sorted(path for name in FOLDERS for path in (ROOT / name).rglob("*.py"))
"""`rglob` does not follow the links from kubetfx/ to the other folders."""

NOTHING = {"None", "NoReturn", "Iterator[None]"}
"""Results that need no words: `Iterator[None]` is that of a context manager."""
PLAIN_BASES = {"ABC", "Exception", "Generic", "IntEnum", "NamedTuple", "Protocol", "StrEnum"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def classes_of_the_tree() -> dict[str, ast.ClassDef]:
    nodes = (node for path in MODULES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}


CLASSES = classes_of_the_tree()


def overrides(name: str, owner: ast.ClassDef) -> bool:
    """Whether a base class says what a method takes: one of the tree, or any class of a library."""
    for base in map(ast.unparse, owner.bases):
        base_name = base.split("[")[0].rpartition(".")[2]
        known = CLASSES.get(base_name)
        if known in (None, owner) and base_name not in PLAIN_BASES:  # of a library, be it under the name of ours
            return True
        if known and (overrides(name, known) or any(getattr(node, "name", "") == name for node in known.body)):
            return True
    return False


def parameters(function: Function) -> set[str]:
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return {argument.arg for argument in [*named, given.vararg, given.kwarg] if argument} - {"self", "cls"}


def raises(function: Function) -> bool:
    """Whether the function itself raises an error, functions inside of it left out."""
    nodes: list[ast.AST] = list(function.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Raise) and node.exc and ast.unparse(node.exc) != "NotImplementedError":
            return True
        if not isinstance(node, Function):
            nodes.extend(ast.iter_child_nodes(node))
    return False


def section(docstring: str, name: str) -> str | None:
    found = re.search(rf"^{name}:\n((?:(?: .*)?\n?)+)", docstring, re.MULTILINE)
    return found[1] if found else None


def faults_of(function: Function, docstring: str) -> Iterator[str]:
    """What the docstring leaves out: "Args: rows", "Raises"."""
    documented = set(re.findall(r"^ {4}\*{0,2}(\w+):", section(docstring, "Args") or "", re.MULTILINE))
    for name in sorted(parameters(function) ^ documented):
        yield f"Args: {name}" + (" (is not an argument)" if name in documented else "")
    result = ast.unparse(function.returns) if function.returns else "None"
    says_so = re.match(r"(Return|Yield)s?\b", docstring) or any(section(docstring, of) for of in ("Returns", "Yields"))
    if result not in NOTHING and not says_so:
        yield "Returns (or Yields)"
    if raises(function) and not section(docstring, "Raises"):
        yield "Raises"


def is_command(function: Function) -> bool:
    """Whether the docstring is a command's help, and Typer's `help=` documents the options."""
    return any(re.match(r"app\.(command|callback)\b", ast.unparse(node)) for node in function.decorator_list)


def public_faults(body: list[ast.stmt], owner: ast.ClassDef | None = None) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_faults(node.body, node)
        if not isinstance(node, Function) or not parameters(node) or is_command(node):
            continue
        if owner and node.name == "__init__":
            docstring = (ast.get_docstring(node) or "") + "\n" + (ast.get_docstring(owner) or "")
        elif node.name.startswith("_") or (owner and overrides(node.name, owner)):
            continue
        else:
            docstring = ast.get_docstring(node) or ""
        name = f"{owner.name}.{node.name}" if owner else node.name
        yield from (f"line {node.lineno}: {name} does not document {fault}" for fault in faults_of(node, docstring))


@pytest.mark.parametrize(
    "module",
    [str(path.relative_to(ROOT)) for path in MODULES],
)
def test_public_functions_document_what_they_take_give_and_raise(module):
    faults = list(public_faults(ast.parse((ROOT / module).read_text(encoding="utf-8")).body))

    assert not faults, "\n".join([module, *faults])


@pytest.mark.parametrize(
    ("docstring", "faults"),
    [
        (
            "Cut.\n\nArgs:\n    rows: A table.\n    size: Rows.\n\nReturns:\n    Parts.\n\nRaises:\n    Error: None.",
            [],
        ),
        (
            "Return the parts.\n\nArgs:\n    rows: A table.\n    size:\n        Rows.\n\nRaises:\n    DataError: None.",
            [],
        ),
        ("Cut rows into parts.", ["Args: rows", "Args: size", "Returns (or Yields)", "Raises"]),
        (
            "Cut.\n\nArgs:\n    row: A table.\n    size: Rows.\n",
            ["Args: row (is not an argument)", "Args: rows", "Returns (or Yields)", "Raises"],
        ),
    ],
    ids=["whole", "summary-says-what-is-returned", "nothing", "misspelled"],
)
def test_what_a_docstring_leaves_out_is_found(docstring, faults):
    function = ast.parse("def cut(rows, *, size) -> list:\n    if size < 1:\n        raise DataError('No.')").body[0]

    assert isinstance(function, ast.FunctionDef)
    assert list(faults_of(function, docstring)) == faults
