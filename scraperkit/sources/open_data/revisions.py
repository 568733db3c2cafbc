"""What changed between two states of a month, and what the archive held at a moment; without I/O."""

from __future__ import annotations

import datetime as dt
from collections.abc import Set
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scraperkit.models import METRICS
from scraperkit.sources.open_data.cleaning import Coded, coded, figure_column, flag_column, flags_of, sort_key
from scraperkit.sources.open_data.layouts import SCHEMA
from scraperkit.timeseries.range_replies import Numbers, Values

CHANGES = pa.schema(
    [
        ("cnpj", pa.string()),
        ("subclass", pa.string()),
        ("date", pa.timestamp("ms")),
        ("metric", pa.string()),
        ("old", pa.float64()),
        ("new", pa.float64()),
        ("since", pa.timestamp("us", "UTC")),  # when the row with the old value was first seen
        ("seen_at", pa.timestamp("us", "UTC")),
    ]
)


class Comparison(NamedTuple):
    """A new state of a month, with `seen_at`, and how it differs from the one before."""

    table: pa.Table
    changes: pa.Table
    added: int
    is_same: bool


def compare(old: pa.Table | None, new: pa.Table, seen_at: dt.datetime) -> Comparison:
    """Compare a month with its stored state.

    Parameters
    ----------
    old : pyarrow.Table or None
        As the archive has it.
    new : pyarrow.Table
        As :func:`~scraperkit.sources.open_data.cleaning.clean_month` makes it.
    seen_at : datetime.datetime
        When the new state was fetched: aware.
    """
    if old is None:
        old = SCHEMA.empty_table()
    now = pa.scalar(seen_at, SCHEMA.field("seen_at").type)
    if not old.num_rows:
        dated = new.append_column(SCHEMA.field("seen_at"), pa.repeat(now, new.num_rows))
        return Comparison(dated, CHANGES.empty_table(), new.num_rows, not new.num_rows)
    old_keys, new_keys = _keys(old, new)
    at = np.searchsorted(old_keys, new_keys)
    is_there = np.zeros(new_keys.size, np.bool_)
    is_there[at < old_keys.size] = old_keys[at[at < old_keys.size]] == new_keys[at < old_keys.size]
    before, after = at[is_there], np.flatnonzero(is_there)
    gone = np.setdiff1d(np.arange(old_keys.size), before, assume_unique=True)
    parts = []
    for metric in METRICS:
        was, is_now = figures(old, metric), figures(new, metric)
        left, right = was[before], is_now[after]
        with np.errstate(invalid="ignore"):
            differs = np.flatnonzero((left != right) & ~(np.isnan(left) & np.isnan(right)))
        withdrawn = gone[~np.isnan(was[gone])]
        parts.append(_changes(old, metric, before[differs], left[differs], right[differs], now))
        parts.append(_changes(old, metric, withdrawn, was[withdrawn], np.full(withdrawn.size, np.nan), now))
    first_seen = np.full(new_keys.size, np.datetime64(seen_at.astimezone(dt.UTC).replace(tzinfo=None), "us"))
    first_seen[after] = old["seen_at"].cast(pa.timestamp("us")).to_numpy()[before]
    dated = new.append_column(
        SCHEMA.field("seen_at"), pa.array(first_seen, pa.timestamp("us")).cast(SCHEMA.field("seen_at").type)
    )
    changes = pa.concat_tables(parts)
    added = int(new_keys.size - after.size)
    is_same = not (changes.num_rows or added or gone.size) and _have_same_words(old, new)
    return Comparison(dated, changes, added, is_same)


def with_unread(old: pa.Table, new: pa.Table, unread: Set[tuple[str, str]]) -> pa.Table:
    """Return a month's new state, plus the old rows that it lacks but that a bad line may have held.

    Parameters
    ----------
    old, new : pyarrow.Table
        As for :func:`compare`.
    unread : set of (str, str)
        The CNPJ and day of each unreadable line, "" where one is unreadable, too.
    """
    if not unread:
        return new
    old_keys, new_keys = _keys(old, new)
    gone = old.take(pa.array(np.flatnonzero(~np.isin(old_keys, new_keys))))
    days = map(str, gone["date"].cast(pa.date32()).to_pylist())
    stays = [
        not unread.isdisjoint(((cnpj, day), (cnpj, ""), ("", day), ("", "")))
        for cnpj, day in zip(gone["cnpj"].to_pylist(), days, strict=True)
    ]
    if not any(stays):
        return new
    kept = gone.filter(pa.array(stays, pa.bool_())).select(new.column_names)
    whole = pa.concat_tables([new, kept], promote_options="permissive").unify_dictionaries()
    return whole.take(pa.array(np.argsort(_keys(whole)[0], kind="stable")))


