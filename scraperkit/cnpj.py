"""Identify and name funds: by CNPJ, the number of a legal entity in Brazil, by series, and by short name."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache

from stdnum.br import cnpj as _cnpj
from stdnum.exceptions import ValidationError as _StdnumError

from scraperkit.errors import ConfigError
from scraperkit.text import printable

_SUBCLASS = re.compile(r"[A-Z0-9]{1,40}")
_LENGTH = 14
# Text that can only be meant as a CNPJ, with or without a subclass, valid or not.
_SCIENTIFIC = re.compile(r"\d(?:[.,]\d{1,16})?[eE]\+?1\d", re.ASCII)  # 12 to 15 digits, and some more
_EXACT = 11  # digits: a number with fewer has been rounded
_MEANT_AS_CNPJ = re.compile(r"[\d./\s-]*|[\dA-Za-z./-]+/[\dA-Za-z]{4}-\d\d|[\dA-Za-z./-]{11,}:\w*", re.ASCII)
_FOURTEEN = re.compile(r"[0-9A-Za-z]{12}[0-9]{2}")
_TAIL = 11  # of a CNPJ with its punctuation: 924/0001-00
_SUBCLASS_TAIL = 8
_LEAST = 8  # characters of a name to keep before a number

SHORT_NAME = 28  # characters; a legend of twenty such names leaves room for the chart
# Words that say only that it is a fund: a search ignores them.
NAME_NOISE = frozenset(
    {"fi", "fic", "fim", "fia", "fif", "fics", "cic", "rl", "responsabilidade", "resp", "limitada", "ltda"}
)
_SPELLED_OUT = {"rf": "renda fixa"}
# Phrases of names by their abbreviation; those that say only that it is a fund have none. The longest match wins.
_SHORTER = {
    "": (
        "fundo|fundos|fi|fif|fifs|fic|fics|cic|fic fi|ficfi|ficfif|fundo de investimento|fundos de investimento|"
        "fundo de investimento financeiro|fundos de investimento financeiro|fundo de investimentos|"
        "fundos de investimentos|em cotas|de cotas|em quotas|classe unica|classe unica de cotas|classe de cotas|"
        "classe de investimento|classe de investimento em cotas|responsabilidade limitada|resp limitada|resp ltda|rl|"
        "da categoria|tipo"
    ),
    "FIDC": "fundo de investimento em direitos creditorios|direitos creditorios|fidc",
    "FII": "fundo de investimento imobiliario|fii",
    "FIP": "fundo de investimento em participacoes|fip",
    "Multi": "multimercado|multimercados|fim",
    "Ações": "acoes|fia",
    "RF": "renda fixa|firf",
    "CP": "credito privado|cred priv",
    "LP": "longo prazo",
    "Prev": "previdencia|previdenciario|previdenciaria",
    "IE": "investimento no exterior|invest no exterior",
    "Ref": "referenciado",
    "Infra": "infraestrutura",
}
_PHRASES = {tuple(phrase.split()): short for short, phrases in _SHORTER.items() for phrase in phrases.split("|")}
_LONGEST_PHRASE = {first: max(len(each) for each in _PHRASES if each[0] == first) for first, *_ in _PHRASES}
_TAILED = re.compile(r"(.+) ([0-9A-Za-z.]*[0-9A-Za-z]{3}/[0-9A-Za-z]{4}-\d\d(?::\w+)?|…\w{1,8})")
_WHOLE = 10_000  # characters; longer than any name
_JOINING = frozenset({"a", "ao", "com", "da", "das", "de", "do", "dos", "e", "em", "na", "no", "para"})
# Words of three or more letters that have vowels and yet stay in capitals.
_CAPITALS = frozenset(
    {"ABN", "BBA", "CDI", "ESG", "ETF", "EUA", "FIDC", "FII", "FIP", "FOF", "GAP", "IBX", "III", "IMA", "IPCA", "ITR"}
    | {"IVVB", "UBS", "USD", "VII", "VIII", "XII"}
)
_PARTICLES = frozenset({"da", "das", "de", "do", "dos", "e"})  # also after a hyphen
_SIGNS_IN_WORD = re.compile(r"([^\w]+)")


def normalize_cnpj(text: str) -> str:
    """Return a CNPJ as 14 upper-case characters without punctuation.

    The first 12 characters may be letters, as issued by the Receita Federal since July 2026.

    Raises
    ------
    ConfigError
        If the text is not a CNPJ (wrong length, characters or check digits), or a subclass follows it: messages, for
        example, are for whole funds only.

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
                f"{text[:80]!r} names a subclass, but here a CNPJ stands for all its subclasses: "
                f"write {format_cnpj(cnpj)}"
            ) from None
        reason = str(error).rstrip(".").lower()
        advice = way_back(text) or way_back(_cnpj.compact(text))
        raise ConfigError(f"{text[:40]!r} is not a CNPJ: {reason}{advice}") from None


