"""Whether runs are of the same data, told from their configs before a model is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ibd.config import load_saved_config, to_plain
from ibd.data.base import ImageDataModule, Split
from ibd.errors import ConfigError
from ibd.io import build_data, find_run

_LOOKED_AT = 16
"""Images of which the pixels are compared to tell whether two runs have the same data."""
_NAMED = 3
"""Runs of a group, and options that differ, that an error names."""


def check_same_data(runs: Sequence[str | Path], split: Split, overrides: Sequence[str] = ()) -> dict[str, str]:
    """Return what is the same of the data of all runs, in words and as a hash of pixels.

    The data of runs whose configs say the same of it is made once.

    Args:
        runs: run folders or checkpoints; one without a config is left to the function that reads it.
        split: split that is to have the same images.
        overrides: ``data.key=value`` changes to the data of every run.

    Raises:
        ConfigError: they are not; the groups of runs that could be compared are named, and what differs.
    """
    groups: dict[str, list[str]] = {}
    for run in runs:
        file = find_run(run) / "config.yaml"
        if file.exists():
            block = to_plain(load_saved_config(file, *overrides))["data"]
            groups.setdefault(json.dumps(block, sort_keys=True), []).append(str(run))
    fingerprints = {text: fingerprint_of(build_data(json.loads(text)), split) for text in groups}
    alike: dict[tuple[str, ...], list[str]] = {}
    for text, words in fingerprints.items():
        alike.setdefault(tuple(words.values()), []).append(text)
    if len(alike) > 1:
        first = [texts[0] for texts in alike.values()]
        named = "; ".join(_runs([run for text in texts for run in groups[text]]) for texts in alike.values())
        raise ConfigError(
            f"compare: runs on different data cannot be compared: {named}. {_difference(fingerprints, first)}. "
            "Compare a group at a time, or give all of them the same images by a change to the data, such as "
            "data.seed=0"
        )
    return next(iter(fingerprints.values()), {})


def _runs(runs: Sequence[str]) -> str:
    """Return a group of runs in words."""
    more = f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
    return ", ".join(f"'{run}'" for run in runs[:_NAMED]) + more


def _difference(fingerprints: Mapping[str, dict[str, str]], texts: Sequence[str]) -> str:
    """Return what differs between groups of runs: first of their data, then of what their configs say of it."""
    words = [fingerprints[text] for text in texts]
    what = next(key for key in words[0] if len({word[key] for word in words}) > 1)
    blocks = [_flat(json.loads(text)) for text in texts]
    keys = [key for key in dict.fromkeys(k for block in blocks for k in block) if _differs(key, blocks)]
    options = [f"{key} is {' or '.join(dict.fromkeys(str(block.get(key)) for block in blocks))}" for key in keys]
    shown = ", ".join(options[:_NAMED]) + (", ..." if len(options) > _NAMED else "")
    return f"They have {' or '.join(dict.fromkeys(word[what] for word in words))} {what}" + (f": {shown}" * bool(shown))


def _differs(key: str, blocks: Sequence[Mapping[str, object]]) -> bool:
    return len({str(block.get(key)) for block in blocks}) > 1


def _flat(block: Mapping[str, object], prefix: str = "data") -> dict[str, object]:
    """Return the options of a block by their paths."""
    flat: dict[str, Any] = {}
    for key, value in block.items():
        flat |= _flat(value, f"{prefix}.{key}") if isinstance(value, dict) else {f"{prefix}.{key}": value}
    return flat


def fingerprint_of(data: ImageDataModule, split: Split) -> dict[str, str]:
    """Return what must be the same of two data sources."""
    dataset, spec = data.dataset(split), data.spec
    step = max(1, len(dataset) // _LOOKED_AT)
    digest = hashlib.sha256()
    for index in range(0, len(dataset), step):
        sample = dataset[index]
        digest.update(sample.image.numpy().tobytes() + bytes([sample.label % 256]))
    height, width = spec.image_size
    return {
        "classes": f"{len(spec.class_names)} ({', '.join(spec.class_names[:3])}, ...)",
        "pixels a side": f"{height} x {width}",
        f"{split} images": str(len(dataset)),
        f"as fingerprint of the {split} images": digest.hexdigest()[:12],
    }
