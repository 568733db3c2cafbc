"""My five funds against CDI over two years: a table, and a chart beside this file.

Offline, unless you add ``--live`` and your own funds, as CNPJs or names.
"""

import sys

import scraperkit as sk

kit = None if "--live" in sys.argv else sk.offline()
some = ["18993924000100", "99101011000125", "99101012000170", "99101024000102", "EXEMPL0A000100"]
funds = some if kit else [word for word in sys.argv[1:] if word != "--live"]

prices = sk.prices(funds, "2022-01", "2023-12")
cdi = sk.rates("cdi", "2022-01", "2023-12")
print(sk.metrics.summary(prices, benchmark=cdi).round(3).to_string())
ax = sk.plot.prices(prices, benchmark=[cdi])
ax.figure.savefig(__file__.replace(".py", ".png"), dpi=120)
