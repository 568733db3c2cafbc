"""Outputs of a notebook for a page: widgets as plain HTML, since their scripts do not run offline, and long texts."""

from __future__ import annotations

import re
from html import escape
from typing import Any

_WIDGET = "application/vnd.jupyter.widget-view+json"
_STATE = "application/vnd.jupyter.widget-state+json"
_PREDICT, _EXPLANATION = "**Predict.**", "<details>"
_LONG = re.compile(r"<td>([^<]{33,})</td>")


def freeze_widgets(notebook: Any) -> None:
    """Replace each widget of a notebook with the HTML beside it, of the time of its cell, or with its last state."""
    states = notebook.metadata.get("widgets", {}).get(_STATE, {}).get("state", {})
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            view = output.get("data", {}).pop(_WIDGET, None)
            if view is not None and "text/html" not in output["data"] and view["model_id"] in states:
                output["data"]["text/html"] = f"<div>{_frozen(view['model_id'], states)}</div>"
    notebook.metadata.pop("widgets", None)


def fold_predicted(notebook: Any) -> None:
    """Fold all outputs from a question to its explanation, so that the page does not answer what it asks."""
    is_asked = False
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            is_asked = _PREDICT in cell.source or (is_asked and _EXPLANATION not in cell.source)
        elif is_asked:
            cell.metadata.setdefault("tags", []).append("hide-output")


def mark_long_cells(notebook: Any) -> None:
    """Give long texts in tables the class ``long``, so that only these are wrapped."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "dataframe" in (html := output.get("data", {}).get("text/html", "")):
                output["data"]["text/html"] = _LONG.sub(r'<td class="long">\1</td>', html)


def _frozen(model_id: str, states: Any) -> str:
    model = states.get(model_id, {})
    name, state = model.get("model_name", ""), model.get("state", {})
    if "children" in state:
        parts = [_frozen(child.removeprefix("IPY_MODEL_"), states) for child in state["children"]]
        between = " " if name == "HBoxModel" else "<br>"
        return between.join(filter(None, parts))
    if name == "FloatProgressModel":
        return f"<progress value='{float(state.get('value', 0)):g}' max='{float(state.get('max', 100)):g}'></progress>"
    if name == "HTMLModel":
        return str(state.get("value", ""))
    if name == "ButtonModel":
        return f"<button disabled>{escape(str(state.get('description', '')))}</button>"
    return escape(str(state.get("value", "")))
