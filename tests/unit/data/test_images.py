"""Reading image files of every mode, and damaged ones."""

import numpy as np
import pytest
import torch
from PIL import Image

from ibd.data.images import check_image, read_image, read_mask
from ibd.errors import DataError


def save(tmp_path, array, mode=None, name="x.png", **kwargs):
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    if mode is not None:
        image = image.convert(mode)
    image.save(tmp_path / name, **kwargs)
    return tmp_path / name


def pixels(path):
    image = read_image(path)
    assert image.dtype == torch.uint8
    assert image.shape[0] == 3
    assert image.is_contiguous()
    return image.permute(1, 2, 0).numpy()


RAMP = np.arange(0, 240, dtype=np.uint8).reshape(4, 20, 3)


@pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.tif", "x.webp"])
def test_rgb_is_kept(tmp_path, name):
    path = save(tmp_path, RAMP, name=name, **({"lossless": True} if name == "x.webp" else {}))
    np.testing.assert_array_equal(pixels(path), RAMP)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK"])
def test_other_modes_become_what_pillow_shows(tmp_path, mode):
    path = save(tmp_path, RAMP, mode, name="x.tif")
    np.testing.assert_array_equal(pixels(path), np.array(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_is_laid_on_white(tmp_path, mode):
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    path = save(tmp_path, image, mode)
    assert pixels(path).tolist() == [[[255] * 3, [0] * 3]]


def test_half_transparent_is_mixed_with_white(tmp_path):
    assert pixels(save(tmp_path, Image.new("RGBA", (1, 1), (255, 0, 0, 51)))).tolist() == [[[255, 204, 204]]]


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees
    path = save(tmp_path, RAMP, exif=exif)
    np.testing.assert_array_equal(pixels(path), np.rot90(RAMP, 3))


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (np.array([[0, 257, 32896, 65535]], np.uint16), "x.png"),
        (np.array([[0, 257, 32896, 65535]], np.uint16), "x.tif"),
        (np.array([[0, 257, 32896, 65535]], np.int32), "x.tif"),
        (np.array([[0, 1 / 255, 128 / 255, 1]], np.float32), "x.tif"),
        (np.array([[0, 1, 128, 255]], np.float32), "x.tif"),
        (np.array([[0, 257, 32896, 65535]], np.float32), "x.tif"),
    ],
)
def test_deep_images_are_scaled_not_clipped(tmp_path, values, name):
    assert pixels(save(tmp_path, values, name=name))[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("value", [-1.0, 1e6, np.nan])
def test_values_without_a_scale_are_refused(tmp_path, value):
    path = save(tmp_path, np.array([[0, value]], np.float32), name="x.tif")
    with pytest.raises(
        DataError, match=r"x\.tif: cannot be read: its values go from .* 0 to 65535 at most is allowed$"
    ):
        read_image(path)


def damage(tmp_path, kind):
    path = save(tmp_path, np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), name="bad.jpg")
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "text":
        path.write_text("this is no image, though its name says so")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind in ("missing", "folder"):
        path.unlink()
        if kind == "folder":
            path.mkdir()
    return path


@pytest.mark.parametrize("read", [read_image, check_image, read_mask])
@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("truncated", "truncated"),
        ("text", "it is not an image, or of a format that Pillow does not know"),
        ("empty", "the file is empty"),
        ("missing", "there is no such file"),
        ("folder", "it is a folder"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path, kind, cause, read):
    path = damage(tmp_path, kind)
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: cannot be read: ")
    assert cause in message
    assert "\n" not in message


def test_whole_files_pass_the_check(tmp_path):
    for name in ("x.png", "x.jpg", "x.bmp", "x.webp"):
        check_image(save(tmp_path, RAMP, name=name))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_mask_of_any_mode(tmp_path, mode):
    image = Image.new("L", (3, 2))
    image.putpixel((1, 0), 255)
    inside = read_mask(save(tmp_path, image, mode))
    assert inside.tolist() == [[False, True, False], [False, False, False]]
