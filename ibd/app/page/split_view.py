"""The splits of a run as the data-set mode sees them: read in the background, counted once, and anew after a change."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from ibd.app.page.site import NotFoundError, Served
from ibd.app.page.split_answers import Answers
from ibd.app.page.table import Rows, rows_of
from ibd.app.page.thumbnails import Thumbnails
from ibd.data.base import SPLITS, Split
from ibd.metrics.functional.where_wrong import WhereWrong
from ibd.models.where_wrong import where_model_wrong


@dataclass(frozen=True)
class View:
    """A split that was read.

    Attributes:
        answers: what the model says of it.
        wrong: where it is wrong: the figures of ``ibd test``.
        rows: its images as a table.
    """

    answers: Answers
    wrong: WhereWrong
    rows: Rows


class SplitViews:
    """The splits of one run.

    Args:
        run: the run.

    Attributes:
        thumbnails: small pictures of its images.
    """

    def __init__(self, run: Served) -> None:
        self.run, self.thumbnails = run, Thumbnails()
        self._views: dict[Split, View] = {}
        self._lock = threading.RLock()

    def begin(self, name: str) -> dict[str, Any]:
        """Begin to read a split, if nobody has; return how far that is, as plain values.

        Raises:
            NotFoundError: there is no such split.
        """
        split, works = _split(name), self.run.works
        key, title = f"answers:{split}", f"reading the {split} images"
        read = works.get(key)
        if read is not None and read.result is not None and self.run.answers.ready(split) is None:
            works.stop(key)  # they were forgotten, as the model has changed
        work = works.start(key, lambda told: self.run.answers.get(split, told), title)
        state = {**work.state(), "ready": work.result is not None, "split": split}
        if work.result is None:
            return state
        view = self.get(split)
        return state | {"images": len(view.answers), "of": view.answers.of, "concepts": list(view.rows.concept_names)}

    def get(self, name: str) -> View:
        """Return a split, read now if nobody has; who asks meanwhile waits.

        Raises:
            NotFoundError: there is no such split.
            DataError: it has no images.
        """
        split = _split(name)
        answers, model = self.run.answers.get(split), self.run.model
        with self._lock:
            known = self._views.get(split)
            if known is None or known.answers is not answers:
                wrong = where_model_wrong(model, answers.read.to(next(model.parameters()).device))
                known = self._views[split] = View(answers, wrong, rows_of(model, answers, wrong))
            return known


def _split(name: str) -> Split:
    for split in SPLITS:
        if split == name:
            return split
    raise NotFoundError(f"there is no split '{name}': it is one of {', '.join(SPLITS)}")
