"""Errors of the library, for those who import it: they name arguments, and neither commands nor flags."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ("kubeflow", "pipeline", "components", "models", "serving", "kubetfx")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z_-]+")
OURS = re.compile(r"`kubetfx [a-z-]+")
"""A command of ours in a sentence."""
COMMAND = re.compile(
    r"\b(?:docker|kubectl|tensorboard|kubetfx (?:run|rollback)) [^.;]*?--[a-z][a-z_-]+(?: [\w.{}:-]+)?"
)
"""A command as a whole, to be copied into a shell."""
OF_OTHERS = {"--direct_num_workers", "--model_name", "--model_base_path"}
"""Options of Beam and of TensorFlow Serving, which the user gives them."""


def modules() -> list[Path]:
    return [path for folder in LIBRARY for path in sorted((ROOT / folder).rglob("*.py"))]


def sentences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Texts of more than a word that are no docstrings, with `{}` for what is put into them."""
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside | docstrings:
            text = node.value
        else:
            continue
        if " " in text:
            yield node.lineno, text


def flags(source: str) -> list[tuple[int, str]]:
    return [
        (line, flag)
        for line, text in sentences(ast.parse(source))
        for flag in [*FLAG.findall(COMMAND.sub("", text)), *OURS.findall(text)]
        if flag not in OF_OTHERS
    ]


def test_library_speaks_of_no_commands_and_flags():
    found = [f"{path.relative_to(ROOT)}:{line}: {flag}" for path in modules() for line, flag in flags(path.read_text())]

    assert found == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("raise UsageError(f'--host takes a URL. Received: {host}.')", ["--host"]),
        ("HINT = 'Give a token (--token or ' 'KUBETFX_KFP_TOKEN).'", ["--token"]),
        ("raise UsageError('Start it: docker run --init IMAGE. Then give it --host.')", ["--host"]),
        ("raise UsageError('Start it with `docker run --init`.')", []),
        ("raise UsageError(f'Compile it with `kubetfx compile {path}`.')", ["`kubetfx compile"]),
        ("command = ['docker', 'run', '--rm']", []),
        ("'''Of `kubetfx run --watch`.'''", []),
    ],
)
def test_flag_in_a_sentence_is_found(source, expected):
    assert [flag for _, flag in flags(source)] == expected
