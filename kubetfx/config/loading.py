"""The only reader of YAML: pipeline.yaml and overrides become a `PipelineConfig`.

Relative paths are relative to the folder of pipeline.yaml.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from kubetfx.config.pipeline import PipelineConfig
from kubetfx.config.section import nearest
from kubetfx.errors import ConfigError
from kubetfx.storage import is_url, locate

_TYPE_IN_PATH = re.compile(r"(function-|literal\[|dict\[|tuple\[|str$)")
"""What pydantic puts into a path to say which member of a union it tried."""


def load_config(path: Path, *, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Read pipeline.yaml.

    Args:
        path: the YAML file.
        overrides: `dotted.key=value`, the value in YAML, each put over what the file says.

    Returns:
        The checked tree, with all paths absolute.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or does not fit the tree. All faults are listed.
    """
    document = _read_yaml(path)
    for override in overrides:
        _apply_override(document, override)
    try:
        config = PipelineConfig.model_validate(document)
    except ValidationError as error:
        faults = [_describe(dotted, faults) for dotted, faults in _by_path(error.errors()).items()]
        raise ConfigError(f"{path} is not a valid pipeline:\n" + "\n".join(f"  {f}" for f in faults)) from None
    return _with_absolute_paths(config, folder=path.resolve().parent)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's own safe loader takes the last of two sections of one name without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except FileNotFoundError:
        raise ConfigError(
            f"There is no such file. Received: {path}. "
            "`kubetfx init DATA --label COLUMN` writes a pipeline.yaml for your data."
        ) from None
    except IsADirectoryError:
        raise ConfigError(f"A pipeline is a YAML file. Received: the folder {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must hold a mapping of sections (name, data, ...). Received: {_kind(document)}.")
    return document


def _apply_override(document: dict[str, Any], override: str) -> None:
    dotted, separator, text = override.partition("=")
    if not separator or not all(dotted.split(".")):
        raise ConfigError(f"--set takes dotted.key=value. Received: {override!r}. Try --set training.epochs=3.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {dotted}: the value is not YAML. Received: {text!r} ({error}).") from None
    *parents, last = dotted.split(".")
    section = document
    for depth, key in enumerate(parents, start=1):
        if section.get(key) is None:
            section[key] = {}
        section = section[key]
        if not isinstance(section, dict):
            inner = ".".join(parents[:depth])
            raise ConfigError(f"--set {dotted}: {inner} has no keys. Received: {inner} = {section!r}.")
    section[last] = value


def _by_path(errors: Sequence[ErrorDetails]) -> dict[str, list[ErrorDetails]]:
    """Faults by dotted path. A value may be wrong in several ways; where a part of it is, that part is what counts."""
    paths: dict[str, list[ErrorDetails]] = {}
    for error in errors:
        location = tuple(part for part in error["loc"] if not _TYPE_IN_PATH.match(str(part)))
        paths.setdefault(".".join(map(str, location)), []).append({**error, "loc": location})
    return {path: faults for path, faults in paths.items() if not any(p.startswith(f"{path}.") for p in paths)}


def _describe(path: str, faults: Sequence[ErrorDetails]) -> str:
    fault = faults[0]
    location = fault["loc"]
    dotted = path or "the pipeline"
    if fault["type"] == "extra_forbidden":
        known = _fields_at(location[:-1])
        key = str(location[-1])
        return f"{dotted}: there is no such key.{nearest(key, known)} Known here: {', '.join(known)}."
    if fault["type"] == "missing":
        return f"{dotted}: is required."
    message = "; or ".join(_lower_first(other["msg"].removeprefix("Value error, ")) for other in faults)
    if fault["type"] == "value_error":  # our own; it says what was received
        return f"{message}." if message.startswith(dotted) else f"{dotted}: {message}."
    return f"{dotted}: {message}. Received: {fault['input']!r} ({_kind(fault['input'])})."


def _lower_first(text: str) -> str:
    return text[0].lower() + text[1:]


def _fields_at(location: Sequence[str | int]) -> list[str]:
    section: type[BaseModel] = PipelineConfig
    for part in location:
        field = section.model_fields.get(str(part))
        inner = next(_sections(field.annotation), None) if field else None
        section = inner or section
    return list(section.model_fields)


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections(argument)


def _kind(value: object) -> str:
    names = {
        dict: "a mapping",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return "nothing" if value is None else names.get(type(value), type(value).__name__)


def _with_absolute_paths(config: PipelineConfig, *, folder: Path) -> PipelineConfig:
    def absolute(path: str, *, section: str) -> str:
        if is_url(path):
            raise ConfigError(f"{section}: a path of this machine's file system is needed. Received: {path}.")
        return str(folder / Path(path).expanduser())

    def anywhere(path: str, *, section: str) -> str:
        if not is_url(path):
            return absolute(path, section=section)
        try:
            return str(locate(path))
        except ValueError as error:
            raise ConfigError(f"{section}: {error}.") from None

    data, serving = config.data, config.serving
    workspace = absolute(config.workspace or f".kubetfx/{config.name}", section="workspace")
    push_directory = serving.push_directory or f"{workspace}/pushed/{config.model_name}"
    schema_file = data.schema_file and absolute(data.schema_file, section="data.schema_file")
    weights, checkpoints = config.model.weights, config.training.checkpoint_directory
    return config.model_copy(
        update={
            "workspace": workspace,
            "data": data.model_copy(
                update={"path": anywhere(data.path, section="data.path"), "schema_file": schema_file}
            ),
            "serving": serving.model_copy(
                update={"push_directory": anywhere(push_directory, section="serving.push_directory")}
            ),
            "model": config.model.model_copy(
                update={
                    "weights": weights
                    if weights in ("imagenet", "none")
                    else absolute(weights, section="model.weights")
                }
            ),
            "training": config.training.model_copy(
                update={
                    "checkpoint_directory": checkpoints
                    and absolute(checkpoints, section="training.checkpoint_directory")
                }
            ),
        }
    )
