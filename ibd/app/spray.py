"""``ibd spray``: the strategies of a model for each class, by clusters of relevance maps, the strange ones first."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ibd.app.over_data import Given, given_over_data, named, number, one_split
from ibd.app.terminal import save_figure, writing
from ibd.comparison.images import fitted_split, images_of_class, some_images
from ibd.comparison.named_places import Place, places
from ibd.data.base import Split
from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.base import Explainer
from ibd.explain.concept_slopes import chosen_classes
from ibd.explain.spray_figures import spray_figure
from ibd.explain.strategies import MapCluster, Spray, class_maps, pixel_spread, spray

IMAGES, OTHERS, EXAMPLES = 400, 512, 4
"""Images of a class that are explained, images that pixels are compared by, and images drawn of a cluster."""
_OPTIONS = (
    *("explainer", "classes", "images", "split", "clusters", "most", "neighbors", "cells", "draws", "examples", "seed"),
)
_OF_CLUSTERS = ("clusters", "most", "neighbors", "cells")
_HEADS = ("class", "cluster", "images", "strangeness", "half", "lies_on", "share", "area", "gap", "chance")
_MENTIONED = 5


def show_spray(run: str, changes: Sequence[str], out: str | None) -> Iterator[str]:
    """Cluster the relevance maps of classes; yield lines on it for a person. What is done by Ctrl-C is on disk.

    Args:
        run: RUN of the command line, or ``package.module:make_model`` of a network of anybody's.
        changes: ``explainer=`` of the maps, lrp by default, ``classes=`` by commas, ``images=`` of each, of
            ``split=`` (the training images); ``clusters=`` in place of what the gap says, at ``most=``;
            ``neighbors=``, ``cells=`` and ``draws=`` of `ibd.explain.cluster_maps`; ``examples=`` drawn; ``seed=``;
            and data and model, see `ibd.app.over_data.given_over_data`.
        out: folder to write into; by default ``spray`` in that of the run's figures.

    Raises:
        ConfigError: an unknown option or name.
        DataError: no class has enough images.
        UnsupportedError: the method cannot explain the model, or nothing speaks for any class.
    """
    from ibd.app.explain import choose

    given = given_over_data("spray", run, changes, _OPTIONS)
    said, spec = given.options, given.data.spec
    folder = Path(out) if out else given.folder / "spray"
    (explainer, *more) = choose(said.get("explainer", "lrp"))
    if more:
        raise ConfigError(f"spray: explainer: one is needed, not {1 + len(more)}")
    seed = number("spray", said, "seed", 0, least=0)
    split = one_split("spray", said["split"]) if "split" in said else fitted_split(given.data)
    classes = chosen_classes(spec.class_names, named(said, "classes"))
    options: dict[str, int] = {
        key: number("spray", said, key, 0) for key in ("clusters", "most", "neighbors", "cells") if key in said
    }
    options |= {"seed": seed, "draws": number("spray", said, "draws", 19, least=0)}
    spread = pixel_spread(some_images(given.data, split, OTHERS, seed))
    rows: list[list[object]] = []
    told: list[tuple[float, str]] = []
    why: DataError | UnsupportedError | None = None
    for label in range(len(spec.class_names)) if classes is None else classes:
        name = spec.class_names[label]
        try:
            found = _clusters(given, split, label, explainer, spread, number("spray", said, "images", IMAGES), options)
        except (DataError, UnsupportedError) as error:  # too few images of this class, or nothing speaks for it
            why = error
            yield f"left out: {name}: {error}"
            continue
        lies = [_places(given, split, found, cluster) for cluster in found.clusters]
        yield from _lines(name, found, lies)
        picture = _figure(given, split, name, found, lies, number("spray", said, "examples", EXAMPLES))
        yield f"figure: {save_figure(picture, folder / f'{_plain(name)}.png')}"
        rows += _rows(name, found, lies)
        _save(folder / "spray.csv", rows)
        told += [
            (cluster.strangeness, f"{name}, cluster {place + 1}{_on(there)}")
            for place, (cluster, there) in enumerate(zip(found.clusters, lies, strict=True))
        ]
    if why is not None and not rows:
        raise why
    yield "the strangest clusters of all:"
    for strangeness, text in sorted(told, reverse=True)[:_MENTIONED]:
        yield f"  {strangeness:.2f}  {text}"
    yield f"table:  {folder / 'spray.csv'}"


def _clusters(
    given: Given,
    split: Split,
    label: int,
    explainer: Explainer,
    spread: Tensor,
    images: int,
    options: dict[str, int],
) -> Spray:
    """Return the clusters of a class's maps."""
    loader = images_of_class(given.data, split, label, images, options["seed"])
    return spray(class_maps(given.model, loader, label, explainer), spread, **options)


def _places(given: Given, split: Split, found: Spray, cluster: MapCluster) -> list[Place]:
    """Return what a cluster's relevance lies on; nothing where the data has no masks."""
    maps, index = found.given.maps[cluster.members], found.given.index[cluster.members].tolist()
    try:
        return places(maps, given.data.dataset(split), index, given.data.spec.part_names)
    except UnsupportedError:
        return []


def _lines(name: str, found: Spray, lies: Sequence[list[Place]]) -> Iterator[str]:
    clustering = found.clustering
    kinds = "one kind" if clustering.count == 1 else f"{clustering.count} kinds"
    gap = f"largest gap {clustering.gap:.2f}, by chance up to {clustering.chance:.2f}"
    yield f"{name}: {kinds} of maps of {len(found.given)} images ({gap})"
    for place, (cluster, there) in enumerate(zip(found.clusters, lies, strict=True)):
        half = f"half of its relevance on {cluster.half:.1%} of the image"
        yield f"  cluster {place + 1}: {len(cluster)} images, strangeness {cluster.strangeness:.2f}, {half}{_on(there)}"


def _on(there: Sequence[Place]) -> str:
    return f"; {there[0]} ({there[0].times:.0f} times chance)" if there else ""


def _figure(given: Given, split: Split, name: str, found: Spray, lies: Sequence[list[Place]], count: int) -> object:
    dataset = given.data.dataset(split)
    examples = [
        torch.stack([dataset[int(found.given.index[member])].image for member in cluster.members[:count]])
        for cluster in found.clusters
    ]
    return spray_figure(found, name, examples, [str(there[0]) if there else "" for there in lies])


def _rows(name: str, found: Spray, lies: Sequence[list[Place]]) -> list[list[object]]:
    """Return a line for each cluster and each thing that its relevance may lie on."""
    rows: list[list[object]] = []
    for number_, (cluster, there) in enumerate(zip(found.clusters, lies, strict=True)):
        head = [name, number_ + 1, len(cluster), f"{cluster.strangeness:.4f}", f"{cluster.half:.4f}"]
        tail = [f"{found.clustering.gap:.4f}", f"{found.clustering.chance:.4f}"]
        on = [[place.name, f"{place.share:.4f}", f"{place.area:.4f}"] for place in there] or [["", "", ""]]
        rows += [[*head, *place, *tail] for place in on]
    return rows


def _save(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with writing(path), path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([_HEADS, *rows])


def _plain(name: str) -> str:
    """Return a class's name as that of a file."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
