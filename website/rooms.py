"""The picture of the rooms in docs/architecture.md, drawn from the code: `make rooms` writes docs/images/rooms.svg.

The order of the rooms, and how an import is read, are those of the test that holds the order.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from tests.unit.test_imports import FILES, GROUND, ORDER, imports, module_of, room_of
from website import ROOT

PICTURE = ROOT / "docs" / "images" / "rooms.svg"
INK, GRID, PAPER, YELLOW_PALE = "#263238", "#cfd8dc", "#ffffff", "#fff3d1"
WAYS = {
    "an image": (
        "#bf360c",
        {
            "data": "1. read, resized, in [0, 1]: a Batch",
            "backbones": "2. features (B, F, h, w)",
            "models": "3. units, class logits: an Output, a Prediction",
            "explain": "4. maps for a class or a unit: an Explanation",
            "metrics": "5. numbers for each map",
            "comparison": "6. intervals, verdicts, the page: a Report",
        },
    ),
    "an option": (
        "#00695c",
        {
            "cli": "1. key=value, as it was typed",
            "app": "2. the verb's function",
            "config": "3. merged, checked against a signature",
            "registry": "4. name -> class",
            "training": "5. the class is called with it",
            "models": "6. self.hparams",
            "io": "7. in the checkpoint, for load_model",
        },
    ),
}
"""Way -> its color, and what happens in each room on it."""


def edges() -> set[tuple[str, str]]:
    """Return each pair of rooms of which the first imports from the second."""
    pairs = {(room_of(module_of(path)), room_of(module)) for path in FILES for _, module in imports(path)}
    return {(here, there) for here, there in pairs if here != there and there in ORDER}


def draw() -> Figure:
    """Draw the rooms from the command line down to the ground: who imports whom, and the two ways."""
    rows = [*ORDER][::-1]
    figure = Figure(figsize=(13.2, 0.34 * len(rows) + 1.7))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-4.0, 36.8), ylim=(len(rows) + 1.1, -3.9))
    axes.axis("off")
    _draw_imports(axes, rows)
    for x, (way, (color, steps)) in zip((len(rows) + 0.6, len(rows) + 10.2), WAYS.items(), strict=True):
        _draw_way(axes, rows, x, way, color, steps)
    return figure


def _draw_imports(axes: Any, rows: list[str]) -> None:
    count, first = len(rows), len(rows) - len(GROUND)
    above = [(-0.5, -0.5), (count - 0.5, -0.5), *((i - 0.5, j - 0.5) for i in range(count, 0, -1) for j in (i, i - 1))]
    axes.add_patch(Polygon(above, facecolor=YELLOW_PALE, edgecolor="none"))
    axes.add_patch(Rectangle((first - 0.5, first - 0.5), count - first, count - first, facecolor=YELLOW_PALE))
    for end in range(count + 1):
        axes.plot([-0.5, count - 0.5], [end - 0.5] * 2, color=GRID, linewidth=0.6)
        axes.plot([end - 0.5] * 2, [-0.5, count - 0.5], color=GRID, linewidth=0.6)
    for number, room in enumerate(rows):
        axes.text(-0.8, number, room, ha="right", va="center", fontsize=10, weight="bold", color=INK)
        axes.text(number + 0.1, -0.8, room, rotation=50, ha="left", va="bottom", fontsize=8.5, color=INK)
        axes.add_patch(Rectangle((number - 0.5, number - 0.5), 1, 1, facecolor=INK))
    for here, there in sorted(edges()):
        place = (rows.index(there), rows.index(here))
        axes.text(*place, "●", ha="center", va="center", fontsize=9, color="#bf7b00", gid=f"{here} imports {there}")
    frame = Rectangle(
        (first - 0.5, first - 0.5), count - first, count - first, fill=False, edgecolor=INK, linewidth=1.6
    )
    axes.add_patch(frame)
    note = "●  code of the row uses code of the column, which may stand in the yellow half alone. Framed: the ground"
    axes.text(-0.5, count + 0.15, note, ha="left", va="center", fontsize=8.5, color=INK)


def _draw_way(axes: Any, rows: list[str], x: float, way: str, color: str, steps: dict[str, str]) -> None:
    if unknown := steps.keys() - set(rows):
        raise ValueError(f"the way of {way} passes through what is no room: {', '.join(sorted(unknown))}")
    heights = [rows.index(room) for room in steps]
    axes.text(x, -1, f"the way of {way}", ha="left", va="center", fontsize=10, weight="bold", color=color)
    axes.plot([x] * 2, [min(heights), max(heights)], color=color, linewidth=2, alpha=0.35)
    for y, text in zip(heights, steps.values(), strict=True):
        axes.plot([x], [y], marker="o", color=color, markersize=5)
        axes.text(x + 0.35, y, text, ha="left", va="center", fontsize=9, color=INK)


def save(path: Path = PICTURE) -> None:
    """Write the picture: the same bytes wherever the same version of matplotlib draws it."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "rooms", "font.family": "sans-serif"}):
        draw().savefig(path, format="svg", metadata={"Date": None, "Creator": None}, facecolor=PAPER)
    text = re.sub(r"[ \t]+$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")


def texts(path: Path = PICTURE) -> list[str]:
    """Return what a picture says: its imports by their marks, and all other text, in the order of drawing."""
    said, name = [], "{http://www.w3.org/2000/svg}"
    for group in ElementTree.parse(path).iter(f"{name}g"):  # noqa: S314 - our own picture
        if (text := group.find(f"{name}text")) is not None:
            mark = group.get("id", "")
            said.append(mark if " imports " in mark else str(text.text))
    return said


if __name__ == "__main__":
    save()
