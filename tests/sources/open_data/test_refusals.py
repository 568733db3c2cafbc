"""A file that is not as known is refused by address and reason: what was stored stays, and nothing is withdrawn."""

from __future__ import annotations

import io
import struct
import zipfile

import pandas as pd
import pytest
from support.daily_files import CNPJ, OTHER, line, month_zip, text_of, zip_of

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
    """A member that says that it is short, and is not."""
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


BAD = {
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
    "no rows": (month_zip([], month="202412"), "of its 0 lines only 0 can be used"),
    "another month": (month_zip([line(day="2024-11-04")]), "of its 1 lines only 0 can be used"),
    "decimal commas": (month_zip([text.replace(".5", ",5") for text in GOOD], month="202412"), "only 0 can be used"),
    "a line without end": (endless_line(), "a line of more than"),
}


@pytest.mark.parametrize("what", BAD)
def test_it_is_refused_and_what_was_stored_stays(what, site, market):
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


def test_a_file_that_is_well_again_is_taken(site, market):
    market.download("2024-12", "2024-12")
    site.portal.show_html("2024-12")
    assert market.download("2024-12", "2024-12")["outcome"].tolist() == ["refused"]
    site.portal.rewrite("2024-12")
    assert market.download("2024-12", "2024-12")["outcome"].tolist() == ["unchanged"]
    assert market.archive_info().loc[NAME, "reason"] == ""


def test_a_file_that_breaks_off_on_the_way_is_refused(site, market):
    market.download("2024-12", "2024-12")
    before = market.quotes()
    site.portal.rewrite("2024-12")
    site.portal.cut_off("2024-12")
    (row,) = market.download("2024-12", "2024-12").to_dict("records")
    assert row["outcome"] == "refused"
    assert "the site is away" in row["reason"]
    pd.testing.assert_frame_equal(market.quotes(), before)


def test_what_is_refused_first_leaves_nothing_behind(site, market):
    site.portal.put("2024-12", b"<html>")
    assert market.download("2024-12", "2024-12")["outcome"].tolist() == ["refused"]
    assert not list((market.archive / "quotes").iterdir())


def test_a_bad_line_keeps_no_other_from_coming_and_is_told_with_its_text(site, market):
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
