"""Speed against the number of threads, as in lesson 03: a table, and a chart beside this file."""

from pathlib import Path

import pandas as pd

import scraperkit as sk

speed = {}
with sk.connect() as redis, sk.Replica.start(latency=0.02) as site, sk.CvmPages(site.url) as source:
    requests = source.find_fund("18.993.924/0001-00").months("2022-01", "2023-12")
    for threads in (1, 2, 4, 8):
        with sk.Subscriber(redis, source, threads=threads, namespace="examples"):
            batch = sk.Publisher(redis, namespace="examples").publish(requests, force=True)
            status, events = batch.wait(), batch.events()
        seconds = (events["stored_at"].max() - events["started_at"].min()).total_seconds()
        speed[threads] = status.done / seconds

table = pd.DataFrame({"jobs_per_second": speed}).rename_axis("threads")
print(table.round(1))
sk.plot.throughput(table).figure.savefig(Path(__file__).with_suffix(".png"), dpi=120)
