"""AutoGluon and Ludwig, as their guides teach them, in environments of their own: nothing of kubetfx is imported here.

    PYTHON benchmarks/peers/automl_fit.py autogluon|ludwig FOLDER

FOLDER has `train`, `validation` and `eval`.parquet, and work.json: the label, its classes in order (none: a number is
predicted) and the seed. Writes prediction.parquet, a column per class (or `value`) and a row per row of the eval split,
and result.json: the seconds of training, and the version of the package.
"""

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

Frames = dict[str, pd.DataFrame]
Work = dict[str, Any]
Predict = Callable[[pd.DataFrame], pd.DataFrame]


def main() -> None:
    """Train, predict, and write what came of it."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    work = json.loads((folder / "work.json").read_text(encoding="utf-8"))
    frames = {split: pd.read_parquet(folder / f"{split}.parquet") for split in ("train", "validation", "eval")}
    asked = frames.pop("eval").drop(columns=[work["label"]])
    module, distribution, train = _PEERS[name]
    importlib.import_module(module)  # is not training
    started, started_cpu = time.perf_counter(), _cpu_seconds()
    predict = train(frames, work, folder)
    seconds, cpu_seconds = time.perf_counter() - started, _cpu_seconds() - started_cpu
    predict(asked).to_parquet(folder / "prediction.parquet", index=False)
    result = {"seconds": seconds, "cpu_seconds": cpu_seconds, "version": metadata.version(distribution)}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def autogluon(frames: Frames, work: Work, folder: Path) -> Predict:
    """AutoGluon's `medium_quality`, which splits the rows of training and validation by itself.

    Args:
        frames: train and validation.
        work: as in work.json.
        folder: for the models.

    Returns:
        What predicts.
    """
    from autogluon.tabular import TabularPredictor

    classes = work["classes"]
    predictor = TabularPredictor(
        work["label"],
        problem_type="regression" if not classes else "binary" if len(classes) == 2 else "multiclass",
        eval_metric="log_loss" if classes else "root_mean_squared_error",
        path=str(folder / "models"),
    )
    predictor.fit(pd.concat([frames["train"], frames["validation"]]), presets="medium_quality")
    if classes:
        return lambda rows: _named(predictor.predict_proba(rows), classes)
    return lambda rows: pd.DataFrame({"value": predictor.predict(rows)})


def _named(probabilities: pd.DataFrame, classes: list[Any]) -> pd.DataFrame:
    """Return a column for each class by its place: the label may be a number, and Parquet has names.

    A class of few rows may be unknown to the model.
    """
    known = [column if column in probabilities else None for column in classes]
    columns = {str(place): 0.0 if name is None else probabilities[name] for place, name in enumerate(known)}
    return pd.DataFrame(columns, index=probabilities.index)


def ludwig(frames: Frames, work: Work, folder: Path) -> Predict:
    """Ludwig with the config of its guide: a type per column, and the mean instead of a missing number.

    Args:
        frames: train and validation, by which Ludwig stops early.
        work: as in work.json.
        folder: for the models.

    Returns:
        What predicts.
    """
    from ludwig.api import LudwigModel

    classes, label = work["classes"], work["label"]
    names = {column: f"column_{place}" for place, column in enumerate(frames["train"].columns)}  # it edits odd names
    target = names[label]
    inputs: list[dict[str, Any]] = []
    for column, values in frames["train"].items():
        if column == label:
            continue
        if pd.api.types.is_numeric_dtype(values):
            means = {"missing_value_strategy": "fill_with_mean"}
            inputs.append({"name": names[column], "type": "number", "preprocessing": means})
        else:
            inputs.append({"name": names[column], "type": "category"})
    output = {"name": target, "type": "number" if not classes else "binary" if len(classes) == 2 else "category"}
    tables = {}
    for split, frame in frames.items():
        tables[split] = frame.rename(columns=names)
        if len(classes) == 2:
            tables[split][target] = frame[label] == classes[1]
        elif classes:
            tables[split][target] = [f"class_{classes.index(value)}" for value in frame[label]]
    model = LudwigModel({"input_features": inputs, "output_features": [output]}, logging_level=30)
    model.train(
        training_set=tables["train"],
        validation_set=tables["validation"],
        output_directory=str(folder / "results"),
        random_seed=work["seed"],
        skip_save_processed_input=True,
    )

    def predict(rows: pd.DataFrame) -> pd.DataFrame:
        found, _ = model.predict(dataset=rows.rename(columns=names), skip_save_predictions=True)
        if not classes:
            return pd.DataFrame({"value": found[f"{target}_predictions"]})
        values = [False, True] if len(classes) == 2 else [f"class_{place}" for place in range(len(classes))]
        columns = [f"{target}_probabilities_{value}" for value in values]
        return pd.DataFrame({str(place): found.get(name, 0.0) for place, name in enumerate(columns)})

    return predict


_PEERS = {
    "autogluon": ("autogluon.tabular", "autogluon.tabular", autogluon),
    "ludwig": ("ludwig.api", "ludwig", ludwig),
}


if __name__ == "__main__":
    main()
