"""Put what the site is built of into build/docs: every document of the repository, and the files that they link to.

    python scripts/stage_docs.py

Documents stay where they are read in the repository, so their links are right in both places.
"""

import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "build" / "docs"
ASSETS = ("site.css", "iframe-worker.js")
"""What every page loads, in docs/."""
_LINK = re.compile(r"\]\(([^)#\s]+)")


def documents() -> list[Path]:
    """Return the documents that git knows, relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    return [Path(path) for path in listed if not path.startswith((".github/", "tests/"))]


def linked(document: Path) -> set[Path]:
    """Return the files that a document links to, relative to the root.

    Args:
        document: relative to the root.

    Raises:
        SystemExit: one of them is not there.
    """
    found = set()
    for link in _LINK.findall((ROOT / document).read_text(encoding="utf-8")):
        if "://" in link or link.startswith("mailto:"):
            continue
        path = (ROOT / document).parent.joinpath(link).resolve()
        if not path.exists():
            raise SystemExit(f"{document} links to what is not there: {link}")
        if path.is_file():
            found.add(path.relative_to(ROOT))
    return found


def decisions(pages: list[Path]) -> str:
    """Return a page that lists the decisions.

    Args:
        pages: all documents.
    """
    lines = ["# Decisions", "", "What somebody may question, and why it is so.", ""]
    for page in sorted(page for page in pages if page.parent.name == "decisions"):
        title = (ROOT / page).read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        lines.append(f"- [{title}]({page.name})")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Copy documents, and what they link to."""
    shutil.rmtree(TARGET, ignore_errors=True)
    pages = documents()
    for path in sorted({*pages, *(file for page in pages for file in linked(page))}):
        (TARGET / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, TARGET / path)
    for name in ASSETS:
        shutil.copy(ROOT / "docs" / name, TARGET / "docs")
    (TARGET / "docs" / "decisions" / "index.md").write_text(decisions(pages), encoding="utf-8")


if __name__ == "__main__":
    main()