def held_at(table: pa.Table, changes: pa.Table, moment: dt.datetime) -> pa.Table:
    """Return a month as the archive held it at a moment.

    Of the later changes of a figure, the first has its value at that time; if its row came later as well, it had none.
    Rows withdrawn since then are restored, without their kind.

    Parameters
    ----------
    table, changes : pyarrow.Table
        The month as it is, with all columns of the archive, and all of its changes.
    moment : datetime.datetime
        Aware.
    """
    now = pa.scalar(moment, SCHEMA.field("seen_at").type)
    kept = table.filter(pc.less_equal(table["seen_at"], now))
    later = changes.filter(pc.greater(changes["seen_at"], now)).sort_by("seen_at")
    if not later.num_rows:
        return kept
    metrics = pc.index_in(later["metric"], pa.array(METRICS)).to_numpy()
    kept_keys, later_keys = _keys(kept, later)
    firsts = np.unique(later_keys * len(METRICS) + metrics, return_index=True)[1]
    firsts = firsts[pc.less_equal(later["since"].take(pa.array(firsts)), now).to_numpy().astype(np.bool_)]
    later_keys, metrics = later_keys[firsts], metrics[firsts]
    undone = later.take(pa.array(firsts))
    keys, places = np.unique(np.concatenate([kept_keys, later_keys]), return_index=True)
    cells = np.full((len(METRICS), keys.size), np.nan)
    cells[:, np.searchsorted(keys, kept_keys)] = [figures(kept, metric) for metric in METRICS]
    cells[metrics, np.searchsorted(keys, later_keys)] = undone["old"].to_numpy()
    undone = undone.rename_columns({"since": "first_seen", "seen_at": "undone_at"}).rename_columns(
        {"first_seen": "seen_at"}
    )
    blank = pa.repeat(pa.scalar(""), undone.num_rows)
    words = pa.concat_tables(
        [_words(kept), _words(undone.append_column("kind", blank))], promote_options="permissive"
    ).take(pa.array(places))
    by_metric = dict(zip(METRICS, cells, strict=True))
    columns = {name: words[name] for name in ("cnpj", "subclass", "date")}
    columns |= {metric: figure_column(metric, values) for metric, values in by_metric.items()}
    columns |= {"kind": words["kind"], "flag": flag_column(flags_of(by_metric)), "seen_at": words["seen_at"]}
    return pa.table(columns)


def figures(table: pa.Table, metric: str) -> Values:
    """Return a metric's values; NaN where there is none."""
    values: Values = table[metric].cast(pa.float64()).to_numpy()
    return values


def coded_texts(table: pa.Table) -> pa.Table:
    """Return a table with its texts coded, as the archive's files are read."""
    columns = {
        field.name: table[field.name].dictionary_encode() if pa.types.is_string(field.type) else table[field.name]
        for field in table.schema
    }
    return pa.table(columns)


def _words(table: pa.Table) -> pa.Table:
    names = ("cnpj", "subclass", "date", "kind", "seen_at")
    return pa.table({name: _plain(table[name]) for name in names})


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _have_same_words(old: pa.Table, new: pa.Table) -> bool:
    return all(_plain(old[name]).equals(_plain(new[name])) for name in ("kind", "flag"))


def _keys(*tables: pa.Table) -> list[Numbers]:
    """Return a number for each row of each table, equal for rows of the same series and day of the month."""
    of_cnpj, of_subclass = (_codes([coded(table[name]) for table in tables]) for name in ("cnpj", "subclass"))
    subclasses = 1 + max((int(codes.max(initial=0)) for codes in of_subclass), default=0)
    return [
        sort_key(cnpj, subclass, subclasses, table["date"])
        for table, cnpj, subclass in zip(tables, of_cnpj, of_subclass, strict=True)
    ]


def _codes(columns: list[Coded]) -> list[Numbers]:
    names = np.unique(np.concatenate([column.texts for column in columns]))
    return [np.searchsorted(names, column.texts)[column.codes] for column in columns]


def _changes(old: pa.Table, metric: str, rows: Numbers, was: Values, is_now: Values, now: pa.Scalar) -> pa.Table:
    before = old.take(pa.array(rows))
    columns = {
        **{name: _plain(before[name]) for name in ("cnpj", "subclass", "date")},
        "metric": pa.repeat(pa.scalar(metric), rows.size),
        "old": pa.array(was, pa.float64()),
        "new": pa.array(is_now, pa.float64()),
        "since": before["seen_at"],
        "seen_at": pa.repeat(now, rows.size),
    }
    return pa.table(columns, schema=CHANGES)
