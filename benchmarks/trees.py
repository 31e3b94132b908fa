"""What a prediction of trees costs in TensorFlow Serving's loader, beside LightGBM's own.

    python -m benchmarks.trees [--trees N] [--repetitions N]

Trains LightGBM with its defaults (31 leaves, any depth) on made-up tables, writes the ensemble as a SavedModel and asks
that for one row, and for batches. Puts the figures into benchmarks/README.md. Exit code 1: a row takes longer than
LIMITS, or the answers are not the library's to 1e-6.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import keras
import lightgbm
import numpy as np
import tensorflow as tf

from benchmarks.readme import machine, write_section
from kubetfx.models.forest import Forest
from kubetfx.models.forest_tables import read_trees, tabulate
from kubetfx.serving.saved_model import SavedModel

ROWS = 50_000
CATEGORIES = 40
LIMITS = {1: 2e-3, 1_000: 20e-6}
"""Seconds per row, by rows of a batch, of 1,000 trees."""
TOLERANCE = 1e-6
_SIZES = {1: "one row", 100: "100 rows", 1_000: "1,000 rows"}


@dataclass(frozen=True)
class Table:
    """A made-up table of numbers, with or without missing cells, and of categories."""

    name: str
    num_numbers: int
    num_categories: int

    def make(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (rows, columns) float32, and the classes."""
        random = np.random.default_rng(0)
        numbers = random.normal(size=(ROWS, self.num_numbers)).astype(np.float32)
        categories = random.integers(0, CATEGORIES, (ROWS, self.num_categories))
        effects = random.normal(size=(CATEGORIES, self.num_categories))
        score = np.sin(2 * numbers[:, 0]) + numbers[:, 1] * numbers[:, 2] + random.normal(0, 0.5, ROWS)
        score += np.take_along_axis(effects, categories, axis=0).sum(axis=1)
        numbers[random.random(numbers.shape) < 0.05] = np.nan
        return np.hstack([numbers, categories.astype(np.float32)]), score > 0


TABLES = (Table("10 numbers", 10, 0), Table("93 numbers", 93, 0), Table("10 numbers, 10 columns of categories", 10, 10))


def main() -> int:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trees", description=__doc__.splitlines()[0])
    parser.add_argument("--trees", type=int, default=1_000, help="default: %(default)s")
    parser.add_argument("--repetitions", type=int, default=30, help="calls, of which the fastest counts")
    parser.add_argument("--busy", action="store_true", help="say in the report that other jobs ran meanwhile")
    arguments = parser.parse_args()
    lines = [
        f"| {arguments.trees:,} trees, time per row | levels | LightGBM, 1,000 rows | {' | '.join(_SIZES.values())} |",
        f"|---|---|---|{'---|' * len(_SIZES)}",
    ]
    is_good = True
    for table in TABLES:
        levels, library, seconds, error = _measure(table, arguments.trees, arguments.repetitions)
        is_good &= error <= TOLERANCE and all(seconds[size] <= limit for size, limit in LIMITS.items())
        cells = [f"{second * 1e6:,.1f} µs" for second in (library, *seconds.values())]
        lines.append(f"| {table.name} | {levels} | {' | '.join(cells)} |")
    text = f"{machine(busy=arguments.busy)}\n\n" + "\n".join(lines)
    write_section("trees", text)
    print(text)
    return 0 if is_good else 1


def _measure(table: Table, num_trees: int, repetitions: int) -> tuple[int, float, dict[int, float], float]:
    """Return levels of the deepest tree, seconds per row, and the largest difference.

    The seconds are those of the library, and of ours by rows of a batch.
    """
    rows, labels = table.make()
    categories = list(range(table.num_numbers, rows.shape[1]))
    data = lightgbm.Dataset(rows, labels, categorical_feature=categories)
    booster = lightgbm.train({"objective": "binary", "verbosity": -1}, data, num_trees)
    tables = tabulate(read_trees(booster.model_to_string()))
    with tempfile.TemporaryDirectory() as folder:
        model = _saved(Forest(tables, num_outputs=1), rows.shape[1], Path(folder) / "model")
        seconds = {size: _per_row(model, rows[:size], repetitions) for size in _SIZES}
        asked = rows[:5_000]
        error = float(np.abs(model(asked)[:, 0] - booster.predict(asked, raw_score=True)).max())
    return len(tables.level_bounds), _per_row(booster.predict, rows[:1_000], repetitions), seconds, error


def _saved(forest: Forest, num_columns: int, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return the ensemble in TensorFlow Serving's loader."""
    inputs = keras.Input((num_columns,))
    model = keras.Model(inputs, forest(inputs))
    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = tf.TensorSpec([None, num_columns], tf.float32, "rows")
    archive.add_endpoint("serving_default", lambda rows: {"sums": model(rows)}, [signature])
    archive.write_out(str(path), verbose=False)
    ask: Any = SavedModel(path).signature("serving_default")
    return lambda rows: ask({"rows": rows})["sums"]


def _per_row(call: Callable[[np.ndarray], Any], rows: np.ndarray, repetitions: int) -> float:
    """Seconds."""
    call(rows)
    found = []
    for _ in range(repetitions):
        started = time.perf_counter()
        call(rows)
        found.append(time.perf_counter() - started)
    return min(found) / len(rows)


if __name__ == "__main__":
    sys.exit(main())
