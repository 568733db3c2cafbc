"""CNPJ: the number of a fund, like any legal entity, in the Brazilian register."""

from __future__ import annotations

from functools import lru_cache

from stdnum.br import cnpj as _cnpj
from stdnum.exceptions import ValidationError as _StdnumError

from scraperkit.errors import ConfigError


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
        raise ConfigError(f"CNPJ: expected text, got {type(text).__name__}; write it in quotes, with all its zeros")
    return _validated_cnpj(text)


@lru_cache(maxsize=65_536)
def _validated_cnpj(text: str) -> str:
    try:
        return str(_cnpj.validate(text))
    except _StdnumError as error:
        raise ConfigError(f"{text[:40]!r} is not a CNPJ: {str(error).rstrip('.').lower()}") from None


def format_cnpj(cnpj: str) -> str:
    """Return a CNPJ with its usual punctuation.

    Examples
    --------
    >>> format_cnpj("18993924000100")
    '18.993.924/0001-00'
    """
    return str(_cnpj.format(cnpj))
