"""What the JSON of a folder with a model has to look like, and one reader that says where it does not.

A format declares its documents as classes of `Document`. Keys that no class names are left out: a model's files have
many that say nothing about how it computes.
"""

import reprlib
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, RootModel, ValidationError

_STRICT = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)
_LONGEST_KEY = 80
"""Characters: the keys of a vocabulary are whatever a damaged file has."""


class Document(BaseModel):
    """An object of JSON. Numbers are not read out of text, nor truth values out of numbers."""

    model_config = _STRICT


class TokenNumbers(RootModel[dict[str, int]]):
    """A vocabulary: numbers by token."""

    model_config = _STRICT


Size = Annotated[int, Field(ge=1, le=2**31 - 1)]
Layers = Annotated[int, Field(ge=1, le=1_000)]
"""The largest models of these kinds have 48. A file that says a million would take hours to compare with weights."""
Epsilon = Annotated[float, Field(gt=0, le=1)]
Token = Annotated[str, BeforeValidator(lambda given: given.get("content", given) if isinstance(given, dict) else given)]
"""Its text, or an object with it."""


def _joined(pair: Any) -> Any:
    is_pair = isinstance(pair, list) and len(pair) == 2 and all(isinstance(token, str) for token in pair)
    return " ".join(pair) if is_pair else pair


Merge = Annotated[str, BeforeValidator(_joined)]
"""Two tokens with a space between them, or a list of the two."""


Declared = TypeVar("Declared", bound=BaseModel)


class DamageError(ValueError):
    """A document is not as declared.

    Args:
        problem: begins with the name of the file.
        received: what is there.
    """

    def __init__(self, problem: str, received: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.received = received


def read_document(text: str, declared: type[Declared], *, name: str) -> Declared:
    """Read JSON.

    Args:
        text: of the file.
        declared: what it has to be.
        name: of the file.

    Returns:
        What it has, of the declared types.

    Raises:
        DamageError: it is something else; the first difference is named.
    """
    try:
        return declared.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"]))[:_LONGEST_KEY]
    said = first["msg"][0].lower() + first["msg"][1:]
    if first["type"] == "json_invalid":
        raise DamageError(f"{name} is not JSON", said)
    if not key:
        raise DamageError(f"{name} is not a JSON object", text[:40])
    if first["type"] == "missing":
        raise DamageError(f"{name} lacks a key", f"no {key!r}")
    raise DamageError(f"{name} has a wrong value: {key}: {said}", reprlib.repr(first["input"]))
