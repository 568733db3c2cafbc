"""The open data portal over a socket, as any client sees it."""

from __future__ import annotations

import datetime as dt
import http.client
import re
from contextlib import closing
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest
from support.portals import table

from scraperkit.cnpj import format_cnpj
from scraperkit.errors import ConfigError
from scraperkit.models import Month
from scraperkit.replica.open_data import load_open_data
from scraperkit.replica.portal import Portal
from scraperkit.replica.portal_files import ReportLayout, render_report
from scraperkit.replica.sample import load_sample

FIGURES = ["VL_TOTAL", "VL_QUOTA", "VL_PATRIM_LIQ", "CAPTC_DIA", "RESG_DIA", "NR_COTST"]
A = ["CNPJ_FUNDO", "DT_COMPTC", *FIGURES]
B = ["TP_FUNDO", *A]
C = ["TP_FUNDO_CLASSE", "CNPJ_FUNDO_CLASSE", "ID_SUBCLASSE", "DT_COMPTC", *FIGURES]
DAILY = "DOC/INF_DIARIO/DADOS/"


class Listing(HTMLParser):
    """The links of a listing, and the text after each."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links[dict(attrs)["href"] or ""] = ""

    def handle_data(self, data: str) -> None:
        if self.links:
            self.links[[*self.links][-1]] += data


class TestListings:
    def test_lead_from_the_base_to_every_file(self, shared):
        found, folders = [], [""]
        while folders:
            folder = folders.pop()
            links = [link for link in Listing(shared.get(folder).text).links if link != "../"]
            folders += [folder + link for link in links if link.endswith("/")]
            found += [folder + link for link in links if not link.endswith("/")]
        months = [month.iso for month in Month(2021, 1).until(Month(2024, 12))]
        assert sorted(found) == sorted(
            [
                "CAD/DADOS/cad_fi.csv",
                "CAD/DADOS/registro_fundo_classe.zip",
                *(f"{DAILY}HIST/inf_diario_fi_{year}.zip" for year in range(2000, 2021)),
                *(f"{DAILY}inf_diario_fi_{month.replace('-', '')}.zip" for month in months),
            ]
        )
        assert {shared.get(name).status_code for name in found} == {200}

    def test_show_time_and_size_as_nginx_does(self, shared):
        page = shared.get(DAILY)
        assert page.headers["Content-Type"] == "text/html"
        links = Listing(page.text).links
        assert [*links][:2] == ["../", "HIST/"]
        file = shared.file("2024-03")
        day, clock, size = links["inf_diario_fi_202403.zip"].split()[1:]
        written = parsedate_to_datetime(file.headers["Last-Modified"])
        assert dt.datetime.strptime(f"{day} {clock}", "%d-%b-%Y %H:%M").replace(tzinfo=dt.UTC) == written
        assert int(size) == len(file.content)
        assert re.search(r"(?m)^<a href=\"HIST/\">HIST/</a> {46}02-Mar-2021 03:52 {19}-\r$", page.content.decode())

    def test_a_folder_without_its_slash_is_a_redirect(self, shared):
        response = shared.get("DOC")
        assert (response.status_code, response.headers["Location"]) == (301, "/dados/FI/DOC/")

    @pytest.mark.parametrize("path", ["x", "DOC/x/", f"{DAILY}inf_diario_fi_202501.zip", f"{DAILY}inf", "../../x"])
    def test_a_missing_path_is_404_or_403(self, client, path):
        assert client.get(path).status_code == 404
        client.replica.portal.missing_status = 403
        assert client.get(path).status_code == 403

    def test_outside_the_base_only_robots_txt_exists(self, client):
        root = client.replica.open_data_url.removesuffix("dados/FI/")
        assert client.session.get(root, timeout=60).status_code == 404
        response = client.session.get(f"{root}robots.txt", timeout=60)
        assert response.text.splitlines() == ["User-agent: *", "Crawl-Delay: 10", "Disallow: /api/"]
        client.replica.portal.crawl_delay = 0.25
        assert "Crawl-Delay: 0.25\n" in client.session.get(f"{root}robots.txt", timeout=60).text

    def test_the_pages_do_not_serve_the_portals_robots_txt(self, shared):
        """They are separate sites: the portal's delay must not slow the pages down."""
        pages = shared.replica.url.partition("/SWB")[0]
        assert not shared.replica.open_data_url.startswith(f"{pages}/")
        assert "Crawl-Delay" not in shared.session.get(f"{pages}/robots.txt", timeout=60).text


