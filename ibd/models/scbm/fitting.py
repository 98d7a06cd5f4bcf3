"""A covariance for a bottleneck that is trained already (post-hoc SCBM, Hoffmann et al. 2025); nothing else changes.

Shapes: N images, K concepts, M samples of the concept logits of each image.
"""

from __future__ import annotations

import logging
import math
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ibd.data.base import SPLITS, ImageDataModule, Split
from ibd.distributed import progress
from ibd.errors import ConfigError, DataError, UnsupportedError, check_range, did_you_mean
from ibd.io import load_run
from ibd.models.base import evaluating
from ibd.models.cbm.lightning import ConceptBottleneck
from ibd.models.lightning import InterpretableModule
from ibd.models.scbm.covariance import LEAST, Covariance
from ibd.models.scbm.lightning import StochasticConceptBottleneck
from ibd.models.scbm.losses import concept_likelihood, draw, precision_penalty
from ibd.models.scbm.network import Kind, Placement
from ibd.types import RunLike

_log = logging.getLogger(__name__)

Method = Literal["likelihood", "empirical"]
_STEPS, _PART, _SAMPLES, _HELD_OUT = 300, 256, 64, 5
_LEAST_IMAGES = 20


class Read(NamedTuple):
    """What a covariance is fitted on."""

    scores: Tensor
    """(N, K) concept logits of the trained bottleneck."""
    concepts: Tensor
    """(N, K) true concepts, NaN where unknown."""
    features: Tensor
    """(N, D, 1, 1) features of the backbone, averaged over each image."""

    def rows(self, chosen: Tensor) -> Read:
        """Return some of the images."""
        return Read(*(part[chosen] for part in self))


def fit_covariance(
    model: RunLike | InterpretableModule,
    data: ImageDataModule | None = None,
    split: Split = "val",
    method: Method = "likelihood",
    covariance: Kind = "global",
    rank: int | None = None,
    placement: Placement = "posterior",
    precision_weight: float = 1.0,
    seed: int = 0,
) -> StochasticConceptBottleneck:
    """Return a stochastic concept bottleneck made of a trained plain one: its weights, and its concepts' covariance.

    What it predicts of an image is what the plain one does; corrections move the concepts that were not corrected.

    Args:
        model: a ``ConceptBottleneck``, or a run of one (folder, checkpoint, or what ``ibd.fit`` returned).
        data: data of the model; may be left out where `model` is a run.
        split: images to fit on. On training images a bottleneck errs less than on others, and the errors that go
            together are what is looked for.
        method: "likelihood" makes the true concepts of each image most probable together, with the bottleneck's
            predictions as they are; a fifth of the images says when to stop. "empirical" takes the covariance of the
            predicted logits over the images, shrunk as by Ledoit and Wolf; it looks at no true concept.
        covariance: one covariance for all images ("global"), or one that is predicted from the features of each
            ("amortized", by likelihood alone).
        rank: number of columns that concepts share; None for full rank.
        placement: where corrected logits go, see `StochasticConceptBottleneck`.
        precision_weight: weight of the penalty on the precision between concepts, for the likelihood.
        seed: seed of the samples, and of which images say when to stop.

    Raises:
        ConfigError: an option that is not allowed.
        DataError: too few images, or none with two known concepts.
        UnsupportedError: the model is no plain bottleneck, or has groups with a softmax.
    """
    for name, value, allowed in (("split", split, SPLITS), ("method", method, get_args(Method))):
        if value not in allowed:
            raise ConfigError(f"unknown {name} '{value}'.{did_you_mean(value, allowed)}")
    check_range("precision_weight", precision_weight, least=0)
    if method == "empirical" and covariance == "amortized":
        raise ConfigError(
            "method: 'empirical' has one covariance for all images: 'likelihood' is needed to amortize it"
        )
    if not isinstance(model, torch.nn.Module):
        model, own = load_run(model)
        data = own if data is None else data
    if data is None:
        raise ConfigError("fit_covariance needs the data beside the model (or a run in place of both)")
    plain = _checked(model)
    read = _read(plain, data, split)
    if len(read.scores) < _LEAST_IMAGES:
        raise DataError(f"{len(read.scores)} {split} images are too few for a covariance: {_LEAST_IMAGES} are needed")
    made = _made(plain, covariance=covariance, rank=rank, placement=placement)
    device = plain.network.low.device
    read = Read(*(part.to(device) for part in read))
    made.to(device)
    if method == "empirical":
        said = _empirical(made.network.covariance, read.scores)
    else:
        if int((~read.concepts.isnan()).sum(1).max()) < 2:
            raise DataError(f"no {split} image has two known concepts, which could depend on each other")
        said = _most_likely(made.network.covariance, read, precision_weight, seed)
    made.fitted_on = f"{len(read.scores)} {split} images: {said}"
    made.hparams["fitted_on"] = made.fitted_on
    return made.eval()


