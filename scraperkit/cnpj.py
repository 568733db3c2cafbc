"""CNPJ: the number of a fund, like any legal entity, in the Brazilian register; and with a subclass, a series."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

from stdnum.br import cnpj as _cnpj
from stdnum.exceptions import ValidationError as _StdnumError

from scraperkit.errors import ConfigError
from scraperkit.text import SHORT_NAME, short_name

_SUBCLASS = re.compile(r"[A-Z0-9]{1,40}")
_LENGTH = 14
# What can only be meant as a CNPJ, with or without a subclass, well written or not.
_NUMBER = re.compile(r"[\d./\s-]*|[\dA-Za-z./-]+/[\dA-Za-z]{4}-\d\d|[\dA-Za-z./-]{11,}:\w*", re.ASCII)
_WHOLE = re.compile(r"[0-9A-Za-z]{12}[0-9]{2}")
_TAIL = 11  # of a CNPJ with its punctuation: 924/0001-00
_SUBCLASS_TAIL = 8
_LEAST = 8  # signs of a name that stay beside a number


def normalize_cnpj(text: str) -> str:
    """Return a CNPJ as 14 upper-case characters without punctuation.

    The first 12 characters may be letters, as issued by the Receita Federal since July 2026.

    Raises
    ------
    ConfigError
        If the text is not a CNPJ: wrong length, characters or check digits; or a subclass follows it, which cannot be
        named where only whole funds are taken, as in a message.

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
        cnpj, colon, _ = text.partition(":")
        if colon and _cnpj.is_valid(cnpj):
            raise ConfigError(
                f"{text[:80]!r} names a subclass, and here a CNPJ stands for all its subclasses: "
                f"write {format_cnpj(cnpj)}"
            ) from None
        reason = str(error).rstrip(".").lower()
        raise ConfigError(f"{text[:40]!r} is not a CNPJ: {reason}{_with_zeros(_cnpj.compact(text))}") from None


def looks_like_cnpj(text: str) -> bool:
    """Return whether a text is meant as a CNPJ, with or without a subclass and even if mistyped, not as a name.

    Examples
    --------
    >>> [looks_like_cnpj(text) for text in ("18.993.924/0001", "12.ABC.345/01DE-35", "Aroeira 2030", "")]
    [True, True, False, True]
    """
    return bool(_NUMBER.fullmatch(text) or _WHOLE.fullmatch(re.sub(r"[./-]", "", text)))


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


def normalize_series(text: str) -> str:
    """Return a series as ``CNPJ`` or ``CNPJ:SUBCLASS``, without punctuation in the CNPJ.

    Raises
    ------
    ConfigError
        If the text before the colon is not a CNPJ, or that after it not the id of a subclass.

    Examples
    --------
    >>> normalize_series("18.993.924/0001-00:z2hfz1734468953"), normalize_series("18.993.924/0001-00")
    ('18993924000100:Z2HFZ1734468953', '18993924000100')
    """
    if not isinstance(text, str) or ":" not in text:
        return normalize_cnpj(text)
    cnpj, _, subclass = text.partition(":")
    return _joined(normalize_cnpj(cnpj), subclass)


def series_of(cnpj: str, subclass: str) -> str:
    """Return the series of a CNPJ and a subclass; empty text is none.

    Raises
    ------
    ConfigError
        As for :func:`normalize_series`.

    Examples
    --------
    >>> series_of("18993924000100", ""), series_of("18993924000100", "Z2HFZ1734468953")
    ('18993924000100', '18993924000100:Z2HFZ1734468953')
    """
    normalized = normalize_cnpj(cnpj)
    return _joined(normalized, subclass) if subclass else normalized


def _joined(cnpj: str, subclass: object) -> str:
    if not isinstance(subclass, str) or not _SUBCLASS.fullmatch(name := subclass.strip().upper()):
        raise ConfigError(
            f"subclass {str(subclass)[:40]!r} of {format_cnpj(cnpj)}: "
            "give 1 to 40 letters and digits, as in Z2HFZ1734468953"
        )
    return f"{cnpj}:{name}"


def format_series(series: str) -> str:
    """Return a series with the usual punctuation of its CNPJ.

    Examples
    --------
    >>> format_series("18993924000100:Z2HFZ1734468953")
    '18.993.924/0001-00:Z2HFZ1734468953'
    """
    cnpj, colon, subclass = series.partition(":")
    return format_cnpj(cnpj) + colon + subclass


def shown_series(text: str) -> str:
    """Return a series with the usual punctuation of its CNPJ, and any other text, such as a renamed column, as it is.

    Examples
    --------
    >>> shown_series("18993924000100"), shown_series("my fund")
    ('18.993.924/0001-00', 'my fund')
    """
    try:
        return format_series(normalize_series(text))
    except ConfigError:
        return text


def short_names(names: Mapping[str, str], width: int = SHORT_NAME) -> dict[str, str]:
    """Return a short name for each series, no two the same: where names do not tell them apart, their numbers do.

    Parameters
    ----------
    names : mapping of str to str
        A name for each series; those with an empty one are left out.
    width : int
        The most signs that one may have; more only where numbers have to be told whole.

    Examples
    --------
    >>> short_names({"18993924000100": "FUNDO AROEIRA FIC FIA", "99101011000125": "AROEIRA FIA", "EXEMPL0A000100": ""})
    {'18993924000100': 'Aroeira Ações 924/0001-00', '99101011000125': 'Aroeira Ações 011/0001-25'}
    """
    short = {series: label for series, name in names.items() if (label := short_name(name, width))}
    tails = tails_of(short)
    return {
        series: f"{short_name(names[series], max(width - len(tails[series]) - 1, _LEAST))} {tails[series]}"
        if series in tails
        else label
        for series, label in short.items()
    }


def tails_of(labels: Mapping[str, str]) -> dict[str, str]:
    """Return, for each series whose label another has, too, the end of its number, or all of it if that does not do.

    Examples
    --------
    >>> tails_of({"18993924000100": "Aroeira", "18993924000100:Z2HFZ1734468953": "Aroeira", "EXEMPL0A000100": "Ipê"})
    {'18993924000100': '924/0001-00', '18993924000100:Z2HFZ1734468953': '…34468953'}
    """
    count = Counter(labels.values())
    shown = {series: shown_series(series) for series, label in labels.items() if count[label] > 1}
    ends = {
        series: f"…{text.partition(':')[2][-_SUBCLASS_TAIL:]}" if ":" in text else text[-_TAIL:]
        for series, text in shown.items()
    }
    each = Counter(ends.values())
    return {series: end if each[end] == 1 else shown[series] for series, end in ends.items()}
