"""Images that were brought to the page: kept in memory, bounded in number and size, and never written."""

from __future__ import annotations

import io
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from ibd.errors import DataError, IbdError

MOST_BYTES = 20 * 2**20
"""Of one image file."""
MOST_PIXELS = 64 * 10**6
"""Of one image: 8000 x 8000. A file of some kilobytes can claim more than any memory holds."""
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")
"""What Pillow may decode: none of the formats that run other programs, such as EPS."""
_KEPT_BY_ONE, _KEPT, _KEPT_BYTES = 32, 256, 512 * 2**20
_LONGEST_NAME = 120


class LostError(IbdError):
    """An image was brought, and is no longer there."""


@dataclass(frozen=True)
class Upload:
    """An image that was brought.

    Attributes:
        session: browser that brought it.
        name: name of its file, as text to show and nothing else.
        content: the file.
        size: (width, height) in pixels.
    """

    session: str
    name: str
    content: bytes
    size: tuple[int, int]

    def opened(self) -> Image.Image:
        """Return it opened by Pillow, not decoded yet."""
        return open_image(self.content)


class Uploads:
    """The images of all browsers; those that were least recently used go first where there are too many."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, session: str, name: str, content: bytes) -> str:
        """Keep an image, and return its identifier, which nobody can guess.

        Raises:
            DataError: it is no image, damaged, or has too many pixels.
        """
        image = open_image(content)
        size = image.size
        with self._lock:  # one at a time is decoded: each may need some hundred megabytes
            _check_decodes(image)
            identifier = secrets.token_urlsafe(12)
            self._kept[identifier] = Upload(session, shown_name(name), content, size)
            self._drop(session)
        return identifier

    def _drop(self, session: str) -> None:
        mine = [key for key, upload in self._kept.items() if upload.session == session]
        for key in mine[: max(0, len(mine) - _KEPT_BY_ONE)]:
            del self._kept[key]
        while len(self._kept) > _KEPT or sum(len(upload.content) for upload in self._kept.values()) > _KEPT_BYTES:
            self._kept.popitem(last=False)

    def get(self, session: str, identifier: str) -> Upload:
        """Return an image.

        Raises:
            LostError: it went to make room for others, or another browser brought it.
        """
        with self._lock:
            upload = self._kept.get(identifier)
            if upload is None or upload.session != session:
                raise LostError("this image is no longer in the memory of the page: bring it again")
            self._kept.move_to_end(identifier)
            return upload


def open_image(content: bytes) -> Image.Image:
    """Return an image file opened by Pillow, not decoded yet.

    Raises:
        DataError: it is no image, or has too many pixels.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except UnidentifiedImageError:
        raise DataError("this is not an image, or of another format than JPEG, PNG, WebP, TIFF, BMP or GIF") from None
    except Image.DecompressionBombError:
        raise DataError(_too_many("too many")) from None
    except Exception as error:  # decoders raise anything
        raise DataError(f"this image cannot be read: {' '.join(str(error).split())[:200]}") from None
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise DataError(_too_many(f"{width} x {height}"))
    return image


def _too_many(pixels: str) -> str:
    return f"this image has {pixels} pixels: {MOST_PIXELS // 10**6} million at most are allowed here"


def _check_decodes(image: Image.Image) -> None:
    from ibd.data.images import read_image

    read_image(image)


def shown_name(name: str) -> str:
    """Return the name of a file without its folders and what no name should hold, for a person to read."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    plain = "".join(character if character.isprintable() else " " for character in last).strip()
    return plain[:_LONGEST_NAME] or "image"
