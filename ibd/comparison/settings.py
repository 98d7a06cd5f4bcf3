"""What a comparison was made of, in words, for the head of its report."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from ibd.comparison.images import ComparedImages
from ibd.data.base import ImageDataModule

EXPLAINED = "the centered logit of the class that the model predicts: its logit minus the mean logit of all classes"
MEASURED = "the same; for deletion and insertion the probability, as published"


def describe(data: ImageDataModule, chosen: ComparedImages, seed: int, probe_images: int) -> dict[str, object]:
    """Return the settings of a comparison, as plain values."""
    spec = data.spec
    name = type(data).__name__
    preset = getattr(data, "preset", None)
    return {
        "data": f"{name}{f' {preset}' if isinstance(preset, str) else ''}",
        "data_fingerprint": chosen.fingerprint,
        "split": chosen.split,
        "image_size": list(spec.image_size),
        "images": len(chosen),
        "probe_images": min(probe_images, len(chosen)),
        "explained": EXPLAINED,
        "measured": MEASURED,
        "seed": seed,
        "versions": {package: _version(package) for package in ("ibd", "torch", "torchvision")},
    }


def _version(package: str) -> str:
    try:
        return version(package).split("+")[0]
    except PackageNotFoundError:
        return "unknown"
