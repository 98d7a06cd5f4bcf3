"""Changing a prediction within a budget: the fast gradient sign method and projected gradient descent.

Goodfellow et al. 2015 (FGSM), Madry et al. 2018 (PGD). Images stay in [0, 1], and no further from the clean ones than
the budget says, in the norm that is stated. What is found is a lower bound: a stronger search may fool more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.distributed import progress
from ibd.errors import ConfigError, UnsupportedError, check_range
from ibd.explain.base import Call, Cost, check_image, undisturbed
from ibd.explain.targets import Target, logits_of

Norm = Literal["linf", "l2"]
"""How large a change is: its largest absolute value, or the root of the sum of its squares, over pixels and colors."""
Loss = Literal["margin", "cross_entropy"]
"""What is driven up: the largest other logit less that of the class, or the cross-entropy of the class."""


@dataclass(frozen=True)
class Fooled:
    """Changed images, and what a model says of them.

    Attributes:
        clean: (B, 3, H, W) the images before.
        image: (B, 3, H, W) and after, in [0, 1].
        before: (B,) classes that the change leads away from.
        after: (B,) classes that are predicted of the changed images.
        size: (B,) size of the change in the norm.
        norm: the norm.
        radius: largest size that was allowed; None where the smallest one was looked for.
        wanted: (B,) classes that were to be predicted; None where any other one would do.
        cost: passes of one image, over all images.
    """

    clean: Tensor
    image: Tensor
    before: Tensor
    after: Tensor
    size: Tensor
    norm: Norm
    radius: float | None
    wanted: Tensor | None
    cost: Cost

    @property
    def fooled(self) -> Tensor:
        """(B,) bool: which predictions were changed as asked."""
        return self.after != self.before if self.wanted is None else self.after == self.wanted

    @property
    def rate(self) -> float:
        """Share of the images that were fooled."""
        return float(self.fooled.double().mean())

    @property
    def difference(self) -> Tensor:
        """(B, 3, H, W): what was added."""
        return self.image - self.clean


def fgsm(
    model: nn.Module,
    image: Tensor,
    radius: float,
    norm: Norm = "linf",
    label: Tensor | None = None,
    loss: Loss = "cross_entropy",
) -> Fooled:
    """Return images after one step along the gradient, of the whole budget: the fast gradient sign method.

    Args:
        model: model as of `pgd`, and so are the other arguments and what is refused.
        image: images.
        radius: size of the step.
        norm: norm of the step.
        label: classes to lead away from.
        loss: what is driven up; the cross-entropy, as published.
    """
    return pgd(model, image, radius, norm, label, steps=1, step=radius, start="clean", loss=loss)


def pgd(
    model: nn.Module,
    image: Tensor,
    radius: float,
    norm: Norm = "linf",
    label: Tensor | None = None,
    target: Tensor | None = None,
    steps: int = 20,
    step: float | None = None,
    start: Literal["random", "clean"] = "random",
    restarts: int = 1,
    loss: Loss = "margin",
    seed: int = 0,
) -> Fooled:
    """Return images changed within a budget so that another class is predicted, where that is found.

    Steps along the gradient, each followed by the way back into the budget and into [0, 1]; the best of all steps is
    kept. One forward and one backward pass a step, and two forward. The model is left as it was.

    Args:
        model: ours, or any classifier of (B, 3, H, W) images in [0, 1], of two logits at least.
        image: (B, 3, H, W) in [0, 1], on the model's device.
        radius: largest change, such as 4 / 255.
        norm: norm in which it is measured.
        label: (B,) classes to lead away from; None are the predicted ones.
        target: (B,) classes to lead to; None takes any other.
        steps: number of steps.
        step: size of a step; None is 2.5 radius / steps, and twice that in L2, where the way from a random place leads
            round the ball: with 2.5 it ends 1 % short of the best place even for a linear model.
        start: whether to begin at a random place in the budget, or at the image.
        restarts: number of random beginnings, of which the best is kept.
        loss: what is driven up; the margin has a gradient where a network is so sure that its probability is 1.
        seed: seed of the random places.

    Raises:
        ConfigError: a number, norm or loss that cannot be.
        DataError: an image that is no such tensor, or not finite.
        UnsupportedError: a model of one logit, or without gradients.
    """
    check_image(image)
    _check(radius, norm, loss, start)
    check_range("steps", steps, least=1)
    check_range("restarts", restarts, least=1)
    size = (2.5 if norm == "linf" else 5.0) * radius / steps if step is None else step
    check_range("step", size, above=0)
    clean = image.detach().clone()
    generator = torch.Generator().manual_seed(seed)
    with undisturbed(model):
        call = Call(model, Target.predicted())
        with torch.no_grad():
            logits = two_logits(call, clean)
        away = logits.argmax(1) if label is None else label.to(clean.device)
        best = _Best(clean, logits, away, target)
        for _ in range(restarts if start == "random" else 1):
            now = clean if start == "clean" else _random(clean, radius, norm, generator)
            for _ in progress(range(steps), "steps"):
                at = now.detach().requires_grad_()
                logits = two_logits(call, at)
                best.update(now, logits)
                gradient = gradient_of(call, _score(logits, away, target, loss), at)
                now = _stepped(now, clean, gradient, radius, size, norm)
            with torch.no_grad():
                best.update(now, two_logits(call, now))
    found = best.image
    return Fooled(clean, found, away, best.said, sizes(found - clean, norm), norm, radius, target, call.cost)


class _Best:
    """The images so far that come furthest, by the margin, and what is predicted of them."""

    def __init__(self, clean: Tensor, logits: Tensor, away: Tensor, target: Tensor | None) -> None:
        self.away, self.target = away, target
        self.image, self.said = clean.clone(), logits.argmax(1)
        self.margin = _score(logits, away, target, "margin")

    def update(self, image: Tensor, logits: Tensor) -> None:
        """Take the images whose margin is larger."""
        margin = _score(logits.detach(), self.away, self.target, "margin")
        better = margin > self.margin
        self.image[better], self.said[better] = image[better], logits.argmax(1)[better]
        self.margin = torch.where(better, margin, self.margin)


def two_logits(call: Call, image: Tensor) -> Tensor:
    """Return the (B, C) logits of images, counting the pass.

    Raises:
        UnsupportedError: there is but one.
    """
    logits = logits_of(call.output(image))
    if logits.shape[1] < 2:
        raise UnsupportedError(
            "fooling needs a logit for each class, and this model has one: ibd.ForeignModel(model, ...) gives its two "
            "sides one each"
        )
    return logits


def predicted(call: Call, image: Tensor) -> Tensor:
    """Return the (B,) predicted classes."""
    with torch.no_grad():
        return two_logits(call, image).argmax(1)


def sizes(change: Tensor, norm: Norm) -> Tensor:
    """Return the (B,) sizes of (B, ...) changes."""
    flat = change.flatten(1)
    return flat.abs().amax(1) if norm == "linf" else flat.norm(dim=1)


def within(change: Tensor, radius: float, norm: Norm) -> Tensor:
    """Return (B, ...) changes brought back into a budget, to the nearest point of it."""
    if norm == "linf":
        return change.clamp(-radius, radius)
    size = sizes(change, norm).clamp(min=torch.finfo(change.dtype).tiny)
    return change * (radius / size).clamp(max=1).view(-1, *[1] * (change.dim() - 1))


def _stepped(now: Tensor, clean: Tensor, gradient: Tensor, radius: float, size: float, norm: Norm) -> Tensor:
    """Return images one step further, within the budget."""
    if norm == "linf":
        moved = now + size * gradient.sign()
    else:
        length = sizes(gradient, "l2").clamp(min=torch.finfo(gradient.dtype).tiny)
        moved = now + size * gradient / length.view(-1, 1, 1, 1)
    # Towards [0, 1] no pixel comes further from the clean one, which lies in it: the budget is kept.
    return (clean + within(moved - clean, radius, norm)).clamp(0, 1).detach()


def gradient_of(call: Call, score: Tensor, image: Tensor, keep: bool = False) -> Tensor:
    """Return the gradient of (B,) scores by their images, counting the pass.

    Raises:
        UnsupportedError: the scores do not depend on the images by a gradient.
    """
    call.cost.backwards += len(image)
    if not score.requires_grad:
        raise UnsupportedError("the model's logits have no gradient by the image: it cannot be fooled by gradients")
    return torch.autograd.grad(score.sum(), image, retain_graph=keep)[0]


def _score(logits: Tensor, away: Tensor, target: Tensor | None, loss: Loss) -> Tensor:
    """Return what is driven up, (B,): above 0 of the margin means that the image fools."""
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    chosen = away if target is None else target.to(logits.device)
    sign = 1 if target is None else -1
    if loss == "cross_entropy":
        return sign * F.cross_entropy(logits, chosen, reduction="none")
    return sign * margin(logits, chosen)


def margin(logits: Tensor, label: Tensor) -> Tensor:
    """Return by how much the largest other of (B, C) logits is above that of a class, (B,)."""
    own = logits.gather(1, label.unsqueeze(1)).squeeze(1)
    return logits.scatter(1, label.unsqueeze(1), -torch.inf).amax(1) - own


def _random(clean: Tensor, radius: float, norm: Norm, generator: torch.Generator) -> Tensor:
    """Return images moved to a random place in the budget."""
    if norm == "linf":
        noise = (2 * torch.rand(clean.shape, generator=generator) - 1) * radius
    else:
        noise = torch.randn(clean.shape, generator=generator)
        share = torch.rand(len(clean), generator=generator) ** (1 / clean[0].numel())
        noise = noise / sizes(noise, "l2").view(-1, 1, 1, 1) * (radius * share).view(-1, 1, 1, 1)
    return (clean + noise.to(clean.device, clean.dtype)).clamp(0, 1)


def _check(radius: float, norm: str, loss: str, start: str) -> None:
    check_range("radius", radius, above=0)
    for key, given, known in (
        ("norm", norm, get_args(Norm)),
        ("loss", loss, get_args(Loss)),
        ("start", start, ("random", "clean")),
    ):
        if given not in known:
            raise ConfigError(f"fool: {key}: '{given}' is not one of {', '.join(known)}")
