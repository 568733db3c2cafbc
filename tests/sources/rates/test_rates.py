"""``sk.rates`` on the offline services: what is fetched, what is kept, and what is refused."""

from __future__ import annotations

import datetime as dt
import threading
import warnings

import pandas as pd
import pytest
from support.servers import redis_server

import scraperkit as sk
from scraperkit.calendar import business_days
from scraperkit.errors import ConfigError, RateRefused, RedisRefused, ScraperKitWarning, SiteUnavailable, StoreError
from scraperkit.replica.rate_services import SGS_PATH
from scraperkit.sources.rates.known import KNOWN_RATES

FRIDAY = "2022-01-14T20:00"
JANUARY = ("2022-01-03", "2022-01-14")


def asked(services) -> int:
    """Return the number of requests for values."""
    return sum(count for kind, count in services.requests.items() if kind != "missing")


def published(services, name: str, first: str, last: str) -> dict[pd.Timestamp, float]:
    """Return the service's values in a window, parsed by ``float`` alone."""
    span = dt.date.fromisoformat(first), dt.date.fromisoformat(last)
    return {pd.Timestamp(day): float(text) for day, text in services.values(name).items() if span[0] <= day <= span[1]}


class TestValues:
    @pytest.mark.parametrize("name", KNOWN_RATES)
    def test_they_equal_the_published_ones(self, redis, services, name):
        rate = sk.rates(name, "2021-11-15", "2022-03-10", redis=redis)
        first = "2021-11-01" if name in ("ipca", "igpm") else "2021-11-15"
        expected = published(services, name, first, "2022-03-10")
        assert rate.to_dict() == expected
        assert len(expected) == (5 if name in ("ipca", "igpm") else len(business_days(first, "2022-03-10")))

    @pytest.mark.parametrize("name", KNOWN_RATES)
    def test_each_declares_its_kind_unit_and_source(self, redis, services, name):
        rate = sk.rates(name, *JANUARY, redis=redis)
        units = {"rate a day": {"% a day"}, "rate a month": {"% a month"}, "level": {"points", "R$"}}
        assert rate.name == rate.attrs["name"] == name
        assert rate.attrs["unit"] in units[rate.attrs["kind"]]
        invented, _, source = rate.attrs["source"].partition(", in place of ")
        assert invented == "invented figures of a replica"
        assert source.startswith(("Banco Central do Brasil SGS ", "B3 "))
        assert (rate.index.name, rate.index.tz, str(rate.dtype)) == ("date", None, "float64")
        assert rate.index.is_monotonic_increasing

    def test_the_last_twelve_months_are_the_default(self, redis, services, at):
        at(FRIDAY)
        assert sk.rates("cdi", redis=redis).index[[0, -1]].strftime("%Y-%m-%d").tolist() == ["2021-01-15", "2022-01-14"]
        until = sk.rates("cdi", end="2010-06", redis=redis)
        assert until.index[[0, -1]].strftime("%Y-%m-%d").tolist() == ["2009-07-01", "2010-06-30"]

    @pytest.mark.parametrize(
        ("window", "told"),
        [
            (("2030-01", "2030-02"), "cdi: 2030-01-01 is in the future; give a start up to 2022-01-14"),
            (("2022-01-15", "2022-01-16"), "2022-01-15 is after the newest day that can have a value"),
            (("1970-01", "1970-03"), "cdi: 1970-03-31 is before its first value, on 1986-03-06; give a later end"),
            (("1960-01", "1960-03"), "before its first value"),
        ],
    )
    def test_a_window_that_can_have_no_values_is_empty_without_a_request(self, redis, services, at, window, told):
        at("2022-01-16T12:00")
        with pytest.warns(ScraperKitWarning, match=told):
            rate = sk.rates("cdi", *window, redis=redis)
        assert (len(rate), rate.attrs["kind"], str(rate.dtype)) == (0, "rate a day", "float64")
        assert asked(services) == 0

    def test_a_window_without_values_is_requested_once(self, redis, services):
        for _ in range(2):
            with pytest.warns(ScraperKitWarning, match="SGS 12 has no value from 2022-02-26 to 2022-03-01"):
                assert not len(sk.rates("cdi", "2022-02-26", "2022-03-01", redis=redis))  # Carnival
        assert services.requests["empty"] == 1

    def test_without_a_client_it_uses_a_connection_of_its_own(self, services, redis_url, monkeypatch, redis, keys):
        monkeypatch.setenv("REDIS_URL", redis_url)
        assert len(sk.rates("cdi", *JANUARY)) == 10
        assert redis.exists(keys.index("cdi"))


