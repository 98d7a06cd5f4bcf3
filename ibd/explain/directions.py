"""Concepts as directions of a layer's features: what a vector of features says of each, and a file that keeps them."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ibd.backbones.precision import full_precision
from ibd.errors import ConfigError, DataError, UnsupportedError, did_you_mean, no_file
from ibd.explain.nonnegative import nonnegative_codes

Reading = Literal["linear", "relu", "topk", "nonnegative"]
"""How features x become activations: "linear" ``v x + b``; "relu" its positive part; "topk" that of the largest few of
a place, as many as ``details["active"]`` says, the rest 0; "nonnegative" the u >= 0 for which ``u v`` is nearest x."""

FORMAT = 1
"""Of the file; another one is refused."""


@dataclass(frozen=True)
class Directions:
    """K concepts as directions of the D features of a layer.

    Attributes:
        layer: name of the layer; "" is the features of the backbone, or a network's last map before it is pooled.
        vectors: (K, D) float32.
        offsets: (K,) float32; all 0 for "nonnegative".
        names: K names, each once.
        method: what found them, such as "nmf" or "cav".
        reading: how features become activations.
        details: plain values (numbers, texts, lists, dicts) on how they were found.
        parts: (K, D) what an activation of 1 adds to the features, where that is another than `vectors`.
        center: (D,) what the features are without any concept; None is 0.

    Raises:
        ConfigError: shapes that do not fit, a name twice, another reading, or numbers that are none.
    """

    layer: str
    vectors: Tensor
    offsets: Tensor
    names: tuple[str, ...]
    method: str
    reading: Reading = "linear"
    details: dict[str, Any] = field(default_factory=dict)
    parts: Tensor | None = None
    center: Tensor | None = None

    def __post_init__(self) -> None:
        """Check what was given."""
        if self.reading not in get_args(Reading):
            near = did_you_mean(self.reading, get_args(Reading))
            raise ConfigError(
                f"directions: reading: '{self.reading}' is not one of {', '.join(get_args(Reading))}.{near}"
            )
        if self.vectors.dim() != 2 or not self.vectors.numel():
            raise ConfigError(f"directions: vectors (K, D) are needed, not {tuple(self.vectors.shape)}")
        concepts, channels = self.vectors.shape
        for name, wanted in {"offsets": (concepts,), "parts": (concepts, channels), "center": (channels,)}.items():
            given = getattr(self, name)
            if given is not None and tuple(given.shape) != wanted:
                raise ConfigError(f"directions: {name}: {wanted} numbers are needed, not {tuple(given.shape)}")
            if given is not None and not bool(given.isfinite().all()):
                raise ConfigError(f"directions: {name} holds values that are not finite")
        if not bool(self.vectors.isfinite().all()):
            raise ConfigError("directions: vectors holds values that are not finite")
        self._check_names()
        self._check_reading()

    def _check_names(self) -> None:
        if len(self.names) != len(self.vectors):
            raise ConfigError(f"directions: {len(self.names)} names given for {len(self.vectors)} directions")
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise ConfigError(f"directions: the name '{twice[0]}' is given twice")

    def _check_reading(self) -> None:
        if self.reading == "nonnegative" and bool(self.offsets.any()):
            raise ConfigError("directions: offsets: a 'nonnegative' reading has none")
        active = self.details.get("active")
        if self.reading == "topk" and not (isinstance(active, int) and 1 <= active <= len(self.vectors)):
            raise ConfigError(
                f"directions: details: active: {active} given, how many of the {len(self.vectors)} directions may be "
                "active at a place is needed for reading 'topk'"
            )

    def __len__(self) -> int:
        """Return K."""
        return len(self.vectors)

    def read(self, features: Tensor) -> Tensor:
        """Return the activations of the concepts, with a graph to the features where these have one.

        Args:
            features: (B, D, h, w) of the layer, or (N, D).

        Returns:
            (B, K, h, w) or (N, K), float32 (float64 of float64), on the features' device.

        Raises:
            DataError: features of another shape.
        """
        if features.dim() not in (2, 4) or features.shape[1] != self.vectors.shape[1]:
            raise DataError(
                f"directions: features (B, {self.vectors.shape[1]}, h, w) or (N, {self.vectors.shape[1]}) of "
                f"{self.place} are needed, not {tuple(features.shape)}"
            )
        with full_precision(features):
            rows = features.to(torch.promote_types(features.dtype, torch.float32))
            rows = rows if rows.dim() == 2 else rows.permute(0, 2, 3, 1).flatten(0, 2)
            found = self._read_rows(rows)
        if features.dim() == 2:
            return found
        return found.view(len(features), *features.shape[2:], len(self)).permute(0, 3, 1, 2)

    def _read_rows(self, rows: Tensor) -> Tensor:
        """Return the (N, K) activations of (N, D) features."""
        vectors = self.vectors.to(rows)
        if self.reading == "nonnegative":
            return nonnegative_codes(rows, vectors)
        found = torch.addmm(self.offsets.to(rows), rows, vectors.t())
        if self.reading == "linear":
            return found
        if self.reading == "topk":
            largest, where = found.topk(self.details["active"], dim=1)
            found = torch.zeros_like(found).scatter(1, where, largest)
        return found.relu()

    def write(self, activations: Tensor) -> Tensor:
        """Return the (N, D) features that (N, K) activations stand for.

        Raises:
            UnsupportedError: the reading is linear, of vectors that need not add up to the features.
        """
        if self.reading == "linear" and self.parts is None:
            raise UnsupportedError(f"directions of '{self.method}' are read from features, which they do not add up to")
        made = activations @ self.shown.to(activations)
        return made if self.center is None else made + self.center.to(made)

    @property
    def shown(self) -> Tensor:
        """(K, D) what the concepts are in the features: `parts`, or `vectors` without such."""
        return self.vectors if self.parts is None else self.parts

    @property
    def place(self) -> str:
        """The layer in words."""
        return f"layer '{self.layer}'" if self.layer else "the last feature map"

    def named(self, names: tuple[str, ...]) -> Directions:
        """Return the same directions with other names.

        Raises:
            ConfigError: another number of names, or one twice.
        """
        return dataclasses.replace(self, names=tuple(names))

    def save(self, path: str | Path) -> Path:
        """Write them to a file ``.npz`` that numpy alone can read; return where it is.

        Raises:
            ConfigError: another ending, or the file cannot be written.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise ConfigError(f"cannot save directions as '{path}': its name must end in .npz")
        words = {name: getattr(self, name) for name in ("layer", "names", "method", "reading", "details")}
        arrays: dict[str, Any] = {"words": np.array(json.dumps({"format": FORMAT, **words}, allow_nan=False))}
        for name in ("vectors", "offsets", "parts", "center"):
            if (given := getattr(self, name)) is not None:
                arrays[name] = given.detach().float().cpu().numpy()
        partial = path.with_name(f"{path.name}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                np.savez_compressed(file, **arrays)
            partial.replace(path)  # whole, or as it was
        except OSError as error:
            raise ConfigError(f"cannot write '{path}': {error.strerror or error}") from None
        return path

    @classmethod
    def load(cls, path: str | Path) -> Directions:
        """Return the directions of a file that `save` wrote; nothing in it is run.

        Raises:
            DataError: there is none, or it is no such file.
        """
        path = Path(path)
        if (kind := no_file(path)) is not None or not path.exists():
            raise DataError(f"no file of directions '{path}'" + (f": it is {kind}" if kind else ""))
        try:
            with np.load(path, allow_pickle=False) as content:
                words = json.loads(str(content["words"]))
                arrays = {name: torch.from_numpy(content[name]) for name in content.files if name != "words"}
            if words.pop("format") != FORMAT:
                raise DataError(f"'{path}' was written by another version of ibd: discover these concepts again")
            return cls(**{**words, **arrays, "names": tuple(words["names"])})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, ConfigError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"'{path}' is not a readable file of directions: {reason}") from None
