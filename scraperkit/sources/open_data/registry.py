"""The registry of funds, classes and subclasses: parsed, joined and searched, without I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from scraperkit.cnpj import folded_name, is_shown_as, may_be_short, name_words, nearest_names, telling_words
from scraperkit.errors import ConfigError, FileRefused
from scraperkit.models import ACTIVE
from scraperkit.sources.open_data.cleaning import valid_cnpjs

TEXT_COLUMNS = ("name", "kind", "status", "managers", "administrator", "subclasses")
REGISTRY_COLUMNS = ("name", "kind", "status", "managers", "administrator", "net_worth", "started_on", "subclasses")
_OF_ALL = ("Denominacao_Social", "Situacao", "Data_Constituicao")
_OF_FUND = ("Data_Registro", "Patrimonio_Liquido", "Administrador", "Gestor")
_OF_CLASS = ("Data_Inicio", "Classificacao", "Patrimonio_Liquido")
_FUND = ("ID_Registro_Fundo", "CNPJ_Fundo", "Tipo_Fundo", *_OF_ALL, *_OF_FUND)
_CLASS = ("ID_Registro_Fundo", "ID_Registro_Classe", "CNPJ_Classe", "Tipo_Classe", *_OF_ALL, *_OF_CLASS)
_SUBCLASS_COLUMNS = ("ID_Registro_Classe", "ID_Subclasse", "Data_Inicio", *_OF_ALL)
_OLD = (
    "TP_FUNDO",
    "CNPJ_FUNDO",
    "DENOM_SOCIAL",
    "DT_REG",
    "DT_CONST",
    "SIT",
    "CLASSE",
    "VL_PATRIM_LIQ",
    "ADMIN",
    "GESTOR",
)
_CNPJ_BEGINNING = re.compile(r"[0-9A-Z]{4,14}(:[A-Z0-9]*)?")
_WHOLE_CNPJ = 14
_COMPARED = 200  # names at most: comparing one takes a tenth of a millisecond


def parse_registry(members: Mapping[str, bytes]) -> pd.DataFrame:
    """Parse the three files of ``registro_fundo_classe.zip``.

    Returns
    -------
    pandas.DataFrame
        Indexed by series; `REGISTRY_COLUMNS`. A class has its fund's managers and administrator, and, where it kept its
        fund's CNPJ, its fund's first day. Funds without a class have rows of their own.

    Raises
    ------
    FileRefused
        If a file or a column is missing.
    """
    funds = _funds(_table(members, "registro_fundo.csv", _FUND))
    classes = _table(members, "registro_classe.csv", _CLASS).drop_duplicates()
    subclasses = _table(members, "registro_subclasse.csv", _SUBCLASS_COLUMNS).drop_duplicates()
    own = funds.reindex(classes["ID_Registro_Fundo"])
    of_class = pd.DataFrame(
        {
            "cnpj": classes["CNPJ_Classe"].to_numpy(),
            "name": classes["Denominacao_Social"].to_numpy(),
            "kind": _either(classes["Classificacao"], classes["Tipo_Classe"]),
            "status": classes["Situacao"].to_numpy(),
            "managers": own["managers"].fillna("").to_numpy(),
            "administrator": own["administrator"].fillna("").to_numpy(),
            "net_worth": _floats(classes["Patrimonio_Liquido"]),
            "started_on": np.where(
                own["cnpj"].to_numpy() == classes["CNPJ_Classe"].to_numpy(),
                own["started_on"].to_numpy(),
                _first_day(classes["Data_Constituicao"], classes["Data_Inicio"]),
            ),
        },
        index=classes["ID_Registro_Classe"].to_numpy(),
    )
    of_class = of_class[~of_class.index.duplicated()]
    listed = subclasses.groupby("ID_Registro_Classe")["ID_Subclasse"].agg(", ".join)
    of_class["subclasses"] = listed.reindex(of_class.index).fillna("").to_numpy()
    known = subclasses[subclasses["ID_Registro_Classe"].isin(of_class.index)]
    above = of_class.reindex(known["ID_Registro_Classe"])
    of_subclass = pd.DataFrame(
        {
            "cnpj": above["cnpj"].to_numpy(),
            "name": known["Denominacao_Social"].to_numpy(),
            "kind": above["kind"].to_numpy(),
            "status": known["Situacao"].to_numpy(),
            "managers": above["managers"].to_numpy(),
            "administrator": above["administrator"].to_numpy(),
            "net_worth": np.nan,
            "started_on": _first_day(known["Data_Inicio"], known["Data_Constituicao"]),
            "subclasses": "",
        }
    )
    of_subclass["subclass"] = known["ID_Subclasse"].to_numpy()
    alone = funds[~funds["cnpj"].isin(of_class["cnpj"])].assign(subclasses="")
    return _indexed(pd.concat([_best(of_class), of_subclass, _best(alone)], ignore_index=True))


def parse_old_registry(content: bytes) -> pd.DataFrame:
    """Parse ``cad_fi.csv``, which lists the funds that never became a class; as :func:`parse_registry`."""
    old = _table({"cad_fi.csv": content}, "cad_fi.csv", _OLD)
    frame = pd.DataFrame(
        {
            "cnpj": old["CNPJ_FUNDO"],
            "name": old["DENOM_SOCIAL"],
            "kind": _either(old["CLASSE"], old["TP_FUNDO"]),
            "status": old["SIT"],
            "managers": old["GESTOR"],
            "administrator": old["ADMIN"],
            "net_worth": _floats(old["VL_PATRIM_LIQ"]),
            "started_on": _first_day(old["DT_CONST"], old["DT_REG"]),
            "subclasses": "",
        }
    )
    return _indexed(_best(frame))


def joined(newest: pd.DataFrame, old: pd.DataFrame) -> pd.DataFrame:
    """Return the registry, with the rows that only the old one has."""
    return pd.concat([newest, old[~old.index.isin(newest.index)]])


class RegistrySearch:
    """Searches the names of a registry.

    Parameters
    ----------
    frame : pandas.DataFrame
        Indexed by series; with `REGISTRY_COLUMNS` and ``holders``.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        folded = [f" {folded_name(name)} " for name in frame["name"].tolist()]
        self._names = pa.array(folded, pa.string())
        self._series = pa.array(frame.index.tolist(), pa.string())
        self._is_active = np.array([status.strip().upper() == ACTIVE for status in frame["status"].tolist()])
        # Active ones first, then the larger; ties in the order of the registry.
        net_worth = frame["net_worth"].fillna(-np.inf).to_numpy()
        self._rank = np.argsort(np.lexsort((-net_worth, ~self._is_active)), kind="stable")

    def find(self, text: str, active: bool | None = None) -> pd.DataFrame:
        """Return the rows that match a text; see :meth:`OpenData.find`."""
        found = self._matches(text)
        if active is not None:
            found &= self._is_active == active
        rows = np.flatnonzero(found)
        return self.frame.take(rows[np.argsort(self._rank[rows])])

    def the_one(self, text: str) -> str | None:
        """Return the one series that a text means, if any: by number, by whole name, or the only active one."""
        found = self.find(text)
        whole = [folded_name(name) == folded_name(text) for name in found["name"]]
        shown = [is_shown_as(name, text, str(series)) for series, name in found["name"].items()]
        is_active = found["status"].str.strip().str.upper() == ACTIVE
        # A class comes before its subclasses, whose names may contain its name.
        is_class = ~found.index.str.contains(":", regex=False)
        named = (found[np.array(some, np.bool_)] for some in (whole, shown))
        for some in (*named, found[is_active], found[is_active & is_class], found):
            if len(some) == 1:
                return str(some.index[0])
        return str(found.index[0]) if len(found) and found.index[0] == _bare(text) else None

    def ranked(self, text: str, count: int) -> tuple[pd.DataFrame, int]:
        """Return what matches a text, nearest names first, and how many; if nothing does, what resembles it."""
        rows = np.flatnonzero(self._matches(text))
        if not rows.size:
            return self.frame.take(self._nearest(text, count)), 0
        near = rows[np.argsort(self._rank[rows])][:_COMPARED]
        if not _is_number(_bare(text)):
            near = near[nearest_names(text, self._names.take(pa.array(near)).to_pylist(), count)]
        return self.frame.take(near[:count]), rows.size

    def nearest(self, text: str, count: int = 5) -> tuple[list[tuple[str, str]], int]:
        """Return the series of :meth:`ranked`, each with its name, and how many match."""
        chosen, found = self.ranked(text, count)
        return list(zip(chosen.index, chosen["name"], strict=True)), found

    def _nearest(self, text: str, count: int) -> npt.NDArray[np.int64]:
        if _is_number(number := _bare(text)):
            return self._nearest_numbers(number, count)
        words = name_words(text)
        shared = sum((self._has(word).astype(np.int64) for word in words), np.zeros(len(self.frame), np.int64))
        candidates = np.lexsort((self._rank, -shared))[:_COMPARED]
        names = self._names.take(pa.array(candidates)).to_pylist()
        return candidates[nearest_names(text, names, count)]

    def _nearest_numbers(self, number: str, count: int) -> npt.NDArray[np.int64]:
        """Return the rows whose numbers share the longest beginning with a number."""
        found = np.empty(0, np.int64)
        for length in range(len(number) - 1, 0, -1):
            some = np.flatnonzero(pc.starts_with(self._series, number[:length]).to_numpy(zero_copy_only=False))
            more = np.setdiff1d(some, found)
            found = np.concatenate([found, more[np.argsort(self._rank[more])]])
            if found.size >= count:
                break
        return found[:count]

    def _matches(self, text: str) -> npt.NDArray[np.bool_]:
        if not isinstance(text, str):
            raise ConfigError(f"text: expected text, got {type(text).__name__}")
        number = _bare(text)
        by_number = np.zeros(len(self.frame), np.bool_)
        if _is_number(number):
            by_number = np.array(pc.starts_with(self._series, number).to_numpy(zero_copy_only=False), np.bool_)
            if by_number.any() and len(number) >= _WHOLE_CNPJ:
                return by_number
        words = name_words(text)
        if not words:
            raise ConfigError(f"text: {text[:40]!r} contains no word to search for; give part of a name, or a CNPJ")
        return self._have(words) | self._shown_as(text) | by_number

    def _shown_as(self, text: str) -> npt.NDArray[np.bool_]:
        """Return which funds a legend shows as that text."""
        found = np.zeros(len(self.frame), np.bool_)
        if may_be_short(text) and (words := folded_name(" ".join(telling_words(text))).split()):
            rows = np.flatnonzero(self._have(words))
            names = self.frame["name"].take(rows)
            found[rows] = [is_shown_as(name, text, str(series)) for series, name in names.items()]
        return found

    def _have(self, words: Sequence[str]) -> npt.NDArray[np.bool_]:
        found = self._has(words[0])
        for word in words[1:]:
            found &= self._has(word)
        return found

    def _has(self, word: str) -> npt.NDArray[np.bool_]:
        return np.array(pc.match_substring(self._names, f" {word}").to_numpy(zero_copy_only=False), np.bool_)