class TestWhatIsFetched:
    def test_a_long_window_is_fetched_in_pieces_of_ten_years(self, redis, services, at):
        at(FRIDAY)
        rate = sk.rates("cdi", "1986-01", redis=redis)
        assert rate.to_dict() == published(services, "cdi", "1986-03-06", "2022-01-14")
        assert services.requests["sgs"] == 4  # 1986, 1996, 2006 and 2016

    def test_the_ibovespa_is_fetched_a_year_at_a_time(self, redis, services, at):
        at(FRIDAY)
        rate = sk.rates("ibovespa", "2019-07-01", redis=redis)
        assert rate.to_dict() == published(services, "ibovespa", "2019-07-01", "2022-01-14")
        assert services.requests["b3"] == 4

    def test_a_year_of_the_ibovespa_is_kept_whole(self, redis, services):
        for window in [("2012-03", "2012-04"), ("2012-01", "2012-02"), ("2012-07", "2012-12")]:
            assert sk.rates("ibovespa", *window, redis=redis).index[0].strftime("%Y-%m") == window[0]
        assert services.requests["b3"] == 1

    @pytest.mark.parametrize("name", ["cdi", "ipca"])
    def test_only_days_never_requested_are_fetched(self, redis, services, name):
        sk.rates(name, "2012-01", "2012-12", redis=redis)
        for window, requests in [
            (("2012-03", "2012-09"), 1),
            (("2012-01", "2012-12"), 1),
            (("2011-01", "2012-02"), 2),
            (("2013-01", "2014-06"), 3),
            (("2005-01", "2006-12"), 4),  # the years between come along
            (("2005-01", "2014-06"), 4),
        ]:
            first, last = f"{window[0]}-01", pd.Period(window[1], "M").end_time.strftime("%Y-%m-%d")
            rate = sk.rates(name, *window, redis=redis)
            assert rate.to_dict() == published(services, name, first, last), window
            assert asked(services) == requests, window

    @pytest.mark.parametrize("name", [name for name, rate in KNOWN_RATES.items() if not rate.moves_in_session])
    def test_a_second_call_makes_no_request_while_nothing_can_be_new(self, redis, services, at, name):
        at(FRIDAY)
        rate = sk.rates(name, redis=redis)
        before = services.requests
        for moment in (FRIDAY, "2022-01-14T23:59", "2022-01-15T10:00", "2022-01-16T23:59"):
            at(moment)
            assert sk.rates(name, "2021-06", redis=redis).equals(rate["2021-06":])
        assert services.requests == before

    def test_a_value_fetched_before_the_close_is_fetched_again_on_the_weekend(self, redis, services, at):
        at("2022-01-14T11:00")
        services.in_session = True
        before_the_close = sk.rates("ibovespa", redis=redis).iloc[-1]
        at("2022-01-15T11:00")
        services.in_session = False
        requests = asked(services)
        values = [sk.rates("ibovespa", redis=redis).iloc[-1] for _ in range(3)]
        assert values == [float(services.values("ibovespa")[dt.date(2022, 1, 14)])] * 3
        assert values[0] != before_the_close
        assert asked(services) == requests + 1

    def test_todays_value_is_requested_again_after_ten_minutes(self, redis, services, at):
        services.withdraw("cdi", dt.date(2022, 1, 14))
        for moment, requests in [("09:00", 1), ("09:09", 1), ("09:10", 2), ("09:15", 2)]:
            at(f"2022-01-14T{moment}")
            assert sk.rates("cdi", redis=redis).index[-1] == pd.Timestamp("2022-01-13")
            assert asked(services) == requests, moment
        services.restate("cdi", dt.date(2022, 1, 14), "0.05")
        for moment, requests in [("09:20", 3), ("12:00", 3), ("23:59", 3)]:
            at(f"2022-01-14T{moment}")
            assert sk.rates("cdi", redis=redis).iloc[-1] == 0.05
            assert asked(services) == requests, moment

    def test_the_newest_days_are_requested_again_on_the_next_business_day(self, redis, services, at):
        at(FRIDAY)
        sk.rates("dollar", redis=redis)
        services.restate("dollar", dt.date(2022, 1, 10), "1.2345")
        services.restate("dollar", dt.date(2022, 1, 7), "6.7890")  # the sixth newest: not requested again
        at("2022-01-17T20:00")
        rate = sk.rates("dollar", redis=redis)
        assert rate["2022-01-10"] == 1.2345
        assert rate["2022-01-07"] != 6.789
        assert rate.index[-1] == pd.Timestamp("2022-01-17")
        assert asked(services) == 2

    def test_a_month_is_requested_until_it_is_published_and_then_once_a_month(self, redis, services, at):
        at("2022-01-14T12:00")
        services.withdraw("ipca", dt.date(2021, 12, 1))
        for moment, requests in [("14T12:00", 1), ("14T12:05", 1), ("14T13:00", 2), ("15T13:00", 3), ("16T13:00", 3)]:
            at(f"2022-01-{moment}")
            assert sk.rates("ipca", redis=redis).index[-1] == pd.Timestamp("2021-11-01")
            assert asked(services) == requests, moment
        services.restate("ipca", dt.date(2021, 12, 1), "0.73")
        services.restate("ipca", dt.date(2021, 11, 1), "0.95")
        for moment in ("17T09:00", "17T12:00", "31T12:00"):
            at(f"2022-01-{moment}")
            assert sk.rates("ipca", redis=redis).iloc[-2:].tolist() == [0.95, 0.73]
            assert asked(services) == 4, moment
        services.restate("ipca", dt.date(2021, 12, 1), "0.74")
        at("2022-02-01T09:00")
        assert sk.rates("ipca", end="2021-12", redis=redis).iloc[-1] == 0.74

    def test_many_threads_make_one_request(self, redis, services):
        services.latency = 0.05
        gate, found = threading.Barrier(8), []

        def ask():
            gate.wait(60)
            found.append(sk.rates("cdi", "2022-01", "2022-12", redis=redis))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [len(rate) for rate in found] == [251] * 8
        assert asked(services) == 1

    def test_namespaces_do_not_share_values(self, redis, services, monkeypatch, keys):
        sk.rates("cdi", *JANUARY, redis=redis)
        redis.execute_command("TS.MADD", keys.index("cdi"), 1641168000000, 99.0)
        monkeypatch.setenv("SCRAPERKIT_NAMESPACE", f"{keys.namespace}-2")
        try:
            assert sk.rates("cdi", *JANUARY, redis=redis).max() < 1
        finally:
            redis.unlink(f"{keys.namespace}-2:index:cdi")


