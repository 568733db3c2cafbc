"""What Sphinx builds the site with. Nothing is fetched, neither for building nor for reading it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

from scraperkit import __version__

project = "scraperkit"
version = release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
templates_path = [str(Path(__file__).parent / "templates")]  # autosummary looks beside the pages else
exclude_patterns = [".doctrees"]

# Markdown as the repository shows it: headings have the same anchors, and R$ 1,00 is no formula.
myst_enable_extensions = ["dollarmath"]
myst_dmath_allow_space = False
myst_dmath_allow_digits = False
myst_heading_anchors = 4

# Lessons come executed.
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js: dict[str, Any] = {}

autosummary_imported_members = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"  # the docstrings tell more
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
html_sidebars = {"index": [], "CHANGELOG": [], "README.pt-BR": []}
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "footer_start": ["sphinx-version"],
    "footer_end": ["theme-version"],
}


def _show_formula(writer: Any, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers show by themselves."""
    block = isinstance(node, nodes.math_block)
    formula = tex2mathml(node.astext(), as_block=block)
    writer.body.append(f'<div class="formula">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def _tell_language(_app: Sphinx, page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    if page.endswith(".pt-BR"):
        context["language"] = "pt-BR"


def setup(app: Sphinx) -> None:
    """Register what Sphinx has no setting for."""
    app.add_html_math_renderer("mathml", (_show_formula, None), (_show_formula, None))
    app.connect("html-page-context", _tell_language)
