"""Configuration of Sphinx. Neither building nor reading the site fetches anything."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger

from scraperkit import __version__

project = "scraperkit"
version = release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
templates_path = [str(Path(__file__).parent / "templates")]  # by default, autosummary looks beside the pages
exclude_patterns = [".doctrees"]
smartquotes = False  # quoted text is often code

# Markdown as in the repository: headings have the same anchors, and R$ 1,00 is not a formula.
myst_enable_extensions = ["dollarmath"]
myst_dmath_allow_space = False
myst_dmath_allow_digits = False
myst_heading_anchors = 4

# The lessons are already executed.
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js: dict[str, Any] = {}

autosummary_imported_members = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"  # the docstrings say more
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # autodoc shows them

html_theme = "pydata_sphinx_theme"
html_title = "scraperkit"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_show_copyright = False
html_copy_source = False
html_sidebars: dict[str, list[str]] = {"index": [], "CHANGELOG": [], "README.pt-BR": []}
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "footer_start": ["sphinx-version"],
    "footer_end": ["theme-version"],
}


def _show_formula(writer: Any, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers support; warn if docutils cannot parse it."""
    block = isinstance(node, nodes.math_block)
    text = re.sub(r"\\dots\b", r"\\ldots", node.astext())  # docutils knows only the longer name
    try:
        formula = tex2mathml(text, as_block=block)
    except MathError as error:
        getLogger(__name__).warning("formula %s: %s", text, error, location=node)
        raise nodes.SkipNode from None
    writer.body.append(f'<div class="formula">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def _set_language(_app: Sphinx, page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    if page.endswith(".pt-BR"):
        context["language"] = "pt-BR"


def _describe(_app: Sphinx, kind: str, name: str, value: Any, _options: Any, lines: list[str]) -> None:
    """Describe data by the comment above it, and settings by the descriptions of their fields."""
    if kind == "data":
        lines[:] = _comment(name, value)
    elif isinstance(value, type) and issubclass(value, BaseModel) and "Attributes" not in lines:
        fields = value.model_fields.items()
        lines += ["", "Attributes", "----------"]
        lines += [text for field, info in fields for text in (field, f"    {info.description}")]


def _comment(name: str, value: Any) -> list[str]:
    """Return the ``#:`` comment lines above the definition of a value."""
    room, _, short = name.rpartition(".")
    for module in sorted(loaded for loaded in sys.modules if loaded.startswith(f"{room}.")):
        if vars(sys.modules[module]).get(short) is value:
            found = re.search(rf"((?:^#: .*\n)+){short}\b", inspect.getsource(sys.modules[module]), re.MULTILINE)
            if found:
                return found[1].replace("#: ", "").splitlines()
    return []


def _shorten(_app: Sphinx, _kind: str, _name: str, value: Any, *_: Any) -> tuple[str, str] | None:
    """Omit the signatures of settings, to which pydantic adds dozens of arguments."""
    return ("", "") if isinstance(value, type) and issubclass(value, BaseModel) else None


def setup(app: Sphinx) -> None:
    """Register the extensions of this file."""
    app.add_html_math_renderer("mathml", (_show_formula, None), (_show_formula, None))
    app.connect("html-page-context", _set_language)
    app.connect("autodoc-process-docstring", _describe, priority=100)  # before numpydoc
    app.connect("autodoc-process-signature", _shorten)
