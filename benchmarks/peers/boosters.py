"""What a user would try beside kubetfx: boosted trees and a linear model, as their libraries fit them by default."""

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from kubetfx.models.examples import files_in, read_blocks

LIGHTGBM_STOPPED, LIGHTGBM, HISTOGRAMS, LINEAR = "LightGBM, stopped early", "LightGBM", "HistGradientBoosting", "linear"
PEERS = (LIGHTGBM_STOPPED, LIGHTGBM, HISTOGRAMS, LINEAR)

PATIENCE = 50
"""Rounds without a better validation loss, of at most `ROUNDS`, after which LightGBM stops early."""
ROUNDS = 2_000
MAX_CATEGORIES = 254
"""For HistGradientBoosting: the values of a column that are more are one."""


class Splits:
    """The rows of a run's splits, as its examples have them; numbers as they are, text as categories."""

    def __init__(self, examples: Path, label: str, *, is_classifier: bool) -> None:
        """Read them.

        Args:
            examples: folder of the artifact.
            label: its column.
            is_classifier: Whether the label is a class rather than a number.
        """
        frames = {name: read_split(examples, name) for name in ("train", "validation", "eval")}
        self.is_classifier = is_classifier
        self.labels = {name: frame.pop(label) for name, frame in frames.items()}
        self.classes: Sequence[Any] = sorted(pd.concat(self.labels.values()).unique()) if is_classifier else ()
        self.frames = {name: _with_categories(frame, frames["train"]) for name, frame in frames.items()}

    def score(self, model: Any) -> float:
        """Return the log-loss of a fitted model on the eval split, or its root mean squared error.

        Args:
            model: A fitted model with scikit-learn's interface.
        """
        frame = self.frames["eval"]
        if not self.is_classifier:
            return self.score_of(model.predict(frame))
        probabilities = np.zeros((len(frame), len(self.classes)))
        probabilities[:, [list(self.classes).index(name) for name in model.classes_]] = model.predict_proba(frame)
        return self.score_of(probabilities)

    def score_of(self, prediction: np.ndarray) -> float:
        """Return the log-loss of a prediction of the eval split, or its root mean squared error.

        Args:
            prediction: (rows, classes), or (rows,) or (rows, 1) for a regression.
        """
        truth = self.labels["eval"]
        if not self.is_classifier:
            return float(root_mean_squared_error(truth, np.reshape(prediction, -1)))
        probabilities = np.clip(prediction, 1e-7, None)
        return float(log_loss(truth, probabilities / probabilities.sum(axis=1, keepdims=True), labels=self.classes))


def read_split(examples: Path, name: str) -> pd.DataFrame:
    """Read the rows of a split, the label among their columns.

    Args:
        examples: folder of the artifact.
        name: The name of the split.
    """
    blocks = read_blocks(files_in(examples / f"Split-{name}"))
    return pd.concat((block.to_pandas() for block in blocks), ignore_index=True)


def _with_categories(frame: pd.DataFrame, train: pd.DataFrame) -> pd.DataFrame:
    columns: dict[str, Any] = {}
    for name, values in train.items():
        if values.dtype == object:
            columns[str(name)] = pd.Categorical(frame[name], categories=sorted(values.dropna().unique()))
        else:
            columns[str(name)] = pd.to_numeric(frame[name])
    return pd.DataFrame(columns)


def fit(name: str, splits: Splits, *, seed: int) -> tuple[float, float]:
    """Fit a peer to the train split.

    Args:
        name: one of PEERS.
        splits: The splits of a run.
        seed: The seed of the library.

    Returns:
        The score on the eval split, and the seconds of fitting.
    """
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = _FITS[name](splits, seed)
        seconds = time.perf_counter() - started
        return splits.score(model), seconds


def _lightgbm(splits: Splits, seed: int) -> Any:
    kind = lightgbm.LGBMClassifier if splits.is_classifier else lightgbm.LGBMRegressor
    return kind(random_state=seed, verbosity=-1).fit(splits.frames["train"], splits.labels["train"])


def _lightgbm_stopped(splits: Splits, seed: int) -> Any:
    kind = lightgbm.LGBMClassifier if splits.is_classifier else lightgbm.LGBMRegressor
    known = splits.labels["validation"].isin(splits.labels["train"].unique()) | (not splits.is_classifier)
    return kind(random_state=seed, verbosity=-1, n_estimators=ROUNDS).fit(
        splits.frames["train"],
        splits.labels["train"],
        eval_set=[(splits.frames["validation"][known], splits.labels["validation"][known])],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )


def _histograms(splits: Splits, seed: int) -> Any:
    kind = HistGradientBoostingClassifier if splits.is_classifier else HistGradientBoostingRegressor
    model = kind(categorical_features="from_dtype", random_state=seed)
    train = splits.frames["train"]
    for column in train.select_dtypes("category"):
        counts = train[column].value_counts()
        if len(counts) > MAX_CATEGORIES:
            for frame in splits.frames.values():
                kept = list(counts.index[: MAX_CATEGORIES - 1])
                frame[column] = frame[column].cat.set_categories(kept)
    return model.fit(train, splits.labels["train"])


def _linear(splits: Splits, seed: int) -> Any:
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore", min_frequency=2), make_column_selector(dtype_include="category")),
    )
    last = LogisticRegression(max_iter=1_000, random_state=seed) if splits.is_classifier else Ridge(random_state=seed)
    return make_pipeline(columns, last).fit(splits.frames["train"], splits.labels["train"])


_FITS = {LIGHTGBM_STOPPED: _lightgbm_stopped, LIGHTGBM: _lightgbm, HISTOGRAMS: _histograms, LINEAR: _linear}
