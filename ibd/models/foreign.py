"""Anybody's image classifier, asked as ours are: images in [0, 1] in, a logit for each class of the data out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ibd.backbones.base import STATISTICS, Normalize
from ibd.errors import ConfigError, did_you_mean

PreprocessName = Literal["unit", "imagenet", "half"]
"""What a network is fed with: pixels in [0, 1] as they are, or these less a mean and over a deviation: those of
ImageNet, or 0.5 and 0.5."""
Preprocess = PreprocessName | Mapping[str, Sequence[float]] | Callable[[Tensor], Tensor]
OutputKind = Literal["auto", "logits", "probabilities", "binary", "multilabel"]
"""What a network returns. "logits": (B, C); "probabilities": (B, C) that add up to 1, or the one of the second class;
"binary": the one logit of the second class, (B,) or (B, 1); "multilabel": (B, L) logits, of which one is asked about;
"auto" is "binary" for one number for each image, else "logits"."""

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_LEAST = 1e-12
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

    def forward(self, image: Tensor) -> Tensor:
        """Return the (B, C) logits of (B, 3, H, W) images in [0, 1]."""
        logits = self.adapted(self.model(self.preprocess(image)))
        return logits if self.chosen is None else logits[:, self.chosen]

    def adapted(self, output: Any) -> Tensor:
        """Return what the network returned as (B, C) logits, C of at least 2.

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
            found = torch.logit(found, _LEAST) if one else found.clamp_min(_LEAST).log()
        if one:
            half = found.reshape(-1, 1) / 2
            return torch.cat([-half, half], 1)
        return found

    def for_classes(self, names: Sequence[str]) -> None:
        """Choose the outputs that are the classes of a data set, in its order.

        Raises:
            ConfigError: one of them is not among the network's `class_names`.
        """
        if not self.class_names or self.output == "multilabel":
            self.class_names = list(names)
        if self.class_names == list(names):
            return
        if missing := [name for name in names if name not in self.class_names]:
            near = did_you_mean(missing[0], self.class_names)
            raise ConfigError(f"model: its class_names lack the data's class '{missing[0]}'.{near}")
        self.chosen = [self.class_names.index(name) for name in names]
        self.class_names = list(names)

    @torch.no_grad()
    def check(self, images: Tensor, classes: Sequence[str]) -> None:
        """Ask it about a few images, and look at what it returns.

        Args:
            images: (B, 3, H, W) in [0, 1], on its device.
            classes: names of the C classes of the data.

        Raises:
            ConfigError: it cannot be asked about such images, returns another number of classes, probabilities where
                logits are expected, or no numbers.
        """
        try:
            returned = self.model(self.preprocess(images))
        except Exception as error:  # whatever a stranger's network raises
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            shape = tuple(images.shape)
            raise ConfigError(f"model: {type(self.model).__name__} cannot take images {shape}: {reason}") from error
        if self.output == "auto":
            _refuse_probabilities(tensor_of(returned))
        logits = self.adapted(returned)
        if self.chosen is not None:
            logits = logits[:, self.chosen]
        if logits.shape[1] != len(classes):
            raise ConfigError(
                f"model: {type(self.model).__name__} tells {logits.shape[1]} classes apart, the data has {len(classes)}"
                f" ({', '.join(classes[:3])}{', ...' * (len(classes) > 3)}); with class_names of its outputs those of "
                "the data are chosen"
            )
        if not bool(logits.isfinite().all()):
            raise ConfigError(f"model: {type(self.model).__name__} returns values that are not finite")


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
    found = output
    if isinstance(output, Mapping):
        found = output.get("logits", output.get("out", next(iter(output.values()), None)))
    elif not isinstance(output, Tensor):
        found = getattr(output, "logits", None)
        if found is None and isinstance(output, list | tuple) and output:
            found = output[0]
    if not isinstance(found, Tensor) or found.dim() not in (1, 2):
        raise ConfigError(
            f"model: output: the network returns {_kind(output)}: (B, C) logits, a tuple or dict with them, or an "
            "output function that finds them is needed"
        )
    return found


def _refuse_probabilities(found: Tensor) -> None:
    """Refuse numbers that are probabilities by all appearance: as logits they would say something else."""
    inside = bool((found >= 0).all()) and bool((found <= 1).all())
    one = found.dim() == 1 or found.shape[1] == 1
    certain = len(found) >= _ENOUGH if one else bool((found.sum(1) - 1).abs().max() < 1e-3)
    if inside and certain:
        other = "'binary', should they be logits" if one else "'logits', should they be logits"
        raise ConfigError(f"model: output: these look like probabilities: say output='probabilities', or {other}")


def _position(label: int | str | None, names: Sequence[str]) -> int | None:
    """Return the number of a label."""
    if not isinstance(label, str):
        if label is not None and label < 0:
            raise ConfigError(f"model: label: {label} given, labels are counted from 0")
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
    if what == "std" and min(red, green, blue) <= 0:
        raise ConfigError(f"model: std: {values!r} given, numbers above 0 are needed")
    return red, green, blue


def _kind(given: object) -> str:
    shape = f" of shape {tuple(given.shape)}" if isinstance(given, Tensor) else ""
    return f"a {type(given).__name__}{shape}"
