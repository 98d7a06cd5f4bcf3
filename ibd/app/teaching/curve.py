"""What corrections of a person were worth: the accuracy by their number, beside that of one who knows the truth."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from torch import Tensor

from ibd.app.teaching.record import Row
from ibd.metrics.functional.shares import share_interval


@dataclass(frozen=True)
class Taught:
    """A finished image.

    Attributes:
        image: index of the image in its split.
        right: whether the prediction was right after 0, 1, ... groups were answered.
        seconds: time that the first, second, ... of these took.
    """

    image: int
    right: list[bool]
    seconds: list[float]


@dataclass(frozen=True)
class Point:
    """The finished images with at most so many groups answered: who stopped earlier counts as they left the image.

    Attributes:
        groups: number of groups that were answered at most.
        images: number of finished images.
        answered: number of these with so many answers or more.
        right: number of images whose prediction is right.
        accuracy: their share; NaN without any image.
        low: lower end of its interval of 95 % over images (Wilson 1927).
        high: upper end.
        oracle: accuracy on the same images with as many groups set to the truth of the data; NaN where that is unknown.
        seconds: mean time of the answer with this number; NaN for 0.
    """

    groups: int
    images: int
    answered: int
    right: int
    accuracy: float
    low: float
    high: float
    oracle: float
    seconds: float


def taught_images(rows: Sequence[Row]) -> list[Taught]:
    """Return the finished images of a record; skipped ones, and one that is not finished yet, are left out."""
    finished = list[Taught]()
    groups, right = dict[str, float](), list[bool]()
    for row in rows:
        if not right:
            right = [row.right_before]
        if row.event in ("done", "skipped"):
            if row.event == "done":
                finished.append(Taught(row.image, right, list(groups.values())))
            groups, right = {}, []
            continue
        if row.event == "undo":
            groups.pop(row.group, None)
        else:
            groups[row.group] = row.seconds
        right = [*right[: len(groups)], row.right_after]
    return finished


def teaching_curve(images: Sequence[Taught], groups: int, oracle: Tensor | None = None) -> list[Point]:
    """Return the accuracy by the largest number of groups answered, from 0 to as many as were, at least once.

    Args:
        images: finished images.
        groups: number of groups that there are.
        oracle: (groups + 1, N) share of trials in which each image of the split is right once so many groups are set to
            their truth, as `ibd.models.cbm.intervention.InterventionCurve.right` has it.
    """
    most = max((len(image.seconds) for image in images), default=0)
    return [_point(images, min(count, groups), oracle) for count in range(most + 1)]


def _point(images: Sequence[Taught], count: int, oracle: Tensor | None) -> Point:
    right = sum(image.right[min(count, len(image.right) - 1)] for image in images)
    times = [image.seconds[count - 1] for image in images if 0 < count <= len(image.seconds)]
    share = share_interval(right, len(images))
    known = math.nan
    if oracle is not None and images:
        # As many as the person answered: who stopped after two groups is compared with two that are right.
        known = sum(float(oracle[min(count, len(image.seconds)), image.image]) for image in images) / len(images)
    return Point(
        groups=count,
        images=len(images),
        answered=sum(len(image.seconds) >= count for image in images),
        right=right,
        accuracy=share.mean,
        low=share.low,
        high=share.high,
        oracle=known,
        seconds=sum(times) / len(times) if times else math.nan,
    )


def curve_csv(points: Sequence[Point]) -> str:
    """Return a curve as a table; a number that is unknown is an empty cell."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow([field.name for field in fields(Point)])
    for point in points:
        writer.writerow([_cell(value) for value in asdict(point).values()])
    return file.getvalue()


def _cell(value: float) -> str | int:
    if isinstance(value, int):
        return value
    return "" if math.isnan(value) else f"{value:.6g}"


def agreement(rows: Sequence[Row]) -> tuple[int, int]:
    """Return how many units were set as the data has them, and how many the data knows: of answers that stand.

    Quantities count where they are equal.
    """
    standing = dict[tuple[int, str], dict[str, bool]]()
    for row in rows:
        key = row.image, row.group
        if row.event == "undo":
            standing.pop(key, None)
        elif row.event == "answer" and row.annotated is not None and row.after is not None:
            standing.setdefault(key, {})[row.unit] = row.after == row.annotated
    found = [agrees for units in standing.values() for agrees in units.values()]
    return sum(found), len(found)