def looks_like_cnpj(text: str) -> bool:
    """Return whether a text is meant as a CNPJ, with or without a subclass and even if mistyped, not as a name.

    Examples
    --------
    >>> [looks_like_cnpj(text) for text in ("18.993.924/0001", "12.ABC.345/01DE-35", "Aroeira 2030", "")]
    [True, True, False, True]
    """
    if _SCIENTIFIC.fullmatch(text.strip()) or re.fullmatch(r"\d+,0*", text.strip(), re.ASCII):
        return True
    return bool(_MEANT_AS_CNPJ.fullmatch(text) or _FOURTEEN.fullmatch(re.sub(r"[./-]", "", text)))


def _no_text(value: object) -> str:
    return f"CNPJ: expected text, got {type(value).__name__}; write it in quotes, with all its zeros{way_back(value)}"


def way_back(value: object) -> str:
    """Return the CNPJ that a spreadsheet probably turned into this value, as the rest of a sentence.

    Advice only: of the numbers that lack a digit elsewhere, one in a hundred would pass for another CNPJ.

    Examples
    --------
    >>> way_back("360305000104")
    "; a spreadsheet may have cut off its leading zeros: if so, write '00360305000104'"
    >>> way_back(18993924000100.0)
    "; a spreadsheet may have turned it into a number: if so, write '18993924000100'"
    >>> way_back("1,89939E+13")
    '; a spreadsheet has rounded it, and its last digits are lost: copy it from its source, as text'
    """
    text = str(value).strip()
    is_scientific = _SCIENTIFIC.fullmatch(text) is not None
    is_rounded = is_scientific and sum(map(str.isdigit, re.split("[eE]", text)[0])) < _EXACT
    whole = f"{Decimal(text.replace(',', '.')):f}" if is_scientific else text
    whole = re.sub(r"[.,]0*$", "", whole).zfill(_LENGTH)
    if whole.isdecimal() and whole.isascii() and whole != text and not is_rounded and _cnpj.is_valid(whole):
        how = (
            "cut off its leading zeros"
            if re.fullmatch(r"\d+(\.0)?", text) and text[:1] != whole[:1]
            else "turned it into a number"
        )
        return f"; a spreadsheet may have {how}: if so, write {whole!r}"
    lost = "; a spreadsheet has rounded it, and its last digits are lost: copy it from its source, as text"
    return lost if is_scientific else ""


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
        If the text before the colon is not a CNPJ, or the text after it is not the id of a subclass.

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
    """Return the series of a CNPJ and a subclass, which may be empty.

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
    """Return a unique short name for each series: where names are equal, the end of the number follows.

    Parameters
    ----------
    names : mapping of str to str
        A name for each series; those with an empty one are left out.
    width : int
        Maximum length in characters; exceeded only where whole numbers are needed.

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
    """Return the end of the number of each series that shares its label; all of it if the ends are equal, too.

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


def folded_name(text: str) -> str:
    """Return a name without accents, case, punctuation and abbreviations.

    Examples
    --------
    >>> folded_name("ITAÚ Soberano - Renda Fixa"), folded_name("Itaú RF F.I.A.")
    ('itau soberano renda fixa', 'itau renda fixa fia')
    """
    without_dots = re.sub(r"\b(\w)\.(?=\w\b)", r"\1", without_accents(text.lower()))
    return " ".join(_SPELLED_OUT.get(word, word) for word in re.findall(r"[^\W_]+", without_dots))


def without_accents(text: str) -> str:
    """Return text without accents.

    Examples
    --------
    >>> without_accents("Açaí Nº 1")
    'Acai No 1'
    """
    return "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))


_SHORT_WORDS = frozenset(folded_name(short) for short in _SHORTER if short)


def name_words(text: str) -> list[str]:
    """Return the folded words of a name, without those that say only that it is a fund.

    Examples
    --------
    >>> name_words("Açaí FIC FIM RL")
    ['acai']
    """
    return [word for word in folded_name(text).split() if word not in NAME_NOISE]


def has_words(name: str, text: str) -> bool:
    """Return whether each word of a text begins a word of the name, in any order.

    Examples
    --------
    >>> has_words("Fundo Exemplo Açaí-Juçara FIA", "juc açai FIM"), has_words("Fundo Exemplo Ipê", "mplo")
    (True, False)
    """
    folded = f" {folded_name(name)}"
    return all(f" {word}" in folded for word in name_words(text))


def nearest_names(text: str, names: Sequence[str], count: int = 5) -> list[int]:
    """Return the indices of the names most like a text, the most similar first; ties keep their order.

    Examples
    --------
    >>> nearest_names("ipe amarelo", ["Fundo Aroeira", "Fundo Ipê Amarelo", "Fundo Ipê"], count=2)
    [1, 2]
    """
    folded = folded_name(text)
    likeness = [difflib.SequenceMatcher(None, folded, folded_name(name)).ratio() for name in names]
    return sorted(range(len(names)), key=lambda place: -likeness[place])[:count]


def telling_words(text: str) -> list[str]:
    """Return the words of a short or full name that the fund's full name has, too: no abbreviations, no numbers.

    Examples
    --------
    >>> telling_words("Exemplo Açaí-Juçara CP 924/0001-00"), telling_words("Ipê Amarelo Ref…")
    (['Exemplo', 'Açaí', 'Juçara'], ['Ipê', 'Amarelo'])
    """
    words = re.findall(r"[^\W_]+", _without_tail(text)[0])
    return [word for word in words if folded_name(word) not in NAME_NOISE | _SHORT_WORDS]


def may_be_short(text: str) -> bool:
    """Return whether a text has what only short names have: an abbreviation, an ellipsis or the end of a number.

    Examples
    --------
    >>> [may_be_short(text) for text in ("Ipê Multi", "Fundo Ipê Ama…", "Ipê 924/0001-00", "Fundo Ipê")]
    [True, True, True, False]
    """
    head, tail = _without_tail(text)
    return bool(tail) or "…" in head or any(word in _SHORT_WORDS for word in map(folded_name, head.split()))


def is_shown_as(name: str, text: str, series: str = "") -> bool:
    """Return whether legends and tables show a fund as this text: its short name, whole or cut.

    Parameters
    ----------
    name, series : str
        Of the fund; the series is empty if unknown.
    text : str

    Examples
    --------
    >>> [is_shown_as("FUNDO AROEIRA FIC FIA", text) for text in ("aroeira ações", "Aroei…", "Aroeira")]
    [True, True, False]
    >>> is_shown_as("FUNDO AROEIRA FIC FIA", "Aroeira Ações 924/0001-00", "18993924000100")
    True
    """
    head, tail = _without_tail(text)
    if tail and not (series and shown_series(series).endswith(tail.removeprefix("…"))):
        return False
    whole, shown = folded_name(short_name(name, _WHOLE)), folded_name(head)
    return bool(shown) and (whole.startswith(shown) if head.endswith("…") else whole == shown)


def _without_tail(text: str) -> tuple[str, str]:
    """Split a label into its name and the end of a number that distinguishes it, empty if there is none."""
    label = " ".join(text.split())
    match = _TAILED.fullmatch(label)
    return (match[1], match[2].upper()) if match else (label, "")


@lru_cache(maxsize=8_192)
def short_name(name: str, width: int = SHORT_NAME) -> str:
    """Return a fund's name short enough for a legend: no legal form, strategy abbreviated, in readable case.

    Parameters
    ----------
    name : str
        As the site or the registry writes it.
    width : int
        Maximum length in characters; a longer name is cut and ends with an ellipsis.

    Returns
    -------
    str
        Empty for a name of spaces only; different names may have the same short one.

    Examples
    --------
    >>> short_name("AROEIRA IMA-B 5 FUNDO DE INVESTIMENTO EM COTAS DE FUNDOS DE INVESTIMENTO RENDA FIXA LONGO PRAZO")
    'Aroeira IMA-B 5 RF LP'
    >>> short_name("Classe Única do Fundo Exemplo Sapucaia FIC FIM Responsabilidade Limitada")
    'Exemplo Sapucaia Multi'
    """
    words = (name if name.isprintable() else printable(" ".join(name.split()))).split()
    cased = [_with_particles(word) if name != name.upper() else _readable(word) for word in words]
    kept = list(_shortened(cased))
    text = " ".join(kept) or " ".join(cased)
    if len(text) <= width:
        return text
    head = text[: width - 1]
    whole = head if text[width - 1] == " " else head.rpartition(" ")[0]
    return f"{(whole or head).rstrip(' -–&,.')}…"


def _shortened(words: Sequence[str]) -> Iterator[str]:
    """Yield words with their phrases replaced; a word that joined a phrase to its neighbour is dropped with it."""
    parts, at = [], 0
    keys = list(map(_folded_word, words))
    while at < len(words):
        for size in range(_LONGEST_PHRASE.get(keys[at], 0), 0, -1):
            short = _PHRASES.get(tuple(keys[at : at + size]))
            if short is not None:
                parts.append((short, True))
                at += size
                break
        else:
            if keys[at]:
                parts.append((words[at], False))
            at += 1
    said: set[str] = set()
    for place, (word, is_short) in enumerate(parts):
        neighbours = [*parts[max(place - 1, 0) : place], *parts[place + 1 : place + 2]]
        is_joint = word.lower() in _JOINING and (len(neighbours) < 2 or any(short for _, short in neighbours))
        if word and not is_joint and not (is_short and word in said):
            said.add(word)
            yield word


_folded_word = lru_cache(maxsize=8_192)(folded_name)  # names share their words


@lru_cache(maxsize=8_192)
def _readable(word: str) -> str:
    """Return an upper-case word in readable case: abbreviations stay, other words are capitalized.

    Examples
    --------
    >>> [_readable(word) for word in ("SOBERANO", "DE", "IMA-B", "BB", "D60", "PAU-FERRO", "CANELA-DE-EMA")]
    ['Soberano', 'de', 'IMA-B', 'BB', 'D60', 'Pau-Ferro', 'Canela-de-Ema']
    """
    if word.lower() in _JOINING and len(word) > 1:
        return word.lower()
    cased = "".join(
        part
        if len(part) < 3 or part in _CAPITALS or not part.isalpha() or not set(without_accents(part)) & set("AEIOU")
        else part.capitalize()
        for part in _SIGNS_IN_WORD.split(word)
    )
    return _with_particles(cased)


def _with_particles(word: str) -> str:
    """Return a word with particles between hyphens in lower case.

    Examples
    --------
    >>> _with_particles("Canela-De-Ema"), _with_particles("IMA-E"), _with_particles("Pau-Ferro")
    ('Canela-de-Ema', 'IMA-E', 'Pau-Ferro')
    """
    first, *middle = word.split("-")
    if len(middle) < 2:
        return word
    inner = [part.lower() if part.lower() in _PARTICLES else part for part in middle[:-1]]
    return "-".join([first, *inner, middle[-1]])
