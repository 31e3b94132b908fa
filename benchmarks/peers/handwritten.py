"""The script that one writes without a framework: pandas reads, NumPy scales, Keras trains, scores and exports.

    python -m benchmarks.peers.handwritten WORK.json OUTPUT_FOLDER

No statistics, schema, check of the data, cache or comparison with what is served.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from benchmarks.peers import work as works


def main() -> None:
    """Run one work, and write its score and the seconds of its steps."""
    work, output = works.read(Path(sys.argv[1])), Path(sys.argv[2])
    steps = {}

    started = time.monotonic()
    (path,) = Path(work.folder).glob("*.csv")
    table = pd.read_csv(path)
    steps["read"] = time.monotonic() - started

    started = time.monotonic()
    rng = np.random.default_rng(0)
    order = rng.permutation(len(table))
    ends = np.cumsum([works.TRAIN, works.VALIDATION]) * len(table) // 10
    train_rows, validation_rows, eval_rows = np.split(order, ends)
    inputs: dict[str, np.ndarray] = {}
    sizes: dict[str, int] = {}
    if work.numeric:
        numbers = table[work.numeric].to_numpy(np.float32)
        mean, deviation = np.nanmean(numbers[train_rows], axis=0), np.nanstd(numbers[train_rows], axis=0)
        inputs["numeric"] = np.nan_to_num((numbers - mean) / np.where(deviation > 0, deviation, 1))
    for column in work.categorical:
        values = table[column].astype(str)
        index = pd.Index(values.iloc[train_rows].unique())
        inputs[column] = index.get_indexer(values) + 1  # 0: not seen in training
        sizes[column] = len(index) + 1
    labels = pd.Index(work.classes).get_indexer(table[work.label].astype(str))
    steps["features"] = time.monotonic() - started

    def rows(index: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        return {name: array[index] for name, array in inputs.items()}, labels[index]

    started = time.monotonic()
    model = build(work, sizes)
    train_inputs, train_labels = rows(train_rows)
    model.fit(
        train_inputs,
        train_labels,
        batch_size=work.batch_size,
        epochs=work.epochs,
        validation_data=rows(validation_rows),
        validation_batch_size=4_096,
        verbose=2,
        callbacks=[keras.callbacks.TerminateOnNaN()],
    )
    steps["fit"] = time.monotonic() - started

    started = time.monotonic()
    eval_inputs, eval_labels = rows(eval_rows)
    probabilities = model.predict(eval_inputs, batch_size=4_096, verbose=0)
    scores = score(work, eval_labels, probabilities)
    for column in work.slices:
        groups = table[column].iloc[eval_rows].to_numpy()
        for value in pd.unique(groups):
            score(work, eval_labels[groups == value], probabilities[groups == value])
    steps["score"] = time.monotonic() - started

    started = time.monotonic()
    model.export(str(output / "model" / "1"), verbose=False)
    steps["export"] = time.monotonic() - started
    (output / "result.json").write_text(json.dumps({"metrics": scores, "seconds": steps}))


def build(work: works.Work, sizes: dict[str, int]) -> keras.Model:
    """Return the network: numbers and embedded categories, hidden layers, probabilities."""
    keras.utils.set_random_seed(0)
    inputs: dict[str, Any] = {}
    parts = []
    if work.numeric:
        inputs["numeric"] = keras.Input((len(work.numeric),), name="numeric")
        parts.append(inputs["numeric"])
    for column in work.categorical:
        inputs[column] = keras.Input((), dtype="int64", name=column)
        parts.append(keras.layers.Embedding(sizes[column], work.embedding_size)(inputs[column]))
    hidden = keras.layers.Concatenate()(parts) if len(parts) > 1 else parts[0]
    for units in work.hidden_units:
        hidden = keras.layers.Dense(units, activation="relu")(hidden)
        if work.dropout:
            hidden = keras.layers.Dropout(work.dropout)(hidden)
    model = keras.Model(inputs, keras.layers.Dense(len(work.classes), activation="softmax")(hidden))
    model.compile(
        optimizer=keras.optimizers.Adam(work.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def score(work: works.Work, labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return the metrics of the work; those that a slice of one class has no value for are left out."""
    values = {}
    if "accuracy" in work.metrics:
        values["accuracy"] = float((probabilities.argmax(axis=1) == labels).mean())
    if "cross_entropy" in work.metrics:
        values["cross_entropy"] = float(log_loss(labels, probabilities, labels=range(len(work.classes))))
    if len(np.unique(labels)) == 2 and len(work.classes) == 2:
        if "auc" in work.metrics:
            values["auc"] = float(roc_auc_score(labels, probabilities[:, 1]))
        if "auc_precision_recall" in work.metrics:
            values["auc_precision_recall"] = float(average_precision_score(labels, probabilities[:, 1]))
    return values


if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")
    main()
