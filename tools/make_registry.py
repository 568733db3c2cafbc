"""Make a registry of real size: 36,782 classes, their funds and subclasses, and older funds.

Everything is invented, from a seed. Run it from the root of the repository; do not commit its output::

    python tools/make_registry.py /tmp/DADOS    # writes registro_fundo_classe.zip and cad_fi.csv
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from pathlib import Path

import numpy as np
from make_market import LETTERS, made_up_cnpjs

from scraperkit.cnpj import normalize_cnpj
from scraperkit.replica.open_data import DailyRow
from scraperkit.replica.portal_files import zipped
from scraperkit.replica.portal_registry import old_registry, registry_members

CLASSES, FUND_ROWS, SUBCLASSES, OLD = 36_782, 90_383, 10_121, 46_809
WRITTEN = dt.datetime(2026, 9, 15, 4, 30, tzinfo=dt.UTC)
DAY = f"{WRITTEN:%Y-%m-%d}"
HOUSES = ["Aroeira", "Jatobá", "Ipê", "Cambuci", "Sibipiruna", "Mulungu", "Guapuruvu", "Canjerana", "Sapucaia", "Açaí",
          "Vinhático", "Cedro", "Baraúna", "Peroba", "Araucária", "Angico", "Buriti", "Copaíba"]  # fmt: skip
THEMES = ["Ações", "Crédito Privado", "Dividendos", "Previdência", "Macro", "Inflação", "Soberano", "Infraestrutura",
          "Debêntures Incentivadas", "Long Biased", "Pós-Fixado", "Renda Fixa Referenciado DI", "Exterior"]  # fmt: skip
KINDS = ["FIC FIM", "FIA", "FIF Renda Fixa", "FIC de FIF Multimercado", "FI", "FIM Longo Prazo"]
ENDINGS = ["", " RL", " - Responsabilidade Limitada", " Responsabilidade Ltda"]
NORMAL, CANCELLED = "EM FUNCIONAMENTO NORMAL", "CANCELADA"
CLASSIFICATIONS = ["Ações", "Cambial", "Multimercado", "Renda Fixa"]


class Registry:
    """The tables of a registry.

    Parameters
    ----------
    share : float
        Its size, as a share of the real one.
    seed : int
        Seed of the random numbers.

    Attributes
    ----------
    rows, subclasses : list of dict
        As in the sample's ``registry.csv`` and ``subclasses.csv``.
    months : dict of str to tuple of DailyRow
        One row for each CNPJ, with its net worth.
    """

    def __init__(self, share: float = 1.0, seed: int = 0) -> None:
        self._draw = draw = np.random.default_rng(seed)
        classes, fund_rows, subclasses, old = (round(share * count) for count in (CLASSES, FUND_ROWS, SUBCLASSES, OLD))
        cnpjs = made_up_cnpjs(draw, classes + old)
        adapted = np.zeros(len(cnpjs), dtype=bool)
        adapted[draw.choice(len(cnpjs), classes, replace=False)] = True
        managers = np.bincount(draw.integers(0, classes, fund_rows - classes), minlength=classes) + 1
        names, houses = self._names(len(cnpjs)), draw.integers(0, 900, len(cnpjs)).tolist()
        started = (np.datetime64("1995-01-02") + draw.integers(0, 10_000, len(cnpjs))).astype(str).tolist()
        counts = iter(managers.tolist())
        self.rows = [
            self._row(number, cnpj, names[number], started[number], houses[number], next(counts) if is_class else 0)
            for number, (cnpj, is_class) in enumerate(zip(cnpjs, adapted.tolist(), strict=True))
        ]
        owners = [row for row in self.rows if row["class_id"]][: max(1, subclasses // 3)]
        letters = draw.choice(LETTERS, (subclasses, 5)).tolist()
        self.subclasses = [
            {
                "cnpj": owners[number % len(owners)]["cnpj"],
                "subclass": f"{''.join(row)}{1_719_837_600 + number}",
                "name": f"Subclasse {number // len(owners) + 1} do {owners[number % len(owners)]['name']}",
                "started_on": "2024-07-01",
            }
            for number, row in enumerate(letters)
        ]
        worth = np.exp(draw.normal(17.0, 2.0, len(cnpjs))).tolist()
        self.months = {
            DAY[:7]: tuple(
                DailyRow("", cnpj, "", DAY, "", "", f"{value:.2f}", "", "", "")
                for cnpj, value in zip(cnpjs, worth, strict=True)
            )
        }

    def _names(self, count: int) -> list[str]:
        parts = [self._draw.choice(words, count).tolist() for words in (HOUSES, THEMES, KINDS, ENDINGS)]
        return [
            f"Fundo Exemplo {house} {number} {theme} {kind}{ending}"
            for number, (house, theme, kind, ending) in enumerate(zip(*parts, strict=True))
        ]

    def _row(self, number: int, cnpj: str, name: str, started_on: str, house: int, managers: int) -> dict[str, str]:
        """Return one line: of a class with `managers` managers, or with 0, of a fund that never became a class."""
        who = [(house + place) % 900 for place in range(max(1, managers))]
        ended = number % 7 == 0 if managers else number % 50 != 0
        bare = normalize_cnpj(cnpj)
        return {
            "cnpj": bare,
            "fund_cnpj": bare,
            "fund_id": str(20_000 + number) if managers else "",
            "class_id": str(100 + number) if managers else "",
            "name": name,
            "fund_name": name,
            "kind": "FI",
            "status": CANCELLED if ended else NORMAL,
            "classification": CLASSIFICATIONS[number % 4],
            "started_on": started_on,
            "adapted_on": "2024-10-01" if managers else "",
            "ended_on": "2025-03-31" if ended else "",
            "administrator": f"Administradora Exemplo {HOUSES[house % len(HOUSES)]} DTVM S.A.",
            "administrator_cnpj": bare,
            "managers": "|".join(f"Exemplo {HOUSES[one % len(HOUSES)]} Gestão {one} Ltda." for one in who),
            "manager_cnpjs": "|".join(f"99{one:012d}" for one in who),
        }

    def write(self, folder: Path) -> None:
        """Write both files."""
        folder.mkdir(parents=True, exist_ok=True)
        members = registry_members(self.rows, self.subclasses, self.months)
        (folder / "registro_fundo_classe.zip").write_bytes(zipped(members, WRITTEN))
        (folder / "cad_fi.csv").write_bytes(old_registry(self.rows, self.months))


def main() -> int:
    """Write the registry to the given folder."""
    parser = argparse.ArgumentParser(description="Make a registry of real size.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="its size, as a share of the real one")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    Registry(options.share, options.seed).write(options.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