class TestConditionalRequests:
    def test_an_etag_is_time_and_size(self, shared):
        response = shared.file("2015")
        seconds = int(parsedate_to_datetime(response.headers["Last-Modified"]).timestamp())
        assert response.headers["ETag"] == f'"{seconds:x}-{len(response.content):x}"'

    def test_a_known_file_is_304_without_a_body(self, shared):
        known = shared.file("2024-03").headers
        path = shared.replica.portal.path("2024-03")
        for headers in (
            {"If_None_Match": known["ETag"]},
            {"If_None_Match": f'"other", W/{known["ETag"]}'},
            {"If_None_Match": "*"},
            {"If_Modified_Since": known["Last-Modified"]},
            {"If_None_Match": known["ETag"], "If_Modified_Since": "Mon, 01 Jan 2001 00:00:00 GMT"},
        ):
            response = shared.get(path, **headers)
            assert (response.status_code, response.content, response.headers["ETag"]) == (304, b"", known["ETag"])

    def test_anything_else_is_sent_whole(self, shared):
        known = shared.file("2024-03").headers
        path = shared.replica.portal.path("2024-03")
        for headers in (
            {"If_None_Match": '"other"', "If_Modified_Since": known["Last-Modified"]},
            {"If_None_Match": ""},
            {"If_Modified_Since": "Mon, 01 Jan 2001 00:00:00 GMT"},
            {"If_Modified_Since": "yesterday"},
        ):
            assert shared.get(path, **headers).status_code == 200

    def test_a_head_request_returns_only_the_headers(self, shared):
        url = shared.replica.open_data_url + shared.replica.portal.path("2024-03")
        head, whole = shared.session.head(url, timeout=60), shared.session.get(url, timeout=60)
        assert head.content == b""
        for name in ("ETag", "Last-Modified", "Content-Length", "Content-Type"):
            assert head.headers[name] == whole.headers[name]
        with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)) as connection:
            for method in ("HEAD", "GET"):
                connection.request(method, urlsplit(url).path)
                body = connection.getresponse().read()
        assert body == whole.content, "what follows a HEAD on its connection is the next response"

    def test_the_same_file_has_the_same_bytes_in_every_replica(self, shared):
        other = Portal(load_open_data())
        for what in ("2003", "2015", "2021-03", "2024-09", "registry", "cad_fi"):
            assert other.respond(f"/dados/FI/{other.path(what)}").body == shared.file(what).content


