"""Changes and faults of the portal, as a client sees them."""

from __future__ import annotations

import threading
import time
import zipfile
from collections import Counter
from email.utils import parsedate_to_datetime

import pytest
import requests
from support.portals import Client, table
from support.waiting import wait_until

from scraperkit.errors import ConfigError
from scraperkit.replica import Replica
from scraperkit.replica.open_data import load_open_data
from scraperkit.replica.portal import Portal

LESSONS = "18.993.924/0001-00"
DAILY = "DOC/INF_DIARIO/DADOS/"


class TestFaultsOfFiles:
    def test_restating_changes_a_share_and_the_etag(self, client):
        before, etag = client.rows("2024-03"), client.file("2024-03").headers["ETag"]
        changes = client.replica.portal.restate("2024-03", 0.02)
        after = client.rows("2024-03")
        assert len(changes) == round(0.02 * len(before))
        found = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
        names = {"quota": "VL_QUOTA", "net_worth": "VL_PATRIM_LIQ"}
        assert [(change.date, change.old, change.new) for change in changes] == [
            (old["DT_COMPTC"], old[names[change.metric]], new[names[change.metric]])
            for change, (old, new) in zip(changes, found, strict=True)
        ]
        assert client.file("2024-03").headers["ETag"] != etag
        assert client.get(client.replica.portal.path("2024-03"), If_None_Match=etag).status_code == 200

    def test_restating_is_the_same_for_the_same_seed(self):
        def restated(seed: int) -> list[object]:
            return [*Portal(load_open_data()).restate("2015-03", seed=seed)]

        assert restated(1) == restated(1) != restated(2)

    def test_a_restated_month_of_a_year_rewrites_the_years_file(self, client):
        (change,) = client.replica.portal.restate("2015-03", 0)
        found = [row for row in client.rows("2015") if row["DT_COMPTC"] == change.date]
        assert change.new in (found[0]["VL_QUOTA"], found[0]["VL_PATRIM_LIQ"])

    def test_a_withdrawn_row_is_gone(self, client):
        before = client.rows("2024-03")
        gone = client.replica.portal.withdraw("18993924000100", "2024-03-12")
        after = client.rows("2024-03")
        assert [row for row in before if row not in after] == [row for row in before if row["VL_QUOTA"] == gone.quota]
        assert len(after) == len(before) - 1
        with pytest.raises(ConfigError, match=r"row: 18.993.924/0001-00 *2024-03-12 is not on the portal"):
            client.replica.portal.withdraw(LESSONS, "2024-03-12")

    def test_a_subclass_has_rows_of_its_own_to_withdraw(self, client):
        portal = client.replica.portal
        gone = portal.withdraw("99101034000130", "2024-08-01", "Q4T7K1719837600")
        assert gone.subclass == "Q4T7K1719837600"
        assert [row.subclass for row in portal.rows("2024-08") if row.cnpj == gone.cnpj and row.date == gone.date] == [
            "Z2HFZ1719837661"
        ]

    def test_a_truncated_file_is_a_complete_download_but_a_broken_zip(self, client):
        whole = client.file("2024-03").content
        client.replica.portal.truncate("2024-03")
        response = client.file("2024-03")
        assert len(response.content) == int(response.headers["Content-Length"]) == len(whole) // 2
        with pytest.raises(zipfile.BadZipFile):
            client.members("2024-03")
        client.replica.portal.rewrite("2024-03")
        assert client.rows("2024-03")

    def test_a_cut_off_connection_sends_less_than_it_announced(self, client):
        client.replica.portal.cut_off("2024-03")
        for _ in range(2):
            with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
                client.file("2024-03")
        client.replica.portal.rewrite("2024-03")
        assert client.rows("2024-03")

    def test_html_is_sent_with_status_200(self, client):
        client.replica.portal.show_html("2024-03")
        response = client.file("2024-03")
        assert (response.status_code, response.content[:6]) == (200, b"<html>")

    def test_any_bytes_can_be_put_anywhere(self, client):
        portal = client.replica.portal
        portal.put("2024-03", b"PK\x03\x04")
        assert client.file("2024-03").content == b"PK\x03\x04"
        portal.put("2025-01", b"new")
        assert client.file("2025-01").content == b"new"
        assert "inf_diario_fi_202501.zip" in client.get(DAILY).text
        portal.remove("2025-01")
        assert client.get(f"{DAILY}inf_diario_fi_202501.zip").status_code == 404

    @pytest.mark.parametrize(
        "what", ["2025-01", "1999", "2024", "2024-13", "2024-03-05", "x", "2024-3", "", "../x", "<b>"]
    )
    def test_an_error_names_the_missing_file(self, shared, what):
        portal = shared.replica.portal
        for pull in (portal.path, portal.rewrite, portal.restate, portal.truncate, portal.cut_off, portal.remove):
            with pytest.raises(ConfigError, match="file: .* is not on the portal"):
                pull(what)

    def test_a_rewritten_file_is_newer_than_all_others(self, client):
        portal = client.replica.portal
        tags = []
        for _ in range(3):
            portal.rewrite("2024-03")
            portal.rewrite("2024-04")
            tags += [client.file(month).headers["Last-Modified"] for month in ("2024-03", "2024-04")]
        times = [parsedate_to_datetime(tag) for tag in tags]
        assert times == sorted(set(times))


