"""Whether the same concepts are found again, and how many of them to look for.

Concepts are searched again on a random half of the images, from another start. What is found is matched to the concepts
by the assignment with the highest sum of cosines (Kuhn 1955); the other half says how well they rebuild features that
they were not found in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibd.distributed import progress
from ibd.errors import DataError
from ibd.explain.directions import Directions
from ibd.explain.discovery.dictionaries import Rows, Search, chunks, find_directions

CLOSE = 0.02
"""How much less stable than the most stable number of concepts a larger number may be, to be chosen."""


@dataclass(frozen=True)
class Found:
    """Concepts, and what speaks for them.

    Attributes:
        directions: the concepts.
        again: (K,) mean cosine, over the further searches, with what was matched to each; NaN without such.
        explained: share of the variance of the features that they rebuild.
        unseen: the same in images that a search had not seen, mean over the further searches; NaN without such.
        active: mean number of concepts that are active at a place.
    """

    directions: Directions
    again: Tensor
    explained: float
    unseen: float
    active: float

    @property
    def k(self) -> int:
        """Number of concepts."""
        return len(self.directions)

    @property
    def stability(self) -> float:
        """Mean over the concepts of `again`."""
        return float(self.again.mean())


def matched(found: Directions, other: Directions) -> tuple[Tensor, Tensor]:
    """Return which concept of another search is which of these, (K,), and their cosines, (K,).

    The direction of a principal component is one of two, so that the size of its cosine counts.
    """
    from scipy.optimize import linear_sum_assignment

    cosines = _units(found.shown) @ _units(other.shown).t()
    if found.method == "pca":
        cosines = cosines.abs()
    rows, columns = linear_sum_assignment(cosines.numpy(), maximize=True)
    place = torch.from_numpy(columns)
    return place, cosines[torch.from_numpy(rows), place]


def _units(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors.double().cpu(), dim=1)


def rebuilt(directions: Directions, rows: Rows) -> tuple[float, float]:
    """Return the share of the variance of (N, D) features that concepts rebuild, and how many are active in each.

    1 - sum |x - x'|^2 / sum |x - mean|^2; below 0 where the mean alone would be nearer.
    """
    total, square, left, active = torch.zeros(rows.shape[1], dtype=torch.float64), 0.0, 0.0, 0
    for part in chunks(rows):
        activations = directions.read(part)
        left += float((part - directions.write(activations)).double().square().sum())
        active += int((activations != 0).sum())
        total += part.double().sum(0)
        square += float(part.double().square().sum())
    spread = square - float(total.square().sum()) / len(rows)
    return 1 - left / spread if spread > 0 else float("nan"), active / len(rows)


def search_again(
    rows: Rows,
    image: npt.NDArray[np.int64],
    search: Search,
    layer: str = "",
    again: int = 3,
    device: torch.device | None = None,
) -> Found:
    """Return the concepts of a search over all vectors, and how many further ones on halves of the images found them.

    Args:
        rows: (N, D) vectors of features.
        image: (N,) the image of each.
        search: what is searched.
        layer: layer of the features.
        again: further searches.
        device: device of the training of sparse autoencoders.

    Raises:
        DataError: too few vectors; and what `find_directions` raises.
    """
    found = find_directions(rows, search, layer, device=device)
    explained, active = rebuilt(found, rows)
    cosines, unseen = [], []
    for number in progress(range(1, again + 1), f"searching {search.k} concepts again") if again else ():
        seed = search.seed + number
        half = _half(image, seed)
        if min(int(half.sum()), int((~half).sum())) < search.k:
            raise DataError(f"k: {search.k} concepts cannot be searched again in half of {len(rows)} places: again=0")
        other = find_directions(rows[half], dataclasses.replace(search, seed=seed), layer, True, device)
        cosines.append(matched(found, other)[1])
        unseen.append(rebuilt(other, rows[~half])[0])
    mean = torch.stack(cosines).mean(0) if cosines else torch.full((len(found),), torch.nan)
    return Found(found, mean, explained, float(np.mean(unseen)) if unseen else float("nan"), active)


def _half(image: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.bool_]:
    """Return which vectors are of a random half of the images; of a single image, half of its own."""
    images = np.unique(image)
    generator = np.random.default_rng([seed, len(image)])
    if len(images) < 2:
        mixed: npt.NDArray[np.bool_] = generator.permutation(len(image)) < len(image) // 2
        return mixed
    chosen: npt.NDArray[np.bool_] = np.isin(image, generator.permutation(images)[: len(images) // 2])
    return chosen


def most_stable(tried: Sequence[Found]) -> Found:
    """Return the largest number of concepts that is found again about as well as the most stable number."""
    best = max(found.stability for found in tried)
    return max((found for found in tried if found.stability >= best - CLOSE), key=lambda found: found.k)