def _bare(text: str) -> str:
    """Return a series without punctuation."""
    return re.sub(r"[./\s-]", "", text).upper()


def _is_number(text: str) -> bool:
    """Return whether a text without punctuation may be a CNPJ, or the beginning of one."""
    return bool(_CNPJ_BEGINNING.fullmatch(text)) and sum(sign.isdigit() for sign in text) >= len("0001")


def _table(members: Mapping[str, bytes], name: str, columns: Sequence[str]) -> pd.DataFrame:
    """Return some columns of a file as texts; quotes are plain characters, and malformed lines are left out."""
    if name not in members:
        raise FileRefused(f"the zip has no {name}")
    text = members[name].removeprefix(b"\xef\xbb\xbf").decode("latin-1").encode()
    header = text.partition(b"\n")[0].decode().strip().split(";")
    if missing := [column for column in columns if column not in header]:
        raise FileRefused(f"{name}: its header lacks {', '.join(missing)}")
    types = dict.fromkeys(header, pa.string())
    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            csv.ReadOptions(block_size=max(len(text), 1) + 1),
            csv.ParseOptions(delimiter=";", quote_char=False, invalid_row_handler=lambda _: "skip"),
            csv.ConvertOptions(column_types=types, include_columns=list(columns), strings_can_be_null=False),
        )
    except pa.ArrowException as error:
        raise FileRefused(f"{name}: {error}") from None
    return pd.DataFrame({column: np.array(table[column].to_pylist(), dtype=object) for column in columns})


