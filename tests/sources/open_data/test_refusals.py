"""An unexpected file is refused with address and reason: stored data stays, and nothing is withdrawn."""

from __future__ import annotations

import datetime as dt
import io
import struct
import zipfile

import pandas as pd
import pytest
from support.daily_files import CNPJ, OTHER, bring_in, line, month_zip, text_of, zip_of

import scraperkit as sk

NAME = "inf_diario_fi_202412.zip"
MEMBER = "inf_diario_fi_202412.csv"
GOOD = [line(day="2024-12-02"), line(OTHER, "2024-12-02")]


def encrypted() -> bytes:
    content = bytearray(month_zip(GOOD, month="202412"))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def damaged() -> bytes:
    content = bytearray(zip_of({MEMBER: text_of(GOOD * 200)}))
    content[len(content) // 2] ^= 0xFF
    return bytes(content)


def bomb() -> bytes:
    return zip_of({MEMBER: text_of(GOOD) + b" " * 30_000_000})


def lying_bomb() -> bytes:
    """A member that claims to be short."""
    content = bytearray(zip_of({MEMBER: text_of(GOOD) + b"x" * 3_000_000}))
    for mark, place in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = content.index(mark) + place
        content[at : at + 4] = struct.pack("<I", 500)
    return bytes(content)


def endless_line() -> bytes:
    """A line of 35 MB that shrinks too little to look like a bomb."""
    text = b"".join(b"%016x" % (number * 0x9E3779B97F4A7C15 % 2**64) for number in range(2_200_000))
    return zip_of({MEMBER: text_of(GOOD) + text})


def many_members() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(100):
            archive.writestr(f"{number}.csv", "")
    return packed.getvalue()


def odd_offset() -> bytes:
    content = bytearray(month_zip(GOOD, month="202412"))
    content[-5] = 0x80
    return bytes(content)


def flipped(method: int) -> bytes:
    """A flipped byte within a member that is compressed in another way."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.writestr(MEMBER, text_of(GOOD * 200))
        size = archive.getinfo(MEMBER).compress_size
    content = bytearray(packed.getvalue())
    content[30 + len(MEMBER) + size // 2] ^= 0xFF
    return bytes(content)


def odd_name() -> bytes:
    """A name that is marked as UTF-8, but is not."""
    content = bytearray(zip_of({f"ã{MEMBER}": text_of(GOOD)}))
    return bytes(content).replace("ã".encode(), b"\xff\xff")


ODD = {
    "offset": odd_offset,
    "bzip2": lambda: flipped(zipfile.ZIP_BZIP2),
    "LZMA": lambda: flipped(zipfile.ZIP_LZMA),
    "name": odd_name,
}
BAD = {
    "a web page with a mark and a comment": (b"\xef\xbb\xbf<!-- nginx -->\n<html>", "a web page instead of a zip"),
    "a web page": (b"<!DOCTYPE html><html><body>Em manuten\xe7\xe3o</body></html>", "a web page instead of a zip"),
    "nothing": (b"", "not a zip, or damaged"),
    "no zip": (b"\0" * 1000, "not a zip, or damaged"),
    "truncated": (month_zip(GOOD * 100, month="202412")[:-40], "not a zip, or damaged"),
    "damaged": (damaged(), "not a zip, or damaged"),
    "encrypted": (encrypted(), "encrypted"),
    "a bomb": (bomb(), "not plausible"),
    "a bomb that lies": (lying_bomb(), "not a zip, or damaged"),
    "many members": (many_members(), "100 members"),
    "a path": (zip_of({f"../{MEMBER}": text_of(GOOD)}), "a member with a path: '../inf_diario_fi_202412.csv'"),
    "an absolute path": (zip_of({f"/tmp/{MEMBER}": text_of(GOOD)}), "a member with a path"),
    "unknown header": (zip_of({MEMBER: b"A;B;C\r\n1;2;3\r\n"}), "unknown header 'A;B;C'"),
    "unknown in one of two": (zip_of({MEMBER: text_of(GOOD), "b.csv": b"A;B\r\n"}), "unknown header 'A;B'"),
    "the month twice": (zip_of({MEMBER: text_of(GOOD), "b.csv": text_of(GOOD)}), "two members"),
    "no rows": (month_zip([], month="202412"), "it has 0 rows of 2024-12, but"),
    "few rows": (
        month_zip(GOOD, month="202412"),
        "it has 2 rows of 2024-12, but 588 are stored; if that is right",
    ),
    **{f"an odd zip: {name}": (make(), "not a zip, or damaged") for name, make in ODD.items()},
    "another month": (month_zip([line(day="2024-11-04")]), "only 0 of its 1 lines can be used"),
    "decimal commas": (
        month_zip([text.replace(".5", ",5") for text in GOOD], month="202412"),
        "only 0 of its",
    ),
    "a line without end": (endless_line(), "a line of more than"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_refused_and_stored_data_stays(what, site, market):
    market.download("2024-12", "2024-12")
    before = market.quotes()
    content, reason = BAD[what]
    site.portal.put("2024-12", content)
    (row,) = market.download("2024-12", "2024-12").to_dict("records")
    assert (row["outcome"], row["rows"], row["changed"]) == ("refused", 0, 0)
    assert reason in row["reason"]
    assert f"[{site.open_data_url}DOC/INF_DIARIO/DADOS/{NAME}]" in row["reason"]
    pd.testing.assert_frame_equal(market.quotes(), before)
    assert market.changes().empty
    assert market.archive_info().loc[NAME, "outcome"] == "refused"
    assert not any((market.archive / "staging" / NAME).glob("*"))


@pytest.mark.parametrize("name", ODD)
def test_an_odd_zip_does_not_stop_other_files(name, site, market):
    site.portal.put("2024-11", ODD[name]())
    site.portal.put("registry", ODD[name]())
    assert market.download("2024-10", "2024-12")["outcome"].tolist() == ["new", "refused", "new"]
    assert market.update_registry()["outcome"].tolist() == ["refused", "new"]
    assert "inf_diario_fi_202411.zip" in market.archive_info().index


def test_a_month_that_has_no_rows_yet_is_not_an_error(site, market):
    site.portal.put("2024-12", month_zip([], month="202412"))
    (row,) = market.download("2024-12", "2024-12").to_dict("records")
    assert (row["outcome"], row["rows"], row["reason"]) == ("unchanged", 0, "it has no rows yet")
    site.portal.rewrite("2024-12")
    assert market.download("2024-12", "2024-12")["outcome"].tolist() == ["new"]


class TestYears:
    """A yearly file has a member for each month, or one for all."""

    @staticmethod
    def year(*leave: int, more: str = "") -> bytes:
        lines = {
            month: [f"{CNPJ};2018-{month:02d}-{day:02d};1;1.5;1;0;0;7" for day in range(1, 7)]
            for month in (1, 2, 3)
            if month not in leave
        }
        members = {
            f"{month}.csv": text_of([*some, *([more] if month == 3 else [])], "A") for month, some in lines.items()
        }
        return zip_of(members)

    def test_a_line_of_another_month_is_rejected_by_its_number(self, site, market):
        site.portal.put("2018", self.year(more=f"{OTHER};2018-02-28;1;1.5;1;0;0;7"))
        (row,) = market.download("2018-01", "2018-12").to_dict("records")
        assert (row["outcome"], row["rows"], row["rejected"]) == ("new", 18, 1)
        told = market.rejected()
        assert told[["member", "line"]].to_numpy().tolist() == [["3.csv", 8]]
        assert told["reason"].tolist() == [
            "date: 2018-02-28 is not in the period of the file, 2018-03-01 to 2018-03-31"
        ]

    def test_a_member_without_a_readable_day_is_reported(self, folder):
        bad = [f"{CNPJ};0{day}/03/2018;1;1.5;1;0;0;7" for day in (1, 2, 5)]
        good = [f"{CNPJ};2018-02-0{day};1;1;1;0;0;7" for day in range(1, 8)]
        members = {"1.csv": ["x"], "2.csv": good, "3.csv": bad}
        content = zip_of({name: text_of(lines, "A") for name, lines in members.items()})
        done = bring_in(folder, content, "2018-01", "2018-12")
        assert (done.rows_read, done.kept, done.rejected) == (11, 7, 4)
        with sk.OpenData("http://127.0.0.1:9/", archive=folder.path) as market:
            assert market.rejected()[["member", "line", "text"]].to_numpy().tolist() == [
                ["1.csv", 2, "x"], *(["3.csv", 2 + place, text] for place, text in enumerate(bad))
            ]  # fmt: skip

    def test_a_file_that_lost_a_month_is_refused(self, site, market):
        site.portal.put("2018", self.year())
        market.download("2018-01", "2018-12")
        site.portal.put("2018", self.year(2))
        (row,) = market.download("2018-01", "2018-12").to_dict("records")
        assert row["outcome"] == "refused"
        assert "it has 0 rows of 2018-02, but 6 are stored" in row["reason"]


class TestUnreadableLines:
    """They withdraw nothing: the row that a bad line may be about stays."""

    DAYS = ("2026-08-03", "2026-08-04", "2026-08-05")

    @pytest.mark.parametrize(
        ("bad", "stays"),
        [
            (line(day=DAYS[1], quota="1,5"), True),
            (line(day="04/08/2026"), True),
            (line(day="2026-08-32"), True),
            (line(day="2026-07-04"), True),
            (line(OTHER, "2026-07-04"), False),
            (line(OTHER, DAYS[0]) + "\0\0", True),
            (line("00.017.024/0001-54", DAYS[1]), True),
            (line(subclass="A:B", day=DAYS[1]), True),
            (line(day=DAYS[1]) + ";1", True),
            ("CLASSES - FIF;00.01", True),
            (line(OTHER, DAYS[1], quota="1,5"), False),
            (line(OTHER, "04/08/2026"), False),
            (line("00.017.024/0001-54", DAYS[2]), False),
        ],
    )
    def test_a_bad_line_keeps_only_the_rows_that_it_may_be_about(self, folder, bad, stays):
        bring_in(
            folder, month_zip([line(day=day) for day in self.DAYS]), seen_at=dt.datetime(2026, 9, 1, tzinfo=dt.UTC)
        )
        rest = [line(day=self.DAYS[0]), bad, line(day=self.DAYS[2])]
        bring_in(folder, month_zip(rest), seen_at=dt.datetime(2026, 9, 2, tzinfo=dt.UTC))
        with sk.OpenData("http://127.0.0.1:9/", archive=folder.path) as market:
            assert (pd.Timestamp(self.DAYS[1]) in set(market.quotes()["date"])) is stays
            assert market.changes().empty is stays
            assert len(market.rejected()) == 1


@pytest.mark.parametrize(("left", "outcome"), [(10, "refused"), (11, "changed")])
def test_a_file_that_lost_half_of_a_month_is_refused(site, market, left, outcome):
    lines = [line(day=f"2024-12-{day:02d}") for day in range(1, 21)]
    for some in (lines, lines[:left]):
        site.portal.put("2024-12", month_zip(some, month="202412"))
        (row,) = market.download("2024-12", "2024-12").to_dict("records")
    assert row["outcome"] == outcome


def test_repeated_lines_do_not_count_as_unusable(folder):
    lines = [line(day=f"2026-08-{day:02d}") for day in range(3, 21)]
    done = bring_in(folder, month_zip(lines * 3))
    assert (done.rows_read, done.kept, done.rejected) == (54, 18, 36)


def test_a_repaired_file_is_accepted(site, market):
    market.download("2024-12", "2024-12")
    site.portal.show_html("2024-12")
    assert market.download("2024-12", "2024-12")["outcome"].tolist() == ["refused"]
    site.portal.rewrite("2024-12")
    assert market.download("2024-12", "2024-12")["outcome"].tolist() == ["unchanged"]
    assert market.archive_info().loc[NAME, "reason"] == ""


def test_a_download_that_breaks_off_is_refused(site, market):
    market.download("2024-12", "2024-12")
    before = market.quotes()
    site.portal.rewrite("2024-12")
    site.portal.cut_off("2024-12")
    (row,) = market.download("2024-12", "2024-12").to_dict("records")
    assert row["outcome"] == "refused"
    assert "the site is unavailable" in row["reason"]
    pd.testing.assert_frame_equal(market.quotes(), before)


def test_a_file_refused_at_first_leaves_nothing_behind(site, market):
    site.portal.put("2024-12", b"<html>")
    assert market.download("2024-12", "2024-12")["outcome"].tolist() == ["refused"]
    assert not list((market.archive / "quotes").iterdir())


def test_a_bad_line_does_not_stop_others_and_is_reported_with_its_text(site, market):
    bad = line("00.017.024/0001-54", "2024-12-02", kind="Ações")
    site.portal.put(
        "2024-12", zip_of({MEMBER: text_of([*GOOD, line(day="2024-12-03"), bad, "x", line(CNPJ, "2024-11-29")])})
    )
    (row,) = market.download("2024-12", "2024-12").to_dict("records")
    assert (row["outcome"], row["rows"], row["rejected"]) == ("new", 3, 3)
    told = market.rejected()
    assert told[["file", "member", "line"]].to_numpy().tolist() == [[NAME, MEMBER, number] for number in (5, 6, 7)]
    assert told["text"].tolist() == [bad, "x", line(CNPJ, "2024-11-29")]
    assert told["reason"].tolist() == [
        "cnpj: '00.017.024/0001-54' is not valid",
        "line: 1 fields instead of 10",
        "date: 2024-11-29 is not in the period of the file, 2024-12-01 to 2024-12-31",
    ]
