"""``ibd inside``: what the channels of a layer put out for an image, which are blank, and what they weigh."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor, nn

from ibd.app.explain import asked_about
from ibd.app.over_data import number
from ibd.app.terminal import options, save_figure
from ibd.errors import ConfigError, UnsupportedError, did_you_mean
from ibd.explain.activations import find_layer, spatial_layers
from ibd.explain.base import undisturbed
from ibd.explain.channel_figures import channel_maps_figure, silence_figure, weights_figure
from ibd.explain.channels import blank_by_depth, channel_maps, layer_weights
from ibd.explain.inside import sparsity_by_depth
from ibd.explain.layer_features import feature_layer

_OPTIONS = ("layer", "top", "filters", "inputs")


def show_inside(run: str, image: str, changes: Sequence[str], out: str | None) -> Iterator[str]:
    """Draw channel maps, weights, and what is silent; yield lines on it for a person.

    Args:
        run: RUN of the command line, or ``package.module:make_model`` of a network of anybody's.
        image: image file.
        changes: ``layer=``, by default the backbone, or the last layer with maps; ``top=`` channels that are drawn;
            ``filters=`` of the layer and ``inputs=`` of each whose weights are; for a network of anybody's
            ``model.key=value``, see `ibd.app.foreign.ForeignSettings`.
        out: folder to write into; by default that of the run's figures.

    Raises:
        ConfigError: an unknown option or layer.
        UnsupportedError: the layer puts out no map.
    """
    of_model = [text for text in changes if text.startswith("model.")]
    said = {key: str(value) for key, value in options([t for t in changes if t not in of_model]).items()}
    for key in said:
        if key not in _OPTIONS:
            raise ConfigError(f"inside: there is no option '{key}'.{did_you_mean(key, _OPTIONS)}")
    top, filters = number("inside", said, "top", 32), number("inside", said, "filters", 8)
    inputs = number("inside", said, "inputs", 8)
    model, picture, figures = asked_about(run, image, of_model, (), "inside")
    folder, layer, stem = Path(out) if out else figures, _layer(model, said.get("layer"), picture), Path(image).stem
    found = channel_maps(model, picture, layer, top)
    yield f"layer '{layer}': {found.total} channels, {found.blank} are blank for {image}"
    drawn = channel_maps_figure(picture[0].cpu(), found)
    yield f"figure: {save_figure(drawn, folder / f'channels_{stem}.png')}"
    silence = blank_by_depth(model, picture)
    for name, own in silence.items():
        yield f"  {name}: {own.blank:.0%} of {own.channels} channels are blank"
    drawn = silence_figure(sparsity_by_depth(model, picture), silence)
    yield f"figure: {save_figure(drawn, folder / f'silence_{stem}.png')}"
    weighing = _weighing(model, layer)
    if weighing is None:
        yield f"left out: weights: layer '{layer}' has none of filters"
        return
    weights = layer_weights(model, weighing, filters, inputs)
    yield f"figure: {save_figure(weights_figure(weights), folder / 'weights.png')}"


def _weighing(model: nn.Module, layer: str) -> str | None:
    """Return the last layer with weights of filters within a layer, or itself; None where there is none."""
    inner = find_layer(model, layer).named_modules(prefix=layer)
    return next((name for name, part in reversed(list(inner)) if isinstance(part, nn.Conv2d | nn.Linear)), None)


def _layer(model: nn.Module, given: str | None, picture: Tensor) -> str:
    """Return the layer that is looked into."""
    try:
        return feature_layer(model, given, picture)
    except ConfigError:
        if given:
            raise
    with undisturbed(model):
        maps = list(spatial_layers(model, picture))
    if not maps:
        raise UnsupportedError("inside: no layer of this network puts out a map")
    return maps[-1]
