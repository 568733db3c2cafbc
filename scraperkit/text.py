"""Text from elsewhere, made fit to show: a page or a message in a terminal or spreadsheet, a validation to a user."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Mapping
from typing import Any

# A spreadsheet takes a cell that begins with one of these for a formula, also in the wide forms of East Asian text.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
# What is wrong, by Pydantic's type of error; its own words are for programmers.
_IN_WORDS = {
    "missing": "is missing",
    "json_invalid": "is not JSON: {error}",
    "string_type": "must be text",
    "string_pattern_mismatch": "has an invalid form",
    **dict.fromkeys(("dataclass_type", "dict_type", "model_type"), "must be an object"),
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_parsing", "float_type", "finite_number"), "must be a number"),
    **dict.fromkeys(("bool_parsing", "bool_type"), "must be true or false"),
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:,}",
    "less_than_equal": "must be at most {le:,}",
    "literal_error": "must be {expected}",
}


def printable(text: str, keep: str = "") -> str:
    r"""Return text with its control characters escaped, so that it cannot steer a terminal or forge a line.

    Parameters
    ----------
    text : str
    keep : str
        Control characters to leave as they are, such as ``"\n"`` in text of several lines.

    Returns
    -------
    str
        The text with control characters (C0, C1), invisible and direction-changing characters, line separators and
        lone surrogates escaped. It is valid UTF-8.

    Examples
    --------
    >>> printable("Ações\x1b[2J\r\n")
    'Ações\\x1b[2J\\r\\n'
    """
    if text.isprintable():
        return text
    return "".join(
        sign.encode("unicode_escape").decode() if _is_control(sign) and sign not in keep else sign for sign in text
    )


def say(text: str) -> None:
    """Print text on stderr, above a progress bar if one is shown."""
    from tqdm.auto import tqdm  # errors need this module but not the bar

    tqdm.write(printable(text, keep="\n"), file=sys.stderr)


def safe_cell(text: str) -> str:
    """Return text as a CSV cell; an apostrophe goes before text that a spreadsheet would take for a formula.

    Numbers stay as they are, so that they read back the same. Control characters are escaped: a carriage return would
    begin another row.

    Examples
    --------
    >>> safe_cell("=HYPERLINK(1)"), safe_cell("-1.5"), safe_cell("Fundo = Exemplo")
    ("'=HYPERLINK(1)", '-1.5', 'Fundo = Exemplo')
    """
    shown = printable(text)
    return f"'{shown}" if text.startswith(_FORMULA) and not _is_number(text) else shown


def _is_control(sign: str) -> bool:
    category = unicodedata.category(sign)
    return category.startswith("C") or category in ("Zl", "Zp")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and text == text.strip()


def in_words(item: Mapping[str, Any]) -> str:
    """Return what is wrong with a field, from one of a Pydantic validation's errors; never the field's value.

    Examples
    --------
    >>> in_words({"type": "greater_than_equal", "msg": "Input should be greater …", "ctx": {"ge": 1}})
    'must be at least 1'
    """
    known = _IN_WORDS.get(item["type"])
    if known is not None:
        return known.format(**item.get("ctx", {}))
    text = str(item["msg"]).removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
