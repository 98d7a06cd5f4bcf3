"""``ibd init``: from a folder of images to a config and a table of concepts."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterator
from pathlib import Path

import yaml
from PIL import Image

from ibd.app.terminal import writing
from ibd.data.concept_sources import read_concepts
from ibd.data.files import require_folder
from ibd.data.folder import CONCEPTS, Files, every_image, scan
from ibd.errors import ConfigError, DataError, no_file
from ibd.printing import shown

_EXAMPLE = ("color", "has_stripes", "length [mm]")
_LOOKED_AT = 100
"""Images whose size is read."""


def begin(root: Path, config: Path | None = None) -> Iterator[str]:
    """Write a config for a folder of images, and ``concepts.csv`` with its classes where there is none.

    Args:
        root: root of the images, ``train/CLASS/*``.
        config: the file to write; None names it after the folder.

    Yields:
        Lines on what was found and written, and what comes next.

    Raises:
        DataError: there are no images, or they do not lie as they should.
        ConfigError: the config is there already, or cannot be written.
    """
    root = require_folder(root)
    config = Path(f"{root.resolve().name}.yaml") if config is None else config
    if config.exists():
        raise ConfigError(f"'{config}' already exists: name another with --config")
    files = scan(root)
    sizes = _sizes(root, files)
    for split, classes in files.items():
        yield f"{split}: {sum(map(len, classes.values()))} images of {len(classes)} classes"
    shortest = min(map(min, sizes))
    yield f"images: {_span([width for width, _ in sizes])} x {_span([height for _, height in sizes])} pixels"
    table = root / CONCEPTS
    if not table.exists():
        with writing(table):
            table.write_text(_table(sorted(files["train"])), encoding="utf-8")
        yield f"written: {table} (put your concepts in place of the examples: words, 0 or 1, numbers with a unit)"
    else:
        yield f"concepts: {read_concepts([table], {}, files['train'], every_image(files))}"
    with writing(config):
        config.write_text(_config(root, files, shortest), encoding="utf-8")
    yield f"written: {config}"
    named = shlex.quote(str(config))
    yield f"next: ibd data {named} images.png; then ibd fit {named}"


def _sizes(root: Path, files: Files) -> list[tuple[int, int]]:
    """Return (width, height) of some training images."""
    paths = [root / path for names in files["train"].values() for path in names]
    sizes = []
    for path in paths[:: max(1, len(paths) // _LOOKED_AT)]:
        if (kind := no_file(path)) is not None:
            raise DataError(f"{path}: it is {kind}, an image is needed")
        try:
            with Image.open(path) as image:
                sizes.append(image.size)
        except (OSError, ValueError, Image.DecompressionBombError):
            raise DataError(f"{path}: cannot be read as an image") from None
    return sizes


def _span(values: list[int]) -> str:
    return f"{min(values)}" if min(values) == max(values) else f"{min(values)} to {max(values)}"


def _table(classes: list[str]) -> str:
    """Return a ``concepts.csv`` with the classes, and nothing known of them."""
    file = io.StringIO()
    rows = ([name, *[""] * len(_EXAMPLE)] for name in classes)
    csv.writer(file, lineterminator="\n").writerows([["class", *_EXAMPLE], *rows])
    return file.getvalue()


def _config(root: Path, files: Files, shortest: int) -> str:
    """Return the text of a config."""
    lines = [
        "# Written by `ibd init`. `ibd config THIS_FILE` prints every option with a sentence on it.",
        "# A concept bottleneck; for a model without concepts: base: folder/baseline or folder/protopnet",
        "base: folder/cbm",
        f"name: {_quoted(_printable(root.resolve().name))}",
        "",
        "data:",
        f"  root: {_quoted(str(root.resolve()))}",
        *(f"  # {note}" for note in _notes(files)),
    ]
    size = f"# pixels; the shortest side of the images looked at is {shortest}"
    if shortest < 64:
        small = max(16, shortest // 8 * 8)
        lines += [f"  image_size: {small}  {size}", "  augment: shift  # or none, flip"]
        lines += ["", "model:", "  backbone:", "    name: small_cnn  # from scratch", "    depth: 3"]
        lines += ["    weights: null", "", "optimizer:", "  lr: 0.003"]
    else:
        large = 224 if shortest >= 160 else shortest // 32 * 32
        lines += [f"  image_size: {large}  {size}", "  augment: crop  # or none, flip, shift, crop_color"]
        lines += ["", "model:", "  backbone:", "    name: resnet18  # with weights of ImageNet, downloaded once"]
    return "\n".join([*lines, "", "trainer:", "  max_epochs: 20", ""])


def _notes(files: Files) -> list[str]:
    """Return what there is to know of the images, a line each."""
    counts = {name: len(images) for name, images in files["train"].items()}
    few, many = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    lines = [shown(f"training images of a class: {counts[few]} ({few}) to {counts[many]} ({many})")]
    lines += [] if "val" in files else ["no val/: a tenth of each training class is set aside"]
    return lines + ([] if "test" in files else ["no test/: `ibd test` needs one"])


def _printable(name: str) -> str:
    """Return what of a folder's name can be that of a run."""
    return "".join(letter for letter in name if letter.isprintable()).strip() or "own-images"


def _quoted(text: str) -> str:
    """Return a text as YAML takes it, whatever is in it; a ``${`` of a name is no interpolation."""
    text = text.replace("${", "\\${")
    written: str = yaml.safe_dump(text, allow_unicode=True, default_style='"', width=10**6)
    return written.strip()
