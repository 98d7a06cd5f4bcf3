"""``ibd explain``: one picture of what a model and post-hoc methods say about an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ibd import registry
from ibd.app.concepts import show_concepts
from ibd.app.foreign import find_model, image_tensor, is_place, read_settings
from ibd.app.over_data import real
from ibd.app.terminal import options, save_figure
from ibd.comparison.methods import DEFAULT
from ibd.comparison.sources import find_data
from ibd.data.base import ImageDataModule
from ibd.errors import ConfigError, UnsupportedError, check_once, did_you_mean
from ibd.explain.activations import network_of
from ibd.explain.base import Call, Explainer, Explanation, undisturbed
from ibd.explain.explanation_figures import cost_table, explanations_figure
from ibd.explain.names import names_of, require_names
from ibd.explain.perception import Sight, sight_of
from ibd.explain.targets import Target, logits_of
from ibd.io import find_run, load_model, load_run_data


def show_explanations(run: str, image: str, changes: Sequence[str], out: str | None) -> Iterator[str]:
    """Explain an image, draw it, and yield lines on it for a person.

    Args:
        run: RUN of the command line, or ``package.module:make_model`` of a network of anybody's.
        image: image file.
        changes: ``target=...`` (a class or unit by name or number, ``unit:NAME``, ``A - B`` of two classes; a hidden
            ``channel:LAYER:NUMBER``, or ``neuron:LAYER:NUMBER:ROW:COLUMN``, without a place where it is highest; by
            default the predicted class), ``explainers=a,b`` (or ``all``) and ``degrees=10``, a visual angle at which
            what nobody sees is not painted; for a network of anybody's ``model.key=value``, see
            `ibd.app.foreign.ForeignSettings`. Or ``concepts=5`` for the units that carried the
            class, of a layer's channels with ``layer=...``, with patches of the run's training images, or of
            ``data=FOLDER``.
        out: file of the picture; by default beside the run's figures, or in the current folder.

    Raises:
        ConfigError: an unknown option, explainer, class or unit, or a network that cannot be asked.
        UnsupportedError: a method that was asked for cannot explain this model.
    """
    of_model = [text for text in changes if text.startswith("model.")]
    of_data = [text for text in changes if text.startswith(("data.", "data="))]
    rest = [text for text in changes if text not in (*of_model, *of_data)]
    given = {key: _text(value) for key, value in options(rest).items()}
    for key in given:
        if key not in _OPTIONS:
            raise ConfigError(f"explain: there is no option '{key}'.{did_you_mean(key, _OPTIONS)}")
    if "concepts" not in given and (alone := [*of_data, *(key for key in ("layer", "search") if key in given)]):
        raise ConfigError(f"explain: '{alone[0]}' is for concepts=N, which draws the N units that carried a class")
    if "concepts" in given and "explainers" in given:
        raise ConfigError("explain: explainers and concepts are two pictures: ask for one at a time")
    if "concepts" in given and "degrees" in given:
        raise ConfigError("explain: degrees is for maps, and concepts=N draws patches")
    chosen = choose(given.get("explainers"))
    data = _searched_data(run, of_data) if "concepts" in given else None
    model, pictures, folder = asked_about(run, image, of_model, () if data is None else data.spec.class_names)
    target = parse_target(given.get("target", "predicted"), model)
    title = _title(given.get("target", "predicted"), model, pictures)
    sight = sight_of(pictures[0], real("explain", given, "degrees", 0)) if "degrees" in given else None
    if "concepts" in given:
        path = Path(out) if out else folder / f"concepts_{Path(image).stem}.png"
        yield from show_concepts(model, pictures, target, title, given, data, path)
    else:
        path = Path(out) if out else folder / f"explained_{Path(image).stem}.png"
        yield from _show_maps(
            model, pictures, target, f"{image}: {title}", chosen, given.get("explainers"), title, path, sight
        )


_OPTIONS = ("target", "explainers", "concepts", "layer", "search", "degrees")


def _show_maps(
    model: nn.Module,
    pictures: Tensor,
    target: Target,
    asked: str,
    chosen: Sequence[Explainer],
    named: str | None,
    title: str,
    path: Path,
    sight: Sight | None,
) -> Iterator[str]:
    """Draw what each method says, and yield lines on it."""
    explanations: list[Explanation] = []
    for explainer in chosen:
        try:
            explanations.append(explainer(model, pictures, target))
        except UnsupportedError as error:
            if named not in (None, "all"):
                raise
            yield f"left out: {explainer.name}: {error}"
    if not explanations:
        raise UnsupportedError("explain: none of the methods can explain this model")
    yield f"{asked} = {float(explanations[0].value[0]):+.3f}"
    yield from cost_table(explanations).splitlines()
    yield from _seen(model, pictures, target, explanations, sight)
    degrees = None if sight is None else sight.degrees
    yield f"figure: {save_figure(explanations_figure(pictures, explanations, [title], degrees), path)}"


def _seen(
    model: nn.Module, pictures: Tensor, target: Target, explanations: Sequence[Explanation], sight: Sight | None
) -> Iterator[str]:
    """Say what the score is without details that nobody sees, and how much of each map lies where there are only these.

    Args:
        model: the model.
        pictures: (1, 3, H, W).
        target: target that is explained.
        explanations: explanations of it.
        sight: what a person sees of the picture; None says nothing.
    """
    if sight is None:
        return
    with undisturbed(model), torch.no_grad():
        call = Call(model, target, image=pictures)  # it also reads hidden layers
        pinned = call.target.pin(call.output(pictures))
        whole, seen = (
            float(call.scores(image, pinned)[0, 0]) for image in (pictures, sight.image.unsqueeze(0).to(pictures))
        )
    yield f"without what nobody sees at {sight.degrees:g} degrees: {seen:+.3f}, with it {whole:+.3f}"
    for explanation in explanations:
        if explanation.map is not None:
            removed = sight.seen(explanation.map[0].detach().float().cpu())[1]
            yield f"  {explanation.method}: {removed:.1%} of its map lies where nobody sees a detail"


def _searched_data(run: str, changes: Sequence[str]) -> ImageDataModule | None:
    """Return what patches are searched in: the data of a run, or what ``data=`` names; None for a network without."""
    if not is_place(run):
        return load_run_data(run, *changes)
    named = [text.removeprefix("data=") for text in changes if text.startswith("data=")]
    return find_data(named[-1], [text for text in changes if text.startswith("data.")]) if named else None


def asked_about(
    run: str, image: str, changes: Sequence[str], names: Sequence[str], verb: str = "explain"
) -> tuple[nn.Module, Tensor, Path]:
    """Return the model that is asked, the image as it takes it, and the folder for pictures.

    Args:
        run: run, or place of a network.
        image: image file.
        changes: how a network is asked.
        names: names of the classes of the data, where that is known.
        verb: verb, for messages.
    """
    if not is_place(run):
        if changes:
            raise ConfigError(f"{verb}: '{changes[0]}': a run says itself how its model is asked")
        ours = load_model(run)
        return ours, ours.read_images([image]), find_run(run) / "figures"
    settings = read_settings(changes)
    model = find_model(run, settings).eval()
    pictures = image_tensor([image], settings)
    model.class_names = model.class_names or list(names)
    noise = torch.rand(7, *pictures.shape[1:], generator=torch.Generator().manual_seed(0))
    model.check(torch.cat([pictures, noise]), model.class_names)  # one image does not tell probabilities from logits
    if not model.class_names:
        with torch.no_grad():
            model.class_names = [str(number) for number in range(model(pictures).shape[1])]
    return model, pictures, Path()


def _title(text: str, model: nn.Module, pictures: Tensor) -> str:
    """Return a target in words: names in place of "predicted" and of numbers."""
    classes = list(require_names(model, "class"))
    if text == "predicted":
        with torch.no_grad():
            predicted = int(logits_of(model(pictures)).argmax(1)[0])
        return f"{classes[predicted]} (predicted)"
    kind, colon, number = text.partition(":")
    if colon and kind in ("channel", "neuron") and " - " not in text:
        return str(_hidden(text))
    if colon and kind == "unit" and number.isdecimal():
        units = list(require_names(model, "unit"))
        return units[int(number)] if int(number) < len(units) else text
    return classes[int(text)] if text.isdecimal() and int(text) < len(classes) else text


def _text(value: object) -> str:
    """Return what a value was written as; a list with commas."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def choose(named: str | None) -> list[Explainer]:
    """Return explainers by name, separated by commas; None takes a default set, "all" every one there is.

    Raises:
        ConfigError: an unknown name, none, or a class of one's own that is no explainer.
    """
    known = registry.names("explainers")
    if named == "all":
        wanted: Sequence[str] = known
    else:
        wanted = [name for name in (DEFAULT if named is None else map(str.strip, named.split(","))) if name]
    if not wanted:
        raise ConfigError(f"explainers: at least one is needed.{did_you_mean('', known)}")
    check_once("explainers", wanted)
    return [_made(name) for name in wanted]


