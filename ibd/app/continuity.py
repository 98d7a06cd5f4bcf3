"""``ibd continuity``: whether explanations go along with an image that moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ibd.app.explain import asked_about, choose, parse_target
from ibd.app.over_data import number
from ibd.app.terminal import options, save_figure
from ibd.comparison.methods import QUICK
from ibd.errors import ConfigError, did_you_mean
from ibd.explain.activations import device_of
from ibd.explain.continuity import continuity_example
from ibd.explain.continuity_figures import continuity_figure

_OPTIONS = ("target", "explainers", "steps", "pixels")


def show_continuity(run: str, image: str, changes: Sequence[str], out: str | None) -> Iterator[str]:
    """Move an image, explain it at every step, draw it, and yield lines on it for a person.

    Args:
        run: RUN of the command line, or ``package.module:make_model`` of a network of anybody's.
        image: image file.
        changes: ``target=``, ``explainers=`` as of ``ibd explain``; ``steps=`` of ``pixels=`` each; for a network of
            anybody's ``model.key=value``.
        out: file of the picture; by default beside the run's figures, or in the current folder.

    Raises:
        ConfigError: an unknown option, explainer or class.
        UnsupportedError: no method can explain this model.
    """
    of_model = [text for text in changes if text.startswith("model.")]
    given = {
        key: ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for key, value in options([text for text in changes if text not in of_model]).items()
    }
    for key in given:
        if key not in _OPTIONS:
            raise ConfigError(f"continuity: there is no option '{key}'.{did_you_mean(key, _OPTIONS)}")
    chosen = choose(given.get("explainers", ",".join(QUICK)))
    steps, pixels = number("continuity", given, "steps", 8), number("continuity", given, "pixels", 1)
    model, pictures, folder = asked_about(run, image, of_model, (), "continuity")
    target = parse_target(given["target"], model) if "target" in given else None
    found = continuity_example(model, pictures[0].to(device_of(model)), chosen, target, steps, pixels)
    yield f"{image}, moved {steps} times by {pixels} pixel{'s' * (pixels > 1)} to the right"
    yield from str(found).splitlines()
    path = Path(out) if out else folder / f"continuity_{Path(image).stem}.png"
    title = f"{Path(image).name}, {given.get('target', 'the class predicted at the start')}"
    yield f"figure: {save_figure(continuity_figure(found, title), path)}"
