"""`predict`: from tensors and files of any kind, and what it leaves untouched."""

import numpy as np
import pytest
import torch
from PIL import Image

from ibd.data.transforms import eval_transform
from ibd.errors import DataError
from ibd.types import DataSpec
from tests.model_makers import SPEC, make_module

IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(2, 1, 16, 16), "images have shape (2, 1, 16, 16): (B, 3, 16, 16) is needed"),
        (torch.rand(16, 16), "images have shape (16, 16)"),
        (torch.rand(2, 3, 32, 16), "images are 32 x 16 pixels, the model was trained on 16 x 16"),
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), "images are torch.uint8: float in [0, 1] is needed"),
        (torch.rand(2, 3, 16, 16) * 255, "[0, 1] is needed, not normalized"),
        (torch.randn(2, 3, 16, 16), "[0, 1] is needed, not normalized"),
        (torch.full((1, 3, 16, 16), torch.nan), "image values range from nan to nan"),
        ([], "no image given"),
        ("missing.png", "missing.png: cannot be read: there is no such file"),
        (np.zeros((1, 16, 16, 3)), "images have shape (1, 16, 16, 3): (B, 3, 16, 16) is needed"),
        (np.zeros((1, 3, 16, 16), np.uint8), "images are torch.uint8: float in [0, 1] is needed"),
        (np.array(["x.png"]), "images are an array of <U5: float in [0, 1] is needed"),
        ([np.zeros((3, 16, 16))], "images are paths, Pillow images, or one tensor or array of them all, not ndarray"),
        ([torch.rand(3, 16, 16)], "images are paths, Pillow images, or one tensor or array of them all, not Tensor"),
        (None, "images are paths, Pillow images, or one tensor or array, not NoneType"),
        (5, "images are paths, Pillow images, or one tensor or array, not int"),
    ],
)
def test_predict_says_what_is_wrong(images, message):
    with pytest.raises(DataError) as caught:
        make_module().predict(images)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_predict_takes_one_image_or_none_and_any_float():
    module = make_module()
    all_four = module.predict(IMAGES).logits
    torch.testing.assert_close(module.predict(IMAGES[1]).logits, all_four[1:2])
    torch.testing.assert_close(module.predict(IMAGES.double()).logits, all_four)
    assert len(module.predict(IMAGES[:0])) == 0
    mirrored = IMAGES.numpy()[:, :, :, ::-1]
    torch.testing.assert_close(module.predict(mirrored).logits, module.predict(IMAGES.flip(3)).logits)
    torch.testing.assert_close(module(IMAGES.double()).logits, all_four)  # in the precision of the model
    for wrong in (IMAGES.numpy(), (IMAGES * 255).byte()):
        with pytest.raises(DataError, match=r"a float tensor \(B, 3, H, W\) in \[0, 1\] is needed"):
            module(wrong)
    assert module.double().predict(IMAGES).logits.dtype == torch.float64


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16"])
@pytest.mark.parametrize("size", [(16, 16), (40, 23)])
def test_predict_reads_files_of_any_mode_and_size(tmp_path, mode, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    gray = Image.fromarray(pixels[..., 0])
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(gray, dtype=np.uint16) * 257)
    else:
        picture = (gray if mode == "L" else Image.fromarray(pixels)).convert(mode)
    picture.save(tmp_path / "x.png")
    module = make_module(DataSpec(**{**vars(SPEC), "resize": "squash"}))
    found = module.predict(tmp_path / "x.png")
    assert found.names == [str(tmp_path / "x.png")]
    shown = gray.convert("RGB") if mode in ("L", "I;16") else picture.convert("RGB")
    expected = eval_transform((16, 16), "squash")(torch.from_numpy(np.array(shown)).permute(2, 0, 1))
    torch.testing.assert_close(found.logits, module.predict(expected).logits)


def test_predict_leaves_the_model_as_it_was():
    module = make_module().train()
    module.network.backbone.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with torch.inference_mode():
        prediction = module.predict(IMAGES)
    assert module.training
    assert module.network.concepts.training
    assert not module.network.backbone.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not module.predict(IMAGES).logits.requires_grad
    torch.testing.assert_close(prediction.logits, module.eval().predict(IMAGES).logits)


def test_predict_reads_in_parts_what_it_reads_at_once(tmp_path):
    """Many files do not have to fit into memory at once."""
    files = []
    for index, image in enumerate(IMAGES):
        files.append(tmp_path / f"{index}.png")
        Image.fromarray((image * 255).byte().permute(1, 2, 0).numpy()).save(files[-1])
    module = make_module()
    sizes = []
    module.network.register_forward_pre_hook(lambda _, images: sizes.append(len(images[0])))
    whole = module.predict(files)
    parts = module.predict((file for file in files), batch_size=3)
    assert sizes == [4, 3, 1]
    assert parts.names == whole.names
    torch.testing.assert_close(parts.logits, whole.logits)
    torch.testing.assert_close(parts.units.maps, whole.units.maps)


def test_predict_takes_what_pillow_has_opened(tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8))
    picture.save(tmp_path / "x.png")
    module = make_module()
    torch.testing.assert_close(module.predict(picture).logits, module.predict(tmp_path / "x.png").logits)
    assert module.predict([picture, tmp_path / "x.png"]).names == ["image 0", str(tmp_path / "x.png")]
