"""Five funds, by number and by name, against CDI over two years: a table, and a chart beside this file.

Offline, unless you add ``--live`` and your own funds.
"""

import sys
from pathlib import Path

import scraperkit as sk

words = [word for word in sys.argv[1:] if word != "--live"]
if "--live" not in sys.argv:
    sk.offline()  # invented figures in place of the regulator's; needs no network
funds = words or ["18.993.924/0001-00", "99.101.011/0001-25", "Ipê Amarelo", "Açaí-Juçara", "Massaranduba"]
prices = sk.prices(funds, "2022-01", "2023-12")
cdi = sk.rates("cdi", "2022-01", "2023-12")
shown = ["name", "cumulative_return", "benchmark_return", "share_of_benchmark", "sharpe", "max_drawdown"]
print("Fractions: 0.01 is 1 %", sk.metrics.summary(prices, benchmark=cdi)[shown].round(4).to_string(), sep="\n")
chart = Path(__file__).with_suffix(".png")
sk.plot.prices(prices, benchmark=[cdi]).figure.savefig(chart, dpi=120)
print(f"chart: {chart}")
