"""What the regulator has revised this week of figures that you have: a table, and a chart beside this file.

Offline, unless you add ``--live``: then what is new is downloaded, which is the newest 24 months the first time.
"""

import sys

import pandas as pd

import scraperkit as sk

kit = None if "--live" in sys.argv else sk.offline()
with sk.OpenData() as market:
    market.download(*["2024-12", "2024-12"] if kit else [])
    if kit and kit.replica.portal.restate("2024-12", share=0.1):  # as the regulator does it
        market.download("2024-12", "2024-12")
    changes = market.changes()

week = changes[changes["seen_at"] > pd.Timestamp.now("UTC") - pd.Timedelta(days=7)].drop(columns="seen_at")
week = week.assign(percent=(week["new"] / week["old"] - 1) * 100).sort_values("percent", key=abs, ascending=False)
print(f"{len(week)} values revised this week\n{week.head(20).to_string(index=False, float_format='{:.8g}'.format)}")
if len(week):
    counts = week.assign(metric=week["metric"].str.replace("_", " ")).groupby([week["date"].dt.date, "metric"]).size()
    ax = counts.unstack(fill_value=0).plot.bar(figsize=(11, 5), title="Values revised this week", xlabel="day revised")
    ax.set_ylabel("number of values")
    ax.yaxis.get_major_locator().set_params(integer=True)
    ax.figure.savefig(__file__.replace(".py", ".png"), dpi=120, bbox_inches="tight")
