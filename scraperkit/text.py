"""Text from elsewhere, such as a site's page or a message: made safe to show; names are compared and shortened."""

from __future__ import annotations

import difflib
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

# A spreadsheet takes a cell that begins so for a formula, also in the wide forms of East Asian text.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")

SHORT_NAME = 28  # signs; a legend of twenty such names leaves room for the chart
# Words of a fund's name that say what all funds are: a search leaves them out.
NAME_NOISE = frozenset(
    {"fi", "fic", "fim", "fia", "fif", "fics", "cic", "rl", "responsabilidade", "resp", "limitada", "ltda"}
)
_SPELLED_OUT = {"rf": "renda fixa"}
# What a short name writes for words of a name; nothing for what all funds are. The longest match is taken.
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
_JOINING = frozenset({"a", "ao", "com", "da", "das", "de", "do", "dos", "e", "em", "na", "no", "para"})
# Words of three letters and more that have vowels, and stand in capitals all the same.
_CAPITALS = frozenset(
    {"ABN", "BBA", "CDI", "ESG", "ETF", "EUA", "FIDC", "FII", "FIP", "FOF", "GAP", "IBX", "III", "IMA", "IPCA", "ITR"}
    | {"IVVB", "UBS", "USD", "VII", "VIII", "XII"}
)
_SIGNS_IN_WORD = re.compile(r"([^\w]+)")


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
        Escaped are control characters (C0, C1), signs that turn the direction of text or are not seen, separators of
        lines and lone surrogates. What is left is valid UTF-8.

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
    from tqdm.auto import tqdm  # errors need this module, and not the bar

    tqdm.write(printable(text, keep="\n"), file=sys.stderr)


def safe_cell(text: str) -> str:
    """Return text as a cell of a CSV file that no spreadsheet takes for a formula: with an apostrophe before it.

    Numbers stay as they are, so that they read back the same. Control characters are escaped: a carriage return would
    begin another row.

    Examples
    --------
    >>> safe_cell("=HYPERLINK(1)"), safe_cell("-1.5"), safe_cell("Fundo = Exemplo")
    ("'=HYPERLINK(1)", '-1.5', 'Fundo = Exemplo')
    """
    shown = printable(text)
    return f"'{shown}" if text.startswith(_FORMULA) and not _is_number(text) else shown


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


def name_words(text: str) -> list[str]:
    """Return the folded words of a name that tell funds apart, without those that say what all funds are.

    Examples
    --------
    >>> name_words("Açaí FIC FIM RL")
    ['acai']
    """
    return [word for word in folded_name(text).split() if word not in NAME_NOISE]


def has_words(name: str, text: str) -> bool:
    """Return whether a name has all words of a text, or words that begin so, in any order.

    Examples
    --------
    >>> has_words("Fundo Exemplo Açaí-Juçara FIA", "juc açai FIM"), has_words("Fundo Exemplo Ipê", "mplo")
    (True, False)
    """
    folded = f" {folded_name(name)}"
    return all(f" {word}" in folded for word in name_words(text))


def nearest_names(text: str, names: Sequence[str], count: int = 5) -> list[int]:
    """Return the places of the names that are most like a text, the likest first; of equals in their order.

    Examples
    --------
    >>> nearest_names("ipe amarelo", ["Fundo Aroeira", "Fundo Ipê Amarelo", "Fundo Ipê"], count=2)
    [1, 2]
    """
    folded = folded_name(text)
    likeness = [difflib.SequenceMatcher(None, folded, folded_name(name)).ratio() for name in names]
    return sorted(range(len(names)), key=lambda place: -likeness[place])[:count]


@lru_cache(maxsize=8_192)
def short_name(name: str, width: int = SHORT_NAME) -> str:
    """Return a fund's name in a legend's length: without its legal form, its strategy abbreviated, in readable case.

    Parameters
    ----------
    name : str
        As the site or the registry writes it.
    width : int
        The most signs that it may have; what is longer ends with an ellipsis.

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
    words = printable(" ".join(name.split())).split(" ")
    cased = [word if name != name.upper() else _readable(word) for word in words]
    kept = list(_shortened(cased))
    text = " ".join(kept) or " ".join(cased)
    if len(text) <= width:
        return text
    head = text[: width - 1]
    whole = head if text[width - 1] == " " else head.rpartition(" ")[0]
    return f"{(whole or head).rstrip(' -–&,.')}…"


def _shortened(words: Sequence[str]) -> Iterator[str]:
    """Yield words with their phrases replaced; a word that joined a phrase to its neighbour goes with it."""
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
    """Return a word in capitals as a reader expects it: abbreviations stay, others begin with a capital.

    Examples
    --------
    >>> [_readable(word) for word in ("SOBERANO", "DE", "IMA-B", "BB", "D60", "PAU-FERRO")]
    ['Soberano', 'de', 'IMA-B', 'BB', 'D60', 'Pau-Ferro']
    """
    if word.lower() in _JOINING and len(word) > 1:
        return word.lower()
    return "".join(
        part
        if len(part) < 3 or part in _CAPITALS or not part.isalpha() or not set(without_accents(part)) & set("AEIOU")
        else part.capitalize()
        for part in _SIGNS_IN_WORD.split(word)
    )


def _is_control(sign: str) -> bool:
    category = unicodedata.category(sign)
    return category.startswith("C") or category in ("Zl", "Zp")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and text == text.strip()
