"""What metrics share that give more than one number."""

from __future__ import annotations

from contextlib import AbstractContextManager

from torchmetrics import Metric


class DetailedMetric(Metric):
    """A metric whose `compute` returns a figure, with methods that return what the figure is made of."""

    is_differentiable = False
    full_state_update = False

    def _of_all_processes(self) -> AbstractContextManager[None]:
        """Return a context in which the states are those of all processes, as torchmetrics makes it for `compute`."""
        alone = not self._is_synced
        return self.sync_context(self.dist_sync_fn, should_sync=alone and self.sync_on_compute, should_unsync=alone)
