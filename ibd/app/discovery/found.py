"""What a discovery found, with all that is told of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ibd.app.discovery.evidence import Overlap, Peaks
from ibd.app.discovery.naming import Proposal
from ibd.app.discovery.options import DiscoverOptions
from ibd.app.discovery.subject import Subject
from ibd.explain.directions import Directions
from ibd.explain.discovery.dictionaries import Rows
from ibd.explain.discovery.importance import Importance
from ibd.explain.patches import Patches

DIRECTIONS, NAMES = "directions.npz", "names.csv"


@dataclass(frozen=True)
class Tried:
    """A number of concepts that was tried, see `ibd.explain.discovery.stability.Found`.

    Attributes:
        k: number of concepts.
        stability: mean cosine with what is found again.
        explained: share of the variance that they rebuild.
        unseen: the same, in images that a search had not seen.
        active: mean number that is active at a place.
    """

    k: int
    stability: float
    explained: float
    unseen: float
    active: float


@dataclass(frozen=True)
class Discovery:
    """Concepts of a layer, and what is known of them.

    Attributes:
        directions: the K concepts, the one that carries most of the features first.
        tried: every number of concepts that was tried.
        again: (K,) mean cosine with what was found again; NaN where nothing was.
        subject: what was looked into.
        options: what was asked.
        activations: (N, K, h, w) of the images.
        peaks: where concepts are strongest in each image.
        patches: patches of each concept.
        classes: (K, C) AUROC of each concept's strongest place for each class.
        importance: what concepts are worth to the classes; None where that is not known.
        note: why it is not.
        labels: what they share with labelled concepts; None without such.
        masks: what they share with masks; None without such.
        proposals: names that are proposed for each.
        made: (K, 3, s, s) images made to excite each; None unless that was asked for.
    """

    directions: Directions
    tried: list[Tried]
    again: Tensor
    subject: Subject
    options: DiscoverOptions
    activations: Rows
    peaks: Peaks
    patches: Patches
    classes: Tensor
    importance: Importance | None
    note: str
    labels: Overlap | None
    masks: Overlap | None
    proposals: list[list[Proposal]]
    made: Tensor | None

    @property
    def chosen(self) -> Tried:
        """The number of concepts that there are."""
        return next(tried for tried in self.tried if tried.k == len(self.directions))
