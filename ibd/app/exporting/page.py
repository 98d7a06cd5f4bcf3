"""A folder with a page that runs a model in a browser, opened as a file: no server, and no request to anywhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from ibd.app.exporting.export import exported_content, write_all
from ibd.app.exporting.formats import OPSET, require_onnx
from ibd.app.exporting.programs import possible_parts
from ibd.app.exporting.runtime import CODE, MODULE, NAME, SCRIPT, WebRuntime, find_runtime
from ibd.app.terminal import writing
from ibd.io import load_model
from ibd.models.lightning import InterpretableModule
from ibd.types import RunLike

_STATIC = ("index.html", "style.css", "resize.js", "engine.js", "draw.js", "page.js")


def write_page(
    run: RunLike | InterpretableModule, folder: Path, which: str = "best", runtime: Path | None = None
) -> Iterator[str]:
    """Write a page that runs a model; yield the lines on it.

    Args:
        run: a run folder, a checkpoint, or a model.
        folder: folder of the page, which is made; its ``index.html`` is to be opened.
        which: "best" or "last" checkpoint of a run.
        runtime: folder or .tgz of onnxruntime-web; by default what npm fetches.

    Raises:
        ConfigError: the folder cannot be written, or there is no such runtime.
        UnsupportedError: the model cannot be exported, or a package is not installed.
    """
    require_onnx()
    engine = find_runtime(runtime)
    with writing(folder / "index.html"):
        pass  # before the work
    model = run if isinstance(run, InterpretableModule) else load_model(run, which)
    parts, missing = possible_parts(model)
    content = exported_content(model, parts, OPSET)
    static = resources.files("ibd.app.exporting") / "static"
    files: dict[Path, bytes | str] = {folder / name: (static / name).read_text(encoding="utf-8") for name in _STATIC}
    held = {"names": content.described, "parts": _encoded(content.parts), "note": " ".join([_note(model), *missing])}
    files[folder / "model.js"] = f"const IBD_MODEL = {_script(held)};\n"
    files |= {folder / "runtime" / name: held for name, held in _runtime_files(engine).items()}
    (folder / "runtime").mkdir(exist_ok=True)
    write_all(files)
    size = sum(file.stat().st_size for file in files) / 1e6
    yield f"page:    {folder / 'index.html'} ({size:.1f} MB with {NAME} {engine.version}): open it in a browser"
    yield f"         parts: {', '.join(parts)}; opset {OPSET}; logits of its files equal to {content.difference:.1g}"
    yield from (f"         {line}" for line in missing)


def _runtime_files(engine: WebRuntime) -> dict[str, bytes | str]:
    """Return what lies in the runtime's folder, by name; what a page opened as a file cannot load is in a script."""
    code = {"name": NAME, "version": engine.version, **_encoded({"script": engine.module, "wasm": engine.code})}
    about = (
        f"{NAME} {engine.version}, https://www.npmjs.com/package/{NAME}\n{SCRIPT}; in wasm.js {MODULE} and {CODE}\n\n"
    )
    return {
        SCRIPT: engine.script,
        "wasm.js": f"const IBD_RUNTIME = {_script(code)};\n",
        "LICENSE": about + engine.licence,
    }


def _encoded(parts: dict[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(content).decode() for name, content in parts.items()}


def _script(value: object) -> str:
    """Return a value as JavaScript."""
    return json.dumps(value, allow_nan=False)


def _note(model: InterpretableModule) -> str:
    """Return a sentence on what setting a unit does."""
    network = model.network
    if network.truth_values:
        means = network.edit_note.removeprefix("; ")
        return f"A {network.unit_kind} is set to how true it is, from 0 to 1; a quantity to a number in its unit." + (
            f" {means[0].upper()}{means[1:]}." if means else ""
        )
    if network.unit_kind == "prototype":
        return "A prototype's similarity is multiplied by what is given: 0 switches it off."
    return f"{network.article.capitalize()} {network.unit_kind} is set to an activation."