class TestWhatIsKept:
    def test_the_labels_of_a_series_record_what_was_requested(self, redis, services, keys, at):
        at(FRIDAY)
        sk.rates("cdi", *JANUARY, redis=redis)
        assert redis.execute_command("TS.INFO", keys.index("cdi"))["labels"] == {
            "rates": keys.namespace,
            "rate": "cdi",
            "kind": "rate a day",
            "unit": "% a day",
            "source": "Banco Central do Brasil SGS 12",
            "asked_from": "2022-01-03",
            "asked_to": "2022-01-14",
            "asked_at": "2022-01-14T20:00:00-03:00",
            "holes_from": "2022-01-03",
            "holes_to": "2022-01-14",
            "holes_at": "2022-01-14T20:00:00-03:00",
        }

    def test_a_deleted_series_is_fetched_again(self, redis, services, keys):
        sk.rates("cdi", *JANUARY, redis=redis)
        redis.unlink(keys.index("cdi"))
        assert len(sk.rates("cdi", *JANUARY, redis=redis)) == 10
        assert asked(services) == 2

    def test_the_reader_does_not_list_rates_as_funds(self, redis, services, namespace):
        sk.rates("cdi", *JANUARY, redis=redis)
        assert sk.TimeSeriesReader(redis, namespace=namespace).funds().empty
        assert sk.TimeSeriesReader(redis, namespace=namespace).prices().empty

    def test_changed_labels_are_not_trusted(self, redis, services, keys):
        sk.rates("cdi", *JANUARY, redis=redis)
        redis.execute_command("TS.ALTER", keys.index("cdi"), "LABELS", "asked_from", "ever", "asked_to", "2022-01-14")
        assert len(sk.rates("cdi", *JANUARY, redis=redis)) == 10
        assert asked(services) == 2

    def test_a_key_of_another_type_is_refused_and_kept(self, redis, services, keys):
        redis.set(keys.index("cdi"), "mine")
        with pytest.raises((RedisRefused, StoreError), match=r"Redis refused"):
            sk.rates("cdi", *JANUARY, redis=redis)
        assert redis.get(keys.index("cdi")) == "mine"

    def test_a_full_redis_is_reported_as_such(self, services, tmp_path):
        with redis_server(tmp_path, "--port", "0"), sk.connect(f"unix://{tmp_path}/ready.sock") as own:
            own.config_set("maxmemory", 1)
            with pytest.raises(RedisRefused, match="Redis is full: raise its maxmemory"):
                sk.rates("cdi", *JANUARY, redis=own)
            own.config_set("maxmemory", 0)
            assert len(sk.rates("cdi", *JANUARY, redis=own)) == 10


