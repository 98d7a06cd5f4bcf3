"""What a comparison of explanations finds: scores of every image, by model, explainer and metric, and what goes beside.

Everything here is plain numbers, names and arrays: it is written to disk and read again, and the report is made of it
alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ibd.explain.base import Kind
from ibd.models.sliders import Sliders

Floats = npt.NDArray[np.float64]
Key = tuple[str, str, str]
"""(model, explainer, metric or curve)."""


@dataclass(frozen=True)
class ModelInfo:
    """A model that was compared.

    Attributes:
        name: unique in the comparison, such as "cbm" or "cbm 2" (several seeds of one family).
        family: registered name of the model, which seeds share: "baseline", "cbm", "protopnet", "concept_whitening";
            where models of one name have different backbones, with that, such as "cbm-bcos_small_cnn"; of a model that
            was given as a network, the name that it was given.
        run: run that the model came from; of a network, how it is fed, in words.
        seed: seed of its training.
        accuracy: share of the asked images' split that it classifies rightly, 0 to 1.
        unit_kind: "concept", "prototype", "axis" or "channel"; "" of a model without units that are known.
        backbone: name and options, in words.
        images: images of that split; 0 where that is unknown.
        majority: share of that split's most frequent class, 0 to 1; 0 where that is unknown.
        checkpoint: first 16 digits of the SHA-256 of its checkpoint; "" of a model without one.
    """

    name: str
    family: str
    run: str
    seed: int
    accuracy: float
    unit_kind: str
    backbone: str = ""
    images: int = 0
    majority: float = 0.0
    checkpoint: str = ""


@dataclass(frozen=True)
class ExplainerInfo:
    """An explainer that was compared: its registered name, or that of a reference map or the oracle, and its kind."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Curve:
    """A curve of every image.

    Attributes:
        x: (n,) places at which it was measured, such as the fraction removed.
        values: (N, n), NaN where undefined.
        x_label: label of the x axis.
        y_label: label of the y axis.
    """

    x: Floats
    values: Floats
    x_label: str
    y_label: str


@dataclass(frozen=True)
class Sanity:
    """How an explanation changes while a model loses what it has learned.

    Attributes:
        stages: names of the tensors that are random by then, from the first stage on.
        similarity: (n,) mean Spearman correlation with the explanation of the trained model, by stage.
        low: (n,) lower end of the interval of the similarity.
        high: (n,) upper end of that interval.
        band: similarity of explanations of two independent random networks, which counts as none: its upper end.
        passed: name of the check ("cascade_top_down", "cascade_bottom_up", "other_target", "other_input",
            "input_shift") -> whether it was passed; None where it does not apply.
        values: name of the check -> its figure.
    """

    stages: list[str]
    similarity: Floats
    low: Floats
    high: Floats
    band: float
    passed: dict[str, bool | None]
    values: dict[str, float]


@dataclass(frozen=True)
class ModelFigures:
    """Figures of a model alone.

    Attributes:
        figures: name -> value, NaN where undefined.
        breakdown: name -> part, unit or method -> value, of figures that there are several of.
    """

    figures: dict[str, float] = field(default_factory=dict)
    breakdown: dict[str, dict[str, float]] = field(default_factory=dict)

    def named(self) -> dict[tuple[str, str], float]:
        """Return (name, part, unit or method) -> value of all; the second is "" for the figure of the whole model."""
        values: dict[tuple[str, str], float] = {}
        for name in dict.fromkeys([*self.figures, *self.breakdown]):
            if name in self.figures:
                values[name, ""] = self.figures[name]
            values |= {(name, of): value for of, value in self.breakdown.get(name, {}).items()}
        return values


