"""Names beside dots that cover neither each other nor a dot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from scraperkit.plot.style import INK

_DOT = 6.0  # pixels at 100 dpi: half the width of a dot
_ANGLES = (0, 180, 90, 270, 45, 315, 135, 225, 20, 160, 340, 200)
_DISTANCES = (9, 18, 30, 46, 66, 90, 120)  # points


def label_dots(ax: Axes, spots: Sequence[tuple[float, float, str]]) -> None:
    """Write a text beside each dot, near it where there is room, else farther away with a line to it.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        With its final limits; the figure is laid out now.
    spots : sequence of (float, float, str)
        Where each dot is, in the units of the axes, and its text.
    """
    figure: Any = ax.figure
    figure.draw_without_rendering()
    scale = figure.dpi / 72
    room = ax.get_window_extent()
    centres = ax.transData.transform([(x, y) for x, y, _ in spots])
    taken = [Bbox.from_extents(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for x, y in centres]
    for place in np.argsort(-centres[:, 1], kind="stable"):
        x, y, text = spots[place]
        note = ax.annotate(
            text, (x, y), (0, 0), textcoords="offset points", fontsize="small", color=INK, linespacing=1.0,
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 4},
        )  # fmt: skip
        size = note.get_window_extent()
        best = min(
            _offsets(size.width, size.height, scale),
            key=lambda box: _cost(Bbox(box[2].get_points() + centres[place]), taken, room, box[3]),
        )
        right, up, box, distance = best
        note.set_position((right, up))
        note.set_horizontalalignment("left")
        note.set_verticalalignment("bottom")
        if distance == _DISTANCES[0]:
            note.arrow_patch.set_visible(False)  # type: ignore[union-attr]
        taken.append(Bbox(box.get_points() + centres[place]))


def _offsets(width: float, height: float, scale: float) -> Iterator[tuple[float, float, Bbox, int]]:
    """Yield places for a text: lower left corner in points, box in pixels from the dot, and distance in points."""
    for distance in _DISTANCES:
        for angle in _ANGLES:
            across, along = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            left = across * distance * scale - width * (1 - across) / 2
            low = along * distance * scale - height * (1 - along) / 2
            yield left / scale, low / scale, Bbox.from_bounds(left, low, width, height), distance


def _cost(box: Bbox, taken: Sequence[Bbox], room: Bbox, distance: int) -> float:
    """Return the cost of a place: the area it covers or has outside the axes first, then its distance."""
    covered = sum(_area(box, other) for other in taken)
    outside = box.width * box.height - _area(box, room)
    return 1000 * (covered + outside) + distance


def _area(one: Bbox, other: Bbox) -> float:
    shared = Bbox.intersection(one, other)
    return shared.width * shared.height if shared is not None else 0.0
