"""Python as a person writes it, for files that kubetfx writes and people read: calls, lists and dictionaries."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_WIDTH = 120


@dataclass(frozen=True)
class Name:
    """An expression that is written as it is."""

    text: str


@dataclass(frozen=True)
class Call:
    """A call: its function, and its arguments by keyword."""

    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, function: str, **arguments: Any) -> "Call":
        """Make a call without the arguments that are None.

        Args:
            function: that is called.
            arguments: by keyword.

        Returns:
            The call.
        """
        return cls(function, {name: value for name, value in arguments.items() if value is not None})


def source(value: Any, *, indent: int = 0, before: int = 0) -> str:
    """Return the source of a value: in one line where it fits, otherwise a line per item.

    Args:
        value: a number, a text, True, False or None; `Name` or `Call`; or lists and dictionaries of them.
        indent: spaces before the line that it begins in.
        before: The number of other characters in that line, before the value and behind it.
    """
    one_line = _in_one_line(value)
    if indent + before + len(one_line) <= _WIDTH or not isinstance(value, Call | list | tuple | Mapping) or not value:
        return one_line
    inner = indent + 4
    if isinstance(value, Call):
        opening, closing = f"{value.function}(", ")"
        items = [(f"{name}=", item) for name, item in value.arguments.items()]
    elif isinstance(value, Mapping):
        opening, closing = "{", "}"
        items = [(f"{json.dumps(key, ensure_ascii=False)}: ", item) for key, item in value.items()]
    else:
        opening, closing = "[", "]"
        items = [("", item) for item in value]
    lines = [f"{' ' * inner}{key}{source(item, indent=inner, before=len(key) + 1)}," for key, item in items]
    return "\n".join([opening, *lines, f"{' ' * indent}{closing}"])


def _in_one_line(value: Any) -> str:
    match value:
        case Name():
            return value.text
        case Call():
            return f"{value.function}({', '.join(f'{k}={_in_one_line(v)}' for k, v in value.arguments.items())})"
        case str():
            return json.dumps(value, ensure_ascii=False)
        case Mapping():
            return (
                "{"
                + ", ".join(f"{json.dumps(k, ensure_ascii=False)}: {_in_one_line(v)}" for k, v in value.items())
                + "}"
            )
        case Sequence():
            return f"[{', '.join(map(_in_one_line, value))}]"
        case _:
            return repr(value)