@dataclass(frozen=True)
class SelfConsistency(ModelFigures):
    """What a model's own account of itself is worth, beside its maps: "locality", "leakage_gap" and others.

    Attributes:
        matrix: (P, G) concept locality: mean largest change of the probabilities of group g when part p is replaced;
            None where it does not apply.
        rows: the P parts.
        columns: the G groups.
    """

    matrix: Floats | None = None
    rows: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ConceptTests:
    """Which of C classes rest on which of K labelled concepts, by a layer.

    Attributes:
        layer: name of the layer.
        concepts: names of the concepts.
        classes: names of the classes.
        scores: (K, C) TCAV scores.
        p_values: (K, C) of the test against random directions, corrected.
    """

    layer: str
    concepts: list[str]
    classes: list[str]
    scores: Floats
    p_values: Floats


@dataclass(frozen=True)
class ShownCluster:
    """Images of a class whose relevance maps are alike.

    Attributes:
        class_name: the class.
        images: number of images of the cluster.
        of: number of images of the class that were clustered.
        kinds: number of clusters of the class.
        gap: relative gap in the spectrum by which they were counted.
        chance: the largest one of maps without clusters.
        strangeness: at most 1, see `ibd.explain.strategies.MapCluster`.
        half: share of the image that holds half of the relevance.
        lies_on: what the relevance lies on, in words; "" where that is not known.
        mean: (H, W, 3) mean image.
        relevance: (H, W) mean share of the relevance at each pixel.
        examples: (H, W, 3) typical images.
        maps: (H, W) signed maps of these.
    """

    class_name: str
    images: int
    of: int
    kinds: int
    gap: float
    chance: float
    strangeness: float
    half: float
    lies_on: str
    mean: npt.NDArray[np.float32]
    relevance: npt.NDArray[np.float32]
    examples: list[npt.NDArray[np.float32]]
    maps: list[npt.NDArray[np.float32]]


@dataclass(frozen=True)
class CostInfo:
    """What an explainer took for one image of a model, and what its metrics took.

    Attributes:
        forwards: number of passes of an image through the model.
        backwards: number of passes back.
        heads: number of passes through only what comes after a layer.
        seconds: seconds by the clock, for one image.
        metric_seconds: name of a group of metrics -> seconds for all images.
    """

    forwards: float
    backwards: float
    heads: float
    seconds: float
    metric_seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """What was not measured, and why; None stands for all."""

    model: str | None
    explainer: str | None
    metric: str | None
    why: str


@dataclass(frozen=True)
class ShownUnit:
    """A unit that a prediction rests on, for one image.

    Attributes:
        name: name of the unit.
        value: its value.
        contribution: what it adds to the logit of the explained class.
        patch: (H', W', 3) what a prototype looks at in this image; None of other units.
        source: (H', W', 3) training patch that the prototype is; None where it is none.
    """

    name: str
    value: float
    contribution: float
    patch: npt.NDArray[np.float32] | None = None
    source: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class ShownImage:
    """An image of the report, as pictures.

    Attributes:
        position: position among the compared images.
        image: (H, W, 3) in [0, 1].
        label: name of the true class.
        masks: (P, H, W) bool of its parts, or None.
        maps: model -> explainer -> (H, W) signed.
        predicted: model -> name of the explained class.
        units: model -> all units that its prediction rests on, the largest contributions first.
    """

    position: int
    image: npt.NDArray[np.float32]
    label: str
    masks: npt.NDArray[np.bool_] | None
    maps: dict[str, dict[str, npt.NDArray[np.float32]]]
    predicted: dict[str, str]
    units: dict[str, list[ShownUnit]] = field(default_factory=dict)


@dataclass(frozen=True)
class ShownModel:
    """What the report draws of a model with units, for M images.

    Attributes:
        positions: M positions among the compared images.
        classes: names of the C classes.
        probabilities: (M, C) of the network itself, without a calibration.
        groups: group name -> names of its units.
        sliders: what setting units of these images does, as numbers; None where that takes the model itself.
        why: why there are none; else "".
    """

    positions: list[int]
    classes: list[str]
    probabilities: Floats
    groups: dict[str, list[str]]
    sliders: Sliders | None
    why: str = ""


