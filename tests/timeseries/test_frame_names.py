"""The short names that frames carry: from fund cards and from the registry in the archive."""

from __future__ import annotations

import datetime as dt
import json

import pandas as pd
import pytest
from stdnum.br import cnpj as stdnum_cnpj

import scraperkit as sk
from scraperkit.keys import Keys
from scraperkit.models import DailyQuote, Fund
from scraperkit.timeseries import frames

A, B, C = "18993924000100", "99101011000125", "12ABC34501DE35"
DAYS = [dt.date(2022, 1, 3), dt.date(2022, 1, 4)]
NAMES = {A: "Aroeira Ações", B: "Jatobá Multi"}


@pytest.fixture
def stored(store):
    """Write two funds with cards, and one without."""
    store.write(DailyQuote(cnpj, day, 1.5, 100.0, 3) for cnpj in (A, B, C) for day in DAYS)
    store.save_fund(Fund(A, name="AROEIRA FUNDO DE INVESTIMENTO EM AÇÕES"))
    store.save_fund(Fund(B, name="Jatobá FIM"))


class TestReader:
    def test_every_frame_has_the_known_names(self, stored, reader):
        for frame in (reader.prices(), reader.quotes(), reader.last(), reader.funds(), reader.prices(inherit=True)):
            assert frame.attrs["names"] == NAMES
        assert reader.prices([C, B]).attrs["names"] == {B: NAMES[B]}
        assert reader.prices(B, end="2021-01").attrs["names"] == {B: NAMES[B]}
        assert "names" not in reader.prices(C).attrs

    def test_a_key_that_is_not_a_card_has_no_name(self, stored, reader, redis, namespace):
        redis.delete(Keys(namespace).fund(A))
        redis.set(Keys(namespace).fund(A), "no hash")
        assert reader.prices().attrs["names"] == {B: NAMES[B]}

    def test_a_subclass_has_the_name_of_its_fund_and_equal_names_get_a_number(self, stored, store, reader):
        store.write([DailyQuote(A, DAYS[0], 1.0, subclass="S1"), DailyQuote(A, DAYS[0], 1.0, subclass="S2")])
        assert reader.prices(f"{A}:S1").attrs["names"] == {f"{A}:S1": "Aroeira Ações"}
        found = reader.prices([A, f"{A}:S1", f"{A}:S2"]).attrs["names"]
        assert list(found.values()) == ["Aroeira Ações 924/0001-00", "Aroeira Ações …S1", "Aroeira Ações …S2"]

    def test_names_are_not_looked_up_for_more_series_than_the_limit(self, store, reader):
        stems = [f"{number:012d}" for number in range(1, frames.MOST_NAMED + 2)]
        cnpjs = [stem + stdnum_cnpj.calc_check_digits(stem) for stem in stems]
        store.write(DailyQuote(cnpj, DAYS[0], 1.5) for cnpj in cnpjs)
        store.save_fund(Fund(cnpjs[0], name="AROEIRA"))
        assert reader.prices(cnpjs[:-1]).attrs["names"] == {cnpjs[0]: "Aroeira"}
        assert "names" not in reader.prices(cnpjs).attrs
        assert frames.named(pd.DataFrame(), cnpjs, pytest.fail).attrs == {}

    def test_names_survive_common_operations_and_prevent_none(self, stored, reader, tmp_path):
        prices = reader.prices()
        other = prices.copy()
        other.attrs = {"names": {A: "Another"}}
        for kept in (
            prices[[A]],
            prices.loc["2022-01-04":],
            prices.pct_change(),
            prices / prices.iloc[0],
            prices.copy(),
        ):
            assert kept.attrs["names"] == NAMES
        assert pd.concat([prices, prices]).attrs["names"] == NAMES
        assert pd.concat([prices, other]).attrs == {}
        assert prices.equals(other)
        pd.testing.assert_frame_equal(prices, other)
        inherited = reader.prices(inherit=True)
        for frame in (prices, reader.quotes(inherit=True), reader.last(), reader.funds(), inherited):
            frame.to_parquet(tmp_path / "frame.parquet")
            back = pd.read_parquet(tmp_path / "frame.parquet")
            assert back.attrs == frame.attrs == json.loads(json.dumps(frame.attrs))

    def test_frames_do_not_share_their_attributes(self, stored, reader):
        reader.prices().attrs["names"].clear()
        assert reader.prices().attrs["names"] == NAMES


class TestOpenData:
    @pytest.fixture
    def market(self, tmp_path):
        with sk.Replica.start() as site:
            site.portal.crawl_delay = 0
            with sk.OpenData(site.open_data_url, archive=tmp_path / "archive") as market:
                market.download("2024-11", "2024-12")
                market.site = site
                yield market

    def test_names_come_from_the_downloaded_registry_and_nothing_is_fetched(self, market):
        reads = [lambda: market.prices([A, B]), lambda: market.quotes([A, B]), lambda: market.market("2024-12-02")]
        before = market.site.portal.requests.total()
        assert all("names" not in read().attrs for read in reads)
        assert market.site.portal.requests.total() == before
        market.update_registry()
        before = market.site.portal.requests.total()
        for read in reads:
            names = read().attrs["names"]
            assert (names[A], names[B]) == ("Exemplo Aroeira Ações", "Exemplo Jatobá Multi")
            assert len(set(names.values())) == len(names)
        assert len(market.market("2024-12-02").attrs["names"]) > 20
        assert market.site.portal.requests.total() == before

    def test_a_damaged_registry_fails_no_read(self, market):
        market.update_registry()
        for path in (market.archive / "registry").iterdir():
            path.write_bytes(b"PAR1 no more")
        assert market.prices(A).attrs == {}
        assert len(market.prices(A))
