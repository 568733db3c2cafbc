"""The structure: few modules at the root, imports in one direction, and a root that shows only public names."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import grimp
import pytest
from support.tree import ROOT, load_tool

import scraperkit as sk

ROOMS = sorted(path.parent.name for path in (ROOT / "scraperkit").glob("*/__init__.py"))
PUBLIC_MODULES = ["calendar", "errors", "lessons", "metrics", "plot"]


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    return load_tool("figures.py")


class TestRooms:
    def test_the_root_has_at_most_16_modules(self):
        assert len(list((ROOT / "scraperkit").glob("*.py"))) <= 16

    def test_contributing_lists_all_rooms_and_modules_in_the_order_of_the_layers(self):
        told = (ROOT / "CONTRIBUTING.md").read_text()
        table = told[told.index("| room |") : told.index("Beside the package")]
        rooms = re.findall(r"`(\w+)/`", "".join(line.split("|")[1] for line in table.splitlines() if "|" in line))
        assert sorted(rooms) == ROOMS
        modules = re.findall(r"`(\w+\.py)`", table)
        assert {*modules, "__init__.py", "__main__.py"} == {path.name for path in (ROOT / "scraperkit").glob("*.py")}
        (contract, _) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
        (layers,) = re.findall(r"^    cli →.*?\n\n", told, re.DOTALL | re.MULTILINE)
        assert [layer.strip() for layer in layers.split("→")] == contract["layers"][1:]

    def test_every_file_of_the_walk_exists(self):
        told = (ROOT / "CONTRIBUTING.md").read_text()
        walk = told[told.index("## The walk") : told.index("## How to add")]
        assert (files := re.findall(r"`([\w/]+\.(?:py|lua))`", walk))
        assert [file for file in files if not (ROOT / "scraperkit" / file).is_file()] == []

    @pytest.mark.parametrize("room", ROOMS)
    def test_the_first_line_of_each_room_names_its_importers(self, room):
        docstring = ast.get_docstring(ast.parse((ROOT / "scraperkit" / room / "__init__.py").read_text()))
        told = docstring.splitlines()[0].partition("; imported by ")[2].rstrip(".")
        names = {name.removeprefix("the ") for name in re.split(", | and ", told)}
        graph = grimp.build_graph("scraperkit")
        inside = {f"scraperkit.{room}", *graph.find_descendants(f"scraperkit.{room}")}
        importers = set().union(*map(graph.find_modules_that_directly_import, inside)) - inside
        found = {module.split(".")[1] if "." in module else "package root" for module in importers}
        assert found - {"package root"} <= names <= found | {"package root"}

    def test_the_ten_lines_call_few_files(self):
        told = subprocess.run(
            [sys.executable, ROOT / "tools" / "figures.py"], capture_output=True, text=True, check=True, timeout=100
        ).stdout
        (line,) = [line for line in told.splitlines() if line.startswith("files of the ten lines")]
        assert int(line.split()[5].rstrip(",")) <= 34, told


class TestOneMeaningAName:
    """For classes, constants and type aliases. Names that are private in two modules may differ."""

    def test_no_public_name_is_defined_in_another_module_even_with_an_underscore(self):
        for name, where in names().items():
            private = all(each.startswith("_") for each, _ in where.values())
            assert len(where) == 1 or private, f"{name} is in {', '.join(where)}: one meaning a name"

    def test_no_value_is_defined_twice_and_no_two_patterns_share_a_name(self):
        """The name of a pattern says what it matches."""
        for name, where in names().items():
            values = [value for _, value in where.values()]
            assert len(set(values)) == len(values), f"{name} is the same in {', '.join(where)}: define it once"
            if len(values) > 1:
                assert not [value for value in values if value.startswith("re.compile(")], f"{name}: {', '.join(where)}"


def test_only_the_models_format_and_match_months_and_days():
    """Other modules neither format them by hand, nor match them by their own pattern."""
    spelled = re.compile(r"month:02d?}|\{4\}-(\(?\\d|\(?\[0-9\])\{2\}|\{2\}\)?/\(?(\\d|\[0-9\])\{4\}")
    by_hand = {
        f"{path.relative_to(ROOT)}:{number}"
        for path in (ROOT / "scraperkit").rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if spelled.search(line)
    }
    assert {place.partition(":")[0] for place in by_hand} == {"scraperkit/models.py"}, by_hand


def names() -> dict[str, dict[str, tuple[str, str]]]:
    """Return the package's definitions by name without underscore: by module, the exact name and its value."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for path in sorted((ROOT / "scraperkit").rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            for name, value in defined(node):
                found.setdefault(name.lstrip("_"), {})[path.relative_to(ROOT).as_posix()] = name, value
    return found


