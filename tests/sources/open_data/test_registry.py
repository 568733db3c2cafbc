"""The registry: read despite its faults, kept by day, and searched the way people write names."""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile

import numpy as np
import pandas as pd
import pytest
from support.daily_files import zip_of
from support.tree import ROOT

import scraperkit as sk
from scraperkit.config import Settings
from scraperkit.errors import ConfigError, FileRefused, FundNotFound, ScraperKitWarning
from scraperkit.models import today
from scraperkit.sources.open_data.registry import RegistrySearch, parse_old_registry, parse_registry

FUND = (
    "ID_Registro_Fundo;CNPJ_Fundo;Codigo_CVM;Data_Registro;Data_Constituicao;Tipo_Fundo;Denominacao_Social;"
    "Data_Cancelamento;Situacao;Data_Inicio_Situacao;Data_Adaptacao_RCVM175;Data_Inicio_Exercicio_Social;"
    "Data_Fim_Exercicio_Social;Patrimonio_Liquido;Data_Patrimonio_Liquido;Diretor;CNPJ_Administrador;Administrador;"
    "Tipo_Pessoa_Gestor;CPF_CNPJ_Gestor;Gestor"
)
CLASS = (
    "ID_Registro_Fundo;ID_Registro_Classe;CNPJ_Classe;Codigo_CVM;Data_Registro;Data_Constituicao;Data_Inicio;"
    "Tipo_Classe;Denominacao_Social;Situacao;Data_Inicio_Situacao;Classificacao;Patrimonio_Liquido"
)
SUBCLASS = "ID_Registro_Classe;ID_Subclasse;Codigo_CVM;Data_Constituicao;Data_Inicio;Denominacao_Social;Situacao"
NORMAL = "Em Funcionamento Normal"


def fund(number: int, cnpj: str, name: str, manager: str, built: str = "1994-05-26", status: str = NORMAL) -> str:
    return (
        f"{number};{cnpj};1;2000-01-01;{built};FI;{name};;{status};2000-01-01;2025-05-12;;;5.50;2026-01-01;D;1;"
        f"ADMIN {number};PJ;2;{manager}"
    )


def klass(number: int, cnpj: str, name: str, of: int, status: str = NORMAL, began: str = "2025-05-12") -> str:
    kind = "Classes de Cotas de Fundos FIF"
    return f"{of};{number};{cnpj};1;2025-05-12;{began};{began};{kind};{name};{status};;Renda Fixa;7.25"


def members(funds: list[str], classes: list[str], subclasses: list[str]) -> dict[str, bytes]:
    files = {"registro_fundo.csv": [FUND, *funds], "registro_classe.csv": [CLASS, *classes]}
    files["registro_subclasse.csv"] = [SUBCLASS, *subclasses]
    return {name: "\r\n".join([*lines, ""]).encode("latin-1") for name, lines in files.items()}


def small_registry(names: dict[str, str]) -> pd.DataFrame:
    columns = {"name": list(names.values()), "status": NORMAL, "net_worth": range(len(names), 0, -1)}
    return pd.DataFrame(columns, index=pd.Index(list(names), dtype="str", name="series"))


CAIXA = "00068305000135"
ITAU = "06175696000173"


