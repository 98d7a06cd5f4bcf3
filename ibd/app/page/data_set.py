"""What the data-set mode asks of the server: the images of a split as a table, its figures, and thresholds."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from starlette.responses import Response
from starlette.routing import Route

from ibd.app.page import split_figures as told
from ibd.app.page.answers import Asked, get, post
from ibd.app.page.site import Served, Site
from ibd.app.page.split_view import SplitViews, View
from ibd.app.page.table import (
    HAVINGS,
    ORDERS,
    STATES,
    Rows,
    Wanted,
    described,
    index_of,
    ordered,
    selected,
)
from ibd.app.page.thresholds import one_place, set_threshold, slider, thresholds_set
from ibd.errors import ConfigError, did_you_mean

MOST_ROWS = 200
"""Rows of a page of the table."""
T = TypeVar("T", bound=str)


def routes(site: Site) -> list[Route]:
    """Return the routes of this mode."""
    mode = DataSetMode()
    at = "/api/runs/{run}/data"
    return [
        get(site, f"{at}/state", mode.state),
        get(site, f"{at}/rows", mode.rows),
        get(site, f"{at}/thumbnail", mode.thumbnail),
        get(site, f"{at}/figures", mode.figures),
        get(site, f"{at}/confusion", mode.confusion),
        get(site, f"{at}/reliability", mode.reliability),
        get(site, f"{at}/thresholds", mode.thresholds),
        get(site, f"{at}/threshold", mode.threshold),
        post(site, f"{at}/threshold", mode.set_threshold),
    ]


class DataSetMode:
    """The answers of this mode, with the splits that were read of each run."""

    def __init__(self) -> None:
        self._views: WeakKeyDictionary[Served, SplitViews] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def views(self, asked: Asked) -> SplitViews:
        """Return the splits of the run that is asked about."""
        run = asked.run
        with self._lock:
            if run not in self._views:
                self._views[run] = SplitViews(run)
            return self._views[run]

    def view(self, asked: Asked) -> View:
        """Return the split that is asked about."""
        return self.views(asked).get(asked.text("split", "test"))

    def state(self, asked: Asked) -> dict[str, Any]:
        """Return how far a split is read; reading begins now if nobody has asked yet."""
        return self.views(asked).begin(asked.text("split", "test"))

    def rows(self, asked: Asked) -> dict[str, Any]:
        """Return some rows of the table."""
        rows = self.view(asked).rows
        wanted = wanted_rows(asked, rows)
        positions = selected(rows, wanted)
        by = one_of("by", asked.text("by", "image"), ORDERS)
        positions = ordered(rows, positions, by, asked.text("descending", "") == "1", wanted.concept)
        start, limit = asked.count("offset", 0), asked.count("limit", 50, 1, MOST_ROWS)
        some = positions[start : start + limit].tolist()
        right = int(rows.right[positions].sum())
        return {
            "count": len(positions),
            "right": right,
            "offset": start,
            "rows": [described(rows, position, wanted.concept) for position in some],
        }

    def thumbnail(self, asked: Asked) -> Response:
        """Return a small picture of an image."""
        views, name = self.views(asked), asked.text("image")
        split, _, number = name.partition(":")
        key = (split, number)
        if (made := views.thumbnails.find(key)) is None:
            made = views.thumbnails.keep(key, asked.run.sample(split, number)[1].image)
        return Response(made, media_type="image/jpeg")

    def figures(self, asked: Asked) -> dict[str, Any]:
        """Return the figures of a split."""
        return told.figures(self.view(asked))

    def confusion(self, asked: Asked) -> dict[str, Any]:
        """Return the confusion matrix of a split."""
        return told.confusion(self.view(asked))

    def reliability(self, asked: Asked) -> dict[str, Any]:
        """Return the reliability diagram of one concept."""
        view = self.view(asked)
        return told.concept_curve(view, index_of("concept", asked.text("concept"), view.rows.concept_names))

    def thresholds(self, asked: Asked) -> dict[str, Any]:
        """Return the thresholds that are set, and what can have one."""
        return thresholds_set(self.views(asked))

    def threshold(self, asked: Asked) -> dict[str, Any]:
        """Return what each place of a slider comes to, or what one ``value`` does."""
        views, concept = self.views(asked), asked.text("concept", "") or None
        if asked.given.get("value") is None:
            return slider(views, concept)
        return one_place(views, concept, asked.number("value", least=0.0, most=1.0))

    def set_threshold(self, asked: Asked) -> dict[str, Any]:
        """Set a threshold, or take it away, and keep it with the run."""
        return set_threshold(self.views(asked), asked)


def wanted_rows(asked: Asked, rows: Rows) -> Wanted:
    """Return which rows are asked for.

    Raises:
        ConfigError: a name that there is not, or a number out of its range.
    """
    truth, predicted, concept = (asked.text(key, "") for key in ("truth", "predicted", "concept"))
    names = rows.class_names
    return Wanted(
        state=one_of("state", asked.text("state", "all"), STATES),
        truth=index_of("truth", truth, names) if truth else None,
        predicted=index_of("predicted", predicted, names) if predicted else None,
        least=asked.number("least", 0.0, 0.0, 1.0),
        most=asked.number("most", 1.0, 0.0, 1.0),
        concept=index_of("concept", concept, rows.concept_names) if concept else None,
        having=one_of("having", asked.text("having", "wrong"), HAVINGS),
        text=asked.text("text", ""),
    )


def one_of(what: str, name: str, known: Sequence[T]) -> T:
    """Return a name that is known.

    Raises:
        ConfigError: it is not.
    """
    for each in known:
        if each == name:
            return each
    raise ConfigError(f"{what}: there is no '{name}'.{did_you_mean(name, known)}")
