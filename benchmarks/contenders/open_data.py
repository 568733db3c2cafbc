"""Read a month's zip with other open-data packages; print the seconds of each as JSON.

    python open_data.py inf_diario_fi_202608.zip ROUNDS

Runs with a Python that has `benchmarks/open_data_rivals.txt` installed. Nothing is downloaded: each package gets the
file where it would fetch it. None of them stores what it reads, or compares it with earlier figures.
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
    response = requests.Response()
    response.status_code, response._content = 200, path.read_bytes()
    fundosbr._get_response = lambda *_, **__: response
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
        except Exception as error:  # noqa: BLE001 - any error is reported
            found[reader.__name__] = f"does not read it: {error}"[:200]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
