"""Sparse autoencoders: features as few of many parts, learned by gradient descent.

With a ReLU and a penalty on the sum of activations, encoder and decoder tied (Cunningham et al. 2024), or with the few
largest activations kept and an auxiliary loss for units that never are among them (Gao et al. 2024). Parts have length
1. What the features are without any concept is learned too, so that features of any sign will do.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.distributed import progress
from ibd.errors import check_range
from ibd.explain.directions import Directions

_BATCH = 512
_QUIET = 200
"""Steps without being active after which a unit is dead."""
_LOOKED_AT = 4096
"""Vectors from which a scale is taken, and those that a dead unit may begin from anew."""
_MEMBERS = 4
"""Vectors for each cluster that parts start from, at least."""
_STARTS = 10
_AUXILIARY = 1 / 32
"""Weight of the auxiliary loss (Gao et al. 2024)."""


@dataclass(frozen=True)
class Training:
    """How a sparse autoencoder is trained.

    Attributes:
        active: how many concepts may be active at a place; None penalizes their sum instead.
        sparsity: weight of that penalty, for features whose mean square distance from their middle is brought to 1.
        steps: steps of gradient descent, 512 places each.
        rate: learning rate of Adam; it falls to 0 over the last third.

    Raises:
        ConfigError: one of these cannot be.
    """

    active: int | None = None
    sparsity: float = 0.1
    steps: int = 1500
    rate: float = 3e-3

    def __post_init__(self) -> None:
        """Check the options."""
        if self.active is not None:
            check_range("active", self.active, least=1)
        check_range("sparsity", self.sparsity, least=0)
        check_range("steps", self.steps, least=1)
        check_range("rate", self.rate, above=0)


class SparseAutoencoder(nn.Module):
    """D features -> K activations, not negative, few of them above 0 -> D features.

    Args:
        parts: (K, D) to start from.
        center: (D,) to start from: the features without any concept.
        active: see `Training`.
    """

    def __init__(self, parts: Tensor, center: Tensor, active: int | None) -> None:
        super().__init__()
        self.active = active
        self.decoder = nn.Parameter(parts.clone())
        self.encoder = None if active is None else nn.Parameter(F.normalize(parts, dim=1))
        self.bias = nn.Parameter(torch.zeros(len(parts), device=parts.device))
        self.center = nn.Parameter(center.clone())

    @property
    def parts(self) -> Tensor:
        """(K, D), of length 1 each."""
        return F.normalize(self.decoder, dim=1)

    @property
    def weight(self) -> Tensor:
        """(K, D) with which features are read: the parts, where these are tied."""
        return self.parts if self.encoder is None else self.encoder

    def raw(self, rows: Tensor) -> Tensor:
        """Return the (N, K) numbers of which the positive ones, or the largest, are the activations."""
        return torch.addmm(self.bias, rows - self.center, self.weight.t())

    def keep(self, raw: Tensor) -> Tensor:
        """Return the (N, K) activations of what `raw` returns."""
        return raw.relu() if self.active is None else largest(raw, self.active)

    def decode(self, activations: Tensor) -> Tensor:
        """Return the (N, D) features of activations."""
        return activations @ self.parts + self.center


def largest(raw: Tensor, count: int) -> Tensor:
    """Return (N, K) numbers with all but the few largest of each row, and all negative ones, set to 0."""
    values, where = raw.topk(count, dim=1)
    return torch.zeros_like(raw).scatter(1, where, values).relu()


def train_autoencoder(
    rows: npt.NDArray[np.float32], k: int, training: Training, seed: int, device: torch.device | None = None
) -> Directions:
    """Return the k concepts of a sparse autoencoder that is trained on (N, D) vectors of features.

    Args:
        rows: vectors, perhaps in a file: a step reads those that it needs.
        k: number of concepts, which may be larger than D.
        training: how it is trained.
        seed: seed of the start and of the order of the vectors.
        device: device to train on; by default the CPU.
    """
    generator = np.random.default_rng(seed)
    some = _drawn(rows, generator, min(_LOOKED_AT, len(rows)))
    center = torch.zeros(rows.shape[1]) if float(some.min()) >= 0 else some.median(0).values
    scale = float((some - center).square().sum(1).mean().sqrt())
    start = _start(some - center, k, generator)
    network = SparseAutoencoder(start.to(device), (center / scale).to(device), training.active)
    revived = _descend(network, rows, scale, training, generator)
    with torch.no_grad():
        weight, parts, middle = (value.detach().cpu() for value in (network.weight, network.parts, network.center))
        offsets = scale * (network.bias.detach().cpu() - weight @ middle)
        alive = (network.keep(network.raw(some.to(device) / scale)) > 0).any(0)
    details: dict[str, Any] = {"steps": training.steps, "dead": int((~alive).sum())}
    if training.active is None:
        details |= {"sparsity": training.sparsity, "revived": revived}
    else:
        details |= {"active": training.active}
    names = tuple(f"concept {number}" for number in range(1, k + 1))
    reading: Any = "relu" if training.active is None else "topk"
    return Directions("", weight, offsets, names, "sae", reading, details, parts, scale * middle)


def _start(vectors: Tensor, k: int, generator: np.random.Generator) -> Tensor:
    """Return k directions to start from, (k, D): the means of clusters of vectors that are brought to length 1.

    Long vectors count more, by their squares: short ones are noise around what the features are without any concept.
    From directions that are drawn, parts that are often seen together are found as their sum, and it stays like that.
    """
    from sklearn.cluster import KMeans

    length = vectors.norm(dim=1)
    vectors, length = F.normalize(vectors[length > 0], dim=1), length[length > 0]
    if k > len(vectors) // _MEMBERS:  # more parts than there are clusters
        chosen = generator.choice(len(vectors), k, replace=k > len(vectors))
        noise = torch.from_numpy(generator.standard_normal((k, vectors.shape[1]), np.float32))
        return F.normalize(vectors[torch.from_numpy(chosen)] + 0.1 * F.normalize(noise, dim=1), dim=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer different vectors than clusters
        model = KMeans(k, n_init=_STARTS, random_state=int(generator.integers(2**31)))
        model.fit(vectors.numpy(), sample_weight=length.square().numpy())
    return F.normalize(torch.from_numpy(np.asarray(model.cluster_centers_, np.float32)), dim=1)


def _descend(
    network: SparseAutoencoder,
    rows: npt.NDArray[np.float32],
    scale: float,
    training: Training,
    generator: np.random.Generator,
) -> int:
    """Train a network; return how often a unit that was dead began anew."""
    optimizer = torch.optim.Adam(network.parameters(), training.rate)
    quiet = torch.zeros(len(network.bias), device=network.bias.device)
    revived = 0
    for step in progress(range(training.steps), "training a sparse autoencoder"):
        left = 3 * (1 - step / training.steps)
        optimizer.param_groups[0]["lr"] = training.rate * min(1.0, left)
        batch = _drawn(rows, generator, min(_BATCH, len(rows))).to(network.bias.device) / scale
        raw = network.raw(batch)
        activations = network.keep(raw)
        rest = batch - network.decode(activations)
        loss = rest.square().sum(1).mean()
        if network.active is None:
            loss = loss + training.sparsity * activations.sum(1).mean()
        elif bool((dead := quiet >= _QUIET).any()):
            loss = loss + _AUXILIARY * _auxiliary(network, raw, rest.detach(), dead)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        quiet = torch.where((activations > 0).any(0), 0, quiet + 1)
        if network.active is None and step % _QUIET == _QUIET - 1 and left > 1 and bool((quiet >= _QUIET).any()):
            revived += _revive(network, optimizer, quiet >= _QUIET, rows, scale, generator)
            quiet.zero_()
    return revived


def _auxiliary(network: SparseAutoencoder, raw: Tensor, rest: Tensor, dead: Tensor) -> Tensor:
    """Return how far dead units are from what the others leave over: pulled there, they come to life."""
    count = min(int(dead.sum()), max(1, raw.shape[1] // 2))
    activations = largest(raw.masked_fill(~dead, -torch.inf), count)
    return (rest - activations @ network.parts).square().sum(1).mean()


@torch.no_grad()
def _revive(
    network: SparseAutoencoder,
    optimizer: torch.optim.Adam,
    dead: Tensor,
    rows: npt.NDArray[np.float32],
    scale: float,
    generator: np.random.Generator,
) -> int:
    """Let dead units begin anew from what is left over of vectors that are badly reconstructed; return how many.

    Vectors are drawn by their squared error (Bricken et al. 2023).
    """
    batch = _drawn(rows, generator, min(_LOOKED_AT, len(rows))).to(dead.device) / scale
    rest = batch - network.decode(network.keep(network.raw(batch)))
    error = rest.square().sum(1).double().square().cpu().numpy()
    count = int(dead.sum())
    if not error.sum() > 0:
        return 0
    chosen = generator.choice(len(error), count, p=error / error.sum())
    network.decoder[dead] = rest[torch.from_numpy(chosen).to(rest.device)]
    network.bias[dead] = 0.0
    for parameter in (network.decoder, network.bias):
        state = optimizer.state[parameter]
        state["exp_avg"][dead] = 0.0
        state["exp_avg_sq"][dead] = 0.0
    return count


def _drawn(rows: npt.NDArray[np.float32], generator: np.random.Generator, count: int) -> Tensor:
    """Return some different vectors, read in the order in which they lie."""
    chosen = np.sort(generator.choice(len(rows), count, replace=False, shuffle=False))
    return torch.from_numpy(np.array(rows[chosen]))
