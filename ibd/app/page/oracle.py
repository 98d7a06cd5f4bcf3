"""The curve of one who knows the truth of every concept, by which the curve of a person is judged."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ibd.app.page.long_work import Told
from ibd.app.page.site import SPLIT_WORDS, Served, split_named
from ibd.app.teaching.orders import POLICY
from ibd.distributed import heard_by
from ibd.errors import CheckpointError
from ibd.io import load_model
from ibd.models.calibration.calibration import checksum
from ibd.models.cbm.intervention import intervention_curve
from ibd.models.lightning import InterpretableModule

TRIALS = 5
"""Random orders of groups, as many as `ibd curve` takes unless told otherwise."""


def oracle_of(run: Served, split: str, groups: str) -> tuple[Tensor | None, dict[str, Any]]:
    """Return the oracle of a split, once it is there, and how far it is; it is begun by who asks first.

    Args:
        run: run that is taught with.
        split: split of the images.
        groups: order of the groups of the session, see `ibd.app.teaching.orders.POLICY`.

    Returns:
        (G + 1, N) share of trials in which each image is right, and the state of the work, with the "policy".
    """
    policy = POLICY[groups]
    which = split_named(split)

    def measure(told: Told) -> Tensor:
        with heard_by(lambda title, done, total: told(done, total)):
            found = intervention_curve(served_module(run), run.data, [policy], TRIALS, which)
        return found.right[policy]

    work = run.works.start(
        f"oracle:{split}:{policy}", measure, f"correcting the {SPLIT_WORDS[split]} images by their true concepts"
    )
    return work.result, work.state() | {"policy": policy}


def served_module(run: Served) -> InterpretableModule:
    """Return the trained module of the checkpoint that is served, read anew: whoever changes it changes nobody's.

    Raises:
        CheckpointError: the file holds other weights by now, or is gone.
    """
    run.check_there()
    model = load_model(run.checkpoint)
    if checksum(model.network) != checksum(run.network):
        raise CheckpointError(
            f"'{run.checkpoint}' holds other weights than those that are served: start `ibd serve` again"
        )
    return model
