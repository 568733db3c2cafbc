"""Widgets of a notebook as plain HTML, since the scripts of widgets do not run offline."""

from __future__ import annotations

from html import escape
from typing import Any

_WIDGET = "application/vnd.jupyter.widget-view+json"
_STATE = "application/vnd.jupyter.widget-state+json"


def freeze_widgets(notebook: Any) -> None:
    """Replace each widget of a notebook with its last state."""
    states = notebook.metadata.get("widgets", {}).get(_STATE, {}).get("state", {})
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            view = output.get("data", {}).pop(_WIDGET, None)
            if view is not None and view["model_id"] in states:
                output["data"]["text/html"] = f"<div>{_frozen(view['model_id'], states)}</div>"
    notebook.metadata.pop("widgets", None)


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
