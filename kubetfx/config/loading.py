"""The only reader of YAML: pipeline.yaml and overrides become a `PipelineConfig`."""

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kubetfx.config.dotted_keys import DOTTED, OF_OVERRIDES, annotation_of, keys_of, override
from kubetfx.config.faults import kind_of
from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.references import with_environment
from kubetfx.config.yaml_text import parse
from kubetfx.errors import ConfigError

ConfigSource = PipelineConfig | str | Path | Mapping[str, Any]
"""A config, or an argument of `load_config`."""

_OVERRIDE = re.compile(rf"(?P<dotted>{DOTTED.pattern})=(?P<value>.*)", re.DOTALL)


def load_config(
    source: str | Path | Mapping[str, Any],
    *,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    folder: Path | None = None,
) -> PipelineConfig:
    """Read a pipeline.yaml, or take its content as a dictionary. `${NAME}` in a text is an environment variable.

    Args:
        source: path of the YAML file, or a dictionary of the same form. Relative paths in a file start at its folder;
            those in a dictionary start at the working directory.
        overrides: values by dotted key, for example `{"training.epochs": 3}`, or texts `training.epochs=3` with the
            value in YAML. Each replaces the value of the source. A key that contains dots is in double quotes:
            `data.types."a.b"=text`.
        folder: Where relative paths start, instead of the folder above.

    Returns:
        The checked tree, with all paths absolute.

    Raises:
        ConfigError: the file cannot be read, is not YAML, refers to an environment variable that is not set, or does
            not fit the schema. All errors are listed.

    Example:
        >>> import kubetfx
        >>> config = kubetfx.load_config("examples/penguins/pipeline.yaml", overrides={"training.epochs": 3})
        >>> config.training.epochs
        3
    """
    if isinstance(source, Mapping):
        document = copy.deepcopy(dict(source))
    else:
        path = Path(source)
        folder, document = folder or path.resolve().parent, _read_yaml(path)
    parsed = overrides if isinstance(overrides, Mapping) else dict(map(_parsed, overrides))
    for dotted, value in parsed.items():
        override(document, dotted, value)
    wrong = sorted(str(key) for key in document if not isinstance(key, str))
    if wrong:
        raise ConfigError(f"The names of sections must be text. Received: {', '.join(wrong)}.")
    try:
        return PipelineConfig(folder, **with_environment(document))
    except ConfigError as error:
        if isinstance(source, Mapping) or not error.faults:
            raise
        raise ConfigError(f"{source} is not a valid pipeline:", faults=error.faults) from None


def as_config(source: ConfigSource) -> PipelineConfig:
    """Return a config as it is, and load it from anything else.

    Args:
        source: a config, or what `load_config` takes.
    """
    return source if isinstance(source, PipelineConfig) else load_config(source)


def section_of(overrides: Iterable[str], section: str) -> dict[str, Any]:
    """Parse the overrides of one section.

    Args:
        overrides: each `dotted.key=value`.
        section: its name.

    Returns:
        The values that they set in the section.

    Raises:
        ConfigError: one is not YAML, or belongs to another section.
    """
    document: dict[str, Any] = {}
    for dotted, value in map(_parsed, overrides):
        override(document, dotted, value)
    if others := [name for name in document if name != section]:
        raise ConfigError(
            f"Only keys of {section} can be set here. Received: {others[0]}. Write it into pipeline.yaml."
        )
    found = document.get(section) or {}
    return dict(found)


def _parsed(override: str) -> tuple[str, Any]:
    found = _OVERRIDE.fullmatch(override)
    if found is None:
        raise ConfigError(OF_OVERRIDES.format(override))
    dotted, text = found["dotted"], found["value"]
    try:
        value = parse(text, annotation_of(keys_of(dotted), PipelineConfig))
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{dotted}: the value is not YAML. Received: {text!r} ({error}). Such text needs quotes "
            f'that the shell does not remove: {dotted}="TEXT".'
        ) from None
    if value is None and text.strip().startswith("#"):
        raise ConfigError(
            f'{dotted}: the value is a YAML comment. Received: {text!r}. Put it in quotes: {dotted}="{text}".'
        )
    return dotted, value


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        document = parse(path.read_text(encoding="utf-8"), PipelineConfig)
    except FileNotFoundError:
        raise ConfigError(f"File not found. Received: {path}. Give the path of a pipeline.yaml.") from None
    except IsADirectoryError:
        raise ConfigError(
            f"A pipeline is a YAML file. Received: the folder {path}. Give the path of its pipeline.yaml."
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}. Save it as UTF-8.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must hold a mapping of sections (name, data, ...). Received: {kind_of(document)}.")
    return document