class TestParsing:
    FRAME = parse_registry(
        members(
            [
                fund(1, CAIXA, "CAIXA EMPREENDER FIF", "GESTORA A"),
                fund(1, CAIXA, "CAIXA EMPREENDER FIF", "GESTORA B"),
                fund(2, ITAU, "ITAÚ GUARDA-CHUVA", "ITAÚ ASSET"),
                fund(3, "00017024000153", "SÓ FUNDO", "X", status="Cancelado"),
            ],
            [
                klass(10, CAIXA, "CAIXA EMPREENDER FIC RENDA FIXA", 1),
                klass(10, CAIXA, "CAIXA EMPREENDER FIC RENDA FIXA", 1),
                klass(20, "01129004000137", "ITAÚ CLASSE VELHA", 2, "Cancelado", "1996-04-23"),
                klass(21, "01129004000137", "ITAÚ CLASSE NOVA", 2, began="1996-04-23"),
            ],
            [
                '21;Z2HFZ1734468953;1;2024-12-17;2024-12-18;SUBCLASSE "PLUS;' + NORMAL,
                f"99;ORPHAN1;1;;;OF NONE;{NORMAL}",
            ],
        )
    )

    def test_each_series_has_one_row(self):
        assert self.FRAME.index.tolist() == [
            "00017024000153",
            CAIXA,
            "01129004000137",
            "01129004000137:Z2HFZ1734468953",
            ITAU,
        ]

    def test_the_age_is_the_funds_not_the_adaptations(self):
        assert self.FRAME.loc[CAIXA, "started_on"] == pd.Timestamp("1994-05-26")
        assert self.FRAME.loc["01129004000137", "started_on"] == pd.Timestamp("1996-04-23")

    def test_managers_are_listed_and_stray_quotes_are_kept(self):
        assert self.FRAME.loc[CAIXA, ["managers", "administrator"]].tolist() == ["GESTORA A, GESTORA B", "ADMIN 1"]
        assert self.FRAME.loc["01129004000137:Z2HFZ1734468953", "name"] == 'SUBCLASSE "PLUS'

    def test_the_active_one_of_two_classes_with_one_cnpj_counts_with_its_subclasses(self):
        row = self.FRAME.loc["01129004000137"]
        assert row[["name", "status", "subclasses"]].tolist() == ["ITAÚ CLASSE NOVA", NORMAL, "Z2HFZ1734468953"]

    def test_a_missing_file_or_column_is_refused(self):
        whole = members([], [], [])
        with pytest.raises(FileRefused, match=r"no registro_classe\.csv"):
            parse_registry({name: text for name, text in whole.items() if "classe.csv" not in name or "sub" in name})
        with pytest.raises(FileRefused, match=r"registro_fundo\.csv: its header lacks Gestor"):
            parse_registry({**whole, "registro_fundo.csv": FUND.removesuffix(";Gestor").encode()})
        with pytest.raises(FileRefused, match=r"cad_fi\.csv: its header lacks TP_FUNDO"):
            parse_old_registry(b"<html>")


