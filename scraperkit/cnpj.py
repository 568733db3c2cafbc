"""CNPJ: the number of a fund, like any legal entity, in the Brazilian register."""

from __future__ import annotations

from functools import lru_cache

from stdnum.br import cnpj as _cnpj
from stdnum.exceptions import ValidationError as _StdnumError

from scraperkit.errors import ConfigError

_LENGTH = 14


def normalize_cnpj(text: str) -> str:
    """Return a CNPJ as 14 upper-case characters without punctuation.

    The first 12 characters may be letters, as issued by the Receita Federal since July 2026.

    Raises
    ------
    ConfigError
        If the text is not a CNPJ: wrong length, characters or check digits.

    Examples
    --------
    >>> normalize_cnpj("18.993.924/0001-00"), normalize_cnpj("12.abc.345/01de-35")
    ('18993924000100', '12ABC34501DE35')
    """
    if not isinstance(text, str):
        raise ConfigError(_no_text(text))
    return _validated_cnpj(text)


@lru_cache(maxsize=65_536)
def _validated_cnpj(text: str) -> str:
    try:
        return str(_cnpj.validate(text))
    except _StdnumError as error:
        reason = str(error).rstrip(".").lower()
        raise ConfigError(f"{text[:40]!r} is not a CNPJ: {reason}{_with_zeros(_cnpj.compact(text))}") from None


def _no_text(value: object) -> str:
    probably = _with_zeros(str(value).removesuffix(".0"))
    return f"CNPJ: expected text, got {type(value).__name__}; write it in quotes, with all its zeros{probably}"


def _with_zeros(text: str) -> str:
    """Return what a number probably is that a spreadsheet has cut the leading zeros off, as the rest of a sentence.

    Only advice: of the numbers that lack a digit elsewhere, one in a hundred would pass for another CNPJ.

    Examples
    --------
    >>> _with_zeros("360305000104")
    "; a spreadsheet may have cut off its leading zeros: if so, write '00360305000104'"
    """
    whole = text.zfill(_LENGTH)
    if not (text.isdecimal() and text.isascii() and len(text) < _LENGTH and _cnpj.is_valid(whole)):
        return ""
    return f"; a spreadsheet may have cut off its leading zeros: if so, write {whole!r}"


def format_cnpj(cnpj: str) -> str:
    """Return a CNPJ with its usual punctuation.

    Examples
    --------
    >>> format_cnpj("18993924000100")
    '18.993.924/0001-00'
    """
    return str(_cnpj.format(cnpj))
