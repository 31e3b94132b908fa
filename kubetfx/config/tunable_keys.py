"""Which keys of a pipeline.yaml can be tuned, and whether they take the values that `tuning.search` gives them."""

import types
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from kubetfx.config.dotted_keys import annotation_of, keys_of, leaves
from kubetfx.config.metric_catalogue import Better, better_of, is_reference, names_for
from kubetfx.config.section import nearest
from kubetfx.config.tuning_section import Interval, TuningConfig, Values
from kubetfx.errors import ConfigError

if TYPE_CHECKING:
    from kubetfx.config.pipeline import PipelineConfig

SECTIONS = ("model", "training", "features")
"""Sections whose keys can be searched."""
_NOT_TUNABLE: Mapping[str, str] = {
    "model.task": "it defines what is learned",
    "model.module": "it is your own module, which defines the whole network",
    "model.top_k": "it defines what a metric counts",
    "model.ensemble": "each trial trains one network, and more networks are hardly ever worse",
    "training.seed": "a better seed is chance, not a better setting",
    "training.loss": "it is code of your own",
    "training.callbacks": "they are code of your own",
    "training.sample_weight": "it defines what the metrics count",
    "training.require_gpu": "it does not change the model",
    "training.memory_growth": "it does not change the model",
    "training.cache_bytes": "it does not change the model",
    "training.distribution": "trials are trained in one process each",
    "training.checkpoint_directory": "it does not change the model",
    "training.checkpoint_seconds": "it does not change the model",
    "features.types": "they are code of your own",
    "features.image": "it defines what the data is",
}
"""Keys that cannot be searched, with the reason. Keys below them are included."""
OF_ROLES = ("numeric", "categorical", "date", "list", "text", "integer_categories", "vocabulary_size")
"""Keys of `features` that decide what columns are used for, which the schema records."""


def check(tuning: TuningConfig, config: "PipelineConfig") -> None:
    """Check the keys, values and metric of a search.

    Args:
        tuning: the section.
        config: whose other sections are searched.

    Raises:
        ValueError: a key does not exist or cannot be searched, does not take one of the values, or the task does not
            have the metric.
    """
    _check_metric(tuning, config)
    for key, values in tuning.search.items():
        _check_key(key, type(config))
        if isinstance(values, Interval):
            _check_numbers(key, values, type(config))
        if config.data.schema_file and keys_of(key)[0] == "features" and keys_of(key)[-1] in OF_ROLES:
            raise ValueError(
                f"tuning.search: {key} decides what columns are used for, which a frozen schema already fixes. "
                f"Received: data.schema_file: {config.data.schema_file}. Leave the key or the file out"
            )
        for value in _examples(values, is_integer=is_integer(key, type(config))):
            try:
                config.with_settings({key: value})
            except ConfigError as error:
                reason = (error.faults[0] if error.faults else str(error)).removeprefix("the pipeline: ")
                raise ValueError(f"tuning.search: {key} cannot be {value!r}: {reason}") from None


def metric_of(config: "PipelineConfig") -> tuple[str, Better]:
    """Return the metric that compares trials, and which of its values are better.

    Args:
        config: The config of the pipeline, with or without the section `tuning`.
    """
    named = config.tuning.metric if config.tuning else None
    known = names_for(config.model.task, sees_images=True)
    first = next((name for name in config.evaluation.thresholds if name in known or is_reference(name)), None)
    default = "cross_entropy" if config.model.task == "classification" else "root_mean_squared_error"
    name = named or first or default
    return name, better_of(name)


def is_integer(key: str, root: type[BaseModel]) -> bool:
    """Return whether a key takes whole numbers.

    Args:
        key: dotted.
        root: the class of the whole config.
    """
    return _number_type(key, root) is int


def _number_type(key: str, root: type[BaseModel]) -> type | None:
    """Return the type of a key's numbers; None if it takes none."""
    kinds = set(_scalars(annotation_of(keys_of(key), root)))
    return float if float in kinds else int if int in kinds else None


def _scalars(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        yield from _scalars(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _scalars(part)
    else:
        yield annotation


def _check_metric(tuning: TuningConfig, config: "PipelineConfig") -> None:
    known = names_for(config.model.task, sees_images=config.sees_images)
    if tuning.metric is not None and tuning.metric not in known and not is_reference(tuning.metric):
        raise ValueError(
            f"tuning.metric: unknown metric {tuning.metric!r} for {config.model.task}."
            f"{nearest(tuning.metric, known)} Known: {', '.join(known)}; and your own as module:attribute"
        )


def _check_key(key: str, root: type[BaseModel]) -> None:
    for parent, reason in _NOT_TUNABLE.items():
        if key == parent or key.startswith(f"{parent}."):
            raise ValueError(f"tuning.search: {key} cannot be searched: {reason}. Leave it out")
    known = [name for section in SECTIONS for name in leaves(annotation_of([section], root), f"{section}.")]
    tunable = [name for name in known if not any(name == one or name.startswith(f"{one}.") for one in _NOT_TUNABLE)]
    keys = keys_of(key)
    if keys and keys[0] not in SECTIONS and keys[0] in root.model_fields:
        raise ValueError(
            f"tuning.search: {key} cannot be searched. Keys of {', '.join(SECTIONS[:-1])} and {SECTIONS[-1]} can. "
            "Leave it out"
        )
    if len(keys) < 2 or annotation_of(keys, root) is None:
        beside = [name for name in tunable if keys and name.startswith(f"{keys[0]}.")] or tunable
        raise ValueError(f"tuning.search: unknown key {key!r}.{nearest(key, tunable)} Known: {', '.join(beside)}")


def _check_numbers(key: str, interval: Interval, root: type[BaseModel]) -> None:
    kind = _number_type(key, root)
    low, high = interval.bounds
    if kind is None:
        raise ValueError(
            f"tuning.search: {key} takes no numbers. Received: [{low:g}, {high:g}]. Give a list of values to choose "
            "from"
        )
    if kind is int and not interval.is_of_integers:
        raise ValueError(f"tuning.search: {key} takes whole numbers. Received: [{low:g}, {high:g}]. Give whole numbers")


def _examples(values: Values, *, is_integer: bool) -> list[Any]:
    """Return values that stand for all: each of a list, and the ends of an interval."""
    if not isinstance(values, Interval):
        return list(values)
    return [int(number) for number in values.bounds] if is_integer else list(values.bounds)
