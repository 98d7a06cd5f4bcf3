"""``ibd export``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ibd.app.terminal import newest
from ibd.app.verbs.base import Verb
from ibd.errors import ConfigError

if TYPE_CHECKING:
    from ibd.app.exporting.export import Exported


def run(
    run: str, file: str | None, which: str, parts: str, opset: int | None, page: str | None, runtime: str | None
) -> Iterable[str]:
    """Write the model of a run as a file that runs without ibd, checked: RUN OUT.onnx, OUT.pt2, or --page FOLDER.

    One file turns images into logits, probabilities, the units' values, their maps, what each adds to the predicted
    class and that class's map. With --parts encode,edit,decode,explain there is a file for each: images to units;
    units, values and a mask to units set by hand, as by ibd intervene; units to classes; units and a class to its map.
    """
    if file is None and page is None:
        raise ConfigError("which file? For example: ibd export RUN model.onnx (or a page: --page FOLDER)")
    if runtime is not None and page is None:
        raise ConfigError("--runtime is what a page runs the model by: add --page FOLDER, or leave it out")
    if file is None and (parts or opset is not None):
        raise ConfigError("--parts and --opset are of a file: name it, such as model.onnx")
    return _export(newest(run), file, which, parts, opset, page, runtime)


def _export(
    run: str, file: str | None, which: str, parts: str, opset: int | None, page: str | None, runtime: str | None
) -> Iterator[str]:
    """Yield the lines on what is written."""
    if file is not None:
        from ibd.app.exporting.export import check_parts, export

        chosen = check_parts([part.strip() for part in parts.split(",")] if parts else [])
        yield from _told(export(run, file, which, parts=chosen, opset=opset))
        if "decode" in chosen and "edit" not in chosen:
            yield "to set units by hand outside of Python, too: --parts encode,edit,decode"
    if page is not None:
        from ibd.app.exporting.page import write_page

        yield from write_page(run, Path(page), which, None if runtime is None else Path(runtime))


def _told(written: Exported) -> Iterator[str]:
    """Yield the lines on files that were written."""
    import torch

    for each in written.programs:
        file = written.files[each.name]
        size = f"{file.stat().st_size / 1e6:.1f} MB"
        yield f"written: {file} ({size}): {', '.join(each.inputs)} -> {', '.join(each.outputs)}"
    if written.opset is None:
        yield f"         by torch.export of PyTorch {torch.__version__}; the names are the extra file ibd.json"
        ran = "PyTorch"
    else:
        import onnxruntime

        yield (
            f"         opset {written.opset}, by torch.onnx.export(dynamo=True) of PyTorch {torch.__version__}; the "
            "names are the metadata property ibd.json"
        )
        ran = f"onnxruntime {onnxruntime.__version__}"
    by_hand = ", and with units set by hand" if {"encode", "edit"} <= set(written.files) else ""
    yield f"checked: by {ran}, for 1 and 3 images{by_hand}: logits equal to {written.difference:.1g}"


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN")
    p.add_argument("file", nargs="?", metavar="OUT.onnx|OUT.pt2")
    p.add_argument("--which", choices=["best", "last"], default="best", help="which checkpoint")
    p.add_argument("--parts", default="", metavar="A,B", help="a file for each of encode, edit, decode, explain")
    p.add_argument("--opset", type=int, metavar="N", help="version of ONNX's operators; default 18")
    p.add_argument(
        "--page", metavar="FOLDER", help="also write a page that runs the model in a browser, without a server"
    )
    p.add_argument(
        "--runtime", metavar="PATH", help="of a page: onnxruntime-web, a folder or .tgz; default what npm fetches"
    )


VERB = Verb(
    "export",
    run,
    _arguments,
    (
        "ibd export runs/toybirds-cbm birds.onnx",
        "ibd export runs/toybirds-cbm birds.pt2",
        "ibd export runs/toybirds-cbm birds.onnx --parts encode,edit,decode,explain",
        "ibd export runs/toybirds-cbm --page birds_page",
    ),
    changing=False,
)
