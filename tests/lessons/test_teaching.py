"""The teacher's page: a plan that fits into its time and the lessons, and answers folded away below their questions."""

from __future__ import annotations

import re

import nbformat
import pytest
from support.tree import ROOT

PAGE = ROOT / "docs" / "teaching.md"
TEXT = PAGE.read_text(encoding="utf-8")
PLAN = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \|(?: (.+?))? \|$", TEXT, re.MULTILINE)
OVERVIEW = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| \[(\d\d)\w+\].*\| (\d+) \| [^|]+\|$", OVERVIEW, re.MULTILINE)
NEEDED = dict(re.findall(r"^\| \[(\d\d)\w+\].*\| \d+ \| ([^|]+) \|$", OVERVIEW, re.MULTILINE))
ROUTES = re.findall(r"^\| [^|]+ \| (\[00\].*?) \| (\d+) \|", OVERVIEW, re.MULTILINE)
MINUTES = {number: int(minutes) for number, minutes in ROWS}


def sections(number: str) -> set[str]:
    (lesson,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    cells = nbformat.read(lesson, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return set(re.findall(r"^## (.+)$", text, re.MULTILINE))


def test_the_plan_takes_90_minutes_and_goes_through_the_lessons_in_order():
    assert sum(int(minutes) for minutes, *_ in PLAN) == 90
    assert [lesson[1:3] for _, lesson, *_ in PLAN if lesson != "none"] == ["00", "01", "02", "03", "05"]


@pytest.mark.parametrize(("lesson", "shown", "left_out"), [row[1:] for row in PLAN if row[1] != "none"])
def test_the_plan_names_each_section_of_a_lesson_as_shown_or_left_out(lesson, shown, left_out):
    named = shown.split("; ") + left_out.split("; ")
    assert len(named) == len(set(named))
    assert set(named) == sections(lesson[1:3]) - {"Who talks to whom", "Summary", "Next", "Clean up"}


@pytest.mark.parametrize(("route", "minutes"), ROUTES)
def test_a_route_has_what_its_lessons_need_and_their_minutes(route, minutes):
    lessons = re.findall(r"\[(\d\d)\]", route)
    for place, lesson in enumerate(lessons):
        assert set(re.findall(r"\d\d", NEEDED[lesson])) <= set(lessons[:place]), lesson
    assert int(minutes) in (sum(MINUTES[lesson] for lesson in lessons), 90)


@pytest.mark.parametrize("lesson", MINUTES)
def test_the_overview_names_the_lessons_that_a_lesson_needs(lesson):
    (path,) = (ROOT / "notebooks").glob(f"{lesson}_*.ipynb")
    first = nbformat.read(path, as_version=4).cells[0].source
    needed = re.search(r"^- \*\*You need\*\* (.*?)(?=\n- |\. )", first, re.MULTILINE | re.DOTALL)[1]
    told = re.findall(r"\]\((\d\d)_", needed)
    assert told == re.findall(r"\d\d", NEEDED[lesson])


def test_every_question_has_an_answer_that_is_folded_away():
    folded = r"\n\n( *)<details><summary>Answer</summary>\n\n(?:.+\n|\n)+?\1</details>\n"
    questions = re.findall(r"^(?:\*\*Ask|\d\. \*).+?(?=\n\n)", TEXT, re.MULTILINE | re.DOTALL)
    assert len(questions) >= 12
    for question in questions:
        assert "?" in question
        assert re.match(folded, TEXT[TEXT.index(question) + len(question) :]), question
    assert len(re.findall(r"<details>", TEXT)) == len(questions)


def test_every_lesson_of_the_plan_has_a_question():
    assert re.findall(r"^### (\d\d):", TEXT, re.MULTILINE) == ["00", "01", "02", "03", "05"]


def test_the_page_says_how_long_the_lessons_run():
    measured = re.findall(r"^\| (\d\d) \| (\d+) \| (\d+) \|$", TEXT, re.MULTILINE)
    assert [lesson for lesson, *_ in measured] == ["00", "01", "02", "03", "05"]
    assert all(0 < int(busy) <= int(wall) < 120 for _, busy, wall in measured)


def test_links_of_the_page_lead_to_existing_files():
    for target in re.findall(r"\]\((?!https://)([^)#]+)", TEXT):
        assert (PAGE.parent / target).is_file(), target


def test_routes_add_up():
    routes = re.findall(r"^\| .+ \| (\[\d\d\]\(.+\)) \| (\d+) \| .+ \|$", OVERVIEW, re.MULTILINE)
    assert len(routes) == 3
    for route, minutes in routes:
        whole = sum(MINUTES[number] for number in re.findall(r"\[(\d\d)\]", route))
        assert int(minutes) == (90 if "05_when" in route else whole)
