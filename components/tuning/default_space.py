"""The default search space: the most important settings for the kind of the model.

They are searched around the values of the config, as far as they apply to the data.
"""

from kubetfx.config.model_section import ModelConfig
from kubetfx.config.training_section import TrainingConfig
from kubetfx.config.tuning_section import Interval, Values
from kubetfx.models.features import Features

_FEW_ROWS = 10_000
"""Number of training rows up to which wide networks and many leaves overfit."""
_WIDTHS = ((32,), (64, 32), (128, 64), (256, 128))
_MORE_WIDTHS = ((512, 256), (256, 256, 128))
_CATEGORIES = frozenset({"vocabulary", "hashed"})
"""Roles of columns that are embedded."""


def default_space(
    model: ModelConfig, training: TrainingConfig, features: Features, *, num_rows: int
) -> dict[str, Values]:
    """Return values by dotted key.

    Args:
        model: the section of the config.
        training: the section of the config.
        features: the columns.
        num_rows: The number of rows of training.
    """
    found: dict[str, Values] = {}
    if model.kind in ("network", "auto"):
        found |= _of_networks(training, features, num_rows=num_rows)
    if model.kind in ("trees", "auto"):
        found |= _of_trees(num_rows=num_rows)
    if model.kind == "image":
        found |= _of_images(model, training)
    return found


def _of_networks(training: TrainingConfig, features: Features, *, num_rows: int) -> dict[str, Values]:
    found: dict[str, Values] = {
        "training.learning_rate": _around(training.learning_rate),
        "training.batch_size": _sizes_around(training.batch_size),
        "model.hidden_units": _WIDTHS if num_rows <= _FEW_ROWS else (*_WIDTHS[1:], *_MORE_WIDTHS),
        "model.dropout": Interval(range=(0, 0.5), step=0.05),
    }
    if "numeric" in features.by_type:
        found["model.number_bins"] = (0, 8, 16, 32, 64)
    if _CATEGORIES & features.by_type.keys():
        found["model.embedding_size"] = (4, 8, 16, 32)
    return found


def _around(rate: float) -> Interval:
    """Return rates up to five times lower and higher than the config's."""
    return Interval(log=(rate / 5, rate * 5))


def _sizes_around(batch_size: int) -> tuple[int, ...]:
    """Return half and twice the config's size: much smaller batches take much longer."""
    return tuple(sorted({max(batch_size // 2, 1), batch_size, 2 * batch_size}))


def _of_trees(*, num_rows: int) -> dict[str, Values]:
    return {
        "model.trees.learning_rate": Interval(log=(0.02, 0.2)),
        "model.trees.num_leaves": Interval(log=(4, 63 if num_rows <= _FEW_ROWS else 255)),
        "model.trees.min_data_in_leaf": Interval(log=(5, max(num_rows // 50, 50) if num_rows <= _FEW_ROWS else 200)),
        "model.trees.feature_fraction": Interval(range=(0.4, 1), step=0.1),
        "model.trees.bagging_fraction": Interval(range=(0.5, 1), step=0.1),
        "model.trees.lambda_l2": Interval(log=(0.01, 30)),
    }


def _of_images(model: ModelConfig, training: TrainingConfig) -> dict[str, Values]:
    found: dict[str, Values] = {
        "training.learning_rate": _around(training.learning_rate),
        "training.batch_size": _sizes_around(training.batch_size),
        "model.dropout": Interval(range=(0, 0.5), step=0.1),
        "model.augmentation.rotation_degrees": (0, 10, 20),
        "model.augmentation.shift": (0, 0.1),
        "model.augmentation.zoom": (0, 0.1, 0.2),
    }
    if model.backbone is None:
        found["model.hidden_units"] = ((), (64,), (128,))
    if training.fine_tune is not None:
        found["training.fine_tune.learning_rate"] = Interval(log=(1e-6, 1e-4))
    return found
