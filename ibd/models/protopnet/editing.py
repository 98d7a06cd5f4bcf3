"""Prototypes that a person forgets, keeps or replaces by another training patch, and the last layer solved again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ibd.data.base import ImageDataModule
from ibd.errors import ConfigError, UnsupportedError
from ibd.models.base import evaluating
from ibd.models.cbm.finish import outputs
from ibd.models.lightning import InterpretableModule
from ibd.models.protopnet.distance import patches_of
from ibd.models.protopnet.lightning import ProtoPNet
from ibd.models.protopnet.network import PrototypeNetwork
from ibd.models.protopnet.projection import read_similarities, solve_last_layer
from ibd.models.protopnet.provenance import PRECISIONS
from ibd.models.protopnet.scan import chunks
from ibd.models.protopnet.similarity import comparable, from_squared
from ibd.models.prototypes import LinearPrototypes


@dataclass(frozen=True)
class Patch:
    """A patch of a training image.

    Attributes:
        image: index of the image in the training split.
        row: row of the patch in the feature map.
        column: column of the patch.
    """

    image: int
    row: int
    column: int


@dataclass(frozen=True)
class PrototypeEdits:
    """What a person wants of prototypes, by their numbers.

    Attributes:
        forget: those that are switched off, as pruning does.
        keep: those that are switched on again, whatever switched them off.
        replace: those that become another patch of a training image of their class; they are kept, too.
    """

    forget: frozenset[int] = frozenset()
    keep: frozenset[int] = frozenset()
    replace: Mapping[int, Patch] = field(default_factory=dict)

    def check(self, network: LinearPrototypes) -> None:
        """Look whether all of this can be done to a network.

        Raises:
            ConfigError: an unknown prototype, two wishes for one, nothing to do, or a class that would lose its last.
        """
        wishes = [*self.forget, *self.keep, *self.replace]
        for unit in wishes:
            network.unit_index(unit)
            if wishes.count(unit) > 1:
                raise ConfigError(f"prototype {unit} is to be two of forgotten, kept and replaced: one is needed")
        if not wishes:
            raise ConfigError("nothing is to be forgotten, kept or replaced: the model would stay as it is")
        left = self.left(network)
        for name, members in network.unit_groups.items():
            if not bool(left[members].any()):
                raise ConfigError(
                    f"class '{name}' would have no prototype left, and never be predicted: keep or replace one of "
                    f"{', '.join(map(str, members))}"
                )

    def left(self, network: LinearPrototypes) -> Tensor:
        """Return which prototypes are on after this, (P,) bool."""
        mask = network.mask & (network.factor != 0)
        mask[list(self.forget)] = False
        mask[[*self.keep, *self.replace]] = True
        return mask


@dataclass(frozen=True)
class EditReport:
    """What an edit did.

    Attributes:
        before: (N,) bool, which validation images were right.
        after: (N,) bool, which are right.
        kept: number of prototypes that are on.
        solved: in words, how the last layer was solved again; "" where a model has no way to do that.
    """

    before: Tensor
    after: Tensor
    kept: int
    solved: str


@torch.no_grad()
def edit_prototypes(model: InterpretableModule, data: ImageDataModule, edits: PrototypeEdits) -> EditReport:
    """Forget, keep and replace prototypes of a model, for good, and solve its last layer again on the training images.

    A calibration is of the model as it was, and taken away.

    Args:
        model: a ``ProtoPNet``; or a ``PIPNet``, whose prototypes can be forgotten and kept, and whose last layer, which
            has no optimum to solve for, stays as it was trained.
        data: data that it was trained on.
        edits: what is wanted.

    Raises:
        ConfigError: what `PrototypeEdits.check` and `set_to_patches` find wrong.
        UnsupportedError: the model has no prototypes, or some that cannot become a patch.
    """
    network = model.network
    if not isinstance(network, LinearPrototypes):
        raise UnsupportedError(
            f"a {type(model).__name__} has no prototypes to edit: its units are {network.unit_plural}"
        )
    edits.check(network)
    if edits.replace and not isinstance(model, ProtoPNet):
        raise UnsupportedError(f"the prototypes of a {type(model).__name__} are channels, and cannot become a patch")
    before = right_images(model, data)
    left = edits.left(network)
    if isinstance(model, ProtoPNet):
        set_to_patches(model.network, data, edits.replace)
    network.mask.copy_(left)
    network.factor[[*edits.keep, *edits.replace]] = 1.0
    model.calibration = None
    solved = _solve(model, data) if isinstance(model, ProtoPNet) else ""
    return EditReport(before, right_images(model, data), int(left.sum()), solved)


def _solve(model: ProtoPNet, data: ImageDataModule) -> str:
    """Solve the last layer again, with what a person has made of similarities; say how that ended."""
    scores, labels = read_similarities(model.network, data)
    report = solve_last_layer(model.network, scores * model.network.factor, labels, model.last_layer)
    end = "to its optimum" if report.converged else "and stopped before its optimum"
    return f"last layer solved again on {len(labels)} training images, {report.steps} steps, {end}"


@torch.no_grad()
def right_images(model: InterpretableModule, data: ImageDataModule) -> Tensor:
    """Return for which validation images the prediction is the true class, (N,) bool, on the CPU.

    An image without a prediction, as a PIP-Net has them, is not right.
    """
    with evaluating(model):
        logits = torch.cat([output.logits for output in outputs(model, data, "val")])
    silent = model.network.abstains(logits).cpu()
    return (logits.argmax(1).cpu() == data.dataset("val").labels) & ~silent


@torch.no_grad()
def set_to_patches(network: PrototypeNetwork, data: ImageDataModule, wanted: Mapping[int, Patch]) -> None:
    """Set prototypes to other patches of un-augmented training images, to the same bits that a projection reads.

    Args:
        network: network with projected prototypes.
        data: data that it was projected on.
        wanted: prototype -> patch, of an image of its class.

    Raises:
        ConfigError: an image that there is not, or of another class; or a place that there is not.
    """
    _check_images(network, data, wanted.items())
    precision = PRECISIONS[int(network.provenance.precision)]
    names = network.provenance.names()
    only = {patch.image for patch in wanted.values()}
    with evaluating(network):
        for batch, features in chunks(network, data, "train", precision, "reading patches", only) if only else ():
            patches, grid = patches_of(features, (network.extent, network.extent))
            place = {int(index): i for i, index in enumerate(batch.index.tolist())}
            for unit, patch in wanted.items():
                if patch.image in place:
                    _set(network, unit, patch, patches[place[patch.image]], grid)
                    names[unit] = data.dataset("train").sample_id(patch.image)
    network.provenance.name(names)


def _check_images(network: PrototypeNetwork, data: ImageDataModule, wanted: Iterable[tuple[int, Patch]]) -> None:
    labels, names = data.dataset("train").labels, network.class_names
    for unit, patch in wanted:
        if not 0 <= patch.image < len(labels):
            raise ConfigError(f"there is no training image {patch.image}: there are {len(labels)}, counted from 0")
        mine, given = names[int(network.classes[unit])], names[int(labels[patch.image])]
        if mine != given:
            raise ConfigError(
                f"prototype {unit} is of class '{mine}', and training image {patch.image} of '{given}': a patch of its "
                "own class is needed"
            )


def _set(network: PrototypeNetwork, unit: int, patch: Patch, patches: Tensor, grid: tuple[int, int]) -> None:
    """Set one prototype to one of the (L, D) patches of an image, and write down where it is from."""
    rows, columns = grid
    if not (0 <= patch.row < rows and 0 <= patch.column < columns):
        raise ConfigError(
            f"there is no position ({patch.row}, {patch.column}): patches lie in {rows} rows, {columns} columns"
        )
    vector, provenance = patches[patch.row * columns + patch.column], network.provenance
    old, new = (comparable(value, network.distance, 0).float() for value in (network.prototypes[unit], vector))
    provenance.moved[unit] = from_squared((old - new).square().sum(), network.distance)
    network.prototypes[unit] = vector.to(network.prototypes.dtype)
    provenance.index[unit] = patch.image
    provenance.position[unit] = torch.tensor([patch.row, patch.column])