def _made(name: str) -> Explainer:
    explainer = registry.resolve("explainers", name)
    try:
        made: Explainer = explainer()
    except TypeError as error:
        raise ConfigError(f"explainers: '{name}' cannot be made without arguments: {error}") from None
    return made


def parse_target(text: str, model: nn.Module) -> Target:
    """Return the target that a text means: "predicted", ``3``, a name, ``unit:NAME``, or ``A - B``.

    Or a hidden one: ``channel:LAYER:NUMBER``, ``neuron:LAYER:NUMBER`` or ``neuron:LAYER:NUMBER:ROW:COLUMN``.

    Raises:
        ConfigError: no class and no unit goes by that name, there is no such layer, or a hidden one is not written so.
    """
    if " - " in text:
        first, second = text.split(" - ", 1)
        return parse_target(first.strip(), model) - parse_target(second.strip(), model)
    if text == "predicted":
        return Target.predicted()
    kind, colon, name = text.partition(":")
    if colon and kind in ("channel", "neuron"):
        return _hidden(text).resolve(model)
    if colon and kind in ("unit", "class") and not name.startswith(":"):
        wanted: int | str = int(name) if name.isdecimal() else name
        return (Target.unit(wanted) if kind == "unit" else Target.cls(wanted)).resolve(model)
    if text.isdecimal():
        return Target.cls(int(text))
    classes, units = names_of(model, "class") or {}, names_of(model, "unit") or {}
    if text in classes:
        return Target.cls(text).resolve(model)
    if text in units:
        return Target.unit(text).resolve(model)
    kinds = f"class and no {network_of(model).unit_kind}" if units else "class"
    raise ConfigError(f"target: no {kinds} is called '{text}'.{did_you_mean(text, [*classes, *units])}")


def _hidden(text: str) -> Target:
    """Return the target of a channel of a hidden layer, or of a neuron."""
    kind, layer, *rest = text.split(":")
    numbers = [int(part) for part in rest if part.isdecimal()]
    if not layer or len(numbers) != len(rest) or len(numbers) not in ((1,) if kind == "channel" else (1, 3)):
        raise ConfigError(
            f"target: '{text}' given, channel:LAYER:NUMBER, neuron:LAYER:NUMBER or neuron:LAYER:NUMBER:ROW:COLUMN is "
            "needed, counted from 0"
        )
    if kind == "channel":
        return Target.channel(layer, numbers[0])
    return Target.neuron(layer, numbers[0], *numbers[1:])
