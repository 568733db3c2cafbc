"""Charts look as they did: each is drawn and compared with its picture in ``tests/plot/images``.

After an intended change, write the pictures again, look at every one that git shows as changed, and commit them::

    .venv/bin/python tests/plot/test_plot_images.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.testing.compare import compare_images

from scraperkit import plot
from scraperkit.calendar import business_days

IMAGES = Path(__file__).parent / "images"
# RMS, out of 255. The font and its renderer come with matplotlib, so the pictures are the same on each Python.
TOLERANCE = 1.0
STYLE = {"font.family": "DejaVu Sans", "savefig.dpi": 50, "figure.dpi": 50}

DAYS = business_days("2022-01-03", "2023-06-30")
CNPJS = ("18993924000100", "99101011000125", "12ABC34501DE35")
NAMES = dict(zip(CNPJS, ("Aroeira FIC FIA", "Jatobá Multimercado FIM", "Ações Açaí"), strict=True))
_STEPS = np.random.default_rng(5).normal(0.0003, 0.01, (len(DAYS), 3))
PRICES = pd.DataFrame(np.exp((_STEPS + 0.7 * _STEPS[:, :1]).cumsum(axis=0)), index=DAYS, columns=list(CNPJS))
PRICES.loc[:"2022-05-10", CNPJS[2]] = np.nan
PRICES.loc["2022-10-10":"2022-10-21", CNPJS[1]] = np.nan
_FLOWS = np.random.default_rng(6).gamma(0.5, 2e5, (len(DAYS), 2))
QUOTES = pd.DataFrame(
    {"cnpj": CNPJS[0], "date": DAYS, "inflow": _FLOWS[:, 0], "outflow": _FLOWS[:, 1]}
    | {"net_worth": 1e8 * PRICES[CNPJS[0]].to_numpy(), "holders": 1200 + np.arange(len(DAYS)) // 3}
)


def _events() -> pd.DataFrame:
    """Thirty jobs on two workers with three threads; one is retried, one is dead."""
    random = np.random.default_rng(7)
    free, rows = dict.fromkeys([("lab-1/a", "scraper-1"), ("lab-1/a", "scraper-2"), ("lab-2/b", "scraper-1")], 0.05), []
    for number in range(30):
        lane = min(free, key=free.__getitem__)
        start, length = free[lane], random.uniform(0.1, 0.4)
        free[lane] = start + length + 0.01
        times = {
            "published_at": 0.0,
            "started_at": start,
            "fetched_at": start + length,
            "stored_at": start + length + 0.02,
        }
        outcome = {11: "retry", 23: "dead"}.get(number, "done")
        rows.append(
            {"message": str(number), "outcome": outcome, "attempt": 1, "worker": lane[0], "thread": lane[1]} | times
        )
    frame = pd.DataFrame(rows)
    for column in ("published_at", "started_at", "fetched_at", "stored_at"):
        frame[column] = pd.Timestamp("2026-01-05", tz="UTC") + pd.to_timedelta(frame[column], unit="s")
    return frame


def _benchmark(name: str, kind: str, values: np.ndarray) -> pd.Series:
    benchmark = pd.Series(values, index=DAYS, name=name)
    benchmark.attrs["kind"] = kind
    return benchmark


CDI = _benchmark("cdi", "rate a day", np.linspace(0.035, 0.05, len(DAYS)))
IBOVESPA = _benchmark("ibovespa", "level", np.exp(np.random.default_rng(8).normal(0, 0.012, len(DAYS)).cumsum()))
JUMPS = pd.DataFrame(
    {"cnpj": CNPJS[1], "subclass": "", "date": DAYS[[40, 120, 260]], "metric": "quota", "size": [-0.12, 9.0, 0.07]}
    | {"kind": ["payout", "error", "market move"]}
)
SPEED = pd.DataFrame({"jobs_per_second": [9.4, 18.2, 33.0, 50.0, 58.0]}, index=[1, 2, 4, 8, 16])
CHARTS: dict[str, Callable[[], Axes]] = {
    "prices": lambda: plot.prices(PRICES, names=NAMES),
    "prices_beside": lambda: plot.prices(PRICES, names=NAMES, benchmark=[CDI, IBOVESPA], jumps=JUMPS),
    "windows": lambda: plot.windows(PRICES[list(CNPJS[:2])], names=NAMES, benchmark=CDI),
    "risk_return": lambda: plot.risk_return(PRICES, names=NAMES, benchmark=[CDI, IBOVESPA]),
    "drawdown": lambda: plot.drawdown(PRICES[[CNPJS[0]]], names=NAMES),
    "rolling_volatility": lambda: plot.rolling_volatility(PRICES, names=NAMES),
    "monthly_returns": lambda: plot.monthly_returns(PRICES, cnpj=CNPJS[2], names=NAMES),
    "correlation": lambda: plot.correlation(PRICES, names=NAMES),
    "coverage": lambda: plot.coverage(PRICES, names=NAMES),
    "flows_by_month": lambda: plot.flows_and_holders(QUOTES, names=NAMES),
    "flows_by_day": lambda: plot.flows_and_holders(QUOTES.head(30), names=NAMES),
    "net_worth_and_holders": lambda: plot.net_worth_and_holders(QUOTES, names=NAMES),
    "timeline": lambda: plot.timeline(_events()),
    "latency": lambda: plot.latency(_events()),
    "throughput": lambda: plot.throughput(SPEED),
}


def save(name: str, path: Path) -> None:
    """Draw a chart regardless of this machine's settings."""
    mpl.use("Agg")
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        ax = CHARTS[name]()
        ax.figure.savefig(path, metadata={"Software": None})
        plt.close(ax.figure)


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_matches_its_picture(name, tmp_path):
    drawn = tmp_path / f"{name}.png"
    save(name, drawn)
    # If the pictures differ, the comparison writes files beside them: keep these in the test's folder.
    expected = tmp_path / f"{name}-expected.png"
    expected.write_bytes((IMAGES / f"{name}.png").read_bytes())
    assert compare_images(str(expected), str(drawn), tol=TOLERANCE) is None


def test_every_chart_has_a_picture():
    charts = {name for name in plot.__all__ if callable(getattr(plot, name))}
    drawn = {name for chart in CHARTS.values() for name in chart.__code__.co_names}
    assert charts <= drawn


def test_every_picture_has_a_chart():
    assert {path.stem for path in IMAGES.glob("*.png")} == set(CHARTS)
    assert sum(path.stat().st_size for path in IMAGES.glob("*.png")) < 400_000


def test_a_changed_colour_fails_the_comparison(tmp_path):
    """One line of another colour exceeds the tolerance."""
    mpl.use("Agg")
    paths = [tmp_path / f"{colour}.png" for colour in ("before", "after")]
    for path, colour in zip(paths, ("#0072B2", "#56B4E9"), strict=True):
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(STYLE)
            ax = plot.prices(PRICES, names=NAMES)
            ax.get_lines()[0].set_color(colour)
            ax.figure.savefig(path)
            plt.close(ax.figure)
    assert compare_images(*(str(path) for path in paths), tol=TOLERANCE) is not None


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for chart in CHARTS:
        save(chart, IMAGES / f"{chart}.png")
        print(f"written: tests/plot/images/{chart}.png")