class TestSearch:
    def test_accents_case_order_and_noise_are_ignored(self, market):
        names = market.find("acai previdencia FIA")["name"].tolist()
        assert names == ["FUNDO EXEMPLO AÇAÍ-JUÇARA PREVIDÊNCIA AÇÕES FIA"]
        for text in ("previdência AÇAÍ", "PREVID fic acai", "rl acai fif juc", "responsabilidade limitada açaí"):
            assert market.find(text)["name"].tolist() == names

    def test_a_number_or_its_beginning_is_found(self, market):
        assert market.find("18.993.924/0001-00").index.tolist() == ["18993924000100"]
        assert market.find("18.993.924").index.tolist() == ["18993924000100"]
        assert market.find("9z8y7x6w01de54").index.tolist() == ["9Z8Y7X6W01DE54"]

    def test_the_readmes_searches_find_something(self, market):
        texts = re.findall(r'market\.find\("([^"]+)", active=True\)', (ROOT / "README.md").read_text())
        assert texts
        assert all(len(market.find(text, active=True)) for text in texts)

    def test_a_number_may_be_part_of_a_name(self):
        search = RegistrySearch(small_registry({"20300000000191": "OUTRO", "11111111000191": "PREV 2030 RF"}))
        assert search.find("2030").index.tolist() == ["20300000000191", "11111111000191"]
        assert search.find("20.300.000/0001-91").index.tolist() == ["20300000000191"]

    @pytest.mark.parametrize(
        "text",
        [
            "azul F.I.A.",
            "azul Resp Limitada",
            "azul FI-RF",
            "azul rf",
            "azul renda fixa",
            "azul ltda",
            "AZUL F.I.C. RF",
        ],
    )
    def test_words_written_in_several_ways_lose_no_hit(self, text):
        search = RegistrySearch(small_registry({"1": "AZUL RENDA FIXA FIC FIF RL", "2": "AZUL FI RF"}))
        assert sorted(search.find(text).index) == ["1", "2"]

    def test_a_wrong_digit_lists_the_nearest_numbers_first(self, market):
        with pytest.raises(FundNotFound, match=r"nearest: 99\.101\.011/0001-25 "):
            market.find_fund("99.101.011/0001-26")

    def test_a_subclass_is_found_by_its_number_and_its_months_are_the_funds(self, market):
        series = next(name for name in market.find("exemplo").index if ":" in name)
        fund = market.find_fund(series.lower())
        assert fund.cnpj == series
        (request,) = fund.months("2024-10", "2024-10")
        assert (request.document, request.fund.cnpj) == (series.partition(":")[0],) * 2
        assert market.find_fund(series.partition(":")[0]).cnpj == series.partition(":")[0]

    @pytest.mark.parametrize("active", ["yes", 1, "x"])
    def test_an_invalid_value_of_active_is_refused(self, market, active):
        with pytest.raises(ConfigError, match="active: "):
            market.find("aroeira", active)

    def test_active_selects_active_funds_or_the_others(self, market):
        both = market.find("exemplo")
        parts = [market.find("exemplo", active=active) for active in (True, False)]
        assert sorted(both.index) == sorted(series for part in parts for series in part.index)
        assert parts[0]["status"].str.upper().eq("EM FUNCIONAMENTO NORMAL").all()
        assert not parts[1]["status"].str.upper().eq("EM FUNCIONAMENTO NORMAL").any()

    def test_funds_that_ended_long_ago_come_from_the_old_registry(self, market):
        assert market.find("jequitiba", active=False)["status"].tolist() == ["CANCELADA", "CANCELADA"]

    def test_a_hit_has_all_columns_and_its_holders(self, market):
        market.download("2024-12", "2024-12")
        found = market.find("aroeira")
        assert found.index.name == "series"
        assert found.columns.tolist() == [
            "name", "kind", "status", "managers", "administrator", "net_worth", "holders", "started_on", "subclasses",
        ]  # fmt: skip
        newest = market.quotes("18993924000100")["holders"].iloc[-1]
        assert found["holders"].tolist() == [newest]
        assert found.dtypes[["net_worth", "holders", "started_on"]].astype(str).tolist() == [
            "float64",
            "Int64",
            "datetime64[ms]",
        ]

    def test_find_fund_returns_one_fund_or_lists_the_nearest(self, market):
        fund = market.find_fund("jatobá")
        assert (fund.cnpj, fund.started_on) == ("99101011000125", dt.date(2021, 1, 4))
        assert market.find_fund("99.101.011/0001-25") == fund
        with pytest.raises(FundNotFound, match="nearest:") as told:
            market.find_fund("exemplo multimercado jaboti")
        assert str(told.value).count("EXEMPLO") == 5
        assert "JATOBÁ" in str(told.value)

    def test_if_few_match_find_fund_lists_only_these(self, market):
        with pytest.raises(FundNotFound, match=r"'macro' matches 3 funds: ") as told:
            market.find_fund("macro")
        assert [str(told.value).count(word) for word in ("MACRO", ";")] == [3, 2]

    @pytest.mark.parametrize("text", ["", "FIC FIM", "  - "])
    def test_a_text_without_a_word_is_refused(self, market, text):
        with pytest.raises(ConfigError, match="text"):
            market.find(text)

    def test_90_000_funds_are_searched_by_words_and_by_number(self):
        random = np.random.default_rng(7)
        words = np.array([f"PALAVRA{number}" for number in range(3000)])
        names = [" ".join(words[random.integers(0, 3000, 6)]) for _ in range(90_000)]
        frame = pd.DataFrame(
            {"name": names, "status": NORMAL, "net_worth": random.random(90_000)},
            index=pd.Index([f"{number:014d}" for number in range(90_000)], dtype="str", name="series"),
        )
        search = RegistrySearch(frame)
        for text in [" ".join(name.split()[3:0:-1]) for name in names[:5]] + ["palavra1"]:
            begins = [re.compile(rf"\b{word}") for word in text.upper().split()]
            expected = [
                series
                for series, name in zip(frame.index, names, strict=True)
                if all(begin.search(name) for begin in begins)
            ]
            assert sorted(search.find(text).index) == expected
        assert sorted(search.find("000000000123").index) == [f"000000000123{number:02d}" for number in range(100)]


