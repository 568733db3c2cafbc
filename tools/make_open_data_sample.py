"""Write the sample of the portal: decades, subclasses, a split, a change of CNPJ, and the registry.

It writes the same bytes on every platform, with the functions of ``make_sample.py``, whose files it neither reads nor
changes. Run it from the root of the repository::

    python tools/make_open_data_sample.py            # writes daily.csv, registry.csv and subclasses.csv
    python tools/make_open_data_sample.py --check    # exits 1 if the files differ from what it would write
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

import make_sample
from make_sample import ADMINISTRATORS, NORMAL, as_csv, normal, with_check_digits

from scraperkit.calendar import business_days

SEED = "scraperkit open data 1"
FIRST, LAST = "2000-01-03", "2024-12-31"
PAGES_END = "2023-12-31"
ADAPTED = ("2024-07-01", "2024-11-04", "")  # in turn: when a fund of the pages became a class under Resolution 175

# The policy rate in percent a year, from each year on.
POLICY_RATE = {
    2000: 17.5, 2003: 23.0, 2004: 16.2, 2006: 15.0, 2008: 12.4, 2010: 9.8, 2012: 8.5, 2014: 10.9, 2016: 14.0, 2018: 6.5,
    2020: 2.8, 2021: 4.4, 2022: 12.4, 2023: 13.0, 2024: 10.8,
}  # fmt: skip

MANAGERS = {
    "aurora": ("991000040001", "Exemplo Aurora Gestão de Recursos Ltda."),
    "ipanema": ("991000050001", "Exemplo Ipanema Capital Gestora S.A."),
}


@dataclass(frozen=True)
class Line:
    """One series, and how it moves; without a subclass, it is the series of the fund or class itself."""

    base: str  # the CNPJ without its check digits
    starts: str
    ends: str
    quota: float
    net_worth: float
    holders: int
    subclass: str = ""
    rate: float = 0.0  # share of the policy rate that it earns
    beta: float = 0.0  # share of the market's moves that it follows
    noise: float = 0.0  # its own daily moves, in percent

    @property
    def cnpj(self) -> str:
        """The CNPJ with its check digits."""
        return with_check_digits(self.base)


@dataclass(frozen=True)
class Entry:
    """One line of the registry: a class, or a fund that never became a class."""

    base: str
    name: str
    note: str
    kind: str = "FI"
    administrator: str = "manacá"
    managers: tuple[str, ...] = ("aurora",)
    status: str = NORMAL
    started_on: str = "2024-01-02"
    adapted_on: str = ""
    ended_on: str = ""
    classification: str = "Multimercado"
    fund: str = ""  # base of the fund's CNPJ, if it differs from the class's
    fund_name: str = ""  # the fund's name, if it differs from the class's


LONG, SHARES, SHARES_OF, SIBLINGS, SPLIT = (f"9910103{number}0001" for number in (1, 2, 3, 4, 5))
OLD, NEW, TWO, TWO_A, TWO_B, PENSION = (f"991010{number}0001" for number in (36, 37, 38, 39, 40, 41))
SIBLING_1, SIBLING_2 = "Q4T7K1719837600", "Z2HFZ1719837661"
SPLIT_1, SPLIT_2, SPLIT_3 = "B8MNP1726012800", "W3RDC1726012845", "K9XVA1726012890"

LINES = (
    Line(LONG, FIRST, LAST, 1.0, 48_200_000, 1203, rate=0.97, noise=0.02),
    Line(SHARES, FIRST, "2006-06-30", 14.75, 9_340_000, 310, beta=1.0, noise=0.5),
    Line(SHARES_OF, "2003-01-02", "2004-12-30", 2.4, 3_110_000, 88, beta=0.95, noise=0.4),
    Line(PENSION, "2019-01-02", LAST, 1.71, 27_800_000, 640, rate=0.9, beta=0.1, noise=0.1),
    Line(SIBLINGS, "2024-07-15", LAST, 2.966267, 61_300_000, 912, SIBLING_1, rate=0.8, beta=0.2, noise=0.15),
    Line(SIBLINGS, "2024-07-15", LAST, 1.021366, 8_450_000, 57, SIBLING_2, rate=0.8, beta=0.2, noise=0.15),
    Line(SPLIT, "2023-03-01", "2024-09-13", 1.0, 35_600_000, 402, rate=1.0, noise=0.08),
    Line(SPLIT, "2024-09-16", LAST, 1.0, 4_100_000, 21, SPLIT_2, rate=1.0, noise=0.08),
    Line(SPLIT, "2024-09-18", LAST, 1.0, 950_000, 1, SPLIT_3, rate=1.0, noise=0.08),
    Line(OLD, "2023-01-02", "2024-05-14", 3.08, 18_900_000, 177, rate=0.6, beta=0.3, noise=0.2),
    Line(TWO_A, "2024-08-01", LAST, 1.0, 6_000_000, 34, rate=0.9, noise=0.05),
    Line(TWO_B, "2024-08-01", LAST, 1.0, 2_500_000, 12, beta=0.9, noise=0.4),
)
# Each continues a series that ended on the business day before, with its quota, net worth and holders.
HEIRS = (
    (Line(SPLIT, "2024-09-16", LAST, 0, 0, 0, SPLIT_1, rate=1.0, noise=0.08), LINES[6]),
    (Line(NEW, "2024-05-15", LAST, 0, 0, 0, rate=0.6, beta=0.3, noise=0.2), LINES[9]),
)

CANCELLED = make_sample.CANCELLED
TWO_NAME = "Fundo Exemplo Tucumã FIF"
ENTRIES = (
    Entry(LONG, "Fundo Exemplo Pau-Brasil Renda Fixa FI", "runs through all layouts, from 2000 to 2024",
          administrator="serra", started_on=FIRST, adapted_on="2024-10-01", classification="Renda Fixa"),
    Entry(SHARES, "Fundo Exemplo Jequitibá de Ações FITVM", "from 2000 to 2006; blank cells before 2005",
          kind="FITVM", status=CANCELLED, started_on=FIRST, ended_on="2006-06-30", classification="Ações"),
    Entry(SHARES_OF, "Fundo Exemplo Jequitibá em Cotas FIC FITVM", "FIC-FITVM, in 2003 and 2004",
          kind="FIC-FITVM", status=CANCELLED, started_on="2003-01-02", ended_on="2004-12-30", classification="Ações"),
    Entry(PENSION, "Fundo Exemplo Embira Aposentadoria Programada Individual", "FAPI, from 2019", kind="FAPI",
          administrator="irmãos", started_on="2019-01-02", classification="Previdência"),
    Entry(SIBLINGS, "Classe Exemplo Quaresmeira FIC FIM Responsabilidade Limitada",
          "two subclasses far apart, and no row of its own", managers=("aurora", "ipanema"),
          started_on="2016-04-11", adapted_on="2024-07-15"),
    Entry(SPLIT, "Classe Exemplo Pitangueira Crédito Privado FIF RL",
          "class rows until 2024-09-13, rows of its subclasses from 2024-09-16", administrator="serra",
          started_on="2023-03-01", adapted_on="2024-07-01", classification="Renda Fixa"),
    Entry(OLD, "Fundo Exemplo Caviúna Macro FIM", "continued under another CNPJ on the next day", status=CANCELLED,
          started_on="2023-01-02", ended_on="2024-05-14"),
    Entry(NEW, "Fundo Exemplo Caviúna Macro FIF", "continues the CNPJ that ended on 2024-05-14",
          started_on="2024-05-15", adapted_on="2024-05-15"),
    Entry(TWO_A, "Classe A Exemplo Tucumã Renda Fixa FIF", "one of two classes of a fund",
          started_on="2024-08-01", adapted_on="2024-08-01", classification="Renda Fixa", fund=TWO, fund_name=TWO_NAME),
    Entry(TWO_B, "Classe B Exemplo Tucumã Ações FIF", "one of two classes of a fund",
          started_on="2024-08-01", adapted_on="2024-08-01", classification="Ações", fund=TWO, fund_name=TWO_NAME),
)  # fmt: skip

SUBCLASSES = (
    (SIBLINGS, SIBLING_1, "Subclasse I da Classe Exemplo Quaresmeira FIC FIM", "2024-07-15"),
    (SIBLINGS, SIBLING_2, 'Subclasse "Plus da Classe Exemplo Quaresmeira FIC FIM', "2024-07-15"),
    (SPLIT, SPLIT_1, "Subclasse Varejo da Classe Exemplo Pitangueira", "2024-09-16"),
    (SPLIT, SPLIT_2, "Subclasse Institucional da Classe Exemplo Pitangueira", "2024-09-16"),
    (SPLIT, SPLIT_3, "Subclasse Exclusiva da Classe Exemplo Pitangueira", "2024-09-18"),
)


def market() -> dict[str, float]:
    """Return one move of the market for each business day, in percent."""
    random = Random(f"{SEED} market")
    return {f"{day:%Y-%m-%d}": 0.03 + 1.1 * normal(random) for day in business_days(FIRST, LAST)}


def policy(day: str) -> float:
    """Return what the policy rate earns on one day, in percent."""
    return POLICY_RATE[max(year for year in POLICY_RATE if year <= int(day[:4]))] / 252


def daily(line: Line, moves: dict[str, float]) -> Iterator[dict[str, str]]:
    """Yield the rows of one series."""
    random = Random(f"{SEED} {line.cnpj} {line.subclass} {line.starts}")
    price, people, quota = line.quota, float(line.holders), line.quota
    shares = line.net_worth / quota
    for day in moves:
        if not line.starts <= day <= line.ends:
            continue
        price *= 1 + (line.rate * policy(day) + line.beta * moves[day] + line.noise * normal(random)) / 100
        quota = round(price, 12)
        size_in, size_out, cash = random.random(), random.random(), round(0.004 * random.random(), 6)
        # Most days are quiet, and a few are large.
        inflow, outflow = (
            0.0 if size < 0.4 else round(shares * quota * 0.003 * size * size * size, 2) for size in (size_in, size_out)
        )
        people = max(1.0, people + line.holders * 0.002 * (random.random() - 0.5))
        shares += (inflow - outflow) / quota
        net_worth = round(shares * quota, 2)
        unknown = day < "2005"
        yield {
            "cnpj": line.cnpj,
            "subclass": line.subclass,
            "date": day,
            "quota": f"{quota:.12f}",
            "net_worth": f"{net_worth:.2f}",
            "holders": "" if unknown else str(round(people)),
            "inflow": f"{inflow:.2f}",
            "outflow": f"{outflow:.2f}",
            "portfolio": "" if unknown else f"{net_worth * (1 + cash):.2f}",
        }


def continuing(line: Line, last: dict[str, str]) -> Line:
    """Return the series with the figures of another's last day as its start."""
    return replace(
        line, quota=float(last["quota"]), net_worth=float(last["net_worth"]), holders=int(last["holders"] or "1")
    )