@dataclass(frozen=True)
class PlacedImages:
    """Where the compared images lie by what a model makes of them.

    Attributes:
        layer: name of the layer.
        method: way in which they were laid out.
        places: (N, 2) in [0, 1]: across and up.
        predicted: (N,) classes that the model says.
        kept: share of the nearest neighbours that are nearest on the map as well.
        same_class: share of the nearest neighbours, by the layer, that are of an image's own class: of as many as there
            are of it, at most.
        neighbours: number of neighbours that both count, at most.
        shown: (T,) images that are drawn.
        thumbnails: (T, s, s, 3) these, from 0 to 255.
    """

    layer: str
    method: str
    places: Floats
    predicted: npt.NDArray[np.int64]
    kept: float
    same_class: float
    neighbours: int
    shown: npt.NDArray[np.int64]
    thumbnails: npt.NDArray[np.uint8]


@dataclass
class Comparison:
    """All of a comparison.

    Attributes:
        settings: "data", "split", "image_size", "explained", "measured", "seed", "versions" (package -> version),
            "main_metric" where the verdict is to rest on another one than the report would take; plain values.
        class_names: class names of the data.
        part_names: part names of the data; empty without masks.
        models: models that were compared.
        explainers: rows of the tables, reference maps and oracle included.
        metrics: names of the metrics, in the order of the tables; ``ibd.comparison.groups`` says what they mean.
        image_ids: (N,) of the compared images.
        labels: (N,) their classes.
        scores: (model, explainer, metric) -> (N,) values, NaN where undefined; (1,) of a metric that has one figure
            for all images together.
        curves: (model, explainer, name) -> curve.
        own_curves: (model, chart) -> line -> curve that belongs to a model and not to an explainer.
        paintings: (model, painting, metric) -> (N,) values of the model's own map, painted in other ways.
        agreement: (model, measure) -> (E, E) mean agreement of the explainers that have maps, in the order of
            `agreement_names`.
        agreement_names: model -> names of those explainers.
        sanity: (model, explainer) -> result.
        self_consistency: model -> result.
        concept_tests: model -> which classes rest on which concepts, where that was asked.
        clusters: model -> the strangest clusters of its relevance maps, where that was asked.
        costs: (model, explainer) -> cost.
        skipped: metrics and rows that were left out.
        shown: images to draw.
        shown_models: model -> what is drawn of its units, where it has any.
        shortcut: model -> figures on data with a tag; empty elsewhere.
        placed: model -> where the images lie, where there are enough of them.
    """

    settings: dict[str, Any]
    class_names: list[str]
    part_names: list[str]
    models: list[ModelInfo]
    explainers: list[ExplainerInfo]
    metrics: list[str]
    image_ids: list[str]
    labels: npt.NDArray[np.int64]
    scores: dict[Key, Floats] = field(default_factory=dict)
    curves: dict[Key, Curve] = field(default_factory=dict)
    own_curves: dict[tuple[str, str], dict[str, Curve]] = field(default_factory=dict)
    paintings: dict[Key, Floats] = field(default_factory=dict)
    agreement: dict[tuple[str, str], Floats] = field(default_factory=dict)
    agreement_names: dict[str, list[str]] = field(default_factory=dict)
    sanity: dict[tuple[str, str], Sanity] = field(default_factory=dict)
    self_consistency: dict[str, SelfConsistency] = field(default_factory=dict)
    concept_tests: dict[str, ConceptTests] = field(default_factory=dict)
    clusters: dict[str, list[ShownCluster]] = field(default_factory=dict)
    costs: dict[tuple[str, str], CostInfo] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    shown: list[ShownImage] = field(default_factory=list)
    shown_models: dict[str, ShownModel] = field(default_factory=dict)
    shortcut: dict[str, ModelFigures] = field(default_factory=dict)
    placed: dict[str, PlacedImages] = field(default_factory=dict)
