"""Print the section of a version in CHANGELOG.md: `release_notes.py v0.1.0`."""

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"


def notes_of(version: str, text: str) -> str:
    """Return the section of a version.

    Args:
        version: such as 0.1.0.
        text: The text of the changelog.

    Raises:
        SystemExit: there is no such section, or nothing in it.
    """
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    found = [section.partition("\n")[2].strip() for section in sections if section.split()[0].strip("[]") == version]
    if not found or not found[0]:
        known = ", ".join(section.split()[0] for section in sections)
        sys.exit(f"CHANGELOG.md has no section of this version. Received: {version}, and sections {known}. Add one.")
    return found[0]


if __name__ == "__main__":
    print(notes_of(sys.argv[1].removeprefix("v"), CHANGELOG.read_text(encoding="utf-8")))
