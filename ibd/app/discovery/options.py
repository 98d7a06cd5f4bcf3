"""What is asked of a discovery."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from ibd.config import Block
from ibd.data.base import Split
from ibd.errors import ConfigError, check_range
from ibd.explain.discovery.dictionaries import Method, Search
from ibd.explain.discovery.sparse_autoencoder import Training

Pieces = Literal["cells", "crops"]
AUTO = (5, 10, 15, 20, 30)
"""Numbers of concepts that ``k=auto`` tries."""


@dataclass(frozen=True)
class DiscoverOptions:
    """How concepts are searched and shown; see `ibd.discover`.

    Attributes:
        method: "nmf" (features that are not negative), "sae" (sparse autoencoder), "pca" or "kmeans".
        k: number of concepts; several, [5,10,20], or "auto": of these the one that is found again best.
        layer: layer whose features are taken apart; by default the backbone's, or the network's last map.
        classes: classes whose images are searched; by default all.
        split: split of the data.
        images: number of images, as many of each class as can be.
        cells: cells of each image, drawn at random, that concepts are learned from.
        pieces: what is learned from: "cells" of the layer's map; or "crops", pieces cut out of the image, of which the
            mean of the map is taken.
        crop: side of a crop, as a share of the image's.
        again: further searches, each on half of the images and from another start, that say what is stable.
        active: concepts that are active at a place in a sparse autoencoder; without it a penalty keeps them few.
        sparsity: weight of that penalty.
        steps: steps of a sparse autoencoder's training.
        within: file of directions of an earlier discovery: only the places where one of its concepts is strong count.
        concept: name of that concept.
        share: share of all places at which it counts as strong.
        compare: table of labelled concepts, as ``concepts.csv`` is; by default those of the data.
        scorer: package.module:function of images and texts, which proposes names.
        texts: texts for it, or a file with one in each line.
        names: table of names that a person gave; by default the one in the folder.
        designs: rows of random masks of each image, where importance is estimated, a power of 2.
        class_images: images of each class that importance is measured on.
        shown: patches of each concept.
        visualize: whether an image is made that excites each concept.
        seed: seed of all that is random.
        device: device: auto, cpu, cuda, ...
        cache: folder of kept features; "auto" is that of trainings on frozen backbones.
        weights: weights of a backbone that is given by its name.
        backbone: further options of that backbone.
        model: way to ask a network of anybody's.
        overrides: changes to the data, ``data.key=value``.

    Raises:
        ConfigError: one of these cannot be.
    """

    config_excludes = ("overrides",)
    method: Method = "nmf"
    k: Any = 20
    layer: str = ""
    classes: Any = field(default_factory=list)
    split: Split = "train"
    images: int = 1000
    cells: int = 16
    pieces: Pieces = "cells"
    crop: float = 0.4
    again: int = 3
    active: int | None = None
    sparsity: float = Training.sparsity
    steps: int = Training.steps
    within: str | None = None
    concept: str | None = None
    share: float = 0.1
    compare: str | None = None
    scorer: str | None = None
    texts: Any = None
    names: str | None = None
    designs: int = 32
    class_images: int = 8
    shown: int = 8
    visualize: bool = False
    seed: int = 0
    device: str = "auto"
    cache: str = "auto"
    weights: str | None = None
    backbone: dict[str, Any] = field(default_factory=dict)
    model: Annotated[dict[str, Any] | None, Block("foreign")] = None
    overrides: Any = ()

    def __post_init__(self) -> None:
        """Check the options that nothing else checks."""
        for key in ("images", "cells", "shown", "class_images", "designs"):
            check_range(key, getattr(self, key), least=1)
        check_range("again", self.again, least=0)
        check_range("share", self.share, above=0)
        if (self.within is None) != (self.concept is None):
            raise ConfigError("within: a file of directions, and concept, the name of one of its concepts, go together")
        if self.within is not None and self.pieces == "crops":
            raise ConfigError("pieces: 'crops' given, but a concept is strong in cells: pieces=cells goes with within")
        if (self.scorer is None) != (self.texts is None):
            raise ConfigError("scorer: package.module:function, and texts that it scores, go together")
        if len(self.counts) > 1 and not self.again:
            raise ConfigError("again: 0 given, but of several k the one that is found again best is chosen")
        for count in self.counts:
            self.search(count)

    @property
    def counts(self) -> list[int]:
        """The numbers of concepts that are tried."""
        if self.k == "auto":
            return list(AUTO)
        given = self.k if isinstance(self.k, list | tuple) else [self.k]
        if isinstance(self.k, str) and all(part.strip().isdecimal() for part in self.k.split(",")):
            given = [int(part) for part in self.k.split(",")]
        if not given or not all(isinstance(count, int) and not isinstance(count, bool) for count in given):
            raise ConfigError(f"k: {self.k!r} given, a whole number, several ([5,10,20]), or auto is needed")
        return sorted(dict.fromkeys(given))

    @property
    def class_list(self) -> list[str]:
        """The classes whose images are searched; none are all."""
        given = self.classes.split(",") if isinstance(self.classes, str) else self.classes
        return [str(name).strip() for name in given]

    def search(self, k: int) -> Search:
        """Return the search for k concepts."""
        return Search(self.method, k, self.seed, Training(self.active, self.sparsity, self.steps))
