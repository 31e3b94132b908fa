"""Cross-validation as a course on scikit-learn and Keras teaches it: a loop over folds, each scaled and trained again.

    python -m benchmarks.peers.handwritten_folds TABLE.csv LABEL FOLD WORK.json RESULT.json

The column FOLD says which fold each row is in, so that folds can be those of somebody else.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pandas as pd
from sklearn.metrics import log_loss
from sklearn.preprocessing import LabelEncoder, StandardScaler


def main() -> None:
    """Go through the folds, and write the scores and seconds of each."""
    table_path, label, fold, work_path, result_path = sys.argv[1:]
    work = json.loads(Path(work_path).read_text(encoding="utf-8"))
    table = pd.read_csv(table_path)
    labels = LabelEncoder().fit_transform(table[label])
    numbers = table.drop(columns=[label, fold]).to_numpy(np.float32)
    folds = table[fold].to_numpy()
    found = []
    for number in np.unique(folds):
        started = time.monotonic()
        held_out = folds == number
        scaler = StandardScaler().fit(numbers[~held_out])
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                *(keras.layers.Dense(units, activation="relu") for units in work["hidden_units"]),
                keras.layers.Dense(int(labels.max()) + 1, activation="softmax"),
            ]
        )
        model.compile(optimizer="rmsprop", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(
            scaler.transform(numbers[~held_out]),
            labels[~held_out],
            batch_size=work["batch_size"],
            epochs=work["epochs"],
            verbose=0,
        )
        probabilities = model.predict(scaler.transform(numbers[held_out]), batch_size=4_096, verbose=0)
        found.append(
            {
                "accuracy": float((probabilities.argmax(axis=1) == labels[held_out]).mean()),
                "cross_entropy": float(log_loss(labels[held_out], probabilities.astype(np.float64))),
                "seconds": time.monotonic() - started,
            }
        )
    Path(result_path).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
