"""The images that priors are learned from: a tensor, what a data loader yields, or a folder of image files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ibd.data.fitting import fit_image
from ibd.data.images import IMAGE_SUFFIXES, read_image
from ibd.distributed import progress as progress_bar
from ibd.errors import DataError
from ibd.explain.activations import images_of

Source = Tensor | Iterable[object] | str | Path
"""(N, C, H, W) in [0, 1]; a data loader; or a folder, in which image files are looked for at any depth."""


def gathered(source: Source, size: tuple[int, int] | None = None, most: int = 4096, progress: bool = True) -> Tensor:
    """Return images as one tensor, (N, C, H, W) in [0, 1].

    Args:
        source: images.
        size: H and W that they are brought to, cut where the aspect ratio is another; None keeps that of a tensor or a
            loader, and takes 64 pixels for files.
        most: largest number; of more files, evenly spread ones are taken.
        progress: whether to show a bar, if it takes more than two seconds.

    Raises:
        DataError: there are fewer than two images, or files that cannot be read.
    """
    if isinstance(source, str | Path):
        files = _spread(sorted(_files(Path(source))), most)
        read = progress_bar(files, "reading images", shown=progress)
        images = [fit_image(read_image(path), size or (64, 64), "crop").float().div_(255) for path in read]
    else:
        batches = [source] if isinstance(source, Tensor) else source
        images = []
        for batch in batches:
            images += list(images_of(batch).detach().float()[: most - len(images)])
            if len(images) >= most:
                break
        images = images if size is None else [fit_image(image, size, "crop") for image in images]
    if len(images) < 2:
        raise DataError(
            f"a prior is learned from at least two images, and there {_are(len(images))} in {_name(source)}"
        )
    return torch.stack(images)


@contextmanager
def drawing(seed: int) -> Iterator[torch.Generator]:
    """Give random numbers to a training that leave those of the caller alone, also inside of inference mode."""
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def descend(
    modules: Sequence[nn.Module], loss: Callable[[int], Tensor], steps: int, lr: float, title: str, progress: bool
) -> None:
    """Train modules by AdamW, its rate rising over a tenth of the steps and falling to 0, and freeze them."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1, pct_start=0.1)
    bar = progress_bar(range(steps), title, shown=progress)
    for step in bar:
        value = loss(step)
        gradients = torch.autograd.grad(value, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        schedule.step()
        if step % 16 == 0 and not bar.disable:
            bar.set_postfix(loss=f"{float(value.detach()):.3g}", refresh=False)
    for module in modules:
        module.eval().requires_grad_(False)
    for parameter in parameters:
        parameter.grad = None


def _files(folder: Path) -> list[Path]:
    """Return the image files in a folder and all that is in it."""
    if not folder.expanduser().is_dir():
        raise DataError(f"{folder}: there is no such folder of images")
    found = (Path(place) / name for place, _, names in os.walk(folder.expanduser()) for name in names)
    return [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")]


def _spread(files: list[Path], most: int) -> list[Path]:
    return files if len(files) <= most else [files[number * len(files) // most] for number in range(most)]


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"


def _name(source: Source) -> str:
    return f"'{source}'" if isinstance(source, str | Path) else "what is given"
