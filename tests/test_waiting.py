"""Messages of a wait: no worker is running, what to start, and why jobs failed."""

from __future__ import annotations

import pytest
from support.fakes import FUND, FakeSite, GatedSite, months, one_quote
from support.waiting import wait_until
from support.workers import AT_ONCE, subscriber

from scraperkit import batch as batches
from scraperkit.errors import BatchTimeout, MonthNotOffered, PageChanged, WrongFund
from scraperkit.publisher import Publisher


@pytest.fixture(autouse=True)
def _no_grace(monkeypatch):
    monkeypatch.setattr(batches, "GRACE", 0.0)


class TestWithoutWorkers:
    def test_the_timeout_says_so_and_what_to_start(self, publisher, namespace):
        with pytest.raises(BatchTimeout) as caught:
            publisher.publish(months(2)).wait(0.3)
        told = str(caught.value)
        assert told.startswith("not finished after 0.3 s: 2 published, 0 done, 2 pending; no worker listens")
        assert f"`scraperkit work --namespace {namespace}`" in told
        assert f"`with sk.Subscriber(redis, source, namespace='{namespace}'):`" in told
        assert "continue" not in told

    @pytest.mark.parametrize("progress", [None, True])
    def test_a_wait_says_so_once_with_or_without_a_bar(self, publisher, capsys, progress):
        with pytest.raises(BatchTimeout):
            publisher.publish(months(2)).wait(1, progress=progress)
        assert capsys.readouterr().err.count("no worker listens to the stream") == 1

    def test_a_wait_without_progress_prints_nothing(self, publisher, capsys):
        with pytest.raises(BatchTimeout):
            publisher.publish(months(2)).wait(0.3, progress=False)
        assert capsys.readouterr() == ("", "")

    def test_a_worker_that_listens_only_to_the_other_delivery_does_not_count(self, redis, namespace, publisher):
        with subscriber(redis, namespace, FakeSite(), delivery="pubsub"):
            batch = publisher.publish(months(2))
            with pytest.raises(BatchTimeout, match="no worker listens to the stream"):
                batch.wait(0.3)

    def test_the_suggested_command_omits_the_default_namespace(self, redis, keys):
        told = batches._command("work", type(keys)("scraperkit"))
        assert told == "scraperkit work"

    def test_with_a_worker_the_timeout_says_that_work_continues(self, redis, namespace, publisher, capsys):
        site = GatedSite()
        with subscriber(redis, namespace, site, delivery="stream"):
            batch = publisher.publish(months(2))
            try:
                with pytest.raises(BatchTimeout, match="2 pending; workers continue; wait again to keep waiting$"):
                    batch.wait(0.3)
            finally:
                site.gate.set()
            assert batch.wait(60).done == 2
        assert "no worker" not in capsys.readouterr().err

    def test_a_wait_after_the_worker_has_stopped_says_so(self, redis, namespace, publisher, capsys):
        with subscriber(redis, namespace, FakeSite()) as worker:
            batch = publisher.publish(months(1))
            assert batch.wait(60).done == 1
            worker.stop()
        again = publisher.publish(months(2))
        with pytest.raises(BatchTimeout, match="no worker listens"):
            again.wait(0.3)
        assert wait_until(lambda: "no worker listens" in capsys.readouterr().err)


def test_a_batch_with_failures_ends_with_the_reasons_grouped_and_the_command_for_more(
    redis, namespace, publisher, capsys
):
    def respond(request):
        if request.month <= 7:
            raise PageChanged(f"no table in {request.month_year}", f"http://site/{request.month}")
        if request.month == 8:
            raise WrongFund("the page shows another fund")
        if request.month == 9:
            raise MonthNotOffered("it has 01/2021 to 08/2021")
        return one_quote(request)

    with subscriber(redis, namespace, FakeSite(respond), **AT_ONCE):
        batch = publisher.publish(months(12))
        status = batch.wait(60)
    assert str(status) == "12 published, 3 done, 1 not offered, 8 failed"
    told = capsys.readouterr().err
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert "7 PageChanged: no table in … 18.993.924/0001-00 01/2021" in lines
    assert "1 WrongFund: the page shows another fund 18.993.924/0001-00 08/2021" in lines
    assert "MonthNotOffered" not in told
    assert f"`scraperkit batch status {batch.id} --namespace {namespace}`" in told
    assert told == f"{batch.explain()}\n"
    assert batch.explain(status) == batch.explain()


def test_a_batch_without_failures_has_nothing_to_explain(redis, namespace, publisher, capsys):
    with subscriber(redis, namespace, FakeSite()):
        batch = publisher.publish(months(2))
        batch.wait(60)
    assert batch.explain() == ""
    assert capsys.readouterr().err == ""


def test_a_month_without_figures_reads_as_empty(redis, namespace):
    from scraperkit.models import COLUMNS, METRICS
    from scraperkit.timeseries.reader import TimeSeriesReader

    with subscriber(redis, namespace, FakeSite(lambda request: [])):
        assert Publisher(redis, namespace=namespace).publish(months(1)).wait(60).done == 1
    reader = TimeSeriesReader(redis, namespace)
    prices = reader.prices(FUND)
    assert (prices.empty, list(prices.columns), prices.index.name) == (True, [FUND.cnpj], "date")
    assert list(reader.quotes(FUND).columns) == list(COLUMNS)
    assert reader.quotes(FUND).empty
    assert list(reader.last(FUND).columns) == ["date", *METRICS]
    assert list(reader.months(FUND)["month"]) == ["2021-01"]
