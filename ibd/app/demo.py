"""``ibd demo``: the whole way from a config to a corrected prediction, on the built-in birds."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from torchvision.utils import save_image

from ibd.app.compare import summary as verdict_of
from ibd.app.terminal import save_figure
from ibd.comparison.compare import compare
from ibd.comparison.methods import QUICK
from ibd.config.files import shipped
from ibd.data.base import ImageDataModule
from ibd.errors import ConfigError
from ibd.explain.figures import prediction_figure
from ibd.io import load_data, load_run
from ibd.models.cbm.intervention import intervention_curve
from ibd.models.prediction import Prediction
from ibd.printing import shown
from ibd.training.runner import Run, evaluate, fit

IMAGES = 40
"""Compared at the end: enough for intervals that say something, in about a minute."""


class _Stages:
    """The wall time of each stage, in seconds."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self.seconds: dict[str, float] = {}

    def end(self, name: str) -> None:
        """A stage has ended; the next begins."""
        now = time.monotonic()
        self.seconds[name], self.last = now - self.last, now

    def __str__(self) -> str:
        stages = ", ".join(f"{name} {seconds:.0f}" for name, seconds in self.seconds.items())
        return f"{sum(self.seconds.values()):.0f} s ({stages})"


def run_demo(folder: Path, *overrides: str) -> None:
    """Train a plain CNN and a joint concept bottleneck for 10 epochs, correct a concept, compare explanations.

    Args:
        folder: folder for the runs and pictures.
        overrides: ``key=value`` changes to both configs, such as ``"trainer.max_epochs=2"``.

    Raises:
        ConfigError: nothing can be written there, or a change is wrong.
    """
    birds = shipped() / "toybirds"
    stages = _Stages()
    quick = ["logger.mode=disabled", "logger.figures_every=0", "trainer.max_epochs=10"]
    options = [f"output={folder / 'runs'}", *quick, *overrides]
    data = load_data(birds / "cbm.yaml", *options)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to '{folder}': {error.strerror}") from None
    data.save_overview(folder / "data.png")
    _say(f"1. Train a plain CNN and a concept bottleneck on the built-in birds ({_described(data)})")
    baseline = fit(birds / "baseline.yaml", *options)
    cbm = fit(birds / "cbm.yaml", *options)
    for title, run in (("plain CNN", baseline), ("concept bottleneck", cbm)):
        scores = evaluate(run)
        concepts = f", concept AUROC {scores['test/concept_auroc']:.4f}" if "test/concept_auroc" in scores else ""
        _say(f"   {title:<20} test accuracy {100 * scores['test/accuracy']:.1f} %{concepts}   ({run.folder})")
    stages.end("training")
    _say("\n2. Look at a prediction, and intervene")
    _intervene(cbm, folder)
    stages.end("intervening")
    _say("\n3. How much does correcting concepts help?")
    curve = intervention_curve(cbm)
    curve.save_csv(folder / "intervention_curve.csv")
    save_figure(curve.figure(), folder / "intervention_curve.png")
    _say(str(curve))
    stages.end("curve")
    _say("\n4. Does the model's own explanation show what drives the prediction, and does a post-hoc method do better?")
    report = compare([cbm, baseline], QUICK, images=IMAGES, probe_images=4, shown=12, output=folder / "report")
    _say(verdict_of(report))
    stages.end("comparing")
    _say(f"\nPictures and report, after {stages}:")
    for name in ("data.png", "prediction.png", "intervention_curve.png", "report/index.html"):
        _say(f"   {folder / name}")


def _intervene(run: Run, folder: Path) -> None:
    """Show the first test image that the model gets wrong, and what correcting its worst concept group does."""
    model, data = load_run(run.folder)
    dataset = data.dataset("test")
    for batch in data.loader("test"):
        prediction: Prediction = model.predict(batch.image)
        wrong = (prediction.labels != batch.label).nonzero().flatten()
        if len(wrong):
            break
    index = int(wrong[0]) if len(wrong) else 0
    image, truth, label = batch.image[index], batch.concepts[index], int(batch.label[index])
    save_image(image, folder / "bird.png")
    before = prediction[index]
    error = (before.unit_values[0] - truth.nan_to_num(0.5)).abs()
    group = max(model.network.unit_groups, key=lambda name: float(error[model.network.unit_groups[name]].max()))
    members = model.network.unit_groups[group]
    edits = {model.network.unit_names[i]: float(truth[i]) for i in members if not bool(truth[i].isnan())}
    after = before.intervene(edits)
    _say(f"   the true class of {dataset.sample_id(int(batch.index[index]))} is {model.spec.class_names[label]}\n")
    _say(f"{before.table(0, 6)}\n")
    named = [name for name, value in edits.items() if value == 1]
    _say(f"   with the true {group} ({', '.join(named) or 'none visible'}):\n\n{after.table(0, 6)}\n")
    if named:
        words = ["ibd", "intervene", str(run.folder), str(folder / "bird.png"), f"{named[0]}=1"]
        _say(f"   the same by hand: {shlex.join(words)}")
    figure = prediction_figure(
        before.join(after), image.expand(2, -1, -1, -1), batch.label[[index, index]], truth.expand(2, -1)
    )
    save_figure(figure, folder / "prediction.png")


def _described(data: ImageDataModule) -> str:
    return f"{len(data.spec.class_names)} classes, {data.spec.image_size[0]} px"


def _say(text: str) -> None:
    print(shown(text, keep="\n"), flush=True)  # noqa: T201  # the demo talks to a person
