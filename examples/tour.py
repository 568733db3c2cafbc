"""The whole process, as in lesson 00: ten funds, two years, eight threads; a table, and a chart beside this file."""

from pathlib import Path

import scraperkit as sk

with sk.connect() as redis, sk.Replica.start() as site, sk.CvmPages(site.url) as source:
    cnpjs = [fund.cnpj for fund in site.funds if fund.active and fund.ended_on is None][:10]
    funds = [source.find_fund(cnpj) for cnpj in cnpjs]
    with sk.Subscriber(redis, source, threads=8, namespace="examples"):
        requests = [request for fund in funds for request in fund.months("2022-01", "2023-12")]
        print(sk.Publisher(redis, namespace="examples").publish(requests).wait())
    prices = sk.TimeSeriesReader(redis, namespace="examples").prices(funds, start="2022-01", end="2023-12")

names = {fund.cnpj: fund.short_name for fund in funds}
table = sk.metrics.summary(prices)[["days", "cumulative_return", "volatility", "max_drawdown"]].rename(names)
print("Fractions: 0.01 is 1 %", table.rename_axis("fund").round(4).to_string(), sep="\n")
sk.plot.prices(prices).figure.savefig(Path(__file__).with_suffix(".png"), dpi=120)
