"""Every Python example of the README and of docs/ is run by a known test."""

from __future__ import annotations

import re

import pytest
from support.tree import ROOT

# Sections of the README and pages of docs, each with the test that runs all of its examples.
RUN_BY = {
    "README.md#five-lines": "test_readme::test_the_one_call_runs_as_a_script_without_a_warning",
    "README.md#ten-lines": "test_readme::test_the_ten_lines_run_as_a_script_without_a_warning",
    "README.md#the-whole-market": "test_readme::test_the_whole_market_runs",
    "README.md#rates": "sources/rates/test_rates_page::test_the_examples_run",
    "docs/files.md": "research/test_exports::test_the_examples_of_the_page_run_in_order",
    "docs/metrics.md": "metrics/test_metrics_page::test_the_examples_run_and_return_what_they_show",
    "docs/open-data.md": "sources/open_data/test_open_data_page::test_all_examples_run_one_after_the_other",
    "docs/rates.md": "sources/rates/test_rates_page::test_the_examples_run",
    "docs/scaling.md": "service/test_scaling::test_the_documented_lines_for_several_servers_run",
}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^ *```(\w*) *$", re.MULTILINE)


def places(text: str, page: str) -> set[str]:
    """Return where a page has examples: the page itself, or sections of the README, the first of which has no name."""
    if page != "README.md":
        return {page} if "```python" in text else set()
    sections = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    named = dict(zip(["", *sections[1::2]], sections[::2], strict=True))
    anchors = {name: "#" + re.sub(r"[^a-z0-9]+", "-", name.lower()) if name else "" for name in named}
    return {page + anchors[name] for name, section in named.items() if "```python" in section}


def test_every_place_with_examples_has_a_test_and_every_test_has_a_place():
    found = {place for page in PAGES for place in places(page.read_text(), page.relative_to(ROOT).as_posix())}
    assert found == set(RUN_BY)


@pytest.mark.parametrize("place", RUN_BY)
def test_the_named_test_exists(place):
    module, _, name = RUN_BY[place].partition("::")
    text = (ROOT / "tests" / f"{module}.py").read_text(encoding="utf-8")
    assert re.search(rf"^def {name}\(", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_blocks_are_in_python_console_or_yaml(page):
    kinds = FENCE.findall(page.read_text(encoding="utf-8"))
    assert set(kinds[::2]) <= {"python", "console", "yaml"}
    assert set(kinds[1::2]) <= {""}


PORTUGUESE = (ROOT / "README.pt-BR.md").read_text(encoding="utf-8")
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")


def code_of(text: str) -> list[str]:
    """Return the examples without their comments, which are in the language of the page."""
    blocks = re.findall(r"^```\w+\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [re.sub(r" *(  |^)# .*$", "", block, flags=re.MULTILINE) for block in blocks]


class TestThePortugueseReadme:
    def test_its_examples_are_in_the_english_one_in_the_same_order(self):
        ours, theirs = code_of(PORTUGUESE), code_of(ENGLISH)
        assert len(ours) >= 5
        assert [block for block in theirs if block in ours] == ours

    def test_each_readme_links_to_the_other(self):
        assert "](README.md)" in PORTUGUESE
        assert "](README.pt-BR.md)" in ENGLISH

    def test_its_links_and_pictures_exist_and_are_in_the_english_one_too(self):
        targets = re.findall(r"\]\(([^)#]+)\)", PORTUGUESE)
        assert [target for target in targets if not (ROOT / target).exists()] == []
        assert set(targets) - {"README.md"} <= set(re.findall(r"\]\(([^)#]+)\)", ENGLISH))

    def test_both_name_the_same_ways_to_run_it_elsewhere(self):
        def commands(text: str, heading: str) -> list[str]:
            return re.findall(r"`([^`]+)`", text.partition(heading)[2].partition("\n## ")[0])

        assert commands(PORTUGUESE, "\n## Em outros sistemas\n") == commands(ENGLISH, "\n## Elsewhere\n")
