"""The splits of a run as the data-set mode sees them: read in the background, counted once, and anew after a change."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from ibd.app.page.long_work import Told, nobody_told
from ibd.app.page.site import SPLIT_WORDS, Served, split_named
from ibd.app.page.split_answers import Answers
from ibd.app.page.table import Rows, rows_of
from ibd.app.page.thumbnails import Thumbnails
from ibd.data.base import Split
from ibd.metrics.functional.where_wrong import WhereWrong
from ibd.models.calibration.calibration import Calibration
from ibd.models.where_wrong import where_model_wrong


@dataclass(frozen=True)
class View:
    """A split that was read.

    Attributes:
        answers: what the model says of it.
        wrong: where it is wrong: the figures of ``ibd test``.
        rows: its images as a table.
        calibration: by which the model was read.
    """

    answers: Answers
    wrong: WhereWrong
    rows: Rows
    calibration: Calibration | None = None


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
        split, works = split_named(name), self.run.works
        key, title = f"data:{split}", f"reading the {SPLIT_WORDS[split]} images"
        before = works.get(key)
        if before is not None and before.result is not None and self.run.answers.ready(split) is None:
            works.stop(key)  # they were forgotten, as the model has changed
        work = works.start(key, lambda told: self.get(split, told), title)
        state = {**work.state(), "ready": work.result is not None, "split": split}
        if work.result is None:
            return state
        view = self.get(split)
        return state | {"images": len(view.answers), "of": view.answers.of, "concepts": list(view.rows.concept_names)}

    def get(self, name: str, told: Told = nobody_told) -> View:
        """Return a split, read and counted now if nobody has; who asks meanwhile waits.

        After a change of thresholds it is the same images and figures, with what is called true and answered anew.

        Args:
            name: name of the split.
            told: is told how many images of how many are read.

        Raises:
            NotFoundError: there is no such split.
            DataError: it has no images.
        """
        split, model = split_named(name), self.run.model
        answers = self.run.answers.get(split, told)
        with self._lock:
            known = self._views.get(split)
            if known is None or known.answers is not answers:
                if known is not None and known.answers.read is answers.read and known.calibration is model.calibration:
                    wrong = known.wrong
                else:
                    wrong = where_model_wrong(model, answers.read.to(next(model.parameters()).device))
                known = View(answers, wrong, rows_of(model, answers, wrong), model.calibration)
                self._views[split] = known
            return known
