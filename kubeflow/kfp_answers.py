"""Holds what Kubeflow Pipelines answers to the types of its API, which the generated client takes as it comes.

That client makes an empty message of a list, and a list of a text's characters. So the JSON is looked at before it is
read, here alone: what has passed has values of the types that the client's models declare, or none.
"""

import datetime
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import kfp_server_api.models

_NEEDED = {
    "V2beta1Experiment": "experiment_id",
    "V2beta1Pipeline": "pipeline_id",
    "V2beta1PipelineVersion": "pipeline_version_id",
    "V2beta1RecurringRun": "recurring_run_id",
    "V2beta1Run": "run_id",
}
"""What a message is known by."""


def _is_time(value: Any) -> bool:
    try:
        return datetime.datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


def _is_whole(value: Any) -> bool:
    return type(value) is int or (isinstance(value, str) and re.fullmatch(r"-?\d+", value) is not None)


_KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "object": ("a value", lambda value: True),
    "str": ("a text", lambda value: isinstance(value, str)),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "int": ("a whole number", _is_whole),
    "datetime": ("a time with its offset from UTC", _is_time),
}
"""By type of the generated client: in words, and whether a value is of it. An int64 is text in protobuf's JSON."""


def fault_of(value: Any, kind: str, place: str = "") -> str | None:
    """Return what is wrong with an answer, None if it is of its type.

    Args:
        value: as JSON has it; null is a value that is not there.
        kind: as the generated client names it: a model, `str`, `list[str]` or `dict(str, object)`.
        place: of the value in the answer.
    """
    if value is None:
        return None
    if found := re.fullmatch(r"list\[(.*)\]", kind):
        if not isinstance(value, list):
            return _expected("a list", value, place)
        return _first(fault_of(item, found[1], f"{place}[{index}]") for index, item in enumerate(value))
    if found := re.fullmatch(r"dict\(str, (.*)\)", kind):
        if not isinstance(value, dict):
            return _expected("an object", value, place)
        return _first(fault_of(item, found[1], f"{place}.{key}") for key, item in value.items())
    model = getattr(kfp_server_api.models, kind, None)
    if model is not None and model.openapi_types:
        return _fault_of_message(value, model, place)
    words, is_of = _KINDS.get(kind, _KINDS["str"])  # an enumeration is a model without fields, and a text
    return None if is_of(value) else _expected(words, value, place)


def _fault_of_message(value: Any, model: Any, place: str) -> str | None:
    if not isinstance(value, dict):
        return _expected("an object", value, place)
    needed = _NEEDED.get(model.__name__)
    if needed and not value.get(model.attribute_map[needed]):
        return f"{place or 'the answer'} has no {needed}"
    fields = ((model.attribute_map[name], kind) for name, kind in model.openapi_types.items())
    return _first(fault_of(value.get(key), kind, f"{place}.{key}".lstrip(".")) for key, kind in fields)


def _first(faults: Iterator[str | None]) -> str | None:
    return next((fault for fault in faults if fault), None)


def _expected(words: str, value: Any, place: str) -> str:
    return f"{place or 'the answer'} is {repr(value)[:100]}, and not {words}"
