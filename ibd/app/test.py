"""``ibd test``: the figures of a run on its test images, or of a network of anybody's, and where these are wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ibd.app.foreign import is_place
from ibd.app.over_data import Given, given_over_data, named
from ibd.app.terminal import newest, writing
from ibd.app.where_wrong import account, files
from ibd.data.base import Split
from ibd.data.grouping import groups_of_images
from ibd.distributed import progress
from ibd.errors import ConfigError, check_once
from ibd.explain.activations import device_of
from ibd.explain.base import undisturbed
from ibd.explain.scalars import logits_of
from ibd.metrics.functional.by_group import by_group
from ibd.metrics.functional.where_wrong import where_wrong
from ibd.models.calibration.measuring import class_error
from ibd.training.group_figures import save_groups
from ibd.training.runner import evaluate_run
from ibd.training.tested.saving import save_tested
from ibd.training.tested.scored import Scored

_BY = "by="


def show_test(run: str, changes: Sequence[str], which: str, split: Split = "test") -> Iterator[str]:
    """Score a model on a split, write down where it is wrong, and yield lines on it for a person.

    Args:
        run: RUN of the command line, or ``package.module:make_model`` of a network of anybody's.
        changes: ``by=`` columns or concepts by commas, see `ibd.data.grouping.groups_of_images`; and data and model,
            see `ibd.app.over_data.given_over_data`.
        which: "best" or "last" checkpoint of a run.
        split: images to score it on.

    Raises:
        ConfigError: an unknown option, column or concept.
        DataError: a column has fewer than two groups among the images.
    """
    if is_place(run):
        yield from _foreign(given_over_data("test", run, changes, ["by"]), run, split)
        return
    said = dict(text.split("=", 1) for text in changes if text.startswith(_BY))
    by = _checked(said)
    rest = [text for text in changes if not text.startswith(_BY)]
    tested = evaluate_run(newest(run), *rest, which=which, by=by, split=split)
    yield from _lines(tested.scored.own_figures())
    yield from _tables(tested.scored)
    yield from account(tested.scored)
    yield from (f"figure: {path}" for path in tested.pictures)
    if tested.folder is not None:
        yield from files(tested.folder)


def _checked(said: dict[str, str]) -> list[str]:
    """Return the columns that are asked for."""
    by = named(said, "by") or []
    if "by" in said and not by:
        raise ConfigError("test: by: the name of a column or a concept is needed")
    check_once("by", by)
    return by


def _foreign(given: Given, place: str, split: Split) -> Iterator[str]:
    """Score a network of anybody's."""
    asked = {name: groups_of_images(given.data, split, name) for name in _checked(given.options)}
    probabilities, labels = _read(given, split)
    scored = _scored(given, place, split, asked, probabilities, labels)
    yield from _lines(scored.figures)
    yield from _tables(scored)
    yield from account(scored)
    yield from (f"figure: {path}" for path in save_groups(scored.groups, f"{split} images", given.folder))
    with writing(given.folder / "tested"):
        folder = save_tested(scored, given.folder)
    yield from files(folder)


def _scored(
    given: Given,
    place: str,
    split: Split,
    members: Mapping[str, Sequence[str | None]],
    probabilities: Tensor,
    labels: Tensor,
) -> Scored:
    """Return all that is said of a network of anybody's."""
    found = where_wrong(probabilities, labels, given.data.spec.class_names)
    right = found.accuracy
    figures = {"accuracy": right.mean, "accuracy_low": right.low, "accuracy_high": right.high}
    figures["ece"] = class_error(probabilities, labels)
    groups = [by_group(probabilities, labels, who, name) for name, who in members.items()]
    named_figures = {f"{split}/{name}": value for name, value in figures.items()}
    dataset = given.data.dataset(split)
    return Scored(found, dataset, split, found.silent, named_figures, groups, members, about={"network": place})


def _read(given: Given, split: Split) -> tuple[Tensor, Tensor]:
    """Return the (N, C) probabilities of the images, and their (N,) labels, in one pass."""
    told, labels = list[Tensor](), list[Tensor]()
    with undisturbed(given.model), torch.inference_mode():
        for batch in progress(given.data.loader(split), split):
            logits = logits_of(given.model(batch.image.to(device_of(given.model))))
            told.append(logits.cpu().double().softmax(1))
            labels.append(batch.label)
    return torch.cat(told), torch.cat(labels)


def _lines(figures: Mapping[str, float]) -> Iterator[str]:
    for name, value in figures.items():
        if f"{name}_low" in figures:
            yield f"{name:<28} {value:.4f} [{figures[f'{name}_low']:.4f}, {figures[f'{name}_high']:.4f}]"
        elif not name.endswith(("_low", "_high")):
            yield f"{name:<28} {value:.4f}"


def _tables(scored: Scored) -> Iterator[str]:
    for group in scored.groups:
        yield ""
        yield from group.table().splitlines()
        if (concepts := scored.concepts_by(group)) is not None:
            yield from concepts.table().splitlines()
