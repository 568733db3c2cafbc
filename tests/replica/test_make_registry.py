"""The made-up registry: of real size on request, in the portal's form, and the same from the same seed."""

from __future__ import annotations

import csv
import io
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from support.tree import ROOT, load_tool


@pytest.fixture(scope="module")
def maker() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        yield load_tool("make_registry.py")


def table(content: bytes) -> list[dict[str, str]]:
    text = io.StringIO(content.decode("iso-8859-1"), newline="")
    return list(csv.DictReader(text, delimiter=";", quoting=csv.QUOTE_NONE))


def tables(folder: Path) -> list[list[dict[str, str]]]:
    with zipfile.ZipFile(folder / "registro_fundo_classe.zip") as archive:
        return [
            *(table(archive.read(name)) for name in archive.namelist()),
            table((folder / "cad_fi.csv").read_bytes()),
        ]


def test_a_scale_of_one_hundredth_applies_to_each_table(maker, tmp_path):
    maker.Registry(0.01).write(tmp_path)
    funds, classes, subclasses, old = tables(tmp_path)
    assert [len(funds), len(classes), len(subclasses), len(old)] == [904, 368, 101, 468]
    assert [len(rows[0]) for rows in (funds, classes, subclasses, old)] == [21, 30, 14, 41]
    assert {row["ID_Registro_Fundo"] for row in funds} == {row["ID_Registro_Fundo"] for row in classes}
    assert {row["ID_Registro_Classe"] for row in subclasses} < {row["ID_Registro_Classe"] for row in classes}
    assert all(float(row["Patrimonio_Liquido"]) > 0 for row in classes)
    statuses = Counter(row["SIT"] for row in old)
    assert statuses["CANCELADA"] > 0.95 * len(old)
    assert statuses["EM FUNCIONAMENTO NORMAL"]


def test_it_is_the_same_from_the_same_seed(maker, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        maker.Registry(0.001, seed).write(tmp_path / name)
    made = [(tmp_path / name / "registro_fundo_classe.zip").read_bytes() for name in "abc"]
    assert made[0] == made[1] != made[2]