def lines(moves: dict[str, float]) -> Iterator[Line]:
    """Yield every series; those that continue funds of the pages come first."""
    pages_moves = make_sample.market()
    for spec in make_sample.SPECS:
        if spec.status == NORMAL:
            *_, last = make_sample.quotes(spec, pages_moves)
            line = Line(spec.base, "2024-01-02", LAST, 0, 0, 0, rate=spec.rate, beta=spec.beta, noise=spec.noise)
            yield continuing(line, last)
    yield from LINES
    for heir, line in HEIRS:
        *_, last = daily(line, moves)
        yield continuing(heir, last)


def entries() -> Iterator[Entry]:
    """Yield every entry of the registry, including the funds of the pages."""
    days = make_sample.market()
    for number, spec in enumerate(make_sample.SPECS):
        own = make_sample.days_of(spec, days)
        alive = spec.status == NORMAL
        yield Entry(
            spec.base,
            spec.name,
            "also on the pages",
            administrator=spec.administrator,
            managers=(("aurora", "ipanema")[number % 2],),
            status=spec.status,
            started_on=own[0],
            adapted_on=ADAPTED[number % len(ADAPTED)] if alive else "",
            ended_on="" if alive else own[-1],
            classification="Ações" if spec.beta > 0.7 else "Multimercado" if spec.beta else "Renda Fixa",
        )
    yield from ENTRIES


