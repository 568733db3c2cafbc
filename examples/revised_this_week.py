"""Revisions this week of figures that you have: a table, and a chart beside this file.

Offline, unless you add ``--live``, which downloads new files: the first time, the newest 24 months.
"""

import sys

import pandas as pd

import scraperkit as sk

kit = None if "--live" in sys.argv else sk.offline()
with sk.OpenData() as market:
    market.download(*["2024-12", "2024-12"] if kit else [])
    if kit and kit.replica.portal.restate("2024-12", share=0.1):  # as the regulator does it
        market.download("2024-12", "2024-12")
    week = market.changes().loc[lambda seen: seen["seen_at"] > pd.Timestamp.now("UTC") - pd.Timedelta(days=7)]

table = week.drop(columns="seen_at").head(20).to_string(index=False, float_format="{:,.4f}".format)
print(f"{len(week)} values revised this week, in R$ or people; the first are:\n{table}")
if len(week):
    counts = pd.crosstab(week["date"].dt.date.rename("day of the figure"), week["metric"].str.replace("_", " "))
    ax = counts.plot.bar(figsize=(11, 5), title="Values revised this week", yticks=range(counts.max(axis=None) + 1))
    ax.figure.savefig(__file__.replace(".py", ".png"), dpi=120, bbox_inches="tight")
