"""The tables that benchmarks/pipeline.py runs on, as CSV files and as the description for its peers."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from benchmarks.peers.work import Work
from examples.flights import prepare as flights

OTTO_ROWS, OTTO_COLUMNS, OTTO_CLASSES = 61_878, 93, 9
"""The shape of Kaggle's Otto set."""
LONG_ROWS, LONG_COLUMNS = 3_000_000, 20
LONG = f"x{LONG_COLUMNS}"
WIDE_ROWS, WIDE_COLUMNS = 10_000, 2_000
BLOCK_ROWS = 100_000
CLASS_DISTANCE = 0.35
"""Class distance of the means of two classes in a column, in standard deviations: the best possible accuracy is below
1.
"""
UNQUOTED = pa_csv.WriteOptions(include_header=False, quoting_style="none")
"""TFX takes quotes of a header for text."""

PENGUINS_CSV = Path(__file__).parent.parent / "examples" / "penguins" / "data" / "penguins.csv"


def penguins(folder: Path) -> Work:
    """Return the 344 rows of examples/penguins, with its network."""
    folder.mkdir(parents=True, exist_ok=True)
    # An empty cell and not NA is what CsvExampleGen takes for missing.
    text = re.sub(r"(?<=,)NA(?=,|$)", "", PENGUINS_CSV.read_text(), flags=re.MULTILINE)
    (folder / "penguins.csv").write_text(text)
    return Work(
        name="penguins",
        folder=str(folder),
        label="species",
        classes=["Adelie", "Chinstrap", "Gentoo"],
        numeric=["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"],
        categorical=["island", "sex", "year"],
        hidden_units=[128, 64],
        embedding_size=8,
        dropout=0.1,
        epochs=50,
        batch_size=128,
        learning_rate=1e-3,
        metrics=["accuracy", "cross_entropy"],
        slices=[],
    )


def flights_table(folder: Path) -> Work:
    """Return the flights that arrived, 327,346 of 336,776, with the network of examples/flights."""
    folder.mkdir(parents=True, exist_ok=True)
    if not flights.TABLE_PATH.exists():
        flights.main()
    table = pq.read_table(flights.TABLE_PATH)
    with (folder / "flights.csv").open("wb") as file:
        file.write((",".join(table.column_names) + "\n").encode())
        pa_csv.write_csv(table, file, UNQUOTED)
    numeric = ["minute", "sched_arr_time", "distance"]
    return Work(
        name="flights",
        folder=str(folder),
        label="arrival",
        classes=[flights.IN_TIME, flights.LATE],
        numeric=numeric,
        categorical=[name for name in table.column_names if name not in {*numeric, "arrival"}],
        hidden_units=[256, 128],
        embedding_size=32,
        dropout=0.5,
        epochs=5,
        batch_size=2_048,
        learning_rate=0.002,
        metrics=["auc", "accuracy", "cross_entropy", "auc_precision_recall"],
        slices=["carrier"],
    )


def numbers(
    folder: Path,
    *,
    name: str,
    rows: int,
    columns: int,
    classes: int,
    epochs: int,
    batch_size: int,
    are_counts: bool = False,
) -> Work:
    """Return work on a table of as many rows, columns and classes as wanted.

    Its cells are decimal numbers around a mean of each class, or small counts whose rates differ by class, of which
    most are 0.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    centres = random.normal(0, CLASS_DISTANCE, (classes, columns))
    scales, offsets = random.uniform(0.5, 50, columns), random.normal(0, 100, columns)
    rates = random.gamma(0.5, 1.0, columns)
    number_type = pa.int64() if are_counts else pa.float64()
    features = [f"feature_{index}" for index in range(1, columns + 1)]
    names = [f"class_{index}" for index in range(1, classes + 1)]
    schema = pa.schema([*((feature, number_type) for feature in features), ("target", pa.string())])
    with (folder / f"{name}.csv").open("wb") as file, pa_csv.CSVWriter(file, schema, write_options=UNQUOTED) as writer:
        file.write((",".join(schema.names) + "\n").encode())
        for start in range(0, rows, BLOCK_ROWS):
            num_rows = min(BLOCK_ROWS, rows - start)
            labels = random.integers(0, classes, num_rows)
            values: np.ndarray
            if are_counts:
                values = random.poisson(rates * np.exp(centres[labels]) * random.gamma(1.0, 1.0, (num_rows, columns)))
            else:
                values = (random.normal(size=(num_rows, columns)) + centres[labels]) * scales + offsets
            arrays = [pa.array(column) for column in np.round(values.T, 3)]
            writer.write(pa.record_batch([*arrays, pa.array(np.array(names)[labels])], schema=schema))
    return Work(
        name=name,
        folder=str(folder),
        label="target",
        classes=names,
        numeric=features,
        categorical=[],
        hidden_units=[200, 50],
        embedding_size=8,
        dropout=0.0,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=1e-3,
        metrics=["accuracy", "cross_entropy"],
        slices=[],
    )


def make(size: str, folder: Path) -> Work:
    """Return the work of a size.

    Args:
        size: `penguins`, `flights`, `wide`, `counts` (as Otto's), or a number of rows, with `x20` if it is to have 20
            columns though it is not a long table.
        folder: where the CSV file is written.
    """
    if size == "penguins":
        return penguins(folder)
    if size == "flights":
        return flights_table(folder)
    if size == "wide":
        return numbers(
            folder, name="wide", rows=WIDE_ROWS, columns=WIDE_COLUMNS, classes=2, epochs=10, batch_size=1_000
        )
    if size == "counts":
        return numbers(
            folder,
            name="counts",
            rows=OTTO_ROWS,
            columns=OTTO_COLUMNS,
            classes=OTTO_CLASSES,
            epochs=10,
            batch_size=1_000,
            are_counts=True,
        )
    rows, is_long = int(size.removesuffix(LONG).replace(",", "")), size.endswith(LONG)
    if is_long or rows >= LONG_ROWS // 10:
        return numbers(folder, name="long", rows=rows, columns=LONG_COLUMNS, classes=2, epochs=2, batch_size=10_000)
    return numbers(
        folder, name="otto", rows=rows, columns=OTTO_COLUMNS, classes=OTTO_CLASSES, epochs=10, batch_size=1_000
    )