class TestTrouble:
    @pytest.mark.parametrize("name", ["cdi", "ibovespa"])
    @pytest.mark.parametrize("fault", ["fail", "show_html"])
    def test_a_passing_fault_is_retried(self, redis, services, name, fault):
        getattr(services, fault)(2)
        assert len(sk.rates(name, *JANUARY, redis=redis)) == 10
        assert services.requests["fault"] == 2

    def test_a_lasting_504_is_an_error_and_stores_nothing(self, redis, services, keys, monkeypatch):
        monkeypatch.setenv("SCRAPERKIT_HTTP_RETRIES", "1")
        services.outage(600)
        with pytest.raises(SiteUnavailable, match=r"504.*bcdata\.sgs\.12"):
            sk.rates("cdi", *JANUARY, redis=redis)
        assert not redis.exists(keys.index("cdi"))
        services.outage(0)
        assert len(sk.rates("cdi", *JANUARY, redis=redis)) == 10

    @pytest.mark.parametrize("name", ["cdi", "ibovespa"])
    def test_lasting_html_with_status_200_is_quoted(self, redis, services, name):
        services.show_html(99)
        with pytest.raises(SiteUnavailable, match="web page instead of values.*temporariamente indisponível"):
            sk.rates(name, *JANUARY, redis=redis)

    def test_a_service_that_does_not_listen_is_an_error(self, redis, site, monkeypatch):
        monkeypatch.setenv("SCRAPERKIT_HTTP_RETRIES", "0")
        site.rates_up = False
        with pytest.raises(SiteUnavailable, match="does not respond"):
            sk.rates("cdi", *JANUARY, redis=redis)

    def test_stored_values_are_returned_with_a_warning_if_the_newest_cannot_be_fetched(self, redis, services, at):
        at(FRIDAY)
        stored = sk.rates("cdi", redis=redis)
        at("2022-01-18T12:00")
        services.put("cdi", b"[]x")
        with pytest.warns(ScraperKitWarning, match=r"^cdi: the stored values may lack days .*: SGS 12 \(cdi\)"):
            rate = sk.rates("cdi", "2021-01-15", redis=redis)
        assert rate.equals(stored)

    def test_a_window_whose_beginning_cannot_be_fetched_is_an_error(self, redis, services):
        sk.rates("cdi", *JANUARY, redis=redis)
        services.put("cdi", b"[]x")
        with pytest.raises(RateRefused, match="not JSON"):
            sk.rates("cdi", "2021-01", "2022-01-14", redis=redis)
        assert len(sk.rates("cdi", *JANUARY, redis=redis)) == 10

    def test_a_warning_says_that_a_series_has_ended(self, redis, services, at):
        at(FRIDAY)
        services.end("selic", dt.date(2021, 11, 30))
        for _ in range(2):
            with pytest.warns(ScraperKitWarning, match="newest value in .* SGS 11 is for 2021-11-30; .* ended"):
                sk.rates("selic", redis=redis)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            sk.rates("selic", end="2021-11", redis=redis)

    @pytest.mark.parametrize(
        ("name", "told"),
        [
            ("7", "SGS 7.* ended on 2019-09-30; use 'ibovespa'"),
            ("12466", "12466.* has ended; ANBIMA"),
            ("IMA-B", "12466.* has ended; ANBIMA"),
            ("ibov", "it is called 'ibovespa' here"),
            (12, "it is called 'cdi' here"),
            ("poupanca", "choose one of cdi, selic, ipca, igpm, dollar, ibovespa"),
            (None, "choose one of"),
            ("", "choose one of"),
        ],
    )
    def test_an_ended_or_unknown_rate_is_refused_before_any_connection(self, monkeypatch, name, told):
        monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
        with pytest.raises(ConfigError, match=f"^name: .*{told}"):
            sk.rates(name)

    @pytest.mark.parametrize("window", [("soon", None), (None, "2022-13"), ("2022-02", "2022-01")])
    def test_invalid_days_are_refused_before_any_connection(self, monkeypatch, window):
        monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
        with pytest.raises(ConfigError, match=r"^(start|end): "):
            sk.rates("cdi", *window)

    def test_an_invalid_address_error_names_its_setting(self, redis, services, monkeypatch):
        monkeypatch.setenv("SCRAPERKIT_SGS_URL", "ftp://bcb.example")
        with pytest.raises(ConfigError, match="SCRAPERKIT_SGS_URL"):
            sk.rates("cdi", *JANUARY, redis=redis)

    def test_a_wrong_path_is_not_an_empty_range(self, redis, site, monkeypatch):
        monkeypatch.setenv("SCRAPERKIT_SGS_URL", site.sgs_url.replace(SGS_PATH, "/elsewhere/"))
        with pytest.raises(RateRefused, match="HTTP 404 that does not say .* check SCRAPERKIT_SGS_URL"):
            sk.rates("cdi", *JANUARY, redis=redis)


