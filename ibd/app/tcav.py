"""``ibd tcav``: which classes of a model rest on which labelled concepts, by a layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from ibd.app.over_data import given_over_data, named, number, one_split
from ibd.app.terminal import save_figure, writing
from ibd.comparison.images import fitted_split, some_images
from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.cav import Fit
from ibd.explain.concept_slopes import tcav
from ibd.explain.tcav_figures import tcav_figure

EXAMPLES, IMAGES = 4000, 512
"""Images that vectors are fitted on some of, and images whose classes' slopes are taken."""
_OPTIONS = (
    *("layer", "concepts", "classes", "pooling", "classifier", "fit_images", "examples", "images", "runs", "random"),
    *("split", "seed"),
)


def show_tcav(run: str, changes: Sequence[str], out: str | None) -> Iterator[str]:
    """Test which classes rest on which concepts; yield lines on it for a person.

    Args:
        run: RUN of the command line, or ``package.module:make_model`` of a network of anybody's.
        changes: ``layer=`` (default: the backbone), ``concepts=`` and ``classes=`` by commas, ``pooling=`` mean or
            flat, ``classifier=`` svm, ridge or logistic, ``examples=`` on either side, of ``fit_images=`` training
            images, ``images=`` of ``split=``, ``runs=`` vectors of a concept, ``random=`` sets, ``seed=``; and data and
            model, see `ibd.app.over_data.given_over_data`.
        out: folder to write into; by default that of the run's figures.

    Raises:
        ConfigError: an unknown option or name.
        UnsupportedError: the data has no concept labels.
    """
    given = given_over_data("tcav", run, changes, _OPTIONS)
    said, spec = given.options, given.data.spec
    if not spec.concept_names:
        raise UnsupportedError("tcav: the data has no concept labels (a folder has them in its concepts.csv)")
    for name in named(said, "concepts") or ():
        if name in spec.quantities:
            raise ConfigError(
                f"concepts: '{name}' is a quantity: a vector is fitted to images with and without a concept"
            )
    seed = number("tcav", said, "seed", 0, least=0)
    split = one_split("tcav", said.get("split", "test"))
    fit = Fit(cast(Any, said.get("classifier", "svm")), number("tcav", said, "examples", 100), seed=seed)
    found = tcav(
        given.model,
        some_images(given.data, fitted_split(given.data), number("tcav", said, "fit_images", EXAMPLES), seed),
        some_images(given.data, split, number("tcav", said, "images", IMAGES), seed),
        spec.concept_names,
        spec.class_names,
        layer=said.get("layer"),
        concepts=named(said, "concepts") or [spec.concept_names[k] for k in spec.truths],
        classes=named(said, "classes"),
        pooling=cast(Any, said.get("pooling", "mean")),
        fit=fit,
        runs=number("tcav", said, "runs", 10),
        random=number("tcav", said, "random", 30),
    )
    yield from (f"left out: {why}" for why in found.left_out)
    yield f"layer {found.layer}: {len(found.concepts)} concepts, {len(found.classes)} classes"
    yield from found.table().splitlines()
    counts = int(found.significant.sum())
    yield f"{counts} of {found.significant.numel()} pairs are apart from random directions (p < 0.05, corrected)"
    folder = Path(out) if out else given.folder
    table = folder / "tcav.csv"
    with writing(table):
        found.save_csv(table)
    yield f"figure: {save_figure(tcav_figure(found), table.with_suffix('.png'))}"
    yield f"table:  {table}"
