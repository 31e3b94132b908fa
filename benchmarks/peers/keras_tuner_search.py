"""KerasTuner as its guides teach it, in an environment of its own: nothing of kubetfx is imported here.

    PYTHON benchmarks/peers/keras_tuner_search.py FOLDER

FOLDER has `train`, `validation` and `eval`.parquet, and work.json: the label, its classes in order (none: a number is
predicted), the seed, and the seconds of the search. The space is that of keras.io's guide ("Getting started with
KerasTuner"): one to three layers of 32 to 512 units, relu or tanh, dropout or none, a learning rate from 1e-4 to 1e-2.
The tuner, early stopping and the training of the best are those of tensorflow.org's ("Introduction to the Keras
Tuner"): Hyperband, which begins again until the time is over. Writes prediction.parquet, a column per class (or
`value`) and a row per row of the eval split, and result.json.
"""

import contextlib
import json
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

EPOCHS = 50
"""Epochs of a training at most, as in the guide."""
PATIENCE = 5
_ROUNDS_WITHOUT_END = 1_000


class TimeIsOver(BaseException):
    """Ends the search. KerasTuner takes exceptions of Exception for failed trials."""


class Until(keras.callbacks.Callback):
    """Ends the search in the midst of a trial.

    Args:
        deadline: by time.perf_counter().
    """

    def __init__(self, deadline: float) -> None:
        super().__init__()
        self.deadline = deadline

    def __deepcopy__(self, memo: Any) -> "Until":
        """KerasTuner copies callbacks for each trial."""
        return Until(self.deadline)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """See Keras."""
        if time.perf_counter() > self.deadline:
            raise TimeIsOver


def main() -> None:
    """Search, train with the best, and predict."""
    folder = Path(sys.argv[1])
    work = json.loads((folder / "work.json").read_text(encoding="utf-8"))
    frames = {split: pd.read_parquet(folder / f"{split}.parquet") for split in ("train", "validation", "eval")}
    labels = {split: frame.pop(work["label"]) for split, frame in frames.items()}
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    categories = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="missing"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    prepare = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (categories, make_column_selector(dtype_exclude="number")),
    ).fit(frames["train"])
    x = {split: prepare.transform(frame).astype(np.float32) for split, frame in frames.items()}
    y, back = targets(labels, work["classes"])
    keras.utils.set_random_seed(work["seed"])
    tuner = keras_tuner.Hyperband(
        lambda hp: build_model(hp, num_classes=len(work["classes"])),
        objective="val_loss",
        max_epochs=EPOCHS,
        factor=3,
        hyperband_iterations=_ROUNDS_WITHOUT_END,
        seed=work["seed"],
        directory=str(folder / "search"),
        project_name="search",
        overwrite=True,
    )
    started = time.perf_counter()
    stop_early = keras.callbacks.EarlyStopping(monitor="val_loss", patience=PATIENCE)
    until = Until(started + work["seconds"])
    validation = (x["validation"], y["validation"])
    options = {"epochs": EPOCHS, "validation_data": validation, "verbose": 0}
    with contextlib.suppress(TimeIsOver):
        tuner.search(x["train"], y["train"], callbacks=[stop_early, until], **options)
    seconds = time.perf_counter() - started
    done = [trial for trial in tuner.oracle.trials.values() if trial.score is not None]
    if not done:
        raise SystemExit(f"No trial was over after {seconds:.0f} seconds.")
    best = min(done, key=lambda trial: trial.score)
    model = tuner.hypermodel.build(best.hyperparameters)
    keep_best = keras.callbacks.EarlyStopping(monitor="val_loss", patience=PATIENCE, restore_best_weights=True)
    model.fit(x["train"], y["train"], callbacks=[keep_best], **options)
    predicted = back(model.predict(x["eval"], verbose=0))
    names = [str(place) for place in range(len(work["classes"]))] or ["value"]
    pd.DataFrame(predicted, columns=names).to_parquet(folder / "prediction.parquet", index=False)
    result = {
        "seconds": seconds,
        "trials": len(done),
        "settings": best.hyperparameters.values,
        "version": metadata.version("keras-tuner"),
    }
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def targets(labels: dict[str, Any], classes: list[Any]) -> tuple[dict[str, np.ndarray], Any]:
    """Return what the network learns, by split, and what makes predictions of its outputs.

    Args:
        labels: by split.
        classes: in order; none: a number is predicted, and learned as its standard score.
    """
    if classes:
        places = {value: place for place, value in enumerate(classes)}
        return {split: values.map(places).to_numpy() for split, values in labels.items()}, lambda outputs: outputs
    mean, deviation = float(labels["train"].mean()), float(labels["train"].std())
    scores = {split: ((values - mean) / deviation).to_numpy(np.float32) for split, values in labels.items()}
    return scores, lambda outputs: outputs * deviation + mean


def build_model(hp: keras_tuner.HyperParameters, *, num_classes: int) -> keras.Model:
    """Return the network of keras.io's guide, with the head that the task needs.

    Args:
        hp: of a trial.
        num_classes: 0 for a regression.

    Returns:
        A compiled model.
    """
    model = keras.Sequential()
    for layer in range(hp.Int("num_layers", 1, 3)):
        units = hp.Int(f"units_{layer}", min_value=32, max_value=512, step=32)
        model.add(keras.layers.Dense(units, activation=hp.Choice("activation", ["relu", "tanh"])))
    if hp.Boolean("dropout"):
        model.add(keras.layers.Dropout(rate=0.25))
    model.add(keras.layers.Dense(num_classes or 1, activation="softmax" if num_classes else None))
    learning_rate = hp.Float("lr", min_value=1e-4, max_value=1e-2, sampling="log")
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate=learning_rate),
        loss="sparse_categorical_crossentropy" if num_classes else "mean_squared_error",
    )
    return model


if __name__ == "__main__":
    main()
