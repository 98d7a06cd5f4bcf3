"""Anybody's image classifier, asked as ours are: images in [0, 1] in, a logit for each class of the data out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ibd.backbones.base import STATISTICS, Normalize
from ibd.errors import ConfigError, did_you_mean
from ibd.explain.scalars import numbers_in

PreprocessName = Literal["unit", "imagenet", "half"]
"""What a network is fed with: pixels in [0, 1] as they are, or these less a mean and over a deviation: those of
ImageNet, or 0.5 and 0.5."""
Preprocess = PreprocessName | Mapping[str, Sequence[float]] | Callable[[Tensor], Tensor]
OutputKind = Literal["auto", "logits", "probabilities", "binary", "multilabel"]
"""What a network returns. "logits": (B, C); "probabilities": (B, C) that add up to 1, or the one of the second class;
"binary": the one logit of the second class, (B,) or (B, 1); "multilabel": (B, L) logits, of which one is asked about;
"auto" is "binary" for one number for each image, else "logits"."""

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_log = logging.getLogger(__name__)
_ENOUGH = 8
"""Single numbers that all lie in [0, 1] before they are taken for probabilities."""


class ForeignModel(nn.Module):
    """A classifier that was made elsewhere, with all that asking it needs.

    Its weights are used as they are, in evaluation mode; nothing is trained. It accounts for itself in no way that is
    known here, so that explainers are measured, and no map of its own is.

    Args:
        model: network of (B, 3, H, W) images; it may return a tensor, a tuple or list that begins with it, a dict or an
            object with ``logits`` (or ``out``), see `output`.
        preprocess: what is done to images in [0, 1] before it: "unit", nothing; "imagenet" or "half", its mean and
            deviation; ``{"mean": (r, g, b), "std": (r, g, b)}``; or any module or function of (B, 3, H, W) images,
            which gradients must pass. There is no default: a wrong one makes every map wrong in silence.
        class_names: names of the classes that the network tells apart, in the order of its outputs. By these, the
            classes of a data set are found among them. Without them the network has the data's classes, in its order.
        output: what it returns, or a function of that which gives (B, C) logits.
        label: which output of a "multilabel" network is asked about, by number or by a name of `class_names`.

    Raises:
        ConfigError: one of these cannot be.
    """

    def __init__(
        self,
        model: nn.Module,
        preprocess: Preprocess,
        class_names: Sequence[str] = (),
        output: OutputKind | Callable[[Any], Tensor] = "auto",
        label: int | str | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise ConfigError(f"model: a torch.nn.Module is needed, not {_kind(model)}")
        if not callable(output) and output not in get_args(OutputKind):
            choices = did_you_mean(str(output), get_args(OutputKind))
            raise ConfigError(f"model: output: '{output}' is not one of {', '.join(get_args(OutputKind))}.{choices}")
        if (label is not None) != (output == "multilabel"):
            raise ConfigError("model: output: 'multilabel' and the label that is asked about go together")
        self.preprocess = preprocessing(preprocess)
        self.model = model
        self.class_names = list(class_names)
        self.output = output
        self.label = _position(label, self.class_names)
        self.preprocess_name = preprocess if isinstance(preprocess, str) else None
        self.chosen: list[int] | None = None
        self.outputs = len(self.class_names) or None
        if output == "multilabel":
            what = self.class_names[self.label] if self.class_names and self.label is not None else f"label {label}"
            self.class_names = [f"no {what}", what]

    def forward(self, image: Tensor) -> Tensor:
        """Return the (B, C) logits of (B, 3, H, W) images in [0, 1].

        Raises:
            ConfigError: the network does not return one row for each image.
        """
        logits = self.adapted(self.returned(image))
        if len(logits) != len(image):
            raise ConfigError(
                f"model: output: {len(logits)} rows for {len(image)} image{'' if len(image) == 1 else 's'}: an output "
                "(B, C) is needed; does the network squeeze it?"
            )
        return logits if self.chosen is None else logits[:, self.chosen]

    def returned(self, image: Tensor) -> Any:
        """Return what the network makes of a copy of images, which it may write over."""
        return self.model(self.preprocess(image.clone()))

    def adapted(self, output: Any) -> Tensor:
        """Return what the network returned as (B, C) logits, C of at least 2, of all its classes.

        One logit z of a class becomes (-z/2, z/2): that has its probability, ``sigmoid(z)``, and its decision.

        Raises:
            ConfigError: that is no such output.
        """
        if callable(self.output):
            return self._two(self.output(output), "binary")
        found = tensor_of(output)
        kind = self.output
        if kind == "auto":
            kind = "binary" if found.dim() == 1 or found.shape[1] == 1 else "logits"
        if kind == "multilabel":
            assert self.label is not None
            if found.dim() != 2 or self.label >= found.shape[1]:
                raise ConfigError(f"model: output: label {self.label} asked for of outputs {tuple(found.shape)}")
            return self._two(found[:, self.label], "binary")
        return self._two(found, kind)

    def _two(self, found: Tensor, kind: str) -> Tensor:
        if not isinstance(found, Tensor) or found.dim() not in (1, 2):
            raise ConfigError(f"model: output: (B, C) logits are needed, not {_kind(found)}")
        one = found.dim() == 1 or found.shape[1] == 1
        if kind == "binary" and not one and not callable(self.output):
            raise ConfigError(f"model: output: 'binary' is one number for each image, not {tuple(found.shape)}")
        if kind == "probabilities":
            found = found.float() if found.dtype in (torch.float16, torch.bfloat16) else found
            least = torch.finfo(found.dtype).eps
            found = torch.logit(found, least) if one else found.clamp_min(least).log()
        if one:
            half = found.reshape(-1, 1) / 2
            return torch.cat([-half, half], 1)
        return found

    def for_classes(self, names: Sequence[str]) -> None:
        """Choose the outputs that are the classes of a data set, in its order.

        Raises:
            ConfigError: one of them is not among the network's `class_names`, or comes twice there.
        """
        if not self.class_names:
            self.class_names = list(names)
        if self.output == "multilabel" and len(names) == 2 and self.class_names[1] not in names:
            if self.outputs is not None:
                raise ConfigError(
                    f"model: label: which of the data's classes {', '.join(names)} is '{self.class_names[1]}'?"
                )
            self.class_names = list(names)  # a label by number alone: the second class has it
        if self.output == "multilabel" and list(names[::-1]).index(self.class_names[1]) == 1:
            self.chosen, self.class_names = [1, 0], list(names)
        if self.output == "multilabel" or self.class_names == list(names):
            self.class_names = list(names)
            return
        for name in names:
            if self.class_names.count(name) != 1:
                near = did_you_mean(name, self.class_names)
                what = "have twice" if name in self.class_names else "lack"
                raise ConfigError(
                    f"model: its class_names {what} the data's class '{name}'.{near if what == 'lack' else ''}"
                )
        self.chosen = [self.class_names.index(name) for name in names]
        self.class_names = list(names)

    @torch.no_grad()
    def check(self, images: Tensor, classes: Sequence[str]) -> None:
        """Ask it about a few images, and look at what it returns.

        Args:
            images: (B, 3, H, W) in [0, 1], on its device.
            classes: names of the C classes of the data; none where nobody knows them.

        Raises:
            ConfigError: it cannot be asked about such images, returns another number of classes, probabilities where
                logits are expected, or no numbers.
        """
        name = type(self.model).__name__
        try:
            returned = self.returned(images)
            one = self.returned(images[:1])
        except Exception as error:  # whatever a stranger's network raises
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ConfigError(f"model: {name} cannot take images {tuple(images.shape)}: {reason}") from error
        if isinstance(self.output, str) and self.output != "probabilities":
            _refuse_probabilities(tensor_of(returned), self.output, self.label)
        logits = self.adapted(returned)
        if (len(logits), len(self.adapted(one))) != (len(images), 1):
            raise ConfigError(f"model: output: {name} returns no row for each image: does it squeeze its output?")
        width = logits.shape[1]
        if self.output != "multilabel" and self.outputs not in (None, width):
            raise ConfigError(f"model: class_names: {self.outputs} given, {name} tells {width} classes apart")
        told = width if self.chosen is None else len(self.chosen)
        if classes and told != len(classes):
            raise ConfigError(
                f"model: {name} tells {told} classes apart, the data has {len(classes)} ({', '.join(classes[:3])}"
                f"{', ...' * (len(classes) > 3)}); with class_names of its outputs those of the data are chosen"
            )
        if not bool(logits.isfinite().all()):
            raise ConfigError(f"model: {name} returns values that are not finite")


def preprocessing(given: Preprocess) -> nn.Module:
    """Return what `ForeignModel` does to images before its network.

    Raises:
        ConfigError: an unknown name, or statistics that are none.
    """
    if isinstance(given, str):
        known = {"unit": STATISTICS["none"], "imagenet": STATISTICS["imagenet"], "half": HALF}
        if given not in known:
            near = did_you_mean(given, known)
            raise ConfigError(f"model: preprocess: '{given}' is not one of {', '.join(known)}.{near}")
        return nn.Identity() if given == "unit" else Normalize(*known[given])
    if isinstance(given, Mapping):
        if set(given) != {"mean", "std"}:
            raise ConfigError(f"model: preprocess: mean and std are needed, not {', '.join(map(str, given)) or 'none'}")
        return Normalize(_three("mean", given["mean"]), _three("std", given["std"]))
    if callable(given):
        return _Own(given)
    raise ConfigError(f"model: preprocess: a name, mean and std, or a module is needed, not {_kind(given)}")


class _Own(nn.Module):
    """A function or module of the user's, which a network that forgets what it learned keeps."""

    learns_nothing = True

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, image: Tensor) -> Tensor:
        return self.function(image)


