"""In which encoding a text file is, found by looking at the bytes that it begins with."""

import codecs
import re
import unicodedata

from kubetfx.tables.csv_dialect import BYTE_ORDER_MARK

_BYTE_ORDER_MARKS = (
    (BYTE_ORDER_MARK, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE_BYTES = 2**16
"""Number of bytes of lines with characters beyond ASCII that are passed to charset-normalizer."""
_MIN_UTF8 = 0.25
"""At least this many characters of UTF-8 beyond ASCII per damaged one, and a file is UTF-8: text in another encoding of
Latin letters hardly has bytes that look like such characters."""
_MIN_WORDS, _MIN_SHARE = 4, 0.75
"""Words of another script than the Latin one that make a text one of that script, and their share of all words with
characters beyond ASCII. A lone letter, such as the one in `Köln`, is a character of Korean in another encoding."""

_OTHER_SCRIPTS = (
    *("cp932", "euc_jp", "gb18030", "big5", "euc_kr"),
    *("cp1251", "koi8_r", "cp866", "cp1253", "cp1255", "cp1256", "cp874"),
)
_WESTERN = ("mac_roman", "cp850")
"""Western encodings of old Macs and DOS."""
_BETWEEN_WORDS = re.compile(rb"[\x00-\x20\x22-\x2f:-?]+")


def has_byte_order_mark(head: bytes) -> bool:
    """Return whether a file begins with the mark of a Unicode encoding.

    Args:
        head: its first bytes.
    """
    return any(head.startswith(mark) for mark, _ in _BYTE_ORDER_MARKS)


def encoding_of(head: bytes) -> tuple[str, bool]:
    """Find the encoding of a file.

    It is UTF-8 unless the bytes say otherwise: UTF-16, or an encoding of one script. Those of Latin letters cannot be
    told apart by a few words, and the file is taken for what Windows writes in the West.

    Args:
        head: its first bytes.

    Returns:
        The encoding by a name that Python knows, and whether it is a guess.
    """
    for mark, encoding in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding, False
    if zeros := head.count(0):  # every other byte of most texts in UTF-16
        even = head[::2].count(0)
        if zeros > len(head) / 4:
            return "utf-16-be" if even > zeros / 2 else "utf-16-le", False
    decoded = codecs.getincrementaldecoder("utf-8")("replace").decode(head)
    num_wrong = decoded.count("\ufffd")
    num_right = len(decoded) - len(decoded.encode("ascii", "ignore")) - num_wrong
    if num_wrong == 0 or num_wrong < num_right:
        return (
            "utf-8",
            False,
        )  # a few damaged characters do not make it another encoding: the reader says where they are
    lines = b"".join(line for line in head.splitlines(keepends=True) if not line.isascii())[:_SAMPLE_BYTES]
    words = b" ".join(dict.fromkeys(word for word in _BETWEEN_WORDS.split(lines) if not word.isascii()))
    likely = _likely(lines)
    for found in (*likely, *_likely(words)):  # rows of few words are too unlike a text
        if found in _OTHER_SCRIPTS and _is_of_another_script(lines.decode(found, "replace")):
            return found, True
    if num_right > _MIN_UTF8 * num_wrong:  # of several encodings, which the reader refuses
        return "utf-8", False
    try:
        head.decode("cp1252")
    except UnicodeDecodeError:  # Latin-1 has control characters for what cp1252 lacks, which no text has
        return next((found for found in likely if found in _WESTERN), "iso8859-1"), True
    return "cp1252", True


def _likely(sample: bytes) -> list[str]:
    """Return encodings, the likeliest first."""
    from charset_normalizer import from_bytes  # for few files

    return [found.encoding for found in from_bytes(sample, cp_isolation=[*_OTHER_SCRIPTS, *_WESTERN])]


def _is_of_another_script(text: str) -> bool:
    """Return whether most words that have characters beyond ASCII are of one script each, and not of the Latin one."""
    words = {word for word in re.findall(r"[^\W\d_]{2,}", text) if not word.isascii()}
    num_others = sum(len(scripts := set(map(_script, word))) == 1 and None not in scripts for word in words)
    return num_others >= max(_MIN_WORDS, _MIN_SHARE * len(words))


def _script(letter: str) -> str | None:
    """Return the script of a letter.

    It is None for the Latin one, and for letters of half width, as those of Japanese seem to be in much that is none.
    """
    script = unicodedata.name(letter, "LATIN").partition(" ")[0]
    return None if script in ("LATIN", "HALFWIDTH") else "CJK" if script in ("HIRAGANA", "KATAKANA") else script
