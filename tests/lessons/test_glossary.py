"""The glossary defines the words of the field, each with a reference and a lesson, and lessons link to it."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from support.tree import ROOT

GLOSSARY = ROOT / "docs" / "glossary.md"
OF_THE_FIELD = (
    "at-least-once",
    "at-most-once",
    "exactly-once in effect",
    "idempotent",
    "fencing token",
    "back-pressure",
    "lease",
    "visibility timeout",
    "consumer group",
    "fan-out",
    "poison message",
    "head-of-line blocking",
    "GIL",
)
OF_THE_KIT = ("series", "subclass", "batch", "dead letter", "circuit open")
ENTRIES = dict(re.findall(r"^### (.+)\n\n((?:.+\n)+)", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE))
EACH = pytest.mark.parametrize("word", ENTRIES)
REFERENCES = ("redis.io", "wikipedia.org", "docs.python.org")
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def anchor(heading: str) -> str:
    """The anchor of a heading, as GitHub, JupyterLab and MyST make it."""
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


def headings(page: Path) -> set[str]:
    return {anchor(line) for line in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)}


def sections(lesson: Path) -> set[str]:
    cells = nbformat.read(lesson, as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return set(re.findall(r"^## (.+)$", text, re.MULTILINE))


@pytest.mark.parametrize("word", OF_THE_FIELD + OF_THE_KIT)
def test_the_glossary_defines(word):
    assert word in ENTRIES


@pytest.mark.parametrize("word", OF_THE_FIELD)
def test_a_word_of_the_field_has_a_reference_outside(word):
    assert re.search(r"Read: .*\]\(https://", ENTRIES[word])


def test_most_references_are_to_redis_wikipedia_or_python():
    known = [word for word in ENTRIES if any(site in ENTRIES[word] for site in REFERENCES)]
    assert len(known) >= 0.75 * len(ENTRIES)


@EACH
def test_an_entry_is_one_to_three_sentences_with_a_lesson_and_something_to_read(word):
    definition, _, rest = ENTRIES[word].partition("See it: ")
    assert 1 <= len(re.findall(r"\.(?=\s|$)", definition)) <= 3
    see, _, read = rest.partition(" Read: ")
    assert ".ipynb)" in see
    assert re.search(r"\]\([^)]+\)", read)


@EACH
def test_links_of_an_entry_lead_to_existing_headings(word):
    for target in re.findall(r"\]\((?!https://)([^)]+)\)", ENTRIES[word]):
        path, _, where = target.partition("#")
        page = (GLOSSARY.parent / path).resolve() if path else GLOSSARY
        assert page.is_file(), target
        assert not where or where in headings(page), target


@EACH
def test_an_entry_names_sections_that_exist(word):
    see = ENTRIES[word].partition("See it: ")[2].partition(" Read: ")[0]
    for path, section in re.findall(r"\]\(([^)]+\.ipynb)\), \"([^\"]+)\"", see):
        assert section in sections((GLOSSARY.parent / path).resolve()), section


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_lessons_link_to_entries_that_exist(lesson):
    text = lesson.read_text(encoding="utf-8")
    assert set(re.findall(r"docs/glossary\.md#([\w-]+)", text)) <= {anchor(word) for word in ENTRIES}


def english(lesson: Path) -> str:
    """The English sentences of a lesson, without headings, tables, pictures and code."""
    cells = nbformat.read(lesson, as_version=4).cells
    texts = [cell.source for cell in cells if cell.cell_type == "markdown" and 'lang="pt-BR"' not in cell.source]
    prose = re.sub(r"```.*?```|<!--.*?-->", "", "\n".join(texts), flags=re.DOTALL)
    return re.sub(r"`[^`\n]*`|^\|.*$|^#.*$|^!\[.*$", "", prose, flags=re.MULTILINE)


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_word_of_the_field_is_linked_where_a_lesson_first_uses_it(lesson):
    prose = english(lesson)
    for word in (*OF_THE_FIELD, "dead letter"):
        link = rf"\]\(\.\./docs/glossary\.md#{anchor(word)}\)"
        first = re.search(rf"(\[?)\b{re.escape(word)}s?\b({link})?", prose, re.IGNORECASE)
        assert first is None or (first[1] and first[2]), f"{word!r} is first used without a link to the glossary"


def test_every_word_of_the_field_is_used_in_a_lesson():
    everything = "\n".join(map(english, LESSONS)).lower()
    assert [word for word in OF_THE_FIELD if word.lower() not in everything] == []
