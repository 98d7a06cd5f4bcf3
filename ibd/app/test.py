"""``ibd test``: the figures of a run on its test images, or of a network of anybody's, and these by group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ibd.app.foreign import is_place
from ibd.app.over_data import Given, given_over_data, named
from ibd.app.terminal import newest
from ibd.data.grouping import groups_of_images
from ibd.distributed import progress
from ibd.errors import ConfigError, check_once
from ibd.explain.activations import device_of
from ibd.explain.base import undisturbed
from ibd.explain.scalars import logits_of
from ibd.metrics.functional.by_group import ByGroup, by_group
from ibd.metrics.functional.shares import share_interval
from ibd.models.calibration.measuring import class_error
from ibd.training.group_figures import save_groups
from ibd.training.runner import evaluate_run

_BY = "by="


def show_test(run: str, changes: Sequence[str], which: str) -> Iterator[str]:
    """Score a model on the test split; yield lines on it for a person.

    Args:
        run: RUN of the command line, or ``package.module:make_model`` of a network of anybody's.
        changes: ``by=`` columns or concepts by commas, see `ibd.data.grouping.groups_of_images`; and data and model,
            see `ibd.app.over_data.given_over_data`.
        which: "best" or "last" checkpoint of a run.

    Raises:
        ConfigError: an unknown option, column or concept.
        DataError: a column has fewer than two groups among the test images.
    """
    if is_place(run):
        yield from _foreign(given_over_data("test", run, changes, ["by"]))
        return
    said = dict(text.split("=", 1) for text in changes if text.startswith(_BY))
    by = _checked(said)
    tested = evaluate_run(newest(run), *(c for c in changes if not c.startswith(_BY)), which=which, by=by)
    apart = {f"test/{name}" for group in tested.groups for name in group.figures()}
    yield from _lines({name: value for name, value in tested.figures.items() if name not in apart})
    yield from _tables(tested.groups)
    yield from (f"figure: {path}" for path in tested.pictures)


def _checked(said: dict[str, str]) -> list[str]:
    """Return the columns that are asked for."""
    by = named(said, "by") or []
    if "by" in said and not by:
        raise ConfigError("test: by: the name of a column or a concept is needed")
    check_once("by", by)
    return by


def _foreign(given: Given) -> Iterator[str]:
    """Score a network of anybody's."""
    asked = {name: groups_of_images(given.data, "test", name) for name in _checked(given.options)}
    probabilities, labels = _read(given)
    right = share_interval(int((probabilities.argmax(1) == labels).sum()), len(labels))
    figures = {"test/accuracy": right.mean, "test/accuracy_low": right.low, "test/accuracy_high": right.high}
    yield from _lines(figures | {"test/ece": class_error(probabilities, labels)})
    groups = [by_group(probabilities, labels, who, name) for name, who in asked.items()]
    yield from _tables(groups)
    for group in groups:
        yield f"figure: {save_groups(group, 'test images', given.folder)}"


def _read(given: Given) -> tuple[Tensor, Tensor]:
    """Return the (N, C) probabilities of the test images, and their (N,) labels, in one pass."""
    told, labels = list[Tensor](), list[Tensor]()
    with undisturbed(given.model), torch.inference_mode():
        for batch in progress(given.data.loader("test"), "test"):
            logits = logits_of(given.model(batch.image.to(device_of(given.model))))
            told.append(logits.cpu().double().softmax(1))
            labels.append(batch.label)
    return torch.cat(told), torch.cat(labels)


def _lines(figures: dict[str, float]) -> Iterator[str]:
    for name, value in figures.items():
        if f"{name}_low" in figures:
            yield f"{name:<28} {value:.4f} [{figures[f'{name}_low']:.4f}, {figures[f'{name}_high']:.4f}]"
        elif not name.endswith(("_low", "_high")):
            yield f"{name:<28} {value:.4f}"


def _tables(groups: Sequence[ByGroup]) -> Iterator[str]:
    for group in groups:
        yield ""
        yield from group.table().splitlines()
