"""``ibd why``: what would have to be otherwise for another class, and what is enough for this one."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from ibd.app.explain import asked_about
from ibd.app.foreign import is_place
from ibd.app.redrawn import Redrawn, redraw_answer
from ibd.app.terminal import save_figure, writing
from ibd.config.loading import plain_values
from ibd.config.sources import Sources, parse_override
from ibd.data.base import SPLITS
from ibd.data.dataset import ImageDataset
from ibd.errors import ConfigError, did_you_mean
from ibd.explain.fooling.figures import STRONGER, stronger
from ibd.explain.names import require_names
from ibd.explain.pertinent import Pertinent, pertinent_negative, pertinent_positive
from ibd.explain.render import grid_figure
from ibd.explain.targets import logits_of
from ibd.io import find_run, load_run_data
from ibd.models.counterfactual import Why, why
from ibd.models.counterfactual.asking import wanted_class
from ibd.models.counterfactual.program import Smallest
from ibd.models.loading import load_network
from ibd.models.prediction import Prediction

_CAPTION = "titles: the class that the model takes each image for"
_OF_DATA = re.compile(rf"({'|'.join(SPLITS)}):(\d+)")


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        not_class: class that the image is no longer to be taken for, by default the predicted one; written ``not=``.
        is_class: class that it is to be taken for instead; written ``is=``.
        smallest: what is to be small of a change of units: how many are set (count), or how far they move (amount).
        margin: by how much the logits must say so.
        pixels: whether the smallest change of the pixels is looked for, too.
        cell: side in pixels of the squares that then change together; by default a sixteenth of the image's.
    """

    not_class: str | int | None = None
    is_class: str | int | None = None
    smallest: Smallest = "count"
    margin: float = 0.0
    pixels: bool = False
    cell: int | None = None


@dataclass(frozen=True)
class Picture:
    """The image that is asked about.

    Attributes:
        image: (1, 3, H, W) in [0, 1].
        file: the file that it is, or is written to, as other verbs take it.
        name: what pictures of it are called.
        dataset: data that it is of, and its number there; None where it was given as a file.
    """

    image: Tensor
    file: str
    name: str
    dataset: tuple[ImageDataset, int] | None = None


def show_why(run: str, image: str, changes: Sequence[str], out: str | None) -> Iterator[str]:
    """Say what would make an image another class, and what is enough for its own, and draw it; yield lines.

    Args:
        run: RUN of the command line, or ``package.module:make_model`` of a network of anybody's.
        image: image file, or ``test:17`` for one of the run's data.
        changes: ``not=CLASS``, ``is=CLASS`` and the other options of `Question`; ``data.key=value`` for the data of
            ``test:17``; ``model.key=value`` for a network of anybody's.
        out: file of the picture; by default beside the run's figures, or in the current folder.

    Raises:
        ConfigError: an unknown option or class, or an image that there is not.
        UnsupportedError: the model cannot be asked.
    """
    question = read_question([text for text in changes if not text.startswith(("data.", "data=", "model."))])
    of_model = [text for text in changes if text.startswith("model.")]
    if is_place(run):
        model, pictures, folder = asked_about(run, image, of_model, (), "why")
        drawn = yield from _pixels(model, pictures, question)
        path = Path(out) if out else folder / f"why_{Path(image).stem}.png"
        yield from _draw([pictures[0], *drawn.pictures], [Path(image).stem, *drawn.titles], path)
        return
    if of_model:
        raise ConfigError(f"why: '{of_model[0]}': a run says itself how its model is asked")
    yield from _of_run(run, image, question, [text for text in changes if text.startswith(("data.", "data="))], out)


def read_question(changes: Sequence[str]) -> Question:
    """Return what ``key=value`` texts ask.

    Raises:
        ConfigError: an unknown option, or a value that it cannot have.
    """
    written = [re.sub(r"^(not|is)=", r"\1_class=", text) for text in changes]
    known = [field.name for field in dataclasses.fields(Question)]
    for text in written:
        if (key := text.partition("=")[0]) not in known:
            said = ["not", "is", *known[2:]]
            raise ConfigError(f"why: there is no option '{key}'.{did_you_mean(key, said)}")
    return Question(**plain_values(Question, Sources("why", [parse_override(text) for text in written])))