class TestDirt:
    def test_is_added_on_request_and_listed(self, client):
        clean = {month: client.rows(month) for month in ("2024-10", "2024-11", "2024-12")}
        dirt = client.replica.portal.add_dirt()
        assert Counter(found.kind for found in dirt) == Counter(
            negative=1, zeros=1, blank_quota=1, huge_quota=1, identical=1, conflicting=1, double=2,
            bad_cnpj=1, bad_date=1, bad_number=1, short_day=1,
        )  # fmt: skip
        for kind, rows in dirt:
            month = rows[0].month
            assert set(rows) <= set(client.replica.portal.rows(month)), kind
        published = [tuple(row.values()) for row in client.rows("2024-10")]
        doubles = [tuple(row) for found in dirt if found.kind == "double" for row in found.rows]
        assert {row[0] for row in doubles} == {"FI", "CLASSES - FIF"}
        assert set(doubles) <= set(published)
        assert len(published) == len(clean["2024-10"]) + 2
        assert len(client.rows("2024-11")) == len(clean["2024-11"]) + 3
        assert sum(row["DT_COMPTC"] == "2024-12-31" for row in client.rows("2024-12")) == 3
        assert sum(row["DT_COMPTC"] == "2024-12-31" for row in clean["2024-12"]) > 20

    def test_the_plain_sample_has_none(self):
        for rows in load_open_data().months.values():
            keys = [row[1:4] for row in rows]
            assert len(set(keys)) == len(keys)
            assert all(float(row.quota or 1) > 0 and float(row.net_worth or 0) >= 0 for row in rows)

    def test_is_in_the_registry_too(self, client):
        client.replica.portal.add_dirt()
        classes = table(client.members("registry")["registro_classe.csv"])
        lines = Counter(tuple(row.values()) for row in classes)
        assert [*lines.values()].count(2) == 1
        ids = {row["ID_Registro_Classe"]: row["CNPJ_Classe"] for row in classes}
        assert [*Counter(ids.values()).values()].count(2) == 1

    def test_a_dirty_month_can_be_restated(self, client):
        client.replica.portal.add_dirt()
        for month in ("2024-01", "2024-03", "2024-04", "2024-11", "2022-08"):
            changes = client.replica.portal.restate(month, 1.0)
            assert len(changes) > 300
            assert all(change.old != change.new for change in changes)


