"""Which column types there are: kubetfx's own, in the order in which they are asked, and before them the user's."""

import functools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from kubetfx.errors import ConfigError
from kubetfx.models.columns.category import Hashed, Vocabulary
from kubetfx.models.columns.column_type import ColumnType
from kubetfx.models.columns.date import Date
from kubetfx.models.columns.image.image_type import Image
from kubetfx.models.columns.list import List
from kubetfx.models.columns.number import Number
from kubetfx.models.columns.text.text_type import Text
from kubetfx.user_code import load_object

if TYPE_CHECKING:
    from kubetfx.models.columns.reading import Reading

COLUMN_TYPES: tuple[ColumnType, ...] = (Image(), Date(), Number(), List(), Text(), Vocabulary(), Hashed())
"""A column is of the first that takes it; a network joins what they encode in this order."""

USER_TYPE = "type:"
"""Begins the tag of a column of the user's type; `module:class` follows."""


@functools.cache
def readings() -> "Mapping[str, type[Reading]]":
    """Return how cells of text are read, by kind; cells are of the first whose rules they keep."""
    return {own.reading.kind: own.reading for own in COLUMN_TYPES if own.reading}


def types_by_tag(references: Iterable[str] = ()) -> dict[str, ColumnType]:
    """Return the types by the tag that the schema has for each.

    Args:
        references: of the user's types, `module:class`.

    Raises:
        ConfigError: there is no such class, or it is not that of a column type.
    """
    own = {f"{USER_TYPE}{reference}": _load(reference) for reference in references}
    return own | {column_type.tag: column_type for column_type in COLUMN_TYPES}


def type_of(tag: str) -> ColumnType:
    """Return the type that a tag stands for.

    Args:
        tag: A tag in a schema.

    Raises:
        ConfigError: it is the user's, and there is no such class.
    """
    return _load(tag.removeprefix(USER_TYPE)) if is_users(tag) else COLUMN_TYPES[_TAGS[tag]]


def is_users(tag: str) -> bool:
    """Return whether a type is one of the user's.

    Args:
        tag: The tag of the type.
    """
    return tag.startswith(USER_TYPE)


def is_tag(tag: str) -> bool:
    """Return whether a tag is that of a column type.

    Args:
        tag: The tag of a column in a schema.
    """
    return is_users(tag) or tag in _TAGS


def rank(tag: str) -> int:
    """Return where a type comes in the order of all: the user's before kubetfx's own.

    Args:
        tag: The tag of the type.
    """
    return -1 if is_users(tag) else _TAGS[tag]


_TAGS = {column_type.tag: number for number, column_type in enumerate(COLUMN_TYPES)}


def _load(reference: str) -> ColumnType:
    found = load_object(reference, key="features.types")
    if not (isinstance(found, type) and issubclass(found, ColumnType)):
        raise ConfigError(
            f"features.types: a column type is a subclass of kubetfx.models.columns.column_type.ColumnType. Received: "
            f"{reference}, which is {found!r}. Derive the class from it."
        )
    return found()
