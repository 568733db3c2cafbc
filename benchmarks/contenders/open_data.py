"""Read a month's zip with other packages for the open data; print the seconds of each as JSON.

    python open_data.py inf_diario_fi_202608.zip ROUNDS

Needs a Python with `benchmarks/open_data_rivals.txt` installed. Nothing is downloaded: each package gets the file in
place of a download. None of them stores the figures, or compares them with earlier ones.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib
import io
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def comparar_fundos_br(path: Path) -> Any:
    import requests

    fundosbr: Any = importlib.import_module("comparar_fundos_br.fundosbr")
    answer = requests.Response()
    answer.status_code, answer._content = 200, path.read_bytes()
    fundosbr._get_response = lambda *_, **__: answer
    return fundosbr._ler_dados_diarios(2026, 8)


def filings_cvm(path: Path) -> Any:
    from filings_cvm.ingestion.fi.doc.informe_diario import informe_diario

    informe_diario.download_file = lambda _, target, *__, **___: Path(shutil.copy(path, target))
    (reader,) = [
        kind
        for name, kind in vars(informe_diario).items()
        if name.startswith("InformeDiario") and hasattr(kind, "read")
    ]
    return reader(dt.date(2026, 8, 1)).read()


def mercados(path: Path) -> Any:
    from mercados.cvm import CVM

    return list(CVM()._le_zip_informe_diario(path))


READERS: list[Callable[[Path], Any]] = [comparar_fundos_br, filings_cvm, mercados]


def main() -> None:
    path, rounds = Path(sys.argv[1]), int(sys.argv[2])
    found: dict[str, float | str] = {}
    for reader in READERS:
        took = []
        try:
            for _ in range(rounds):
                began = time.perf_counter()
                with contextlib.redirect_stdout(io.StringIO()):
                    rows = len(reader(path))
                took.append(time.perf_counter() - began)
            found[f"{reader.__name__} ({rows:,} rows)"] = statistics.median(took)
        except Exception as error:  # noqa: BLE001 - reported in the result
            found[reader.__name__] = f"cannot read it: {error}"[:200]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
