"""Write the sample: 20 invented funds over the 36 months from January 2021 to December 2023.

It writes the same bytes on every platform: it uses one seeded ``random.Random`` for each fund and no numpy, and rounds
every draw that depends on a logarithm. Run it from the root of the repository::

    python tools/make_sample.py            # writes data/sample/funds.csv and data/sample/quotes.csv
    python tools/make_sample.py --check    # exits 1 if the files differ from what it would write
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import NormalDist

from stdnum.br import cnpj as stdnum_cnpj

from scraperkit.calendar import business_days

STANDARD_NORMAL = NormalDist()
SEED = "scraperkit sample 1"
FIRST, LAST = "2021-01-01", "2023-12-31"
FOLDER = Path(__file__).resolve().parent.parent / "data" / "sample"
NORMAL, CANCELLED, WINDING_UP = "EM FUNCIONAMENTO NORMAL", "CANCELADA", "LIQUIDAÇÃO"

# As far as is known, roots that start with 99 have never been issued, so no invented fund has the CNPJ of a company.
ADMINISTRATORS = {
    "manacá": ("991000010001", "Administradora Exemplo Manacá DTVM S.A."),
    "irmãos": ("991000020001", "Exemplo Irmãos Quaresma & Filhos DTVM Ltda."),
    "serra": ("991000030001", "Serviços Fiduciários Exemplo da Serra S.A."),
    "EX": ("EXADMIN00001", "Administradora Exemplo Vitória-Régia S.A."),
}

# The policy rate in percent a year, from each month on: what a fund of short bonds earns.
POLICY_RATE = {
    "2021-01": 2.0, "2021-04": 2.75, "2021-06": 3.5, "2021-07": 4.25, "2021-09": 6.25, "2021-11": 7.75,
    "2022-01": 9.25, "2022-03": 11.75, "2022-06": 13.25, "2022-09": 13.75, "2023-08": 13.25, "2023-10": 12.25,
}  # fmt: skip


@dataclass(frozen=True)
class Quirks:
    """Difficulties of a fund; the defaults are a fund without any."""

    starts: str = FIRST
    ends: str = LAST
    silent: tuple[str, ...] = ()  # days or months without figures
    partial: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by day: the blank columns
    amortised: dict[str, float] = field(default_factory=dict)  # by day: the share of the quota that is paid back
    decimals: tuple[int, ...] = (8,)  # decimals of the quota, in turn
    every: int = 1  # the quota changes only every n-th business day
    closed: bool = False  # no subscriptions and no redemptions
    wound_up: bool = False  # all holders leave on the last day


@dataclass(frozen=True)
class Spec:
    """One fund: its identity, how it moves, and why it is in the sample."""

    base: str  # the CNPJ without its check digits
    pk: str
    name: str
    administrator: str
    note: str
    quota: float
    net_worth: float
    holders: int
    rate: float = 0.0  # share of the policy rate that it earns
    beta: float = 0.0  # share of the market's moves that it follows
    noise: float = 0.0  # its own daily moves, in percent
    flow: float = 0.05  # usual money in or out a day, in percent of the net worth
    status: str = NORMAL
    quirks: Quirks = field(default_factory=Quirks)
    older: tuple[str, str, str] | None = None  # pk, name and end of an inactive row with the same CNPJ

    @property
    def cnpj(self) -> str:
        """The CNPJ with its check digits."""
        return with_check_digits(self.base)


SPECS = (
    # Active in all 36 months, with the CNPJ of the lessons: a fund of shares.
    Spec("189939240001", "132922", "Fundo Exemplo Aroeira FIC FIA", "manacá", "the fund of the lessons",
         3.19, 88_400_000, 1302, beta=1.1, noise=0.45, flow=0.12),
    # Active in all 36 months. Its quota is above 1,000, and has a thousands mark on the page.
    Spec("991010110001", "901101", "Fundo Exemplo Jatobá Multimercado FIM", "manacá",
         "quota above 1,000, with a thousands mark on the page",
         1953.908722, 412_750_300.55, 5210, rate=0.9, beta=0.15, noise=0.12),
    # Active in all 36 months. Its quotas have up to 8 decimals; the page trims trailing zeros.
    Spec("991010120001", "901102", "Fundo Exemplo Ipê Amarelo Renda Fixa FI", "serra",
         "quotas of 0 to 8 decimals: the page trims trailing zeros",
         998.4, 53_120_000, 640, rate=0.98, noise=0.03, quirks=Quirks(decimals=(8, 6, 5, 4, 3, 2, 1, 0))),
    # Active, but starts midway: the page offers no month before May 2022.
    Spec("991010130001", "901103", "Fundo Exemplo Cambuci Infraestrutura FIC FIRF", "serra", "starts midway",
         1.0, 12_000_000, 38, rate=1.02, noise=0.06, flow=0.5, quirks=Quirks(starts="2022-05-16")),
    # Ends midway: wound up on its last day, with a net worth of 0; the page offers no later month.
    Spec("991010140001", "901104", "Fundo Exemplo Sibipiruna Ações FIA", "irmãos",
         "ends midway; on the last day everybody leaves and the net worth is 0",
         7.44, 19_870_000, 210, beta=0.95, noise=0.5, status=WINDING_UP,
         quirks=Quirks(ends="2022-08-31", wound_up=True)),
    # Inactive: cancelled at the end of November 2021.
    Spec("991010150001", "901105", "Fundo Exemplo Pau-Ferro Cambial FIM", "irmãos", "cancelled",
         2.05, 6_310_000, 47, rate=0.4, beta=-0.3, noise=0.4, status=CANCELLED, quirks=Quirks(ends="2021-11-30")),
    # Active in all 36 months, with days without figures, and days on which only some cells are blank.
    Spec("991010160001", "901106", "Fundo Exemplo Mulungu Crédito Privado FIC FIM", "manacá",
         "days without any figure, and days where some cells are blank",
         14.2, 77_045_000, 1890, rate=1.05, noise=0.05,
         quirks=Quirks(
             silent=("2021-03-15", "2022-01-31", "2022-02-01", "2022-02-02", "2022-12-30", "2023-07-03"),
             partial={"2021-06-15": ("net_worth", "portfolio"), "2022-12-14": ("holders",), "2022-12-15": ("quota",),
                      "2023-02-28": ("inflow", "outflow", "portfolio")})),
    # Active. The page offers a month in the middle that has no figures.
    Spec("991010170001", "901107", "Fundo Exemplo Guapuruvu Longo Prazo FIM", "serra",
         "August 2021 is offered but has no figure at all",
         5.6, 31_400_000, 420, rate=0.8, beta=0.2, noise=0.15, quirks=Quirks(silent=("2021-08",))),
    # Active in all 36 months. An amortisation reduces the quota by more than a third in one day.
    Spec("991010180001", "901108", "Fundo Exemplo Canela-de-Ema Recebíveis FIM", "irmãos",
         "amortisations: the quota falls by 38 % on 2022-06-15 and by 10 % on 2023-06-15",
         1250.0, 145_600_000, 96, rate=1.2, noise=0.04, flow=0.0,
         quirks=Quirks(amortised={"2022-06-15": 0.38, "2023-06-15": 0.1}, closed=True)),
    # Two rows for one CNPJ: the fund, inactive and without figures, comes first; its class has them.
    Spec("991010190001", "901209", "Classe Única do Fundo Exemplo Sapucaia FIC FIM Responsabilidade Limitada",
         "manacá", "two rows for one CNPJ: this is the class, and has the figures",
         2.71, 240_900_000, 8070, rate=0.7, beta=0.3, noise=0.2,
         older=("901109", "Fundo Exemplo Sapucaia FIC FIM", "2023-10-02")),
    # Active in all 36 months, with letters in its CNPJ and in its administrator's.
    Spec("EXEMPL0A0001", "901110", "Fundo Exemplo Vinhático FIC FIA", "EX", "letters in the CNPJ",
         11.03, 64_080_000, 733, beta=1.0, noise=0.4, flow=0.1),
    # Letters in the branch as well, as in the official example.
    Spec("9Z8Y7X6W01DE", "901111", "Fundo Exemplo Massaranduba Dívida Externa FIM", "EX",
         "letters in the CNPJ, in its branch too", 1.84, 22_450_000, 305, rate=0.5, beta=-0.4, noise=0.35),
    # A name with accents, and one with marks that HTML has to escape.
    Spec("991010220001", "901112", "Fundo Exemplo Açaí-Juçara Previdência Ações FIA", "manacá",
         "accents in the name", 4.02, 158_300_000, 11_340, beta=0.9, noise=0.3),
    Spec("991010230001", "901113", "Fundo Exemplo Cedro & Embaúba FIM Prazo < 365 Dias", "irmãos",
         "& and < in the name, & in the administrator's", 3.33, 9_780_000, 154, rate=0.95, noise=0.04),
    # Repeated quotas: the quota changes only every fifth business day.
    Spec("991010240001", "901114", "Fundo Exemplo Baraúna Participações FIC", "serra",
         "the quota is repeated four days out of five",
         101.5, 44_200_000, 61, rate=0.6, noise=0.4, quirks=Quirks(every=5, closed=True)),
    # One holder, no flows.
    Spec("991010250001", "901115", "Fundo Exemplo Peroba Exclusivo FIM", "serra", "one holder, no flows",
         1.57, 38_900_000, 1, rate=0.85, beta=0.1, noise=0.1, quirks=Quirks(closed=True)),
    # More than ten thousand million: four groups of digits on the page.
    Spec("991010260001", "901116", "Fundo Exemplo Araucária Soberano Simples FIRF", "manacá",
         "net worth above ten thousand million", 29.8815, 11_870_000_000, 412_600, rate=0.99, flow=0.3),
    # Nothing special.
    Spec("991010270001", "901117", "Fundo Exemplo Angico Macro FIC FIM", "manacá", "",
         6.9, 97_600_000, 2480, rate=0.8, beta=0.25, noise=0.25),
    Spec("991010280001", "901118", "Fundo Exemplo Buriti Dividendos FIA", "serra", "",
         8.25, 71_900_000, 1920, beta=0.8, noise=0.35, flow=0.1),
    Spec("991010290001", "901119", "Fundo Exemplo Copaíba Inflação FIRF", "irmãos", "",
         2.2, 133_700_000, 3050, rate=0.9, beta=0.05, noise=0.1),
)  # fmt: skip


def with_check_digits(base: str) -> str:
    """Return a CNPJ: its first 12 characters with their two check digits."""
    return base + str(stdnum_cnpj.calc_check_digits(base))


def normal(random: Random) -> float:
    """Draw from the standard normal distribution, the same number on every platform."""
    share = min(max(random.random(), 1e-9), 1 - 1e-9)
    return round(STANDARD_NORMAL.inv_cdf(share), 6)


def market() -> dict[str, float]:
    """Return one move of the market for each business day, in percent."""
    random = Random(f"{SEED} market")
    return {f"{day:%Y-%m-%d}": 0.02 + 1.1 * normal(random) for day in business_days(FIRST, LAST)}


def policy(day: str) -> float:
    """Return what the policy rate earns on one day, in percent."""
    month = max(month for month in POLICY_RATE if month <= day)
    return POLICY_RATE[month] / 252


def quotes(spec: Spec, moves: dict[str, float]) -> Iterator[dict[str, str]]:
    """Yield the rows of one fund."""
    random = Random(f"{SEED} {spec.cnpj}")
    quirks = spec.quirks
    own = days_of(spec, moves)
    price, people, quota = spec.quota, float(spec.holders), spec.quota
    shares = spec.net_worth / quota
    for number, day in enumerate(own):
        move = spec.rate * policy(day) + spec.beta * moves[day] + spec.noise * normal(random)
        cash = round(0.004 * random.random(), 6)
        if number:
            price *= 1 + move / 100
        price *= 1 - quirks.amortised.get(day, 0.0)
        if number % quirks.every == 0:
            quota = round(price, quirks.decimals[number % len(quirks.decimals)])
        inflow, outflow, arrivals = flows(spec, random, shares * quota)
        people = max(1.0, people + arrivals)
        holders = round(people)
        if quirks.wound_up and day == own[-1]:
            inflow, outflow, holders, cash = 0.0, round(shares * quota, 2), 0, 0.0
        shares += (inflow - outflow) / quota
        net_worth = 0.0 if holders == 0 else round(shares * quota, 2)
        row = {
            "cnpj": spec.cnpj,
            "date": day,
            "quota": f"{quota:.8f}",
            "net_worth": f"{net_worth:.2f}",
            "holders": str(holders),
            "inflow": f"{inflow:.2f}",
            "outflow": f"{outflow:.2f}",
            "portfolio": f"{net_worth * (1 + cash):.2f}",
        }
        if day not in quirks.silent and day[:7] not in quirks.silent:
            yield row | dict.fromkeys(quirks.partial.get(day, ()), "")


def days_of(spec: Spec, days: Iterable[str]) -> list[str]:
    """Return the days on which a fund existed."""
    return [day for day in days if spec.quirks.starts <= day <= spec.quirks.ends]


def flows(spec: Spec, random: Random, net_worth: float) -> tuple[float, float, float]:
    """Draw one day's inflow, outflow, and change in the number of holders, which may be fractional."""
    size_in, size_out, drift = random.random(), random.random(), random.random()
    if spec.quirks.closed:
        return 0.0, 0.0, 0.0
    scale = net_worth * spec.flow / 100
    # Some days are quiet, and a few are large.
    inflow = 0.0 if size_in < 0.15 else round(scale * size_in * size_in * size_in * 4, 2)
    outflow = 0.0 if size_out < 0.15 else round(scale * size_out * size_out * size_out * 4, 2)
    tilt = (inflow - outflow) / scale / 4
    return inflow, outflow, spec.holders * 0.002 * (tilt + drift - 0.5)