class TestLayouts:
    @pytest.mark.parametrize(
        ("what", "members", "columns"),
        [
            ("2000", ["inf_diario_fi_2000.csv"], B),
            ("2004", ["inf_diario_fi_2004.csv"], B),
            ("2005", [f"inf_diario_fi_2005{month:02d}.csv" for month in range(1, 13)], A),
            ("2020", [f"inf_diario_fi_2020{month:02d}.csv" for month in range(1, 13)], A),
            ("2021-01", ["inf_diario_fi_202101.csv"], B),
            ("2023-12", ["inf_diario_fi_202312.csv"], B),
            ("2024-01", ["inf_diario_fi_202401.csv"], C),
            ("2024-12", ["inf_diario_fi_202412.csv"], C),
        ],
    )
    def test_each_period_has_its_own(self, shared, what, members, columns):
        found = shared.members(what)
        assert [*found] == members
        for name, content in found.items():
            lines = content.split(b"\r\n")
            assert lines[0].decode().split(";") == columns
            assert lines[-1] == b""
            assert content.count(b"\n") == content.count(b"\r\n") == len(lines) - 1
            assert b'"' not in content
            month = name[14:-4]
            for row in table(content):
                check_row(row, columns)
                assert row["DT_COMPTC"].replace("-", "").startswith(month)

    def test_the_day_of_writing_decides_the_layout_not_the_month(self, client):
        """202402 was B in spring 2024, and is C now."""
        portal = client.replica.portal
        for on, columns in ((dt.date(2024, 4, 10), B), (dt.date(2024, 6, 1), C), (None, C)):
            portal.rewrite("2024-02", on)
            assert [*client.rows("2024-02")[0]] == columns
        portal.rewrite("2003", dt.date(2021, 1, 12))
        assert [*client.rows("2003")[0]] == A
        portal.rewrite("2015")
        found = client.members("2015")
        assert len(found) == 12
        assert {tuple(table(content)[0]) for content in found.values()} == {tuple(C)}

    def test_layouts_a_and_b_omit_subclasses(self):
        rows = load_open_data().months["2024-09"]
        for layout, columns in ((ReportLayout.A, A), (ReportLayout.B, B)):
            found = table(render_report(rows, layout))
            assert [*found[0]] == columns
            assert len(found) == sum(not row.subclass for row in rows) < len(rows)

    def test_a_file_cannot_be_older_than_its_month(self, client):
        with pytest.raises(ConfigError, match="on: 2024-08-31 is before 2024-09, the first month"):
            client.replica.portal.rewrite("2024-09", dt.date(2024, 8, 31))

    def test_the_figures_are_those_of_the_pages(self, shared):
        for month in ("2021-06", "2022-12"):
            rows = {(row["CNPJ_FUNDO"], row["DT_COMPTC"]): row for row in shared.rows(month)}
            for fund in load_sample().funds:
                for quote in load_sample().month(fund.cnpj, f"{month[5:]}/{month[:4]}"):
                    row = rows[format_cnpj(fund.cnpj), quote.date.isoformat()]
                    figures = [float(row[name]) if row[name] else None for name in FIGURES]
                    own = [quote.portfolio, quote.quota, quote.net_worth, quote.inflow, quote.outflow, quote.holders]
                    assert figures == own

    def test_before_2005_some_cells_are_blank_and_kinds_differ(self, shared):
        rows = shared.rows("2004")
        assert {row["TP_FUNDO"] for row in rows} == {"FI", "FITVM", "FIC-FITVM"}
        assert {row["VL_TOTAL"] + row["NR_COTST"] for row in rows} == {""}
        assert {row["TP_FUNDO_CLASSE"] for row in shared.rows("2024-12")} == {"FI", "FAPI", "CLASSES - FIF"}


def check_row(row: dict[str, str], columns: list[str]) -> None:
    (cnpj,) = [name for name in columns if name.startswith("CNPJ")]
    assert re.fullmatch(r"[0-9A-Z]{2}\.[0-9A-Z]{3}\.[0-9A-Z]{3}/[0-9A-Z]{4}-[0-9]{2}", row[cnpj])
    dt.date.fromisoformat(row["DT_COMPTC"])
    assert re.fullmatch(r"([0-9]+\.[0-9]{12})?", row["VL_QUOTA"])
    for name in ("VL_TOTAL", "VL_PATRIM_LIQ", "CAPTC_DIA", "RESG_DIA"):
        assert re.fullmatch(r"([0-9]+\.[0-9]{2})?", row[name])
    assert re.fullmatch("[0-9]*", row["NR_COTST"])
    assert None not in row


