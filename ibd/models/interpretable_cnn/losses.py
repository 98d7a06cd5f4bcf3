"""The filter loss: minus the mutual information of a filter's maps and the templates (Zhang et al. 2018, section 3).

``MI = sum_T p(T) sum_x p(x|T) log(p(x|T) / p(x))`` with ``p(x|T) = exp(tr(x T)) / Z_T``, ``Z_T = sum_x exp(tr(x T))``.
It is large where a map tells by itself which template it fits: active at one place, or nowhere. The maps x are those of
a batch of all processes, so that ``Z_T``, which the paper takes over the training images, is estimated on the batch (as
the published code does). All is computed in float32 or better.

Shapes: B images, F filters, n cells of a map, n + 1 templates, the negative one last.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from ibd.backbones.precision import full_precision
from ibd.distributed import largest_of_processes, sum_over_processes, world_size
from ibd.errors import ConfigError, did_you_mean
from ibd.models.interpretable_cnn.templates import all_templates, peaks

Gradient = Literal["balanced", "target", "exact"]
"""Of what the loss has its gradient.

"exact": of the mutual information. "target": of the one template that each map is to fit, as the paper approximates it.
"balanced": as "target", but evened out as in the published code: for each filter the images of its class weigh as much
together as all others, whatever the sizes of maps and activations.
"""


def filter_loss(
    maps: Tensor, own: Tensor, tau: float = 0.5, beta: float = 4.0, gradient: Gradient = "balanced"
) -> Tensor:
    """Return minus the mutual information in nats, summed over the filters; see `Gradient` for its gradient.

    Args:
        maps: (B, F, h, w) of the filters, at least 0.
        own: (B, F) bool, whether the image is of the class that the filter is assigned to: then its map is to fit the
            template at its peak, and otherwise the negative one.
        tau: how large the templates are, times 1 / n.
        beta: how steeply they fall.
        gradient: of what the gradient is taken.

    Raises:
        ConfigError: an unknown gradient.
    """
    check_gradient(gradient)
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    with full_precision(maps):
        traces = template_traces(maps, tau, beta)
        if gradient == "exact":
            return -mutual_information(traces).sum()
        target = torch.where(own, peaks(maps), traces.shape[2] - 1).unsqueeze(2)
        with torch.no_grad():
            value = -mutual_information(traces).sum()
            factor = _balanced(traces, target, own) / tau if gradient == "balanced" else _of_target(traces, target)
        moved = (factor * traces.gather(2, target).squeeze(2)).sum() / _mean_images(len(maps), maps)
    return value - (moved - moved.detach())


def check_gradient(gradient: str) -> None:
    """Check the name of a gradient.

    Raises:
        ConfigError: there is no such one.
    """
    if gradient not in get_args(Gradient):
        raise ConfigError(f"model.gradient: unknown gradient '{gradient}'.{did_you_mean(gradient, get_args(Gradient))}")


def template_traces(maps: Tensor, tau: float, beta: float) -> Tensor:
    """Return tr(x T) of every map with every template, (B, F, n + 1)."""
    templates = all_templates((maps.shape[2], maps.shape[3]), beta, maps)
    return maps.flatten(2) @ (templates * (tau / templates.shape[1])).t()


def log_given(traces: Tensor) -> Tensor:
    """Return log p(x|T) of (B, F, n + 1) traces, p over the density of a uniform choice of one of the images."""
    highest = largest_of_processes(traces.detach().amax(0))
    total = sum_over_processes((traces - highest).exp().sum(0))
    images = _mean_images(len(traces), traces) * world_size()
    return traces - highest - (total / images).log()


def mutual_information(traces: Tensor) -> Tensor:
    """Return the mutual information of each filter's maps and the templates in nats, (F,).

    All templates are equally likely, as published: ``p(T_mu) = alpha / n`` with ``alpha = n / (1 + n)``. With several
    processes it is the share of this one, whose mean over the processes is the whole.

    Args:
        traces: (B, F, n + 1) from `template_traces`.
    """
    given, count = log_given(traces), traces.shape[2]
    anyhow = torch.logsumexp(given, 2, keepdim=True) - math.log(count)
    return (given.exp() * (given - anyhow)).sum((0, 2)) / count / _mean_images(len(traces), traces)


def _mean_images(images: int, like: Tensor) -> Tensor:
    """Return how many images a process has, in the mean."""
    return sum_over_processes(torch.tensor(float(images), device=like.device, dtype=like.dtype)) / world_size()


def _of_target(traces: Tensor, target: Tensor) -> Tensor:
    """Return p(T) p(x|T) log(p(x|T) / p(x)) of the template that each map is to fit, (B, F)."""
    given = log_given(traces)
    anyhow = torch.logsumexp(given, 2) - math.log(given.shape[2])
    chosen = given.gather(2, target).squeeze(2)
    return chosen.exp() * (chosen - anyhow) / given.shape[2]


def _balanced(traces: Tensor, target: Tensor, own: Tensor) -> Tensor:
    """Return p(x|T) (log p(x|T) + 1), (B, F), scaled so that of each filter own images and others add up to half each.

    Below 0, of a map that is far from its template, it counts as 0.
    """
    chosen = log_given(traces).gather(2, target).squeeze(2)
    strength = (chosen.exp() * (chosen + 1)).clamp(min=0)
    parts = []
    for group in (own, ~own):
        inside = strength * group
        total = sum_over_processes(inside.sum(0))
        parts.append(inside / total.clamp(min=torch.finfo(total.dtype).tiny))
    return (parts[0] + parts[1]) * (_mean_images(len(own), strength) * world_size() / 2)
