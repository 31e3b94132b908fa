"""Parameters as text, as Kubeflow Pipelines 2.17.0 writes and reads them (backend/src/v2/metadata/converter.go).

In its documents a number is a double, whatever its type.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from kubetfx.errors import CompileError


def as_double(value: Any) -> Any:
    """Return a value of a package as it is in ML Metadata: every number is a double, in lists and structs too.

    Args:
        value: The value of a parameter.
    """
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, Mapping):
        return {key: as_double(inner) for key, inner in value.items()}
    return [as_double(inner) for inner in value]


def as_json(value: Any) -> str:
    """Return JSON as Go's protojson writes it: a double without a fraction has no point.

    Args:
        value: The value of a parameter, or a whole document.
    """
    return json.dumps(_shortened(value), separators=(",", ":"), ensure_ascii=False)


def as_text(value: Any) -> str:
    """Return a parameter as the text that takes the place of its placeholder (PbValueToText).

    Args:
        value: The value of the parameter.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return as_json(value)


def from_text(text: str, parameter_type: str) -> Any:
    """Return the value of an output parameter whose file a container wrote (TextToPbValue).

    Args:
        text: The text of the file.
        parameter_type: as the component declares it: `STRING`, `NUMBER_INTEGER`, ...

    Raises:
        CompileError: the text is not of the type; the launcher fails the task.
    """
    try:
        return as_double(_READERS[parameter_type](text))
    except (KeyError, ValueError) as error:
        raise CompileError(
            f"The launcher cannot read an output parameter. Expected {parameter_type}, received: {text!r}."
        ) from error


def _integer(text: str) -> int:
    if not re.fullmatch(r"\s*[+-]?[0-9]+\s*", text):
        raise ValueError(text)
    return int(text)


def _document(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = json.loads(text)
        if not isinstance(value, kind):
            raise ValueError(text)
        return value

    return read


_BOOLEANS = dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True) | dict.fromkeys(
    ("0", "f", "F", "false", "FALSE", "False"), False
)
"""What Go's strconv.ParseBool reads."""
_READERS: Mapping[str, Callable[[str], Any]] = {
    "STRING": str,
    "NUMBER_INTEGER": _integer,
    "NUMBER_DOUBLE": float,
    "BOOLEAN": lambda text: _BOOLEANS[text.strip()],
    "LIST": _document(list),
    "STRUCT": _document(dict),
}


def _shortened(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return int(value)
    if isinstance(value, Mapping):
        return {key: _shortened(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(inner) for inner in value]
    return value