class TestUnusableResponses:
    def test_a_window_with_nothing_stored_is_an_error_if_the_service_fails(self, redis, services):
        sk.rates("selic", "2020-01", "2020-02", redis=redis)
        services.fail(60)
        with pytest.raises(SiteUnavailable):
            sk.rates("selic", "2022-01", "2022-03", redis=redis)

    @pytest.mark.parametrize(("name", "body"), [("cdi", b"[]"), ("ibovespa", b'{"results": []}')])
    def test_an_empty_response_is_refused_and_settles_nothing(self, redis, services, name, body):
        services.put(name, body)
        with pytest.raises(RateRefused, match="empty"):
            sk.rates(name, *JANUARY, redis=redis)
        services._bodies.clear()
        assert not sk.rates(name, *JANUARY, redis=redis).empty


class TestHoles:
    def test_a_missing_day_between_others_is_requested_once_a_day_until_it_is_published(self, redis, services, at):
        day, prices_days = dt.date(2021, 6, 16), pd.DatetimeIndex(["2021-06-01", "2021-06-30"], name="date")
        services.withdraw("cdi", day)
        for moment, requests in [("14T20:00", 1), ("15T15:00", 1), ("15T16:00", 2), ("15T16:01", 2), ("16T11:59", 2)]:
            at(f"2022-01-{moment}")
            holed = sk.rates("cdi", "2021-06", "2021-06", redis=redis)
            assert pd.Timestamp(day) not in holed.index
            assert asked(services) == requests, moment
        with pytest.raises(ConfigError, match=r"the first 2021-06-16; .*sk\.rates\(name, start, end, refresh=True\)"):
            sk.metrics.growth(holed, prices_days)
        services.restate("cdi", day, "0.05")
        for moment, requests in [("16T12:00", 3), ("18T12:00", 3), ("30T12:00", 3)]:
            at(f"2022-01-{moment}")
            assert sk.rates("cdi", "2021-06", "2021-06", redis=redis)["2021-06-16"] == 0.05
            assert asked(services) == requests, moment

    def test_a_missing_month_between_others_is_requested_once_a_day(self, redis, services, at):
        services.withdraw("ipca", dt.date(2021, 3, 1))
        for moment, length, requests in [("14T20:00", 11, 1), ("14T21:00", 11, 1), ("16T20:00", 12, 2)]:
            at(f"2022-01-{moment}")
            assert len(sk.rates("ipca", "2021-01", "2021-12", redis=redis)) == length
            assert asked(services) == requests, moment
            services.restate("ipca", dt.date(2021, 3, 1), "0.93")

    def test_two_windows_with_holes_do_not_trigger_each_other(self, redis, services, at, keys):
        at(FRIDAY)
        sk.rates("cdi", "2020-01", "2021-12", redis=redis)
        for day in (dt.date(2020, 3, 4), dt.date(2021, 8, 4)):
            redis.execute_command("TS.DEL", keys.index("cdi"), *[_stamp(day)] * 2)
        at("2022-01-17T12:00")
        for _ in range(3):
            assert len(sk.rates("cdi", "2020-03", "2020-03", redis=redis)) == 22
            assert len(sk.rates("cdi", "2021-08", "2021-08", redis=redis)) == 22
        assert asked(services) == 3

    def test_refresh_fetches_the_window_again_at_once(self, redis, services, at):
        at(FRIDAY)
        day = dt.date(2021, 6, 16)
        services.withdraw("cdi", day)
        assert len(sk.rates("cdi", "2021-06", "2021-06", redis=redis)) == 20
        services.restate("cdi", day, "0.05")
        services.restate("cdi", dt.date(2021, 6, 1), "0.06")
        rate = sk.rates("cdi", "2021-06", "2021-06", refresh=True, redis=redis)
        assert rate.to_dict() == published(services, "cdi", "2021-06-01", "2021-06-30")
        assert asked(services) == 2

    def test_refresh_leaves_no_gap_to_stored_values(self, redis, services, at):
        at(FRIDAY)
        sk.rates("cdi", "2021-06", "2021-06", redis=redis)
        sk.rates("cdi", "2020-01", "2020-01", refresh=True, redis=redis)
        rate = sk.rates("cdi", "2020-01", "2021-06", redis=redis)
        assert rate.to_dict() == published(services, "cdi", "2020-01-01", "2021-06-30")
        assert asked(services) == 2

    def test_days_when_only_the_exchange_is_closed_are_not_holes(self, redis, services, at):
        services.withdraw("ibovespa", dt.date(2021, 7, 9))
        for moment in (FRIDAY, "2022-01-17T20:00"):
            at(moment)
            sk.rates("ibovespa", "2021-07", "2021-07", redis=redis)
        assert asked(services) == 1

    def test_a_hole_that_cannot_be_fetched_is_only_a_warning(self, redis, services, at):
        at(FRIDAY)
        services.withdraw("cdi", dt.date(2021, 6, 16))
        sk.rates("cdi", "2021-06", "2021-06", redis=redis)
        services.put("cdi", b"[]x")
        at("2022-01-17T20:00")
        with pytest.warns(ScraperKitWarning, match="the stored values may lack days"):
            assert len(sk.rates("cdi", "2021-06", "2021-06", redis=redis)) == 20


def _stamp(day: dt.date) -> int:
    return int(pd.Timestamp(day).timestamp() * 1000)
