"""From a moved slider to the painted answer, in a browser: ``python -m benchmarks.sliders``.

`ibd serve` runs as its own process and Chromium as another, as a user has them. The networks are not trained, which
changes nothing. Needs ``ibd[page]``, Playwright for Python, and a Chromium (`make browser`).
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from PIL import Image

BAR = 100
"""Milliseconds."""
_WARM = 6
"""Changes that are not counted."""

_MOVE = """async (turns) => {
  const sliders = [...document.querySelectorAll("li.unit:not([hidden]) .slider")].slice(0, 6);
  const answer = document.querySelector(".slot.prediction");
  const times = [];
  for (let turn = 0; turn < turns; turn++) {
    const slider = sliders[turn % sliders.length];
    const [low, high] = [Number(slider.min), Number(slider.max)];
    const painted = new Promise((done, failed) => {
      setTimeout(() => failed(new Error("nothing was painted for 10 s")), 10000);
      const watcher = new MutationObserver(() => {
        watcher.disconnect();
        requestAnimationFrame(() => setTimeout(() => done(performance.now())));
      });
      watcher.observe(answer, { childList: true, subtree: true, characterData: true });
    });
    const began = performance.now();
    slider.value = low + (high - low) * (0.05 + 0.9 * (turn * 37 % 100) / 100);
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    slider.dispatchEvent(new Event("change", { bubbles: true }));
    times.push(await painted - began);
    await new Promise((wait) => setTimeout(wait, 60));
  }
  return times;
}"""

_DRAG = """async (frames) => {
  const slider = document.querySelector("li.unit:not([hidden]) .slider");
  const [low, high] = [Number(slider.min), Number(slider.max)];
  const frame = () => new Promise(requestAnimationFrame);
  const times = [performance.now()];
  const painted = () => requestAnimationFrame(() => setTimeout(() => times.push(performance.now())));
  const watcher = new MutationObserver(painted);
  watcher.observe(document.querySelector(".slot.prediction"), { childList: true, subtree: true, characterData: true });
  for (let turn = 0; turn < frames; turn++) {
    slider.value = low + (high - low) * (0.05 + 0.9 * (turn % 100) / 100);
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await frame();
  }
  times.push(performance.now());
  watcher.disconnect();
  slider.dispatchEvent(new Event("change", { bubbles: true }));
  return times.slice(1).map((time, index) => time - times[index]);
}"""


def make_models(folder: Path) -> dict[str, Path]:
    """Write untrained models of the size of toy birds, and of CUB; return the checkpoints."""
    from ibd.models.cbm.lightning import ConceptBottleneck
    from ibd.models.protopnet.lightning import ProtoPNet
    from ibd.types import DataSpec, groups_of

    def described(classes: int, groups: int, size: int) -> DataSpec:
        concepts = tuple(f"part{group}::value{value}" for group in range(groups) for value in range(4))
        names = tuple(f"class {number}" for number in range(classes))
        return DataSpec(names, concepts, groups_of(concepts), image_size=(size, size))

    small, large = {"name": "small_cnn", "width": 16}, {"name": "resnet18", "weights": None}
    models = {
        "28 concepts, 20 classes, small_cnn, 64 px": ConceptBottleneck(described(20, 7, 64), small),
        "112 concepts, 200 classes, resnet18, 224 px": ConceptBottleneck(described(200, 28, 224), large),
        "2000 prototypes, 200 classes, resnet18, 224 px": ProtoPNet(described(200, 28, 224), large),
    }
    files = {}
    for number, (name, model) in enumerate(models.items()):
        files[name] = folder / f"model{number}.ckpt"
        if isinstance(model, ConceptBottleneck):  # so that each change shows in the probabilities
            for parameters in model.network.head.parameters():
                parameters.data.mul_(4)
        model.save(files[name])
    Image.effect_noise((300, 200), 60).convert("RGB").save(folder / "image.png")
    return files


@contextmanager
def serving(files: list[Path]) -> Iterator[str]:
    """Serve models in a process of its own; yield the address."""
    command = [sys.executable, "-m", "ibd", "serve", *map(str, files)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert process.stdout is not None
        yield next(word for line in process.stdout for word in line.split() if word.startswith("http"))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def moved(page: Any, address: str, key: str, image: Path, turns: int) -> list[float]:
    """Return the milliseconds of some changes of a model's units for an image."""
    page.goto(f"{address.split('?')[0]}#/{key}/image")
    page.set_input_files("input[type=file]", str(image))
    page.wait_for_selector("li.unit .slider")
    page.wait_for_timeout(1000)
    return list(page.evaluate(_MOVE, turns + _WARM))[_WARM:]


def dragged(page: Any, turns: int) -> float:
    """Return the longest wait in milliseconds for a painted answer while a slider is dragged, a step each frame."""
    return max(page.evaluate(_DRAG, turns))


def main() -> None:
    """Measure, and print the table."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(prog="python -m benchmarks.sliders", description=__doc__)
    parser.add_argument("--turns", type=int, default=60)
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        files = make_models(Path(place))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with serving(list(files.values())) as address:
            page = browser.new_page()
            page.goto(address)
            page.wait_for_selector("#run option", state="attached")
            keys = page.eval_on_selector_all("#run option", "all => all.map((each) => each.value)")
            print(
                f"| {turns} changes | median ms | 90 % ms | bar | longest wait of a drag, ms |\n|---|---|---|---|---|"
            )
            for key, name in zip(keys, files, strict=True):
                times = moved(page, address, key, Path(place) / "image.png", turns)
                figures = (median(times), quantiles(times, n=10)[8], BAR, dragged(page, turns))
                print(f"| {name} | {' | '.join(f'{figure:.0f}' for figure in figures)} |", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
