"""What a transformer waits for its input, and what batches of about one length bring.

    python -m benchmarks.text_input [--write]

Batches of `reviews` (benchmarks/texts.py) are fetched as in a training, once by themselves, and once by a transformer
that learns from them. What the fetching takes by itself, as a share of a step, is the most that a step may wait for it.
Then a transformer and convolutions learn from `foods`, whose reviews are long and short, from batches of any rows and
from those of about one length, by turns. Exit code 1: a step waits for more than a tenth, or sorted batches are slower.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from benchmarks import texts
from benchmarks.readme import machine, write_section
from kubetfx.config.data_section import FeaturesConfig
from kubetfx.config.model_section import ModelConfig
from kubetfx.models.examples import files_in
from kubetfx.models.features import LABEL
from kubetfx.models.network import build_model, with_head
from kubetfx.models.preprocessing import Preprocessing
from kubetfx.models.training_rows import TrainingRows, load_rows

KUBETFX = Path(sys.executable).parent / "kubetfx"
TRANSFORMER = {"kind": "transformer", "size": 128, "heads": 4, "layers": 2, "length": 64}
LONG: dict[str, dict[str, Any]] = {
    "transformer": {"kind": "transformer", "size": 64, "heads": 4, "layers": 2, "length": 256},
    "cnn": {"kind": "cnn", "length": 256},
}
BATCH = 64
STEPS = 60
ROUNDS = 3
MOST = 0.1


def prepare(folder: Path, name: str, encoder: Mapping[str, Any]) -> tuple[tft.TFTransformOutput, TrainingRows]:
    """Run a pipeline of a set up to its transformed rows.

    Args:
        folder: for the table and the workspace.
        name: of the set.
        encoder: the section `features.text_encoder`.

    Returns:
        What Transform found, and the training rows.
    """
    text_set = next(one for one in texts.SETS if one.name == name)
    config, workspace = folder / f"{name}.yaml", folder / f"{name}-{encoder['kind']}"
    keys = {"workspace": str(workspace), "training.epochs": "1", "features.text_encoder": str(dict(encoder))}
    table = texts.write(text_set, folder)
    config.write_text(f"name: {name}\ndata: {{path: {table}, label: label}}\n", encoding="utf-8")
    options = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
    subprocess.run([str(KUBETFX), "run", str(config), *options], check=False, capture_output=True)
    (graph,) = workspace.glob("artifacts/Transform/transform_graph/[0-9]*")
    (examples,) = workspace.glob("artifacts/TableExampleGen/examples/[0-9]*")
    output = tft.TFTransformOutput(str(graph))
    rows = load_rows(files_in(str(examples / "Split-train")), Preprocessing(output), cache_bytes=2**30, scratch=folder)
    return output, rows


Step = Callable[[dict[str, tf.Tensor], tf.Tensor], tf.Tensor]


def step_of(output: tft.TFTransformOutput, rows: TrainingRows, encoder: Mapping[str, Any]) -> Step:
    """Return a step of training.

    Args:
        output: of Transform.
        rows: of training, with two classes.
        encoder: the section `features.text_encoder`.
    """
    features = FeaturesConfig.model_validate({"text_encoder": encoder})
    network = build_model(output, model=ModelConfig(members=1), features=features, num_outputs=2)
    assert rows.arrays is not None
    model = with_head(network, labels=rows.arrays[LABEL].reshape(-1), is_classifier=True)
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy()

    @tf.function(reduce_retracing=True)
    def step(batch: dict[str, tf.Tensor], label: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = loss(label, model({one.name: batch[one.name] for one in model.inputs}, training=True))
        variables = [variable.value for variable in model.trainable_variables]
        optimizer.apply(tape.gradient(value, variables), model.trainable_variables)
        return value

    found: Step = step
    return found


def seconds_of(rows: TrainingRows, step: Step | None) -> list[float]:
    """Return the seconds of each batch but the first.

    Args:
        rows: of training.
        step: what is done with features and labels; None: nothing.
    """
    found = []
    batches = iter(rows.batches(BATCH, seed=0, epochs=None))
    for _ in range(STEPS + 1):
        started = time.perf_counter()
        features, label = next(batches)
        if step is None:
            np.asarray(label)
        else:
            np.asarray(step(features, label))
        found.append(time.perf_counter() - started)
    return found[1:]


def rates_of(folder: Path, encoder: Mapping[str, Any]) -> tuple[float, float]:
    """Return rows per second of batches of any rows, and of those of about one length: medians over rounds.

    Args:
        folder: for table and workspace.
        encoder: the section `features.text_encoder`.
    """
    output, by_length = prepare(folder, "foods", encoder)
    step = step_of(output, by_length, encoder)
    ways = (replace(by_length, lengths=None), by_length)
    seconds_of(by_length, step)  # warm
    rounds = [[BATCH * STEPS / sum(seconds_of(rows, step)) for rows in ways] for _ in range(ROUNDS)]
    any_rows, sorted_rows = (statistics.median(rates) for rates in zip(*rounds, strict=True))
    return any_rows, sorted_rows


def main() -> int:
    """Measure, and print tables.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--busy", action="store_true", help="Say in the report that other jobs ran meanwhile.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        output, rows = prepare(Path(name), "reviews", TRANSFORMER)
        step = step_of(output, rows, TRANSFORMER)
        fetched, trained = (statistics.median(seconds_of(rows, how)) for how in (None, step))
        rates = {kind: rates_of(Path(name), encoder) for kind, encoder in LONG.items()}
    lines = [
        f"{machine(busy=options.busy)}\n",
        "| rows per step | fetching, ms | a step, ms | waits at most |\n|---|---|---|---|",
        f"| {BATCH} | {fetched * 1000:.2f} | {trained * 1000:.1f} | {fetched / trained:.1%} |\n",
        "| rows per second | of any rows | of about one length | times |\n|---|---|---|---|",
        *(f"| {kind} | {one:.0f} | {other:.0f} | {other / one:.2f} |" for kind, (one, other) in rates.items()),
    ]
    text = "\n".join(lines)
    print(text)
    if options.write:
        write_section("text input", text)
    return int(fetched / trained > MOST or any(other < one for one, other in rates.values()))


if __name__ == "__main__":
    sys.exit(main())