class TestTheRegistry:
    def test_has_three_members_in_latin_1_with_bare_cnpjs(self, shared):
        found = shared.members("registry")
        assert [*found] == ["registro_fundo.csv", "registro_classe.csv", "registro_subclasse.csv"]
        funds, classes, subclasses = (table(content) for content in found.values())
        assert [len(rows[0]) for rows in (funds, classes, subclasses)] == [21, 30, 14]
        assert "MANACÁ".encode("iso-8859-1") not in found["registro_fundo.csv"]
        assert "Exemplo Manacá".encode("iso-8859-1") in found["registro_fundo.csv"]
        assert all(re.fullmatch("[0-9A-Z]{14}", row["CNPJ_Classe"]) for row in classes)
        assert {row["ID_Registro_Fundo"] for row in classes} == {row["ID_Registro_Fundo"] for row in funds}
        assert {row["ID_Registro_Classe"] for row in subclasses} < {row["ID_Registro_Classe"] for row in classes}
        assert any(row["Denominacao_Social"].count('"') == 1 for row in subclasses)

    def test_the_header_of_classes_is_the_portals(self, shared):
        header = shared.members("registry")["registro_classe.csv"].split(b"\r\n")[0].decode()
        assert header == (
            "ID_Registro_Fundo;ID_Registro_Classe;CNPJ_Classe;Codigo_CVM;Data_Registro;Data_Constituicao;Data_Inicio;"
            "Tipo_Classe;Denominacao_Social;Situacao;Data_Inicio_Situacao;Classificacao;Indicador_Desempenho;"
            "Classe_Cotas;Classificacao_Anbima;Tributacao_Longo_Prazo;Entidade_Investimento;"
            "Permitido_Aplicacao_CemPorCento_Exterior;Classe_ESG;Forma_Condominio;Exclusivo;Publico_Alvo;"
            "Patrimonio_Liquido;Data_Patrimonio_Liquido;CNPJ_Auditor;Auditor;CNPJ_Custodiante;Custodiante;"
            "CNPJ_Controlador;Controlador"
        )

    def test_a_fund_has_a_row_for_each_manager_and_its_age(self, shared):
        funds, classes, _ = (table(content) for content in shared.members("registry").values())
        (one,) = [row for row in classes if row["CNPJ_Classe"] == "99101034000130"]
        own = [row for row in funds if row["ID_Registro_Fundo"] == one["ID_Registro_Fundo"]]
        assert len({row["Gestor"] for row in own}) == len(own) == 2
        assert one["Data_Inicio"] == "2024-07-15"
        assert {row["Data_Constituicao"] for row in own} == {"2016-04-11"}

    def test_net_worth_is_the_newest_and_sums_the_subclasses(self, shared):
        classes = table(shared.members("registry")["registro_classe.csv"])
        for cnpj, count in (("18993924000100", 1), ("99101034000130", 2), ("99101035000184", 3)):
            (row,) = [row for row in classes if row["CNPJ_Classe"] == cnpj]
            own = [
                float(day.net_worth)
                for day in load_open_data().months["2024-12"]
                if (day.cnpj, day.date) == (format_cnpj(cnpj), "2024-12-31")
            ]
            assert len(own) == count
            assert float(row["Patrimonio_Liquido"]) == pytest.approx(sum(own), abs=0.01)
            assert row["Data_Patrimonio_Liquido"] == "2024-12-31"

    def test_a_fund_of_two_classes_has_a_cnpj_of_its_own(self, shared):
        funds, classes, _ = (table(content) for content in shared.members("registry").values())
        (fund,) = [row for row in funds if row["CNPJ_Fundo"] == "99101038000118"]
        own = [row["CNPJ_Classe"] for row in classes if row["ID_Registro_Fundo"] == fund["ID_Registro_Fundo"]]
        assert own == ["99101039000162", "99101040000197"]
        assert fund["Denominacao_Social"] == "FUNDO EXEMPLO TUCUMÃ FIF"

    def test_a_fund_that_never_became_a_class_is_only_in_cad_fi(self, shared):
        old = table(shared.file("cad_fi").content)
        assert len(old[0]) == 41
        assert {row["SIT"] for row in old} >= {"CANCELADA", "EM FUNCIONAMENTO NORMAL"}
        bare = {re.sub("[./-]", "", row["CNPJ_FUNDO"]) for row in old}
        classes = table(shared.members("registry")["registro_classe.csv"])
        assert not bare & {row["CNPJ_Classe"] for row in classes}
        every = {row.cnpj for rows in load_open_data().months.values() for row in rows}
        assert every == {format_cnpj(cnpj) for cnpj in bare | {row["CNPJ_Classe"] for row in classes}}
