"""Prices, as in lesson 04: a table of monthly returns in %, and four charts beside this file."""

from pathlib import Path

import matplotlib.pyplot as plt

import scraperkit as sk

with sk.connect() as redis, sk.Replica.start() as site, sk.CvmPages(site.url) as source:
    fund = source.find_fund("18.993.924/0001-00")
    with sk.Subscriber(redis, source, threads=8, namespace="examples"):
        sk.Publisher(redis, namespace="examples").publish(fund.months("2021-01", "2023-12")).wait()
    reader = sk.TimeSeriesReader(redis, namespace="examples")
    prices, quotes = reader.prices(fund), reader.quotes(fund)

print((sk.metrics.monthly_returns(prices) * 100).round(1).tail(12))
figure, axes = plt.subplots(2, 2, figsize=(16, 9), layout="constrained")
for draw, ax in zip((sk.plot.prices, sk.plot.drawdown, sk.plot.rolling_volatility), axes.flat, strict=False):
    draw(prices, ax=ax)
sk.plot.flows_and_holders(quotes, ax=axes[1, 1])
figure.savefig(Path(__file__).with_suffix(".png"), dpi=120)
