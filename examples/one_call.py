"""Prices in one call, by number and by name, as a chart beside this file; `--live` uses the regulator's own site."""

import sys
from pathlib import Path

import scraperkit as sk

if "--live" not in sys.argv:
    sk.offline()  # invented figures in place of the regulator's; needs no network
prices = sk.prices(["18.993.924/0001-00", "Ipê Amarelo", "Açaí-Juçara", "Buriti", "Massaranduba"], "2022-01", "2023-12")
print(prices.tail(3).rename(columns=prices.attrs["names"]).rename_axis(columns="quota, R$").to_string())
chart = Path(__file__).with_suffix(".png")
sk.plot.prices(prices).figure.savefig(chart, dpi=120)
print(f"chart: {chart}")
