"""Every lesson follows the template, and runs twice side by side, solved and unsolved, leaving nothing behind."""

from __future__ import annotations

import asyncio
import itertools
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import nbformat
import psutil
import pytest
from support.tree import ROOT, load_tool
from support.waiting import wait_until

from scraperkit.keys import Keys
from scraperkit.lessons import LESSONS
from scraperkit.replica import Replica

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
OVERVIEW = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
# This lesson breaks its site and Redis, so it has its own.
ALWAYS_OFFLINE = {"05_when_things_fail"}
VERBS = {"Break", "Bring", "Collect", "Download", "Kill", "Make", "Publish"}
VERBS |= {"Read", "Run", "Study", "Subscribe", "Tour", "Watch"}
MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
LAST = ["Exercises", "Summary", "Next", "Clean up"]
CHECK = re.compile(r"lesson\.check\((\d), answer_\1\)")
# What happened is folded away, so that a reader predicts before reading on.
FOLDED = re.compile(r"<details><summary>What happened</summary>\n\n.+\n\n</details>", re.DOTALL)
OPENING = re.compile(r'<details lang="pt-BR"><summary>Em português</summary>\n\n(.+)\n\n</details>', re.DOTALL)
SOLUTION = re.compile(r"<details><summary>Solution</summary>\n\n```python\n.+?\n```\n.*</details>", re.DOTALL)


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load_tool("notebooks.py")


def cells(path: Path, kind: str | None = None) -> list:
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if kind in (None, cell.cell_type)]


def texts(path: Path) -> list[str]:
    return [cell.source for cell in cells(path, "markdown")]


def minutes(path: Path) -> int:
    found = re.search(r"^- \*\*Time:\*\* (\d+) minutes", texts(path)[0], re.MULTILINE)
    assert found, "the first cell states the minutes"
    return int(found[1])


# ------------------------------------------------------------------------ they run


@pytest.fixture(scope="module")
def regulator() -> Iterator[Replica]:
    """A replica in place of the regulator's own site, for live lessons."""
    with Replica.start() as site:
        site.portal.crawl_delay = 0
        yield site


def asked_of(site: Replica) -> int:
    """Return how many pages and files of a site were requested."""
    return site.requests.total() + site.portal.requests.total()


@EACH
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_lesson_runs_live_unsolved_beside_an_offline_solved_run(
    tool, path, regulator, redis, redis_url, tmp_path, monkeypatch
):
    mark = uuid.uuid4().hex
    monkeypatch.setenv("RUN_OF_A_LESSON", mark)
    monkeypatch.setenv("SCRAPERKIT_CVM_URL", regulator.url)
    monkeypatch.setenv("SCRAPERKIT_OPEN_DATA_URL", regulator.open_data_url)
    monkeypatch.setenv("SCRAPERKIT_SGS_URL", regulator.sgs_url)
    monkeypatch.setenv("SCRAPERKIT_B3_URL", regulator.b3_url)
    monkeypatch.setenv("SCRAPERKIT_ARCHIVE", str(tmp_path / "archive"))
    monkeypatch.setenv("REDIS_URL", redis_url)
    asked = asked_of(regulator)
    live = path.stem not in ALWAYS_OFFLINE

    async def both():
        return await asyncio.gather(
            tool.run(path, live=live, redis_url=redis_url, folder=tmp_path),
            tool.run(path, solve=True, folder=tmp_path),
        )

    plain, solved = asyncio.run(both())
    assert (asked_of(regulator) > asked) == live
    exercises = set(tool.solutions(nbformat.read(path, as_version=4)))
    assert plain.unsolved.keys() == solved.solved.keys() == exercises
    assert not [text for text in plain.unsolved.values() if text.endswith("is done.")]
    assert solved.solved == {number: f"Exercise {number} is done." for number in exercises}
    assert plain.namespace != solved.namespace
    for run in (plain, solved):
        assert run.threads == []
        assert run.untrue == []
        assert list(redis.scan_iter(Keys(run.namespace).pattern, count=1000)) == []
    assert wait_until(lambda: not processes_of(mark)), processes_of(mark)


@EACH
def test_a_cell_that_draws_does_not_print_its_axes(path):
    drawing = [cell.source for cell in cells(path, "code") if "sk.plot." in cell.source]
    assert all(re.search(r"^\w+ = sk\.plot\.|^ *sk\.plot\.\w+\(.*ax=", source, re.MULTILINE) for source in drawing), (
        "ax = sk.plot…, or the Axes is printed below its picture"
    )


def processes_of(mark: str) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("RUN_OF_A_LESSON") == mark and process.pid != psutil.Process().pid:
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
        except psutil.Error:
            continue
    return found


# ----------------------------------------------------------------------- they read


def test_the_package_names_every_notebook():
    assert [path.stem for path in NOTEBOOKS] == list(LESSONS)


def test_the_overview_shows_the_minutes_of_each_lesson():
    rows = dict(re.findall(r"^\| \[(\w+)\]\(\1\.ipynb\) \|.*\| (\d+) \|[^|]+\|$", OVERVIEW, re.MULTILINE))
    assert list(rows) == list(LESSONS)
    assert {path.stem: minutes(path) for path in NOTEBOOKS} == {name: int(rows[name]) for name in rows}
    assert sum(int(rows[name]) for name in list(rows)[:5]) == 90


