"""How much of a training step a transformer waits for its input.

    python -m benchmarks.text_input [--write]

Batches of `reviews` (benchmarks/texts.py) are fetched as in a training, once by themselves, and once by a transformer
that learns from them. What the fetching takes by itself, as a share of a step, is the most that a step may wait for it.
Exit code 1: it is over a tenth.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
ENCODER = {"kind": "transformer", "size": 128, "heads": 4, "layers": 2, "length": 64}
BATCH = 64
STEPS = 60
MOST = 0.1


def prepare(folder: Path) -> tuple[tft.TFTransformOutput, TrainingRows]:
    """Run a pipeline of `reviews` up to its transformed rows.

    Args:
        folder: for the table and the workspace.

    Returns:
        What Transform found, and the training rows.
    """
    text_set = next(one for one in texts.SETS if one.name == "reviews")
    config, workspace = folder / "pipeline.yaml", folder / "workspace"
    keys = {"workspace": str(workspace), "training.epochs": "1", "features.text_encoder": str(ENCODER)}
    table = texts.write(text_set, folder)
    config.write_text(f"name: reviews\ndata: {{path: {table}, label: label}}\n", encoding="utf-8")
    options = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
    subprocess.run([str(KUBETFX), "run", str(config), *options], check=False, capture_output=True)
    (graph,) = workspace.glob("artifacts/Transform/transform_graph/[0-9]*")
    (examples,) = workspace.glob("artifacts/TableExampleGen/examples/[0-9]*")
    output = tft.TFTransformOutput(str(graph))
    rows = load_rows(files_in(str(examples / "Split-train")), Preprocessing(output), cache_bytes=2**30, scratch=folder)
    return output, rows


def seconds_of(rows: TrainingRows, step: "tf.types.experimental.GenericFunction | None") -> float:
    """Return the seconds per batch, the median of all but the first.

    Args:
        rows: of training.
        step: what is done with features and labels; None: nothing.
    """
    found = []
    batches = iter(rows.batches(BATCH, seed=0, epochs=None))
    for _ in range(STEPS):
        started = time.perf_counter()
        features, label = next(batches)
        if step is None:
            np.asarray(label)
        else:
            np.asarray(step(features, label))
        found.append(time.perf_counter() - started)
    return statistics.median(found[1:])


def main() -> int:
    """Measure, and print a table.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        output, rows = prepare(Path(name))
        features = FeaturesConfig(text_encoder=ENCODER)
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

        fetched, trained = seconds_of(rows, None), seconds_of(rows, step)
    text = (
        f"{machine()}\n\n| rows per step | fetching, ms | a step, ms | waits at most |\n|---|---|---|---|\n"
        f"| {BATCH} | {fetched * 1000:.2f} | {trained * 1000:.1f} | {fetched / trained:.1%} |"
    )
    print(text)
    if options.write:
        write_section("text input", text)
    return int(fetched / trained > MOST)


if __name__ == "__main__":
    sys.exit(main())
