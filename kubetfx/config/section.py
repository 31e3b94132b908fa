"""The base of every section of pipeline.yaml: it is frozen, and refuses unknown keys."""

import difflib
from collections.abc import Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?$")]


class Section(BaseModel):
    """A frozen part of the tree that refuses unknown keys."""

    model_config = ConfigDict(
        defer_build=True, frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _boolean_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a truth value where a number is needed: Pydantic takes `true` for 1."""
        if not isinstance(value, bool) or info.field_name is None:
            return value
        kinds = _members(cls.model_fields[info.field_name].annotation)
        if kinds & {int, float} and not kinds & {bool, Any, value}:
            raise ValueError(f"a number is needed. Received: {str(value).lower()}")
        return value

    @property
    def changed(self) -> frozenset[str]:
        """Keys whose value differs from the default.

        A node that reads its section cannot see which keys the file contained.
        """
        fields = type(self).model_fields.items()
        return frozenset(name for name, field in fields if getattr(self, name) != field.get_default())


def _members(annotation: Any) -> set[Any]:
    """What an annotation allows: `int` and `None` of `Annotated[int, ...] | None`, and the values of a Literal."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _members(parts[0])
    if origin in (Union, UnionType):
        return {member for part in parts for member in _members(part)}
    return {part for part in parts if isinstance(part, bool)} if origin is Literal else {annotation}


def nearest(name: str, candidates: Sequence[str]) -> str:
    """Return ` Did you mean 'x'?` for the candidate most similar to a name; empty if none is similar.

    Args:
        name: The name that was written.
        candidates: The names that could have been meant.
    """
    lowered = {candidate.lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.5)
    return f" Did you mean {lowered[matches[0]]!r}?" if matches else ""