@EACH
def test_the_first_cell_says_what_you_will_do_and_need(path):
    first = texts(path)[0]
    titles = [line for text in texts(path) for line in text.splitlines() if line.startswith("# ")]
    assert [first.splitlines()[0]] == [title for title in titles if "```" not in title]
    assert first.removeprefix("# ").split()[0].strip(",:") in VERBS
    for beginning in ("- **You will** ", "- **You need** ", "- **Time:** "):
        assert f"\n{beginning}" in first
    assert 5 <= minutes(path) <= 30


@EACH
def test_a_portuguese_opening_says_how_long_it_takes_and_names_terms_of_the_lesson(path):
    opening = OPENING.fullmatch(cells(path)[1].source)
    assert opening, "the second cell is folded, and in Portuguese"
    plain = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", " ".join(opening[1].split()))
    assert 5 <= len(re.findall(r"\.(?=\s|$)", plain)) <= 8
    assert f"{minutes(path)} minutos" in plain
    terms = re.findall(r"\(([^)]+)\)", plain)
    assert 3 <= len(terms) <= 4
    lesson = " ".join(" ".join(texts(path)[2:]).lower().split())
    assert not [term for term in terms if term not in lesson]


@EACH
def test_a_diagram_shows_who_talks_to_whom(path):
    found = re.search(r"!\[([^\]]{40,})\]\((images/(\d\d)_\w+\.svg)\)", "\n".join(texts(path)[:3]))
    assert found, "an SVG with alt text, in one of the first text cells"
    picture = path.parent / found[2]
    assert found[3] == path.stem[:2]
    root = ElementTree.fromstring(picture.read_text(encoding="utf-8"))
    space = "{http://www.w3.org/2000/svg}"
    assert root.findtext(f"{space}title")
    width, height = root.get("viewBox").split()[2:]
    background = next(iter(root.iter(f"{space}rect")))
    assert (background.get("width"), background.get("height")) == (width, height), "it paints its own background"
    assert not list(root.iter(f"{space}script"))
    assert not [value for part in root.iter() for name, value in part.items() if "href" in name and value[0] != "#"]


@EACH
def test_the_first_code_cell_has_the_two_variables(path):
    first = cells(path, "code")[0].source
    assert re.match(r"LIVE = False  # .+\nREDIS_URL = None  # .+\n", first)
    assert f'lesson = sk.lessons.begin("{path.stem}", live=LIVE, redis_url=' in first


@EACH
def test_text_comes_before_code_and_code_is_short(path):
    before = None
    for cell in cells(path):
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 10, cell.source
            assert before == "markdown" or CHECK.fullmatch(cell.source), f"no text before: {cell.source}"
        before = cell.cell_type


@EACH
def test_nothing_sleeps_and_nothing_leaves_python(path):
    for cell in cells(path, "code"):
        assert not re.search(r"\bsleep\(|^\s*[!%]|__import__|getattr\(", cell.source, re.MULTILINE), cell.source


@EACH
def test_a_question_comes_before_a_surprise_and_the_reading_after_it(path):
    all_cells = cells(path)
    exercises = next(n for n, cell in enumerate(all_cells) if "## Exercises" in cell.source)
    asked = [n for n, cell in enumerate(all_cells) if cell.cell_type == "markdown" and "**Predict.**" in cell.source]
    assert asked
    for number, end in itertools.pairwise([*asked, exercises]):
        assert "?" in all_cells[number].source.split("**Predict.**")[1]
        assert all_cells[number + 1].cell_type == "code"
        between = [cell.source for cell in all_cells[number + 2 : end + 1]]
        assert sum(bool(FOLDED.fullmatch(source)) for source in between) == 1, all_cells[number].source


@EACH
def test_numbers_that_speak_of_an_output_are_checked_by_the_run(path):
    for text in texts(path):
        if FOLDED.fullmatch(text):
            unmarked = re.sub(r"\S+(?: %)?\s*<!--= .+? -->|`[^`]+`|\]\([^)]+\)|[Ll]esson \d\d", "", text)
            unmarked = re.sub(rf"(?:\d{{1,2}} )?(?:{MONTHS})(?: \d{{4}})?|\b(?:19|20)\d\d\b", "", unmarked)
            assert not re.search(r".{0,40}\d.{0,20}", unmarked), re.search(r".{0,40}\d.{0,20}", unmarked)


@EACH
def test_a_lesson_ends_with_exercises_summary_next_and_clean_up(path):
    headings = re.findall(r"^## (.+)$", "\n".join(texts(path)), re.MULTILINE)
    assert headings[-4:] == LAST
    assert cells(path)[-1].source.splitlines()[-1] == "lesson.end()"


@EACH
def test_each_exercise_has_a_check_and_a_folded_solution(path):
    all_cells = cells(path)
    beginnings = [n for n, cell in enumerate(all_cells) if cell.source.startswith("### Exercise ")]
    assert 2 <= len(beginnings) <= 3
    for number, first in enumerate(beginnings, 1):
        text, answer, check, solution = all_cells[first : first + 4]
        assert text.source.startswith(f"### Exercise {number}: ")
        assert answer.source.endswith(f"answer_{number} = ...")
        assert check.source == f"lesson.check({number}, answer_{number})"
        assert solution.cell_type == "markdown"
        assert SOLUTION.fullmatch(solution.source)


@EACH
def test_links_of_a_lesson_lead_to_existing_files(path):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", "\n".join(texts(path))):
        known = (
            target.removesuffix(".ipynb") in LESSONS if target.endswith(".ipynb") else (path.parent / target).exists()
        )
        assert known, target


@EACH
def test_a_notebook_is_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in cells(path, "code"))
    assert all(not cell.metadata for cell in notebook.cells)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