def _of_run(run: str, image: str, question: Question, data: Sequence[str], out: str | None) -> Iterator[str]:
    """Answer of a model of ours."""
    model, folder = load_network(run), find_run(run) / "figures"
    picture = _picture(run, image, data, folder, model.read_images)
    if picture.dataset is not None:
        yield f"image: {picture.file}"
    prediction = dataclasses.replace(model.predict(picture.image), names=[picture.name])
    answer = _ask(prediction, question)
    yield from answer.lines(run, picture.file)
    pictures, titles = [picture.image[0]], [f"{picture.name}:\n{prediction.classes[0]}"]
    for each in redraw_answer(answer, model, picture.dataset):
        yield from each.lines if isinstance(each, Redrawn) else [each]
        if isinstance(each, Redrawn):
            pictures, titles = [*pictures, each.image], [*titles, each.title]
    if question.pixels:
        drawn = yield from _pixels(model, picture.image.to(next(model.parameters())), question)
        pictures, titles = [*pictures, *drawn.pictures], [*titles, *drawn.titles]
    if len(pictures) > 1:
        path = Path(out) if out else folder / f"why_{picture.name.replace(':', '_')}.png"
        yield from _draw(pictures, titles, path)


def _ask(prediction: Prediction, question: Question) -> Why:
    asked = {"not_class": question.not_class, "is_class": question.is_class}
    return why(prediction, 0, **asked, smallest=question.smallest, margin=question.margin)


def _picture(run: str, image: str, data: Sequence[str], folder: Path, read: Callable[[list[str]], Tensor]) -> Picture:
    """Return the image that IMAGE means; one of the run's data is written to a file, which other verbs take."""
    found = None if Path(image).exists() else _OF_DATA.fullmatch(image)
    if found is None:
        if data:
            raise ConfigError(f"why: '{data[0]}' is for an image of the run's data, such as test:17")
        return Picture(read([image]), image, Path(image).stem)
    split = next(name for name in SPLITS if name == found[1])
    dataset, index = load_run_data(run, *data).dataset(split), int(found[2])
    if index >= len(dataset):
        raise ConfigError(f"why: '{image}': the split '{split}' has {len(dataset)} images, counted from 0")
    tensor, file = dataset[index].image, folder / f"{split}_{index}.png"
    with writing(file):
        Image.fromarray((tensor.permute(1, 2, 0) * 255).round().byte().numpy()).save(file)
    return Picture(tensor[None], str(file), image, (dataset, index))


@dataclass(frozen=True)
class Drawn:
    """Pictures with their titles."""

    pictures: list[Tensor]
    titles: list[str]


def _pixels(model: nn.Module, image: Tensor, question: Question) -> Generator[str, None, Drawn]:
    """Look for the smallest change of the pixels, and for what is enough of them; yield lines, return pictures."""
    names = list(require_names(model, "class"))
    with torch.no_grad():
        label = int(logits_of(model(image)).argmax(1)[0])
    number, wins = wanted_class(names, label, question.not_class, question.is_class)
    wanted = number if wins else None
    cell = max(1, min(image.shape[2:]) // 16) if question.cell is None else question.cell
    negative = pertinent_negative(model, image, wanted, cell=cell, margin=question.margin)
    positive = pertinent_positive(model, image, cell=cell, margin=question.margin)
    asked = f"not {names[label]}" if wanted is None else names[wanted]
    yield _said(f"pixels, {asked}", negative, names)
    yield _said(f"pixels, enough for {names[label]}", positive, names)
    # In colors: over these, a change of one up and another down adds up to nothing.
    pictures = [negative.image[0], stronger(negative.change[0]), positive.image[0]]
    after = names[int(negative.after[0])] if bool(negative.found[0]) else "none found"
    held = names[label] if bool(positive.found[0]) else "none found"
    titles = [f"pixels changed:\n{after}", f"what was\nchanged, x {STRONGER}", f"enough pixels:\n{held}"]
    return Drawn(pictures, titles)


def _said(title: str, found: Pertinent, names: Sequence[str]) -> str:
    """Return a line on a change of pixels."""
    passes = f"{found.cost.forwards:g} forwards, {found.cost.backwards:g} backwards"
    if not bool(found.found[0]):
        return f"{title}: none was found ({passes})"
    change = found.change[0]
    if not bool(change.any()):
        return f"{title}: none of them is needed; taken for {names[int(found.after[0])]} ({passes})"
    return (
        f"{title}: {100 * float((change.abs() > 1e-3).any(0).float().mean()):.1f} % of the pixels, by up to "
        f"{float(change.abs().max()):.2f}; taken for {names[int(found.after[0])]} ({passes})"
    )


def _draw(pictures: Sequence[Tensor], titles: Sequence[str], path: Path) -> Iterator[str]:
    yield f"figure: {save_figure(grid_figure(pictures, titles, caption=_CAPTION), path)}"