def _funds(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each fund, indexed by its number in the registry: the file has a row for each manager."""
    managers = (
        rows[rows["Gestor"] != ""]
        .groupby("ID_Registro_Fundo")["Gestor"]
        .agg(lambda names: ", ".join(dict.fromkeys(names)))
    )
    first = rows.drop_duplicates("ID_Registro_Fundo").set_index("ID_Registro_Fundo")
    return pd.DataFrame(
        {
            "cnpj": first["CNPJ_Fundo"],
            "name": first["Denominacao_Social"],
            "kind": first["Tipo_Fundo"],
            "status": first["Situacao"],
            "managers": managers.reindex(first.index).fillna(""),
            "administrator": first["Administrador"],
            "net_worth": _floats(first["Patrimonio_Liquido"]),
            "started_on": _first_day(first["Data_Constituicao"], first["Data_Registro"]),
        }
    )


def _best(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep one row for each CNPJ: an active one, then the one that began last."""
    is_active = frame["status"].str.strip().str.upper() == ACTIVE
    order = frame.assign(_active=is_active).sort_values(["_active", "started_on"], kind="stable", na_position="first")
    return order[~order["cnpj"].duplicated(keep="last")].drop(columns="_active")


def _indexed(frame: pd.DataFrame) -> pd.DataFrame:
    cnpjs, is_valid = valid_cnpjs(frame["cnpj"].fillna("").to_numpy().astype(np.str_))
    subclass = (
        frame["subclass"].fillna("").to_numpy().astype(np.str_) if "subclass" in frame else np.full(len(frame), "")
    )
    subclass = np.strings.upper(subclass)
    series = np.where(subclass == "", cnpjs, np.char.add(np.char.add(cnpjs, ":"), subclass))
    frame = frame.set_axis(pd.Index(series.tolist(), dtype="str", name="series"))[list(REGISTRY_COLUMNS)]
    frame = frame[is_valid & ~frame.index.duplicated()]
    texts: dict[str, str] = dict.fromkeys(TEXT_COLUMNS, "str")
    frame = frame.astype(texts)
    frame["started_on"] = frame["started_on"].astype("datetime64[ms]")
    return frame.sort_index()


def _either(first: pd.Series[str], second: pd.Series[str]) -> npt.NDArray[np.object_]:
    return np.where(first != "", first, second)


def _floats(texts: pd.Series[str]) -> npt.NDArray[np.float64]:
    return pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)


def _first_day(first: pd.Series[str], second: pd.Series[str]) -> npt.NDArray[np.datetime64]:
    return pd.to_datetime(pd.Series(_either(first, second)), format="%Y-%m-%d", errors="coerce").to_numpy(
        "datetime64[ms]"
    )
