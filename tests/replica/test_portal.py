"""The open data portal, asked over a socket as any client would."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser

import pytest
import requests

from scraperkit.cnpj import format_cnpj
from scraperkit.errors import ConfigError
from scraperkit.models import Month
from scraperkit.replica import Replica
from scraperkit.replica.open_data import load_open_data
from scraperkit.replica.portal import Portal
from scraperkit.replica.sample import load_sample

FIGURES = ["VL_TOTAL", "VL_QUOTA", "VL_PATRIM_LIQ", "CAPTC_DIA", "RESG_DIA", "NR_COTST"]
A = ["CNPJ_FUNDO", "DT_COMPTC", *FIGURES]
B = ["TP_FUNDO", *A]
C = ["TP_FUNDO_CLASSE", "CNPJ_FUNDO_CLASSE", "ID_SUBCLASSE", "DT_COMPTC", *FIGURES]
LESSONS = "18.993.924/0001-00"
DAILY = "DOC/INF_DIARIO/DADOS/"


class Client:
    """A plain HTTP client of a replica's portal."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.session = requests.Session()
        self.session.trust_env = False

    def get(self, path: str, **headers: str) -> requests.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.session.get(self.replica.open_data_url + path, headers=named, timeout=60, allow_redirects=False)

    def file(self, what: str) -> requests.Response:
        return self.get(self.replica.portal.path(what))

    def members(self, what: str) -> dict[str, bytes]:
        with zipfile.ZipFile(io.BytesIO(self.file(what).content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def rows(self, what: str) -> list[dict[str, str]]:
        return [row for content in self.members(what).values() for row in table(content)]


def table(content: bytes) -> list[dict[str, str]]:
    text = io.StringIO(content.decode("iso-8859-1"), newline="")
    return list(csv.DictReader(text, delimiter=";", quoting=csv.QUOTE_NONE))


@pytest.fixture(scope="module")
def replica() -> Iterator[Replica]:
    with Replica.start() as replica:
        yield replica


@pytest.fixture
def shared(replica: Replica) -> Iterator[Client]:
    """Return a client of a replica that other tests use, too."""
    client = Client(replica)
    yield client
    client.session.close()


@pytest.fixture
def client() -> Iterator[Client]:
    """Return a client of a replica of its own, for tests that pull levers."""
    with Replica.start() as replica:
        client = Client(replica)
        yield client
        client.session.close()


class Listing(HTMLParser):
    """The links of a listing and what stands behind each."""

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
        answer = shared.get("DOC")
        assert (answer.status_code, answer.headers["Location"]) == (301, "/dados/FI/DOC/")

    @pytest.mark.parametrize("path", ["x", "DOC/x/", f"{DAILY}inf_diario_fi_202501.zip", f"{DAILY}inf", "../../x"])
    def test_what_is_not_there_is_404_or_403(self, client, path):
        assert client.get(path).status_code == 404
        client.replica.portal.missing_status = 403
        assert client.get(path).status_code == 403

    def test_outside_the_base_there_is_robots_txt_alone(self, client):
        root = client.replica.open_data_url.removesuffix("dados/FI/")
        assert client.session.get(root, timeout=60).status_code == 404
        answer = client.session.get(f"{root}robots.txt", timeout=60)
        assert answer.text.splitlines() == ["User-agent: *", "Crawl-Delay: 10", "Disallow: /api/"]
        client.replica.portal.crawl_delay = 0.25
        assert "Crawl-Delay: 0.25\n" in client.session.get(f"{root}robots.txt", timeout=60).text

    def test_the_pages_have_no_robots_txt_of_the_portal(self, shared):
        """Both are sites of their own: the portal's delay must not slow the pages down."""
        pages = shared.replica.url.partition("/SWB")[0]
        assert not shared.replica.open_data_url.startswith(f"{pages}/")
        assert "Crawl-Delay" not in shared.session.get(f"{pages}/robots.txt", timeout=60).text


class TestConditionalRequests:
    def test_an_etag_is_time_and_size(self, shared):
        answer = shared.file("2015")
        seconds = int(parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp())
        assert answer.headers["ETag"] == f'"{seconds:x}-{len(answer.content):x}"'

    def test_what_is_known_is_304_without_a_body(self, shared):
        known = shared.file("2024-03").headers
        path = shared.replica.portal.path("2024-03")
        for headers in (
            {"If_None_Match": known["ETag"]},
            {"If_None_Match": f'"other", W/{known["ETag"]}'},
            {"If_None_Match": "*"},
            {"If_Modified_Since": known["Last-Modified"]},
            {"If_None_Match": known["ETag"], "If_Modified_Since": "Mon, 01 Jan 2001 00:00:00 GMT"},
        ):
            answer = shared.get(path, **headers)
            assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", known["ETag"])

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

    def test_a_head_has_the_headers_alone(self, shared):
        url = shared.replica.open_data_url + shared.replica.portal.path("2024-03")
        head, whole = shared.session.head(url, timeout=60), shared.session.get(url, timeout=60)
        assert head.content == b""
        for name in ("ETag", "Last-Modified", "Content-Length", "Content-Type"):
            assert head.headers[name] == whole.headers[name]

    def test_the_same_file_has_the_same_bytes_in_every_replica(self, shared):
        other = Portal(load_open_data())
        for what in ("2003", "2015", "2021-03", "2024-09", "registry", "cad_fi"):
            assert other.answer(f"/dados/FI/{other.path(what)}").body == shared.file(what).content


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

    def test_the_day_of_writing_decides_and_not_the_month(self, client):
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

    def test_a_file_cannot_be_older_than_what_it_is_about(self, client):
        with pytest.raises(ConfigError, match="on: 2024-08-31 is before 2024-09"):
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

    def test_before_2005_cells_are_blank_and_kinds_are_others(self, shared):
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

    def test_a_fund_of_two_classes_has_a_cnpj_of_its_own(self, shared):
        funds, classes, _ = (table(content) for content in shared.members("registry").values())
        (fund,) = [row for row in funds if row["CNPJ_Fundo"] == "99101038000118"]
        own = [row["CNPJ_Classe"] for row in classes if row["ID_Registro_Fundo"] == fund["ID_Registro_Fundo"]]
        assert own == ["99101039000162", "99101040000197"]
        assert fund["Denominacao_Social"] == "FUNDO EXEMPLO TUCUMÃ FIF"

    def test_what_never_became_a_class_is_in_cad_fi_alone(self, shared):
        old = table(shared.file("cad_fi").content)
        assert len(old[0]) == 41
        assert {row["SIT"] for row in old} >= {"CANCELADA", "EM FUNCIONAMENTO NORMAL"}
        bare = {re.sub("[./-]", "", row["CNPJ_FUNDO"]) for row in old}
        classes = table(shared.members("registry")["registro_classe.csv"])
        assert not bare & {row["CNPJ_Classe"] for row in classes}
        every = {row.cnpj for rows in load_open_data().months.values() for row in rows}
        assert every == {format_cnpj(cnpj) for cnpj in bare | {row["CNPJ_Classe"] for row in classes}}


class TestLeversOnFiles:
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

    def test_a_truncated_zip_is_whole_for_http_and_broken_as_a_zip(self, client):
        whole = client.file("2024-03").content
        client.replica.portal.truncate("2024-03")
        answer = client.file("2024-03")
        assert len(answer.content) == int(answer.headers["Content-Length"]) == len(whole) // 2
        with pytest.raises(zipfile.BadZipFile):
            client.members("2024-03")
        client.replica.portal.rewrite("2024-03")
        assert client.rows("2024-03")

    def test_a_connection_that_is_cut_off_gives_less_than_was_announced(self, client):
        client.replica.portal.cut_off("2024-03")
        for _ in range(2):
            with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
                client.file("2024-03")
        client.replica.portal.rewrite("2024-03")
        assert client.rows("2024-03")

    def test_html_comes_under_status_200(self, client):
        client.replica.portal.show_html("2024-03")
        answer = client.file("2024-03")
        assert (answer.status_code, answer.content[:6]) == (200, b"<html>")

    def test_any_bytes_can_be_put_anywhere(self, client):
        portal = client.replica.portal
        portal.put("2024-03", b"PK\x03\x04")
        assert client.file("2024-03").content == b"PK\x03\x04"
        portal.put("2025-01", b"new")
        assert client.file("2025-01").content == b"new"
        assert "inf_diario_fi_202501.zip" in client.get(DAILY).text
        portal.remove("2025-01")
        assert client.get(f"{DAILY}inf_diario_fi_202501.zip").status_code == 404

    @pytest.mark.parametrize("what", ["2025-01", "1999", "x", "2024-3", "", "../x", "<b>"])
    def test_a_file_that_is_not_there_is_named(self, shared, what):
        portal = shared.replica.portal
        for pull in (portal.path, portal.rewrite, portal.restate, portal.truncate, portal.cut_off, portal.remove):
            with pytest.raises(ConfigError, match="file: .* is not on the portal"):
                pull(what)

    def test_every_file_written_again_is_newer_than_all_others(self, client):
        portal = client.replica.portal
        tags = []
        for _ in range(3):
            portal.rewrite("2024-03")
            portal.rewrite("2024-04")
            tags += [client.file(month).headers["Last-Modified"] for month in ("2024-03", "2024-04")]
        times = [parsedate_to_datetime(tag) for tag in tags]
        assert times == sorted(set(times))


class TestDirt:
    def test_is_put_in_on_request_and_told(self, client):
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


class TestLeversOnTheServer:
    def test_an_outage_is_503_with_retry_after(self, client):
        client.replica.portal.outage(3600)
        answer = client.get("")
        assert answer.status_code == 503
        assert 3000 <= int(answer.headers["Retry-After"]) <= 3600
        client.replica.portal.outage(0)
        assert client.get("").status_code == 200
        assert client.replica.portal.requests == Counter(outage=1, listing=1)

    def test_a_portal_that_is_away_refuses_and_comes_back_with_what_it_had(self, client):
        client.replica.portal.restate("2024-03")
        etag = client.file("2024-03").headers["ETag"]
        client.replica.open_data_up = False
        assert not client.replica.open_data_up
        with pytest.raises(requests.exceptions.ConnectionError, match="refused"):
            client.get("")
        assert client.session.get(client.replica.url, timeout=60).status_code == 200
        client.replica.open_data_up = True
        assert client.file("2024-03").headers["ETag"] == etag

    def test_latency_makes_every_answer_wait(self, client):
        client.replica.portal.latency = 0.15
        start = time.monotonic()
        client.get("")
        assert time.monotonic() - start >= 0.15

    def test_a_slow_portal_drips_and_can_be_made_quick_in_the_midst(self, client):
        size = int(client.file("2024-03").headers["Content-Length"])
        client.replica.portal.bytes_per_second = size / 0.3
        start = time.monotonic()
        assert len(client.file("2024-03").content) == size
        assert time.monotonic() - start >= 0.25
        client.replica.portal.bytes_per_second = 20
        url = client.replica.open_data_url + client.replica.portal.path("2024-03")
        with client.session.get(url, stream=True, timeout=60) as answer:
            first = next(answer.iter_content(1))
            client.replica.portal.bytes_per_second = float("inf")
            assert len(first + answer.raw.read()) == size

    def test_stop_waits_for_no_drip_and_no_latency(self):
        for lever, value in (("bytes_per_second", 1), ("latency", 3600)):
            with Replica.start() as replica, requests.Session() as session:
                session.trust_env = False
                setattr(replica.portal, lever, value)
                caught: list[Exception] = []
                url = replica.open_data_url + replica.portal.path("2024-03")

                def ask(session=session, url=url, caught=caught) -> None:
                    try:
                        session.get(url, timeout=60)
                    except requests.exceptions.RequestException as error:
                        caught.append(error)

                thread = threading.Thread(target=ask)
                thread.start()
                replica.stop()
                thread.join(timeout=30)
                assert not thread.is_alive()
                assert caught

    @pytest.mark.parametrize("value", [-1, 1e9, float("nan"), "1", None])
    def test_settings_that_do_not_fit_are_refused_by_name(self, shared, value):
        for name in ("latency", "crawl_delay"):
            with pytest.raises(ConfigError, match=f"{name}: "):
                setattr(shared.replica.portal, name, value)
        with pytest.raises(ConfigError, match="seconds: "):
            shared.replica.portal.outage(value)
        with pytest.raises(ConfigError, match="share: "):
            shared.replica.portal.restate("2024-03", value)

    @pytest.mark.parametrize("value", [0, -1, float("nan"), "1", None])
    def test_a_rate_must_be_one(self, shared, value):
        with pytest.raises(ConfigError, match="bytes_per_second: "):
            shared.replica.portal.bytes_per_second = value

    def test_requests_are_counted_by_what_became_of_them(self, client):
        etag = client.file("2024-03").headers["ETag"]
        client.get(client.replica.portal.path("2024-03"), If_None_Match=etag)
        client.get("")
        client.get("x")
        client.session.get(client.replica.open_data_url.replace("dados/FI/", "robots.txt"), timeout=60)
        assert client.replica.portal.requests == Counter(file=1, not_modified=1, listing=1, missing=1, robots=1)
        assert client.replica.requests == Counter()

    def test_a_port_that_is_taken_is_named(self, shared):
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