class TestFaultsOfTheServer:
    def test_an_outage_is_503_with_retry_after(self, client):
        client.replica.portal.outage(3600)
        response = client.get("")
        assert response.status_code == 503
        assert 3000 <= int(response.headers["Retry-After"]) <= 3600
        client.replica.portal.outage(0)
        assert client.get("").status_code == 200
        assert client.replica.portal.requests == Counter(outage=1, listing=1)

    def test_a_stopped_portal_refuses_connections_and_restarts_with_its_files(self, client):
        client.replica.portal.restate("2024-03")
        etag = client.file("2024-03").headers["ETag"]
        client.replica.open_data_up = False
        assert not client.replica.open_data_up
        with pytest.raises(requests.exceptions.ConnectionError, match="refused"):
            client.get("")
        assert client.session.get(client.replica.url, timeout=60).status_code == 200
        client.replica.open_data_up = True
        assert client.file("2024-03").headers["ETag"] == etag

    def test_latency_delays_every_response(self, client):
        client.replica.portal.latency = 0.15
        start = time.monotonic()
        client.get("")
        assert time.monotonic() - start >= 0.15

    def test_a_slow_portal_can_be_sped_up_within_a_download(self, client):
        size = int(client.file("2024-03").headers["Content-Length"])
        client.replica.portal.bytes_per_second = size / 0.3
        start = time.monotonic()
        assert len(client.file("2024-03").content) == size
        assert time.monotonic() - start >= 0.25
        client.replica.portal.bytes_per_second = 20
        url = client.replica.open_data_url + client.replica.portal.path("2024-03")
        with client.session.get(url, stream=True, timeout=60) as response:
            first = next(response.iter_content(1))
            client.replica.portal.bytes_per_second = float("inf")
            assert len(first + response.raw.read()) == size

    def test_stop_does_not_wait_for_slow_or_delayed_responses(self):
        for name, value in (("bytes_per_second", 1), ("latency", 3600)):
            with Replica.start() as replica, requests.Session() as session:
                session.trust_env = False
                setattr(replica.portal, name, value)
                caught: list[Exception] = []
                url = replica.open_data_url + replica.portal.path("2024-03")

                def ask(session=session, url=url, caught=caught) -> None:
                    try:
                        session.get(url, timeout=60)
                    except requests.exceptions.RequestException as error:
                        caught.append(error)

                thread = threading.Thread(target=ask)
                thread.start()
                assert wait_until(lambda: any(one.name == "replica connection" for one in threading.enumerate()))
                replica.stop()
                thread.join(timeout=30)
                assert not thread.is_alive()
                assert caught

    @pytest.mark.parametrize("value", [-1, 1e9, float("nan"), "1", None])
    def test_invalid_settings_are_refused_by_name(self, shared, value):
        for name in ("latency", "crawl_delay"):
            with pytest.raises(ConfigError, match=f"{name}: "):
                setattr(shared.replica.portal, name, value)
        with pytest.raises(ConfigError, match="seconds: "):
            shared.replica.portal.outage(value)
        with pytest.raises(ConfigError, match="share: "):
            shared.replica.portal.restate("2024-03", value)

    @pytest.mark.parametrize("value", [0, -1, float("nan"), "1", None])
    def test_a_rate_must_be_a_number_of_at_least_1(self, shared, value):
        with pytest.raises(ConfigError, match="bytes_per_second: "):
            shared.replica.portal.bytes_per_second = value

    def test_requests_are_counted_by_outcome(self, client):
        etag = client.file("2024-03").headers["ETag"]
        client.get(client.replica.portal.path("2024-03"), If_None_Match=etag)
        client.get("")
        client.get("x")
        client.session.get(client.replica.open_data_url.replace("dados/FI/", "robots.txt"), timeout=60)
        assert client.replica.portal.requests == Counter(file=1, not_modified=1, listing=1, missing=1, robots=1)
        assert client.replica.requests == Counter()

    def test_an_error_names_the_port_that_is_taken(self, shared):
        port = int(shared.replica.open_data_url.split(":")[2].split("/")[0])
        with pytest.raises(ConfigError, match=f"open_data_port: cannot listen on {port}"):
            Replica.start(open_data_port=port)

    def test_eight_clients_at_once_get_the_same_bytes(self, client):
        bodies: list[bytes] = []

        def ask() -> None:
            other = Client(client.replica)
            bodies.extend(other.file(what).content for what in ("2024-03", "registry", "2015"))
            other.session.close()

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(bodies) == 24
        assert len(set(bodies)) == 3
