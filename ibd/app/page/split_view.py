"""The splits of a run as the data-set mode sees them: read in the background, counted once, and anew after a change."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass
from typing import Any

from ibd.app.page.long_work import Works
from ibd.app.page.site import NotFoundError, Served
from ibd.app.page.split_answers import Answers, KeptAnswers
from ibd.app.page.table import Rows, rows_of
from ibd.app.page.thumbnails import Thumbnails
from ibd.data.base import SPLITS, Split
from ibd.metrics.functional.where_wrong import WhereWrong
from ibd.models.thresholds import Thresholds
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
        model: a copy of its model, so that reading a split keeps no slider waiting.
        thumbnails: small pictures of its images.
    """

    def __init__(self, run: Served) -> None:
        self.run, self.thumbnails = run, Thumbnails()
        with run.lock:
            self.model = copy.deepcopy(run.model)
        self._kept = KeptAnswers(self.model, run.data)
        self._works = Works()
        self._views: dict[Split, View] = {}
        self._lock = threading.RLock()

    def begin(self, name: str) -> dict[str, Any]:
        """Begin to read a split, if nobody has; return how far that is, as plain values.

        Raises:
            NotFoundError: there is no such split.
        """
        split = _split(name)
        work = self._works.start(split, lambda told: self._kept.get(split, told), f"reading the {split} images")
        ready = self._kept.ready(split) is not None
        counts = {each: len(self.run.data.dataset(each)) for each in SPLITS}
        return {**work.state(), "ready": ready, "split": split, "counts": counts}

    def get(self, name: str) -> View:
        """Return a split, read now if nobody has; who asks meanwhile waits.

        Raises:
            NotFoundError: there is no such split.
            DataError: it has no images.
        """
        split = _split(name)
        answers = self._kept.get(split)
        with self._lock:
            known = self._views.get(split)
            if known is None or known.answers is not answers:
                wrong = where_model_wrong(self.model, answers.read.to(next(self.model.parameters()).device))
                known = self._views[split] = View(answers, wrong, rows_of(self.model, answers, wrong))
            return known

    def take(self, thresholds: Thresholds | None) -> None:
        """Take over other thresholds: what is called true and answered is told anew, and no image is read."""
        with self._lock:
            self.model.thresholds = thresholds
            self._kept.calibrated()


def _split(name: str) -> Split:
    for split in SPLITS:
        if split == name:
            return split
    raise NotFoundError(f"there is no split '{name}': it is one of {', '.join(SPLITS)}")