def defined(node: ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield name and source of each capitalised name that a statement defines, without type variables."""
    if isinstance(node, ast.ClassDef):
        yield node.name, ast.unparse(node)
    elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            many = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
            pairs = zip(target.elts, node.value.elts, strict=True) if many else [(target, node.value)]
            named = ((ast.unparse(one), ast.unparse(value)) for one, value in pairs)
            found = ((name, value) for name, value in named if re.fullmatch(r"_*[A-Z]\w+", name))
            yield from ((name, value) for name, value in found if not value.startswith("TypeVar("))


class TestOneDirection:
    def test_there_are_no_import_cycles_even_with_type_only_imports(self, figures):
        assert figures.import_circles() == []

    def test_the_contract_refuses_an_import_of_a_higher_layer(self, tmp_path):
        """The layers of pyproject.toml, checked against a copy of the package with a forbidden import."""
        package = tmp_path / "scraperkit"
        subprocess.run(["cp", "-r", ROOT / "scraperkit", package], check=True)
        subprocess.run(["cp", ROOT / "pyproject.toml", tmp_path], check=True)
        lint = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
        kept = subprocess.run(lint, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert kept.returncode == 0, kept.stdout
        with (package / "keys.py").open("a") as file:
            file.write("\nif TYPE_CHECKING:\n    from scraperkit.batch import Batch\n")
        broken = subprocess.run(lint, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert broken.returncode == 1
        assert "scraperkit.keys -> scraperkit.batch" in broken.stdout


class TestThePackageRoot:
    def test_every_name_in_all_exists(self):
        for name in sk.__all__:
            assert getattr(sk, name) is not None
        assert dir(sk) == sorted(sk.__all__)

    def test_errors_are_in_the_errors_module(self):
        at_the_top = {name for name in sk.__all__ if isinstance(getattr(sk, name), type)}
        assert {name for name in at_the_top if issubclass(getattr(sk, name), Exception)} == {
            "ScraperKitError",
            "ScraperKitWarning",
        }
        assert not hasattr(sk, "RedisError")
        assert issubclass(sk.errors.RedisError, sk.ScraperKitError)

    def test_has_every_name_that_tools_examples_lessons_and_documents_use(self):
        """Also where the name is in a text that only a rarely run script executes."""
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        places = [ROOT / name for name in listed.splitlines() if name.endswith((".py", ".md", ".ipynb"))]
        used = {name: place for place in places for name in re.findall(r"\bsk\.([A-Z]\w+)", place.read_text("utf-8"))}
        assert {name: place for name, place in used.items() if not hasattr(sk, name)} == {}

    @pytest.mark.parametrize("name", PUBLIC_MODULES)
    def test_tab_completion_shows_only_public_names_and_no_modules(self, name):
        module = getattr(sk, name)
        assert dir(module) == sorted(module.__all__)
        assert not [shown for shown in dir(module) if isinstance(getattr(module, shown), ModuleType)]

    def test_tab_completion_in_a_notebook_offers_the_same(self):
        code = f"""
            from IPython.core.completer import provisionalcompleter
            from IPython.core.interactiveshell import InteractiveShell
            shell = InteractiveShell.instance()
            shell.run_cell("import scraperkit as sk")
            with provisionalcompleter():
                for name in {PUBLIC_MODULES}:
                    text = f"sk.{{name}}."
                    print(*sorted(found.text for found in shell.Completer.completions(text, len(text))))
        """
        words = [sys.executable, "-c", textwrap.dedent(code)]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        assert told.splitlines() == [" ".join(sorted(getattr(sk, name).__all__)) for name in PUBLIC_MODULES]

    def test_the_public_modules_are_the_listed_ones(self):
        assert [name for name in sk.__all__ if isinstance(getattr(sk, name), ModuleType)] == PUBLIC_MODULES

    def test_no_module_has_the_name_of_a_public_function(self):
        for owner in (sk, *(getattr(sk, name) for name in PUBLIC_MODULES)):
            for name in set(owner.__all__) - set(PUBLIC_MODULES):
                with pytest.raises(ModuleNotFoundError):
                    importlib.import_module(f"{owner.__name__}.{name}")

    def test_plot_has_no_attribute_fund(self):
        assert not hasattr(sk.plot, "fund")

    def test_a_subscriber_has_a_dashboard_without_importing_it(self):
        code = "import scraperkit as sk; print(sk.Subscriber._make_dashboard.__name__)"
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert told == "Dashboard\n"
