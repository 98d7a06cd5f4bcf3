"""Reading one image or mask file, whatever its mode, with one clear error when it cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ibd.errors import DataError, no_file

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
_EXIF_ORIENTATION = 0x0112
_JPEG = (b"\xff\xd8\xff", b"\xff\xd9")
_PNG = (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82")


def read_image(path: str | Path | Image.Image) -> Tensor:
    """Return an image file, or an image that Pillow has opened, as uint8 RGB.

    The EXIF orientation is applied; gray, palette and CMYK images become RGB; transparent ones are laid on white;
    of an animation it is the first frame. Deeper pixels are scaled, where Pillow would clip them: 16-bit and integer
    ones by 65535; floats by the smallest of 1, 255 and 65535 that holds their maximum.

    Args:
        path: path of the file, or the image.

    Returns:
        (3, H, W) uint8.

    Raises:
        DataError: there is no such file, or it is no image, or it is damaged; the message names the file.
    """
    if isinstance(path, Image.Image):
        try:
            return _tensor(path)
        except Exception as error:
            raise DataError(f"an image of mode {path.mode}: cannot be read: {error}") from error
    _refuse_special(path)
    try:
        with Image.open(path) as image:
            image.load()
            return _tensor(image)
    except DataError:
        raise
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error, zlib.error, ...
        raise DataError(f"{path}: cannot be read: {_cause(Path(path), error)}") from error


def read_mask(path: str | Path, above: int = 0) -> Tensor:
    """Return (H, W) bool: where any channel of an image file, transparency aside, is greater than `above`.

    A palette image counts by its palette indices, so index 0 is the background.

    Raises:
        DataError: the file cannot be read.
    """
    _refuse_special(path)
    try:
        with Image.open(path) as image:
            array = np.array(image)
            if image.mode in ("LA", "RGBA"):
                array = array[..., :-1]
    except Exception as error:
        raise DataError(f"{path}: cannot be read: {_cause(Path(path), error)}") from error
    inside = array > above if array.dtype != bool else array
    return torch.from_numpy(inside.any(axis=-1) if inside.ndim == 3 else inside)


def check_image(path: str | Path) -> None:
    """Raise a `DataError` if a file is no image or was cut short.

    JPEG and PNG files with their first and last marker pass (20 microseconds); any other file is decoded.
    """
    _refuse_special(path)
    try:
        with Path(path).open("rb", buffering=0) as file:
            head = file.read(8)
            file.seek(-8, 2)
            tail = file.read(8)
    except OSError:
        head = tail = b""
    if not any(head.startswith(first) and tail.endswith(last) for first, last in (_JPEG, _PNG)):
        read_image(path)


def refuse_nul(path: str | Path) -> None:
    """Raise a `DataError` for a path that no system can have, and on which each call fails in a way of its own."""
    if "\0" in str(path):
        raise DataError(f"{str(path)!r}: a path cannot hold the character NUL")


def _refuse_special(path: str | Path) -> None:
    """Raise a `DataError` for a folder, a pipe, a socket or a device."""
    refuse_nul(path)
    if (kind := no_file(path)) is not None:
        raise DataError(f"{path}: cannot be read: it is {kind}, a file is needed")


def _tensor(image: Image.Image) -> Tensor:
    array = np.array(image if image.mode == "RGB" and _is_plain(image) else _to_rgb(image))
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def _is_plain(image: Image.Image) -> bool:
    return "transparency" not in image.info and image.getexif().get(_EXIF_ORIENTATION, 1) == 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """Return an image of any mode as upright RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":
        image = Image.fromarray(_to_8_bits(image))
    elif image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return image.convert("RGB")


def _to_8_bits(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image of mode I, I;16* or F scaled to 0..255."""
    values = np.asarray(image, dtype=np.float64)
    scales = (1, 255, 65535) if image.mode == "F" else (65535,)
    scale = next((scale for scale in scales if values.max() <= scale), 0)
    if not (values.min() >= 0 and values.max() <= scale):  # also where a value is NaN
        raise ValueError(f"its values go from {values.min():g} to {values.max():g}, 0 to 65535 at most is allowed")
    return np.rint(values * (255 / scale)).astype(np.uint8)


def _cause(path: Path, error: Exception) -> str:
    if not path.exists():
        return "there is no such file"
    if path.stat().st_size == 0:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image, or of a format that Pillow does not know"
    return " ".join(str(error).split()) or type(error).__name__