def fund_rows(spec: Spec, days: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yield the row of a fund, after that of its predecessor, if it has one."""
    base, administrator = ADMINISTRATORS[spec.administrator]
    own = days_of(spec, days)
    row = {
        "cnpj": spec.cnpj,
        "pk": spec.pk,
        "name": spec.name,
        "administrator": administrator,
        "administrator_cnpj": with_check_digits(base),
        "status": spec.status,
        "started_on": own[0],
        "ended_on": "" if spec.status == NORMAL else own[-1],
        "note": spec.note,
    }
    if spec.older:
        pk, name, ended = spec.older
        note = "two rows for one CNPJ: this is the fund, inactive and without figures"
        yield row | {"pk": pk, "name": name, "status": CANCELLED, "ended_on": ended, "note": note}
    yield row


def render() -> dict[str, bytes]:
    """Return the content of each file of the sample, by name."""
    moves = market()
    specs = sorted(SPECS, key=lambda spec: spec.cnpj)
    return {
        "funds.csv": as_csv([row for spec in specs for row in fund_rows(spec, moves)]),
        "quotes.csv": as_csv([row for spec in specs for row in quotes(spec, moves)]),
    }


def as_csv(rows: list[dict[str, str]]) -> bytes:
    """Return rows as UTF-8 with commas, a header and bare line feeds."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8")


def write_or_check(contents: dict[str, bytes]) -> int:
    """Write the files to the sample's folder; with ``--check``, only return 1 if one of them differs."""
    parser = argparse.ArgumentParser(description="Write the sample that the replica serves.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file differs")
    files = {FOLDER / name: content for name, content in contents.items()}
    if parser.parse_args().check:
        differing = [str(path) for path, content in files.items() if not path.is_file() or path.read_bytes() != content]
        if differing:
            print(f"differs from what would be written: {', '.join(differing)}", file=sys.stderr)
        return 1 if differing else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        path.write_bytes(content)
        print(f"{path}: {len(content):,} bytes")
    return 0


def main() -> int:
    """Write the files, or check them."""
    return write_or_check(render())


if __name__ == "__main__":
    sys.exit(main())
