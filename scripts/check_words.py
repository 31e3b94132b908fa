"""Check the prose of the project for phrases that a native reader stumbles over.

    python scripts/check_words.py

Checked are Markdown files, and docstrings, comments and string literals of Python. Each finding is one line: place,
phrase, suggestion. A line that needs such a phrase goes into ALLOWED, with the reason.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

_COUNTED = (
    r"(?:rows|images|pictures|bytes|requests|examples|tokens|steps|epochs|words|files|columns|trials|calls|"
    r"processes|threads|[kMG]i?B|megabytes|seconds|minutes|hours|milliseconds|microseconds|ms|[µu]s|times|cores)"
)
_UNIT = (
    r"(?:second|minute|hour|day|week|month|row|step|shard|image|picture|file|node|class|worker|column|value|batch|"
    r"epoch|run|request|core|page|thread|process|replica|pod|block|split)"
)

PATTERNS = {
    rf"\b(?i:{_COUNTED}) an? {_UNIT}\b(?! (?:group|has))": "write `per`, as in `rows per second`",
    r"\b(?:an?|one) (?:shard|split|class) a (?:worker|class|split|shard)\b": "write `per`",
    r"\bh[eo]ld(?:s|ing)? (?:\w+ )?against\b": "write `compared with`",
    r"\b(?:is|are|was|were) told(?! apart)\b": "write `is`, `gets` or `is reported`",
    r"\bstands? (?:in (?!for\b)|at|on|beside|there|under|between)\b": "write `is`",
    r"\bl(?:ies|ie) (?:in|at|on|beside|there|under|between|outside)\b": "write `is`",
    r"\b(?<!there )(?<!There )(?<!here )(?:is|are) (?:none of|no (?!longer|more\b|less\b|one\b|better\b))": (
        "write `is not`"
    ),
    r"(?:^|(?<=[.:;!?] ))Of (?!course\b)": "begin with the subject",
    r"\bas it does\b": "leave it out, or say what",
    r"\bin the place of\b": "write `instead of`",
    r"\b(?:mend|mends|mended)\b": "write `fix` or `correct`",
    r"(?<!`)\banew\b(?!`)": "write `again`",
    r"\bfound out\b": "write `found`",
    r"\bwhatever becomes of\b|\bbe it by chance\b|\bas one has it\b": "say it plainly",
}
"""What to avoid, as a regular expression, and what to write."""

ALLOWED = {
    "components/data/data_source.py": {"anew: Fetch the rows": "the name of an argument"},
    "models/warm_start.py": {"anew": "a key of the training's history"},
}
"""Exceptions: by file, parts of the text that may have a phrase, with the reason."""

SKIPPED = ("tests/", "docs/reference/", "scripts/check_words.py")
"""Tests quote others, the reference is made from docstrings, and this file has the phrases."""


def prose_of_python(source: str) -> Iterator[tuple[int, str]]:
    """Find the prose of a module.

    Args:
        source: The module's text.

    Yields:
        The first line of each docstring, string literal or block of comments, and its text in one line.
    """
    tree = ast.parse(source)
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield node.lineno, _in_one_line("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.lineno, _in_one_line(node.value)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")


def prose_of_markdown(text: str) -> Iterator[tuple[int, str]]:
    """Find the prose of a Markdown file: its paragraphs, without blocks and pieces of code.

    Args:
        text: The file's text.

    Yields:
        The first line of each paragraph, and its text in one line.
    """
    without_blocks = re.sub(r"^```.*?^```$", lambda block: "\n" * block[0].count("\n"), text, flags=re.M | re.S)
    line = 1
    for paragraph in re.split(r"(\n\s*\n)", without_blocks):
        yield line, _in_one_line(re.sub(r"`[^`\n]*`", "``", paragraph))
        line += paragraph.count("\n")


def findings(path: str, text: str) -> Iterator[str]:
    """Check a file.

    Args:
        path: The path of the file from the root of the project.
        text: The file's text.

    Yields:
        A line for each finding.
    """
    prose = prose_of_python(text) if path.endswith(".py") else prose_of_markdown(text)
    for line, words in prose:
        for pattern, advice in PATTERNS.items():
            for found in re.finditer(pattern, words):
                around = words[max(found.start() - 60, 0) : found.end() + 60]
                if not any(part in around for part in ALLOWED.get(path, ())):
                    yield f"{path}:{line}: {around!r}: {advice}"


def _is_checked(path: str) -> bool:
    return not path.startswith(SKIPPED) and not (ROOT / path).is_symlink()


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


def main() -> int:
    """Check all files that git tracks.

    Returns:
        The number of findings, at most 1: the exit code.
    """
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    paths = [path for path in listed if _is_checked(path)]
    found = [line for path in paths for line in findings(path, (ROOT / path).read_text(encoding="utf-8"))]
    print("\n".join(found) or f"The words of {len(paths)} files are plain.", file=sys.stderr)
    return min(len(found), 1)


if __name__ == "__main__":
    sys.exit(main())
