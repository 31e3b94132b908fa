"""Classes of characters as Python's Unicode tables have them, for the regular expressions of a graph.

They are written out as ranges, so that a graph means the same whatever Unicode the server's RE2 knows.
"""

import functools
import re
import sys
import unicodedata
from collections.abc import Iterable

_IDEOGRAPHS = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),  # as the Hugging Face tokenizer has it; Unicode's block begins at 2B820
    (0x2F800, 0x2FA1F),
)
"""First and last code points of what BERT takes for Chinese: each character is a word."""


@functools.cache
def assigned() -> dict[str, str]:
    """Return the category of each character that Unicode has assigned, in their order."""
    found = ((chr(code), unicodedata.category(chr(code))) for code in range(sys.maxunicode + 1))
    return {character: category for character, category in found if category not in ("Cn", "Cs")}


def matching(characters: Iterable[str]) -> str:
    """Return a regular expression that matches one of some characters.

    Args:
        characters: in ascending order.
    """
    found: list[tuple[int, int]] = []
    for code in map(ord, characters):
        if found and code == found[-1][1] + 1:
            found[-1] = (found[-1][0], code)
        else:
            found.append((code, code))
    return "[" + "".join(rf"\x{{{first:x}}}-\x{{{last:x}}}" for first, last in found) + "]"


def in_categories(*categories: str, also: str = "") -> Iterable[str]:
    """Return the characters of Unicode's categories, in their order.

    Args:
        categories: such as `L`, which has all letters, or `Cf`.
        also: other characters.
    """
    return (name for name, category in assigned().items() if category.startswith(categories) or name in also)


def ideographs() -> Iterable[str]:
    """Return the characters that are words of their own for BERT, in their order."""
    return (chr(code) for first, last in _IDEOGRAPHS for code in range(first, last + 1))


def is_punctuation(character: str) -> bool:
    """Return whether BERT takes a character for punctuation: in ASCII, everything but letters, digits and spaces.

    Args:
        character: one.
    """
    if character.isascii():
        return re.fullmatch(r"[!-/:-@\[-`{-~]", character) is not None
    return unicodedata.category(character).startswith("P")


def without_accents(character: str) -> str:
    """Return a character without the marks that change no width, such as `e` of `é`.

    Args:
        character: one.
    """
    parts = unicodedata.normalize("NFD", character)
    return "".join(part for part in parts if unicodedata.category(part) != "Mn")
