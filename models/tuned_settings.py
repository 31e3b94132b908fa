"""The settings that a search found, in TFX's HyperParameters: the config of KerasTuner's class of that name.

Its values are numbers, texts and truth values by name. The names are dotted keys of pipeline.yaml, and values of other
kinds, such as lists, are texts of JSON.
"""

import json
from collections.abc import Mapping
from typing import Any

from absl import logging

from kubetfx.config.dotted_keys import annotation_of, keys_of, override
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.tunable_keys import SECTIONS
from kubetfx.config.yaml_text import takes_only_text

Scalar = bool | int | float | str


def encoded(value: Any) -> Scalar:
    """Return a value as HyperParameters can have it.

    Args:
        value: The value of a key.
    """
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)


def decoded(value: Scalar, key: str) -> Any:
    """Return the value of a key.

    Args:
        value: as `encoded` gives it.
        key: dotted.
    """
    if not isinstance(value, str) or takes_only_text(annotation_of(keys_of(key), PipelineConfig)):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError:  # a text among other kinds of values
        return value


def settings_of(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of keys by which a training is to go.

    Args:
        hyperparameters: the config of KerasTuner's HyperParameters. Names that are not keys are left to whoever knows
            them.

    Returns:
        Values by dotted key.
    """
    found = {}
    for name, value in hyperparameters.get("values", {}).items():
        keys = keys_of(name)
        if len(keys) > 1 and keys[0] in SECTIONS and annotation_of(keys, PipelineConfig) is not None:
            found[name] = decoded(value, name)
        else:
            logging.warning("The hyperparameter %s is not a key of pipeline.yaml, and is left out.", name)
    return found


def with_settings(sections: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Put values over sections.

    Args:
        sections: of a config, as JSON has them, by name; others are left alone.
        settings: values by dotted key.

    Returns:
        A copy.
    """
    changed = {name: json.loads(json.dumps(sections[name])) for name in SECTIONS if name in sections}
    for key, value in settings.items():
        override(changed, key, value)
    return {**sections, **changed}
