"""``ibd dream`` and ``ibd invert``: what layers see in an image, and what they still know of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ibd.app.made_images import asked_model, picture_of, wanted_of
from ibd.app.over_data import named, number, real
from ibd.app.terminal import save_figure
from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.activations import find_layer, spatial_layers
from ibd.explain.base import undisturbed
from ibd.explain.feature_visualization.dream import deep_dream
from ibd.explain.feature_visualization.invert import invert_features
from ibd.explain.feature_visualization.maximize import Visualization, scorer
from ibd.explain.feature_visualization.objectives import Objective
from ibd.explain.feature_visualization.recipe_figures import Row, made_figure, pair_figure

_DREAM = ("layer", "channel", "target", "octaves", "scale", "steps", "lr", "size", "seed")
_INVERT = ("layers", "steps", "size", "seed")


def show_dream(run: str, image: str, changes: Sequence[str], out: str | None) -> Iterator[str]:
    """Dream of an image: what a layer, a channel, a class or a unit sees in it, made stronger; yield lines on it.

    Args:
        run: RUN of the command line, or ``package.module:make_model`` of a network of anybody's.
        image: image file.
        changes: ``layer=`` (by default the one in the middle), ``channel=`` of it, or ``target=`` a class or unit in
            place of a layer; ``octaves=``, ``scale=``, ``steps=`` of each, ``lr=``, ``size=``, ``seed=``;
            ``model.key=value``.
        out: file of the picture; by default beside the run's figures, or in the current folder.

    Raises:
        ConfigError: an unknown option, layer or target; a layer and a target.
        UnsupportedError: the model takes no images of the smaller sizes, or has no layer with a map.
    """
    asked = asked_model("dream", run, changes, _DREAM)
    said, picture = asked.options, picture_of(asked, image)
    if "target" in said and ("layer" in said or "channel" in said):
        raise ConfigError("dream: a layer or a target is made stronger: give one of them")
    if "target" in said:
        objective = wanted_of("dream", asked.model, [said["target"]], "log_odds").objective
    else:
        layer = said.get("layer") or _middle(asked.model, picture)
        find_layer(asked.model, layer)
        channel = number("dream", said, "channel", 0, least=0)
        objective = Objective.channel(layer, channel) if "channel" in said else Objective.layer(layer)
    before = _value(asked.model, objective, picture)
    made = deep_dream(
        asked.model,
        picture,
        objective,
        number("dream", said, "octaves", 4),
        real("dream", said, "scale", 1.4),
        number("dream", said, "steps", 20),
        real("dream", said, "lr", 0.01),
        seed=number("dream", said, "seed", 0, least=0),
    )
    if not made.complete:
        yield f"interrupted: what {len(made.trace)} steps made is drawn"
    yield f"{objective}: {before:.4g} -> {float(made.value):.4g}, {len(made.trace)} steps in {_octaves(made)}"
    path = Path(out) if out else asked.folder / f"dream_{Path(image).stem}.png"
    titles = (Path(image).name, f"{objective}")
    yield f"figure: {save_figure(pair_figure(picture[0], made.image[0], titles), path)}"


def show_inversion(run: str, image: str, changes: Sequence[str], out: str | None) -> Iterator[str]:
    """Make images of which layers say the same as of a given one; yield lines on them for a person.

    Args:
        run: RUN of the command line, or ``package.module:make_model`` of a network of anybody's.
        image: image file.
        changes: ``layers=`` by commas (by default five, spread over the depth), ``steps=``, ``size=``, ``seed=``;
            ``model.key=value``.
        out: file of the picture; by default beside the run's figures, or in the current folder.

    Raises:
        ConfigError: an unknown option or layer.
        UnsupportedError: the model has no layer with a map.
    """
    asked = asked_model("invert", run, changes, _INVERT)
    picture, steps = picture_of(asked, image), number("invert", asked.options, "steps", 256)
    layers = named(asked.options, "layers") or _spread(asked.model, picture)
    for layer in layers:
        find_layer(asked.model, layer)
    seed = number("invert", asked.options, "seed", 0, least=0)
    path = Path(out) if out else asked.folder / f"inverted_{Path(image).stem}.png"
    done: list[Tensor] = [picture[0].cpu()]
    texts = [Path(image).name]
    try:
        for layer in layers:
            made = invert_features(asked.model, picture, layer, steps, seed=seed)
            done.append(made.image[0].cpu())
            texts.append(f"{-float(made.value):.1%}")
            yield f"{layer:<32}{texts[-1]} of the squared activations not met"
    finally:
        if len(done) > 1:
            note = "Number: squared distance of the layer's output from that of the image, as a share of its square."
            figure = made_figure([Row("", torch.stack(done), texts)], ["image", *layers][: len(done)], note)
            saved = save_figure(figure, path)
    yield f"figure: {saved}"


def _maps(model: nn.Module, picture: Tensor) -> list[str]:
    """Return the layers that put out maps, in the order in which they run."""
    with undisturbed(model):
        found = list(spatial_layers(model, picture))
    if not found:
        raise UnsupportedError("the model has no layer that puts out a map: name one with layer=")
    return found


def _middle(model: nn.Module, picture: Tensor) -> str:
    found = _maps(model, picture)
    return found[len(found) * 2 // 3]


def _spread(model: nn.Module, picture: Tensor) -> list[str]:
    """Return five layers from the first to the last."""
    found = _maps(model, picture)
    places = sorted({round(step * (len(found) - 1) / 4) for step in range(5)})
    return [found[place] for place in places]


def _value(model: nn.Module, objective: Objective, picture: Tensor) -> float:
    with undisturbed(model), torch.no_grad():
        return float(scorer(model, objective.resolve(model), "auto")(picture))


def _octaves(made: Visualization) -> str:
    count = made.settings["octaves"]
    return f"{count} octave{'s' * (count > 1)}"