def _checked(model: torch.nn.Module) -> ConceptBottleneck:
    """Return a model whose concepts can get a covariance.

    Raises:
        UnsupportedError: they cannot.
    """
    if not isinstance(model, ConceptBottleneck):
        raise UnsupportedError(f"a {type(model).__name__} has no concepts with a covariance; a ConceptBottleneck has")
    if model.network.dependent:
        raise UnsupportedError("this bottleneck has a covariance already: a plain one (cbm) is needed")
    if model.network.softmax_groups:
        raise UnsupportedError(
            "model.softmax_groups: a covariance is of concepts that each hold with a probability of their own; train "
            "the bottleneck without such groups"
        )
    if len(model.network.unit_names) > model.network.concept_count:
        raise UnsupportedError(
            "model.residual: a covariance is of concepts, and a residual beside them has none; train the bottleneck "
            "without one"
        )
    return model


@torch.no_grad()
def _read(model: ConceptBottleneck, data: ImageDataModule, split: Split) -> Read:
    """Return what the trained bottleneck makes of a split, without augmentation, on the CPU."""
    scores, pooled = [], []
    network = model.network
    model.use_fast_layout()
    with evaluating(model):
        for batch in progress(data.loader(split, features=True), f"reading {split} images"):
            batch = batch.to(network.low.device)
            weight = network.concepts.weight
            features = batch.features if batch.features is not None else network.backbone(batch.image.to(weight.dtype))
            scores.append(network.encode_features(features.to(weight.dtype)).scores.float().cpu())
            pooled.append(features.float().mean((2, 3), keepdim=True).cpu())
    return Read(torch.cat(scores), data.dataset(split).concepts, torch.cat(pooled))


def _made(model: ConceptBottleneck, **own: Any) -> StochasticConceptBottleneck:
    """Return a stochastic bottleneck with the weights of a plain one."""
    given = dict(model.hparams)
    for name in ("softmax_groups", "imbalance", "residual", "residual_penalty"):
        given.pop(name)
    made = StochasticConceptBottleneck(**given, **own, class_loss="expected")
    missing = made.load_state_dict(model.state_dict(), strict=False).missing_keys
    assert all(name.startswith("network.covariance.") for name in missing)
    return made


def _empirical(covariance: Covariance, scores: Tensor) -> str:
    from sklearn.covariance import ledoit_wolf

    matrix, shrinkage = ledoit_wolf(scores.double().cpu().numpy())
    found = torch.from_numpy(matrix).to(scores.device)
    covariance.set_matrix(found + LEAST**2 * torch.eye(len(found), dtype=found.dtype, device=found.device))
    return f"covariance of their predicted logits, shrunk by {shrinkage:.3f}"


@torch.enable_grad()
def _most_likely(covariance: Covariance, read: Read, precision_weight: float, seed: int) -> str:
    """Fit the covariance by Adam, keep the step that is best on a fifth of the images, and say how good that is."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(read.scores), generator=generator).to(read.scores.device)
    stop, learn = read.rows(order[::_HELD_OUT]), read.rows(order[torch.arange(len(order)) % _HELD_OUT > 0])
    source = torch.Generator(read.scores.device).manual_seed(seed)
    optimizer = torch.optim.Adam(covariance.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    alone = float(concept_likelihood(stop.scores.unsqueeze(1), stop.concepts))
    best, weights = math.inf, {}
    for step in progress(range(_STEPS), "fitting the covariance"):
        if step % 20 == 0 and (now := _held_out(covariance, stop, seed)) < best:
            best, weights = now, {name: value.clone() for name, value in covariance.state_dict().items()}
        part = learn.rows(torch.randint(len(learn.scores), (_PART,), generator=source, device=read.scores.device))
        factor = covariance.factor(covariance(part.features))
        logits = draw(part.scores, factor, _SAMPLES, source)
        loss = concept_likelihood(logits, part.concepts) + precision_weight * precision_penalty(factor)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    covariance.load_state_dict(weights)
    if best >= alone:
        _log.warning("the covariance makes the concepts of held-out images no more probable: they may be independent")
    return (
        f"log-likelihood of the concepts of an image of a held-out fifth {-best:.3f}, {-alone:.3f} without covariance"
    )


@torch.no_grad()
def _held_out(covariance: Covariance, stop: Read, seed: int) -> float:
    """Return the negative log-likelihood of images that nothing is fitted on, by the same samples each time."""
    same = torch.Generator(stop.scores.device).manual_seed(seed)
    factor = covariance.factor(covariance(stop.features))
    return float(concept_likelihood(draw(stop.scores, factor, 4 * _SAMPLES, same), stop.concepts))