class TestSnapshots:
    def test_it_is_fetched_once_a_day_and_kept_by_day(self, site, market):
        market.find("aroeira")
        market.find("aroeira")
        assert site.portal.requests["file"] == 2
        assert [path.name for path in sorted((market.archive / "registry").iterdir())] == [
            f"{kind}-{today()}.parquet" for kind in ("cad_fi", "registry")
        ]

    def test_without_the_portal_the_newest_one_is_searched_with_a_warning(self, site, tmp_path):
        settings = Settings.load(http_retries=0)
        with sk.OpenData(site.open_data_url, archive=tmp_path, settings=settings) as market:
            market.find("aroeira")
            for path in (tmp_path / "ledger").iterdir():
                path.write_text(path.read_text().replace(f'"checked_at": "{today().year}', '"checked_at": "2020'))
            site.open_data_up = False
            with pytest.warns(
                ScraperKitWarning,
                match="searching the registry of .*: registro_fundo_classe.zip: the site does not respond",
            ):
                assert len(market.find("aroeira")) == 1

    def test_without_any_registry_the_error_says_why(self, site, market):
        site.portal.show_html("registry")
        with pytest.raises(FileRefused, match="no registry to search: .*a web page"):
            market.find("aroeira")

    def test_a_refusal_is_repeated_until_the_file_is_repaired(self, site, market):
        market.update_registry()
        site.portal.show_html("registry")
        site.portal.show_html("cad_fi")
        self.make_old(market)
        for _ in range(2):
            assert market.update_registry()["outcome"].tolist() == ["refused", "refused"]
            with pytest.warns(ScraperKitWarning, match="a web page instead of a zip"):
                assert len(market.find("aroeira")) == 1
        site.portal.rewrite("registry")
        site.portal.rewrite("cad_fi")
        assert market.update_registry()["outcome"].tolist() == ["unchanged", "unchanged"]

    def test_no_search_requests_a_file_refused_a_minute_ago(self, site, market):
        site.portal.put("cad_fi", b"<html>")
        for _ in range(3):
            with pytest.warns(ScraperKitWarning, match=r"cad_fi\.csv: its header lacks"):
                assert len(market.find("aroeira")) == 1
        assert site.portal.requests["file"] == 2

    @pytest.mark.parametrize("what", ["empty", "half of the classes", "half of the subclasses", "a bomb"])
    def test_a_truncated_registry_is_refused_and_overwrites_nothing(self, site, market, what):
        market.update_registry()
        before = market.find("exemplo")
        broken = self.broken(site, what)
        site.portal.put("registry", zip_of(broken))
        self.make_old(market)
        row = market.update_registry().iloc[0]
        assert row["outcome"] == "refused"
        assert {"a bomb": "would unpack to", "empty": "it has no rows"}.get(
            what, "are stored; if that is right"
        ) in row["reason"]
        with pytest.warns(ScraperKitWarning):
            pd.testing.assert_frame_equal(market.find("exemplo"), before)

    def test_a_second_registry_of_a_day_is_kept_and_searched(self, site, market):
        market.find("aroeira")
        files = self.broken(site, "")
        files["registro_classe.csv"] = files["registro_classe.csv"].replace(b"AROEIRA", b"MOGNO")
        site.portal.put("registry", zip_of(files))
        self.make_old(market)
        assert market.find("aroeira").empty
        assert len(market.find("mogno")) == 1
        assert len(list((market.archive / "registry").glob("registry-*.parquet"))) == 2

    def test_holders_are_those_of_the_newest_month_at_each_search(self, market):
        assert market.find("aroeira")["holders"].isna().all()
        for month in ("2024-11", "2024-12"):
            market.download(month, month)
            assert market.find("aroeira")["holders"].tolist() == [market.quotes("18993924000100")["holders"].iloc[-1]]

    @staticmethod
    def make_old(market):
        """Make the ledger say that the registry was requested long ago."""
        for path in (market.archive / "ledger").iterdir():
            path.write_text(re.sub('"checked_at": "[0-9]{4}', '"checked_at": "2020', path.read_text()))

    @staticmethod
    def broken(site, what: str) -> dict[str, bytes]:
        body = site.portal.respond("/dados/FI/" + site.portal.path("registry")).body
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        if what == "empty":
            return {name: text.partition(b"\n")[0] + b"\n" for name, text in files.items()}
        for name in ("registro_classe.csv", "registro_subclasse.csv"):
            if what in ("half of the classes", "half of the subclasses") and ("sub" in name) is ("sub" in what):
                files[name] = files[name][: len(files[name]) // 2]
        if what == "a bomb":
            files["registro_fundo.csv"] += b"".join(b"%09d;" % number for number in range(22_000_000))
        return files
