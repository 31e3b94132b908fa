"""The table of docs/reliability.md, from the figures that the tests of faults have written.

    make chaos-test
    python -m benchmarks.reliability            prints it
    python -m benchmarks.reliability --write    puts it into docs/reliability.md

The tests write build/reliability.json; each replaces the figures of its last run.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.readme import write_section

_ROOT = Path(__file__).parents[1]
FIGURES = _ROOT / "build" / "reliability.json"
PAGE = _ROOT / "docs" / "reliability.md"


def table(found: dict[str, dict[str, Any]]) -> str:
    """Write the figures as a table, under the machine or machines that they come from.

    Args:
        found: a proof by what was done.
    """
    machines = dict.fromkeys(proof["machine"] for proof in found.values())
    names = {machine: chr(ord("A") + number) for number, machine in enumerate(machines)}
    lines = [f"Machine {name}: {machine}\n" for machine, name in names.items()]
    lines += ["| what fails | what was done | times | what came out | machine |", "|---|---|---|---|---|"]
    for proof in sorted(found.values(), key=lambda proof: (proof["subject"], proof["done"])):
        cells = (proof["subject"], proof["done"], f"{proof['times']:,}", proof["result"], names[proof["machine"]])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    text = table(json.loads(FIGURES.read_text(encoding="utf-8")))
    if parser.parse_args().write:
        write_section("proofs", text, path=PAGE)
    else:
        print(text)


if __name__ == "__main__":
    main()
