"""The market's biggest net flows of a month, from the regulator's files: a table, and a chart beside this file.

Offline, December 2024; with ``--live``, last month, which it downloads or updates.
"""

import sys

import pandas as pd

import scraperkit as sk
from scraperkit.cnpj import short_name

kit = None if "--live" in sys.argv else sk.offline()
month = "2024-12" if kit else str(pd.Period.now("M") - 1)  # the newest of the offline files
with sk.OpenData() as market:
    market.download(month, month)
    flows = market.market(month).groupby("cnpj")[["inflow", "outflow"]].sum() / 1e6
    net = (flows["inflow"] - flows["outflow"]).sort_values(key=abs).tail(10).sort_values()
    net.index = [short_name(next(iter(market.find(cnpj)["name"]), cnpj)) for cnpj in net.index]

print(f"net flow in {month}, R$ million", net.round(1).to_string(), sep="\n")
ax = net.plot.barh(figsize=(11, 5), title=f"Biggest net flows, {month}", ylabel="")
ax.set_xlabel(r"inflow less outflow, R\$ million")
ax.figure.savefig(__file__.replace(".py", ".png"), dpi=120, bbox_inches="tight")
