"""Concept activation vectors: where in a layer's features a labelled concept lies (Kim et al. 2018).

A linear classifier tells images with a concept from images without it by a layer's features; the normal of its plane is
the concept's direction. Any layer of any model will do, and images that the model was never trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from ibd.distributed import progress
from ibd.errors import ConfigError, DataError, UnsupportedError, check_once, check_range, did_you_mean
from ibd.explain.directions import Directions
from ibd.explain.layer_features import Pooling, feature_layer, pooled, read_features
from ibd.explain.layouts import Layout

Classifier = Literal["svm", "ridge", "logistic"]
"""Linear classifier: a support vector machine with squared hinge loss, ridge regression of -1 and 1, or logistic
regression."""

FEWEST = 8
"""Images on either side: two of them to score the classifier on."""
_HELD_OUT = 0.2
"""Share of the images that scores are from, where there are no others."""


@dataclass(frozen=True)
class Fit:
    """How a concept is told from its absence.

    Attributes:
        classifier: kind of linear classifier.
        examples: images with the concept, and as many without, that it is fitted on; fewer where there are not so many.
        strength: weight of the errors against the squared norm of the weights, C of scikit-learn, for features whose
            root mean square distance from their mean is brought to 1.
        seed: seed of the choice of images.

    Raises:
        ConfigError: one of these cannot be.
    """

    classifier: Classifier = "svm"
    examples: int = 100
    strength: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the options."""
        if self.classifier not in get_args(Classifier):
            raise ConfigError(f"classifier: '{self.classifier}' is not one of {', '.join(get_args(Classifier))}")
        check_range("examples", self.examples, least=FEWEST)
        check_range("strength", self.strength, above=0)


class Examples(NamedTuple):
    """Positions of images with a concept and as many without, to fit on and to score on."""

    positives: Tensor
    negatives: Tensor
    held_positives: Tensor
    held_negatives: Tensor


def concept_vectors(
    model: nn.Module,
    data_loader: Iterable[object],
    names: Sequence[str],
    layer: str | None = None,
    concepts: Sequence[str] | None = None,
    pooling: Pooling = "mean",
    classifier: Classifier = "svm",
    examples: int = 100,
    strength: float = 1.0,
    seed: int = 0,
    layout: Layout = "auto",
) -> Directions:
    """Return the concept activation vectors of a layer, with how well each tells images that it was not fitted on.

    Args:
        model: ours, or any of (B, 3, H, W) images in [0, 1]; it is left as it was.
        data_loader: loader of a `Batch` whose ``concepts`` say what holds.
        names: names of these K concepts, such as ``DataSpec.concept_names``.
        layer: name of a layer that puts out a map or a vector; None is the model's ``backbone``.
        concepts: names of those that are wanted; None takes all.
        pooling: way in which a map becomes a vector; "flat" keeps the cells, as published, and needs far more memory.
        classifier: kind of linear classifier, see `Fit`.
        examples: images with the concept, and as many without, that each is fitted on.
        strength: weight of the errors against the squared norm of the weights.
        seed: seed of the choice of images.
        layout: axis of the layer's output that holds the channels; "auto" tells it, or refuses.

    Returns:
        Directions of length 1, read linearly: the signed distance from the plane, in units of the features. Their
        ``details`` hold, for each, "accuracy" and "auroc" on held-out images, how many of these there are on either
        side ("held_out"), and on how many it was fitted ("examples"). With ``pooling="flat"`` they read the (N, D h w)
        flattened maps.

    Raises:
        ConfigError: no such layer, concept or option.
        DataError: no images, or too few with or without a concept.
        UnsupportedError: the layer puts out neither a map nor a vector, or the same for all images.
    """
    fit = Fit(classifier, examples, strength, seed)
    wanted = chosen_concepts(names, concepts)
    where = feature_layer(model, layer)
    read = read_features(model, data_loader, [where], lambda maps: pooled(maps, pooling), layout)
    found = fit_directions(read.values[where], read.concepts[:, wanted], [names[k] for k in wanted], fit, layer or "")
    return replace(found, details={**found.details, "pooling": pooling, "shape": list(read.shapes[where])})


def fit_directions(
    features: Tensor, concepts: Tensor, names: Sequence[str], fit: Fit | None = None, layer: str = ""
) -> Directions:
    """Return the concept activation vectors of features that were read before; see `concept_vectors`.

    Args:
        features: (N, D).
        concepts: (N, K), a concept holds above 0.5 and not below; 0.5 and NaN are left out.
        names: names of the K concepts.
        fit: how each is fitted; None is the default way.
        layer: name of the layer that the features are of.

    Raises:
        ConfigError: other numbers of names or rows than there are.
        DataError: too few images with or without a concept, or features that are not finite.
        UnsupportedError: the features are the same for all images.
    """
    fit = fit or Fit()
    if features.dim() != 2 or concepts.shape != (len(features), len(names)):
        raise ConfigError(
            f"concept vectors: features {tuple(features.shape)} and concepts {tuple(concepts.shape)} given: (N, D) and "
            f"(N, {len(names)}) are needed, of the same images"
        )
    if not bool(features.isfinite().all()):
        raise DataError(f"concept vectors: the features of layer '{layer}' are not all finite")
    vectors, offsets = [], []
    details: dict[str, Any] = {"accuracy": [], "auroc": [], "examples": [], "held_out": []}
    for k, name in enumerate(progress(names, "concept vectors")):
        chosen = choose_examples(concepts[:, k], name, fit.examples, fit.seed)
        vector, offset = fit_vector(features[chosen.positives], features[chosen.negatives], fit, name)
        for key, value in held_out_scores(vector, offset, features, chosen).items():
            details[key].append(value)
        details["examples"].append(len(chosen.positives))
        details["held_out"].append(len(chosen.held_positives))
        vectors.append(vector)
        offsets.append(offset)
    details |= {"classifier": fit.classifier, "strength": fit.strength, "seed": fit.seed}
    stacked, ends = torch.stack(vectors).float(), torch.tensor(offsets, dtype=torch.float32)
    return Directions(layer, stacked, ends, tuple(names), "cav", "linear", details)