def registry_rows() -> Iterator[dict[str, str]]:
    """Yield every line of the registry; only entries that became a class have ids."""
    every = list(entries())
    funds = sorted({entry.fund or entry.base for entry in every if entry.adapted_on})
    for number, entry in enumerate(every):
        ids = (27_001 + funds.index(entry.fund or entry.base), 1_001 + number) if entry.adapted_on else ("", "")
        yield registry_row(entry, *map(str, ids))


def registry_row(entry: Entry, fund_id: str, class_id: str) -> dict[str, str]:
    """Return one line of the registry."""
    base, administrator = ADMINISTRATORS[entry.administrator]
    managers = [(with_check_digits(MANAGERS[name][0]), MANAGERS[name][1]) for name in entry.managers]
    return {
        "cnpj": with_check_digits(entry.base),
        "fund_cnpj": with_check_digits(entry.fund or entry.base),
        "fund_id": fund_id,
        "class_id": class_id,
        "fund_name": entry.fund_name or entry.name,
        "kind": entry.kind,
        "name": entry.name,
        "status": entry.status,
        "classification": entry.classification,
        "started_on": entry.started_on,
        "adapted_on": entry.adapted_on,
        "ended_on": entry.ended_on,
        "administrator": administrator,
        "administrator_cnpj": with_check_digits(base),
        "managers": "|".join(name for _, name in managers),
        "manager_cnpjs": "|".join(cnpj for cnpj, _ in managers),
        "note": entry.note,
    }


def render() -> dict[str, bytes]:
    """Return the content of each file, by name."""
    moves = market()
    rows = [row for line in lines(moves) for row in daily(line, moves)]
    subclasses = [
        {"cnpj": with_check_digits(base), "subclass": subclass, "name": name, "started_on": started_on}
        for base, subclass, name, started_on in SUBCLASSES
    ]
    return {
        "daily.csv": as_csv(sorted(rows, key=lambda row: (row["cnpj"], row["subclass"], row["date"]))),
        "registry.csv": as_csv(sorted(registry_rows(), key=lambda row: row["cnpj"])),
        "subclasses.csv": as_csv(sorted(subclasses, key=lambda row: row["subclass"])),
    }


if __name__ == "__main__":
    sys.exit(make_sample.write_or_check(render()))