def tensor_of(output: Any) -> Tensor:
    """Return the tensor of numbers for the classes in what a network returned, (B, C) or (B,).

    Raises:
        ConfigError: there is none.
    """
    found = numbers_in(output)
    if not isinstance(found, Tensor) or found.dim() not in (1, 2):
        raise ConfigError(
            f"model: output: the network returns {_kind(output)}: (B, C) logits, a tuple or dict with them, or an "
            "output function that finds them is needed"
        )
    return found


def _refuse_probabilities(found: Tensor, output: str, label: int | None) -> None:
    """Refuse numbers that are probabilities by all appearance, and warn of what may be.

    Raises:
        ConfigError: rows that add up to 1, or single numbers from 0 to 1 of several images.
    """
    if output == "multilabel" and found.dim() == 2 and label is not None:
        found = found[:, label : label + 1]
    if not (bool((found >= 0).all()) and bool((found <= 1).all())):
        return
    one = found.dim() == 1 or found.shape[1] == 1
    if not one and bool((found.sum(1) - 1).abs().max() < 1e-3):
        raise ConfigError("model: output: these look like probabilities: say output='probabilities'")
    if one and output == "auto" and len(found) >= _ENOUGH:
        raise ConfigError(
            "model: output: these look like probabilities: say output='probabilities', or 'binary' if they are logits"
        )
    if len(found) >= _ENOUGH:
        _log.warning("all outputs lie from 0 to 1: are they probabilities? '%s' takes logits, before a sigmoid", output)


def _position(label: int | str | None, names: Sequence[str]) -> int | None:
    """Return the number of a label."""
    if not isinstance(label, str):
        if label is not None and (not isinstance(label, int) or label < 0):
            raise ConfigError(f"model: label: {label} given, a name or a whole number from 0 is needed")
        return label
    if label not in names:
        raise ConfigError(f"model: label: '{label}' is not among its class_names.{did_you_mean(label, names)}")
    return list(names).index(label)


def _three(what: str, values: Any) -> tuple[float, float, float]:
    """Return a number for each color channel."""
    try:
        red, green, blue = (float(value) for value in values)
    except (TypeError, ValueError):
        raise ConfigError(f"model: {what}: {values!r} given, three numbers are needed") from None
    if not all(map(isfinite, (red, green, blue))) or (what == "std" and min(red, green, blue) <= 0):
        raise ConfigError(f"model: {what}: {values!r} given, numbers{' above 0' * (what == 'std')} are needed")
    return red, green, blue


def _kind(given: object) -> str:
    shape = f" of shape {tuple(given.shape)}" if isinstance(given, Tensor) else ""
    return f"a {type(given).__name__}{shape}"
