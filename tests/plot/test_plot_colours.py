"""Colours that stand beside each other are told apart with any colour vision.

Dichromacy is simulated as by Machado, Oliveira and Fernandes (2009), differences are CIE 1976, where about 2 is just
seen and 10 is seen at a glance.
"""

from __future__ import annotations

import itertools

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from scraperkit import plot
from scraperkit.plot import heatmaps, jobs

mpl.use("Agg")

VISION = {
    "all cones": np.eye(3),
    "no red cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green cones": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no blue cones": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def lab(colour, vision: str) -> np.ndarray:
    """Return CIE L*a*b* of a colour as seen with this vision."""
    encoded = np.array(to_rgb(colour))
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(VISION[vision]) @ linear, 0, 1)
    x, y, z = np.cbrt(_TO_XYZ @ seen / (_TO_XYZ @ np.ones(3)))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def apart(one, other, vision: str) -> float:
    return float(np.linalg.norm(lab(one, vision) - lab(other, vision)))


def test_the_colour_distance_matches_known_values():
    assert lab("white", "all cones") == pytest.approx([100, 0, 0], abs=0.1)
    assert lab("#808080", "no blue cones") == pytest.approx([53.6, 0, 0], abs=0.2)
    assert apart("#CC3333", "#6E6E00", "all cones") > 60
    assert apart("#CC3333", "#6E6E00", "no green cones") < 30


@pytest.mark.parametrize("vision", VISION)
def test_line_colours_are_distinct(vision):
    for one, other in itertools.combinations(plot.COLOURS, 2):
        assert apart(one, other, vision) > 10, (one, other)
        assert apart(one, "white", vision) > 25


@pytest.mark.parametrize("vision", VISION)
def test_outcome_colours_are_distinct(vision):
    for (name, one), (other_name, other) in itertools.combinations(jobs._LOOKS.items(), 2):
        far = apart(one.colour, other.colour, vision) > 10
        assert far or one.marker != other.marker, (name, other_name)
        assert one.marker != other.marker or "dead" in (name, other_name), "a marker tells them apart in grey"


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("scale", [heatmaps.DIVERGING, heatmaps._SHARES])
def test_the_ends_of_a_heat_map_are_distinct(vision, scale):
    low, middle, high = (scale(place) for place in (0.0, 0.5, 1.0))
    assert apart(low, high, vision) > 40
    assert apart(low, middle, vision) > 25
    assert apart(high, middle, vision) > 25


def test_one_missing_day_of_a_month_is_visible():
    for vision in VISION:
        assert apart(heatmaps._SHARES(22 / 23), heatmaps._SHARES(1.0), vision) > 10