def choose_examples(holds: Tensor, name: str, count: int, seed: int) -> Examples:
    """Return which images a concept is fitted on, and which of the others it is scored on; both are balanced.

    The choice depends on the concept's own column and the seed alone.

    Args:
        holds: (N,) above 0.5 where the concept holds, below where not.
        name: name of the concept, for a message.
        count: images on either side to fit on, at most.
        seed: seed of the choice.

    Raises:
        DataError: there are too few.
    """
    sides = (holds > 0.5).nonzero().flatten(), (holds < 0.5).nonzero().flatten()
    least = min(map(len, sides))
    if least < FEWEST:
        raise DataError(
            f"concept '{name}': {len(sides[0])} images are known to have it and {len(sides[1])} not to: at least "
            f"{FEWEST} of each are needed"
        )
    held = min(count, max(math.ceil(_HELD_OUT * least), least - count))
    fitted = min(count, least - held)
    generator = torch.Generator().manual_seed(seed)
    with_it, without = (side[torch.randperm(len(side), generator=generator)] for side in sides)
    return Examples(with_it[held:][:fitted], without[held:][:fitted], with_it[:held], without[:held])


def fit_vector(positives: Tensor, negatives: Tensor, fit: Fit, name: str) -> tuple[Tensor, float]:
    """Return the normal of the plane between features, (D,) float64 of length 1, and its offset: above 0 on one side.

    Args:
        positives: (n, D) features on that side.
        negatives: (m, D) features on the other.
        fit: how it is fitted.
        name: name of the concept, for a message.

    Raises:
        UnsupportedError: there is nothing to tell them by.
    """
    features = torch.cat([positives, negatives]).double()
    center = features.mean(0)
    features = features - center
    scale = features.square().sum(1).mean().sqrt()
    if not float(scale):
        raise UnsupportedError(f"concept '{name}': the layer puts out the same for all images that it is fitted on")
    sides = torch.cat([torch.ones(len(positives)), -torch.ones(len(negatives))])
    made = _classifier(fit).fit((features / scale).numpy(), sides.numpy())
    vector = torch.from_numpy(made.coef_).double().flatten() / scale
    length = vector.norm()
    if not float(length):
        raise UnsupportedError(f"concept '{name}': the layer's features tell nothing of it")
    offset = float(made.intercept_.reshape(-1)[0]) - float(vector @ center)
    return vector / length, offset / float(length)


def held_out_scores(vector: Tensor, offset: float, features: Tensor, chosen: Examples) -> dict[str, float]:
    """Return the accuracy and the area under the ROC curve on images that a plane was not fitted on; 0.5 by chance."""
    from sklearn.metrics import roc_auc_score

    kept = torch.cat([chosen.held_positives, chosen.held_negatives])
    holds = torch.arange(len(kept)) < len(chosen.held_positives)
    distance = features[kept].double() @ vector + offset
    right = float(((distance > 0) == holds).double().mean())
    return {"accuracy": right, "auroc": float(roc_auc_score(holds.numpy(), distance.numpy()))}


def chosen_concepts(names: Sequence[str], wanted: Sequence[str] | None) -> list[int]:
    """Return the positions of concepts by name, or of all of a group; None are all.

    Raises:
        ConfigError: an unknown name, one that is given twice, or no concept at all.
    """
    if not names:
        raise ConfigError("concepts: the data has no concept labels")
    check_once("concepts", list(wanted or ()))
    chosen: list[int] = []
    for name in names if wanted is None else wanted:
        found = [k for k, known in enumerate(names) if known == name or known.startswith(f"{name}::")]
        if not found:
            raise ConfigError(f"concepts: there is no concept '{name}'.{did_you_mean(name, names)}")
        chosen += [k for k in found if k not in chosen]
    if not chosen:
        raise ConfigError(f"concepts: at least one is needed.{did_you_mean('', names)}")
    return chosen


def _classifier(fit: Fit) -> Any:
    """Return the classifier of scikit-learn, whose import takes a second."""
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.svm import LinearSVC

    if fit.classifier == "svm":
        return LinearSVC(C=fit.strength, dual="auto", max_iter=20000, random_state=fit.seed)
    if fit.classifier == "ridge":
        return RidgeClassifier(alpha=1 / fit.strength)
    return LogisticRegression(C=fit.strength, max_iter=2000)
