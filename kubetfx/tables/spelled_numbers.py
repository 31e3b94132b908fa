"""Numbers as people and spreadsheets write them: `$1,200`, `65 000`, `45%`, `(12.50)`, `1.234,5`, and `?` for none."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

PLACEHOLDERS = frozenset(
    {
        *("", "?", "-", "\N{EN DASH}", "\N{EM DASH}", "--", "---", ".", "..", "...", "*"),
        *("n/a", "n/a.", "n.a.", "n.a", "na", "na.", "nan", "none", "nil", "null", "(null)", "<na>", "#n/a", "\\n"),
        *("missing", "unknown", "undefined", "not available", "n.d.", "nd"),
        *("#div/0!", "#value!", "#ref!", "#num!", "#name?", "#null!"),
    }
)
"""What stands for a missing cell in a column of numbers, in lower case."""

_CURRENCY = r"(?:[A-Z]{0,2}\p{Sc}|USD|EUR|GBP|JPY|CNY|CHF|CAD|AUD|NZD|INR|SEK|NOK|DKK|PLN|CZK|BRL|MXN|ZAR|KRW)"
_SPACE = "[ \u00a0\u2009\u202f]"
_SIGN = "[+\\-\N{MINUS SIGN}]?"
_OTHER_ZEROS = (
    "\N{ARABIC-INDIC DIGIT ZERO}\N{EXTENDED ARABIC-INDIC DIGIT ZERO}\N{DEVANAGARI DIGIT ZERO}\N{FULLWIDTH DIGIT ZERO}"
)
_OTHER_DIGITS = {ord(zero) + value: str(value) for zero in _OTHER_ZEROS for value in range(10)}


@dataclass(frozen=True)
class Numbers:
    """What was understood of a block of cells."""

    texts: pa.StringArray
    """The cells as plain numbers, such as `-1200.5`. Null: the cell is missing, or no number."""
    odd: pa.BooleanArray
    """Whether a cell is neither missing nor a number."""


def understand(texts: pa.StringArray, *, decimal: str = ".") -> Numbers:
    """Read cells as numbers.

    A comma between groups of three digits is one between thousands where the decimal mark is a point, and the other way
    round; so are spaces and apostrophes. Digits may be Arabic, Devanagari or full-width ones. A percentage is a
    fraction of 1, and an amount in parentheses is negative.

    Args:
        texts: the cells.
        decimal: `.` or `,`: the mark between the whole and the fractional part.

    Returns:
        The numbers, a cell each.
    """
    parts = pc.extract_regex(_with_usual_digits(texts, decimal), _pattern(decimal))
    whole, fraction, exponent, percent = (parts.field(name) for name in ("whole", "fraction", "exponent", "percent"))
    is_number = pc.and_(
        parts.is_valid(), pc.greater(pc.add(pc.binary_length(whole), pc.binary_length(fraction)), pa.scalar(0))
    )
    is_negative = pc.or_(
        pc.equal(parts.field("open"), "("), pc.match_substring_regex(parts.field("sign"), "[-\N{MINUS SIGN}]")
    )
    plain = pc.binary_join_element_wise(
        pc.if_else(is_negative, "-", ""),
        pc.replace_substring_regex(whole, r"\D", ""),
        pc.if_else(pc.equal(fraction, ""), "", "."),
        fraction,
        exponent,
        "",
    )
    is_balanced = pc.equal(pc.equal(parts.field("open"), "("), pc.equal(parts.field("close"), ")"))
    understood = pc.fill_null(pc.and_(is_number, is_balanced), False)
    plain = pc.if_else(understood, plain, pa.scalar(None, pa.string()))
    is_percent = pc.fill_null(pc.and_(understood, pc.equal(percent, "%")), False)
    if pc.any(is_percent).as_py():
        fractions = pc.divide(plain.cast(pa.float64()), 100.0).cast(pa.string())
        plain = pc.if_else(is_percent, fractions, plain)
    is_placeholder = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(texts)), pa.array(sorted(PLACEHOLDERS)))
    odd = pc.and_(pc.and_(texts.is_valid(), pc.invert(understood)), pc.invert(is_placeholder))
    return Numbers(plain, odd)


def _with_usual_digits(texts: pa.StringArray, decimal: str) -> pa.StringArray:
    """Return cells whose Arabic, Devanagari and full-width digits are those of ASCII."""
    has_others = pc.match_substring_regex(texts, f"[{''.join(map(chr, _OTHER_DIGITS))}]")
    if not pc.any(has_others).as_py():
        return texts
    marks = {"\N{ARABIC DECIMAL SEPARATOR}": decimal, "\N{ARABIC THOUSANDS SEPARATOR}": "," if decimal == "." else "."}
    table = _OTHER_DIGITS | str.maketrans(marks)
    return pa.array([text and text.translate(table) for text in texts.to_pylist()], pa.string())


def _pattern(decimal: str) -> str:
    """Return one number with all that may be around it, for RE2."""
    mark = "," if decimal == "," else r"\."
    between = r"\." if decimal == "," else ","
    grouped = "|".join(
        rf"\d{{1,3}}(?:{separator}\d{{3}})+" for separator in (between, _SPACE, "['\N{RIGHT SINGLE QUOTATION MARK}]")
    )
    return (
        rf"^\s*(?P<open>\(?)\s*(?:{_CURRENCY}{_SPACE}?)?(?P<sign>{_SIGN})\s*(?:{_CURRENCY}{_SPACE}?)?"
        rf"(?P<whole>{grouped}|\d*)(?:{mark}(?P<fraction>\d*))?(?P<exponent>(?:[eE][+-]?\d+)?)"
        rf"{_SPACE}?{_CURRENCY}?{_SPACE}?(?P<percent>%?)\s*(?P<close>\)?)\s*$"
    )
