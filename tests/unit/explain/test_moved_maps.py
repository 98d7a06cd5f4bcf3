"""By default no map is taken whose cells were moved: the same map by name, or the same network written otherwise."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.swin_transformer import SwinTransformer

from ibd.errors import UnsupportedError
from ibd.explain.calls import Call
from ibd.explain.cam import EigenCAM, HiResCAM
from ibd.explain.moved_axes import moved, reach
from ibd.explain.targets import Target
from tests.explainer_makers import images

IMAGE = images(2, (8, 8)).double()
close = torch.testing.assert_close


class Net(nn.Module):
    """A body that keeps the size, what a function makes of its map, and a linear head of the mean."""

    def __init__(self, change, before=None, name="body"):
        super().__init__()
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        setattr(self, name, body)
        self.tail, self.wide = nn.Conv2d(4, 4, 5, padding=2), nn.Conv2d(8, 4, 1)
        self.head, self.change, self.before, self.name = nn.Linear(4, 3), change, before, name
        self.double().eval()

    def forward(self, image):
        a = getattr(self, self.name)(image if self.before is None else self.before(image))
        return self.head(self.change(self, a).mean((2, 3)))


MOVES = {
    "crop": lambda _, a: a[:, :, 2:6, 2:6],
    "pad": lambda _, a: F.pad(a, (0, 8, 0, 8)),
    "pad, and a convolution": lambda m, a: m.tail(F.pad(a, (0, 8, 0, 8))).relu(),
    "narrow": lambda _, a: a.narrow(3, 0, 4),
    "transpose": lambda _, a: a.transpose(2, 3).relu(),
    "roll": lambda _, a: a.roll(4, 3) * torch.linspace(0, 1, 8).double(),
    "flip": lambda _, a: a.flip(3),
    "flip, and a convolution": lambda m, a: m.tail(a.flip(3)).relu(),
    "rot90": lambda _, a: a.rot90(1, (2, 3)),
    "index_select": lambda _, a: a.index_select(2, torch.tensor([5, 1, 7, 0])),
    "gather": lambda _, a: a.gather(3, torch.arange(8).flip(0).expand(a.shape)),
    "symmetric": lambda _, a: a + a.flip(3),
    "both beside each other": lambda m, a: m.wide(torch.cat([a, a.flip(2)], 1)).relu(),
    "channels last": lambda _, a: a.permute(0, 2, 3, 1)[:, 2:6, 2:6].permute(0, 3, 1, 2),
}


@pytest.mark.parametrize("name", MOVES)
def test_the_map_before_the_move_is_taken(name):
    model = Net(MOVES[name])
    for target in (1, Target.classes([2, 0])):
        found = HiResCAM()(model, IMAGE, target)
        assert found.layer in ("body", "permute of 'body'")
        close(found.map, HiResCAM("body")(model, IMAGE, target).map)
    model = Net(MOVES[name], name="backbone")
    model.backbone, plain = nn.Sequential(model.backbone, Moved(model)), model.backbone
    model.change = lambda _, a: a
    found = HiResCAM()(model, IMAGE, 1)
    assert found.layer in ("backbone.0", "permute of 'backbone.0'")
    assert found.map.shape == (2, *plain(IMAGE).shape[2:])


class Moved(nn.Module):
    """What a network does to its map, as a module."""

    def __init__(self, model):
        super().__init__()
        self.change, self.tail, self.wide = model.change, model.tail, model.wide

    def forward(self, a):
        return self.change(self, a)


def there_and_back(m, a):
    return a.roll((2, 3), (2, 3)).relu().roll((-2, -3), (2, 3)) + F.pad(a, (3, 3, 0, 0)).flip(3).flip(3)[:, :, :, 3:-3]


STAYS = {
    "a slice of channels": (lambda _, a: a[:, [3, 2, 1, 0]], lambda _, a: a[:, :, :]),
    "chunks": (lambda _, a: torch.cat(a.chunk(2, 1), 1), lambda _, a: a),
    "channels last": (lambda _, a: a.permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2), lambda _, a: a),
    "moved back": (lambda m, a: m.tail(there_and_back(m, a)), lambda m, a: m.tail(2 * a)),
    "padded apart": (
        lambda m, a: F.conv2d(F.pad(a, (2, 2, 2, 2)), m.tail.weight, m.tail.bias, 2),
        lambda m, a: F.conv2d(a, m.tail.weight, m.tail.bias, 2, 2),
    ),
    "dilated": (
        lambda m, a: F.conv2d(F.pad(a, (4, 4, 4, 4)), m.tail.weight, m.tail.bias, dilation=2),
        lambda m, a: F.conv2d(a, m.tail.weight, m.tail.bias, 1, 4, 2),
    ),
    "pooled": (
        lambda _, a: F.max_pool2d(F.pad(a, (2, 2, 2, 2), value=-torch.inf), 5, 2),
        lambda _, a: F.max_pool2d(a, 5, 2, 2),
    ),
    "every other": (lambda _, a: a[:, :, ::2, ::2], lambda _, a: F.max_pool2d(a, 1, 2)),
}


@pytest.mark.parametrize("name", STAYS)
def test_what_stays_in_place_is_taken_as_before(name):
    """Padding of its own, as TensorFlow has it, is the padding of the convolution; other pairs are alike as well."""
    moved_, same = (Net(each) for each in STAYS[name])
    if name == "a slice of channels":
        same.head.weight.data = same.head.weight.data[:, [3, 2, 1, 0]]
    found, expected = HiResCAM()(moved_, IMAGE, 1), HiResCAM()(same, IMAGE, 1)
    assert found.layer != "body"
    close(found.map, expected.map)


@pytest.mark.parametrize("name", ["body", "backbone"])
@pytest.mark.parametrize("before", [lambda x: x.flip(3), lambda x: x[:, :, 2:6, 2:6], lambda x: F.pad(x, (0, 0, 0, 8))])
def test_a_moved_image_has_no_map(name, before):
    with pytest.raises(UnsupportedError, match=r"its cells where the image has them .* in this model: name a layer"):
        HiResCAM()(Net(lambda _, a: a, before, name), IMAGE, 1)


@pytest.mark.parametrize("name", ["body", "backbone"])
def test_the_runs_of_an_image_and_its_mirror_image_are_no_map_together(name):
    class Both(Net):
        def forward(self, image):
            body = getattr(self, self.name)
            return self.head((0.2 * body(image) + 0.8 * body(image.flip(3))).mean((2, 3)))

    with pytest.raises(UnsupportedError, match="no single feature map carries the whole score"):
        HiResCAM()(Both(None, name=name), IMAGE, 1)


def test_the_shifted_windows_of_swin_are_moved_back():
    torch.manual_seed(0)
    model = SwinTransformer([2, 2], 8, [2, 2], [2, 2], [3, 3], num_classes=3).eval()
    found = EigenCAM()(model, images(2, (32, 32)), 1)
    assert found.layer in ("features", "norm", "permute")
    close(found.map, EigenCAM("norm")(model, images(2, (32, 32)), 1).map)


def test_what_calls_do_to_axes():
    x = torch.rand(2, 3, 2, 4)
    assert moved(Call(torch.flip, (x, (3,)), {}), 0)[3] == (3, (3, 2, 1, 0))
    assert moved(Call(F.pad, (x, (1, 0, 0, 2), "replicate"), {}), 0)[2] == (2, (0, 1, -1, -1))
    assert moved(Call(torch.transpose, (x, 2, 3), {}), 0)[2] == (3, (0, 1))
    assert moved(Call(torch.chunk, (x, 2, 3), {}), 1)[3] == (3, (2, 3))
    assert moved(Call(F.relu, (x,), {}), 0) is None
    assert reach(Call(F.conv2d, (x, torch.rand(1, 3, 3, 5)), {"dilation": (2, 1)})) == (5, 5)
    assert reach(Call(F.avg_pool2d, (x, 3), {})) == (3, 3)


@pytest.mark.parametrize("widths", [(1, 2), (0, 1, 2, 0), (1, 0, -1, 2), (-2, -1, 0, 3, 1, 0), (0, 0)])
def test_what_a_padding_moves_is_what_it_does_to_numbers(widths):
    image = torch.zeros(2, 3, 5, 7)

    found = moved(Call(F.pad, (image, widths), {}), 0)

    assert found is not None
    for axis in range(1, 4):
        numbers = torch.arange(1, image.shape[axis] + 1).view([-1 if other == axis else 1 for other in range(4)])
        after = F.pad(numbers.expand(image.shape), widths)
        there, indices = found[axis]
        assert there == axis
        assert torch.tensor(indices).tolist() == (after.amax([a for a in range(4) if a != axis]) - 1).tolist()


def test_what_a_padding_moves_is_told_without_a_look_at_the_map(monkeypatch):
    image = torch.zeros(2, 3, 5, 7)
    monkeypatch.setattr(torch.Tensor, "amax", None)

    assert moved(Call(F.pad, (image,), {"pad": (1, 1)}), 0) is not None
