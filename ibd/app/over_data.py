"""A model and the images that it is asked about, as verbs that look at a whole data set take them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ibd.app.foreign import find_model, is_place, read_settings, short_name
from ibd.app.terminal import options
from ibd.comparison.images import balanced, fitted_split, some_images
from ibd.comparison.self_consistency.redrawing import chunks
from ibd.comparison.sources import find_data
from ibd.data.base import SPLITS, ImageDataModule, Split
from ibd.data.masked import concept_masks, load_batch
from ibd.errors import ConfigError, did_you_mean
from ibd.explain.activations import device_of
from ibd.io import find_run, load_run

_CHECKED = 8
"""Images on which a network of anybody's is tried."""


Masked = tuple[list[str], list[tuple[Tensor, Tensor]]]
"""Names of C masks, and batches of images (B, 3, H, W) with these, (B, C, H, W) bool."""


class Given(NamedTuple):
    """What is asked: the model in evaluation mode, its data, the folder for figures, and the verb's own options."""

    model: nn.Module
    data: ImageDataModule
    folder: Path
    options: dict[str, str]


def given_over_data(
    verb: str, run: str, changes: Sequence[str], known: Sequence[str], classes: bool = True
) -> Given:
    """Return what ``RUN key=value ...`` means.

    Args:
        verb: name of the verb.
        run: RUN of the command line, or ``package.module:make_model`` of a network of anybody's.
        changes: ``key=value``: options of the verb; ``data.key=value`` changes to the data; of a network of anybody's
            ``data=`` a folder or a config file, and ``model.key=value``, see `ibd.app.foreign.ForeignSettings`.
        known: names of the options of the verb.
        classes: whether a network of anybody's must tell the classes of the data; not where its layers alone are read.

    Raises:
        ConfigError: an unknown option, or a network without data or that cannot be asked about it.
    """
    of_model = [text for text in changes if text.startswith("model.")]
    of_data = [text for text in changes if text.startswith(("data.", "data="))]
    rest = options([text for text in changes if text not in (*of_model, *of_data)])
    for key in rest:
        if key not in known:
            raise ConfigError(f"{verb}: there is no option '{key}'.{did_you_mean(key, known)}")
    texts = {key: ",".join(map(str, value)) if isinstance(value, list) else str(value) for key, value in rest.items()}
    if not is_place(run):
        if of_model:
            raise ConfigError(f"{verb}: '{of_model[0]}': a run says itself how its model is asked")
        ours, own = load_run(run, *of_data)
        return Given(ours.eval(), own, find_run(run) / "figures", texts)
    sources = [text.removeprefix("data=") for text in of_data if text.startswith("data=")]
    if not sources:
        raise ConfigError(f"{verb}: '{run}' has no data of its own: say data=FOLDER, or data=CONFIG.yaml")
    data = find_data(sources[-1], [text for text in of_data if text.startswith("data.")])
    return Given(_foreign(run, of_model, data, classes), data, Path(short_name(run)), texts)


def _foreign(place: str, changes: Sequence[str], data: ImageDataModule, classes: bool) -> nn.Module:
    """Return a network of anybody's that can be asked about the data, and with `classes` answers for theirs."""
    model = find_model(place, read_settings(changes)).eval()
    names = data.spec.class_names if classes else ()
    if classes:
        model.for_classes(names)
    loader = some_images(data, fitted_split(data), _CHECKED)
    model.check(torch.cat([batch.image for batch in loader]).to(device_of(model)), names)
    return model


def masked_images(data: ImageDataModule, split: Split, count: int, seed: int) -> Masked:
    """Return names of the masks of a split's parts and concepts, and batches of images with them.

    Args:
        data: the images.
        split: split of them.
        count: number of images, as many of each class as can be.
        seed: seed of the choice.

    Raises:
        UnsupportedError: there are no masks.
    """
    dataset = data.dataset(split)
    names, batches = list[str](), list[tuple[Tensor, Tensor]]()
    for some in chunks(balanced(torch.as_tensor(dataset.labels), count, seed), data.batch_size):
        batch = load_batch(dataset, some, masks=True)
        names, masks = concept_masks(batch, dataset, data.spec)
        batches.append((batch.image, masks))
    return names, batches


def one_split(verb: str, name: str) -> Split:
    """Return a split by its name.

    Raises:
        ConfigError: there is none.
    """
    for split in SPLITS:
        if split == name:
            return split
    raise ConfigError(f"{verb}: split: '{name}' is not one of {', '.join(SPLITS)}")


def number(verb: str, given: dict[str, str], key: str, default: int, least: int = 1) -> int:
    """Return a whole number, not below `least`, among the options of a verb.

    Raises:
        ConfigError: it is none.
    """
    text = given.get(key, str(default))
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(f"{verb}: {key}: '{text}' given, a whole number from {least} is needed")
    return int(text)


def real(verb: str, given: dict[str, str], key: str, default: float) -> float:
    """Return a number among the options of a verb.

    Raises:
        ConfigError: it is none.
    """
    text = given.get(key, str(default))
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{verb}: {key}: '{text}' given, a number is needed") from None


def named(given: dict[str, str], key: str) -> list[str] | None:
    """Return the names, by commas, of an option; None where it is not given."""
    return [name.strip() for name in given[key].split(",") if name.strip()] if key in given else None
