"""Channels and neurons of hidden layers as targets: every explainer as if the model ended at the layer."""

import pytest
import torch
from attention_makers import TinyViT
from model_makers import make_module
from torch import nn
from torch.nn import functional as F

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain import (
    LRP,
    AblationCAM,
    AttentionRollout,
    Deconvnet,
    GradCAM,
    GradientTimesInput,
    GuidedBackprop,
    IntegratedGradients,
    Intrinsic,
    Occlusion,
    Rise,
    Saliency,
    Target,
)
from ibd.explain.attribution import layer_attribution
from ibd.explain.feature_visualization import Objective, maximize_activation
from ibd.registry import names, resolve

close = torch.testing.assert_close
KERNEL = torch.arange(27.0).view(1, 3, 3, 3) - 13


class Deep(nn.Module):
    """Two hidden layers, the first of them with a kernel that is known; the head counts how often it runs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.one, self.two = nn.Conv2d(3, 1, 3, padding=1, bias=False), nn.Conv2d(1, 4, 3, 2, 1)
        self.one.weight.data.copy_(KERNEL)
        self.late, self.head, self.heads = nn.Conv2d(4, 5, 1), nn.Linear(5, 3), 0
        self.act = nn.ReLU(inplace=True)
        self.double().eval()

    def forward(self, x):
        x = self.act(self.late(self.act(self.two(self.act(self.one(x))))))
        self.heads += 1
        return self.head(x.mean((2, 3)))


class Ended(nn.Module):
    """The same, cut off by hand behind the second layer: what one neuron, or the mean of a channel, is."""

    def __init__(self, deep, channel, cell):
        super().__init__()
        self.one, self.two, self.channel, self.cell = deep.one, deep.two, channel, cell

    def forward(self, x):
        x = self.two(F.relu(self.one(x)))[:, self.channel]
        return (x.mean((1, 2)) if self.cell is None else x[:, self.cell[0], self.cell[1]]).unsqueeze(1)


def images(count=2, size=10, seed=0):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_gradient_of_a_neuron_is_its_kernel():
    explanation = Saliency(reduce="sum")(Deep(), images(1), Target.neuron("one", 0, 4, 6))
    wanted = torch.zeros(1, 10, 10, dtype=torch.float64)
    wanted[0, 3:6, 5:8] = KERNEL[0].sum(0)
    close(explanation.map, wanted)
    close(explanation.value, F.conv2d(images(1), KERNEL.double(), padding=1)[:, 0, 4, 6])


def test_guided_backpropagation_and_deconvnet_of_a_neuron():
    """By hand: the second kernel, the positive part of it (where the first layer is on), through the first kernel."""
    model, image = Deep(), images(1)
    before = F.conv2d(image, KERNEL.double(), padding=1)
    for explainer, on in ((GuidedBackprop(), before > 0), (Deconvnet(), torch.ones_like(before))):
        back = torch.zeros(1, 1, 10, 10, dtype=torch.float64)
        back[0, 0, 3:6, 5:8] = model.two.weight[2, 0].detach()
        wanted = F.conv_transpose2d(back.relu() * on, KERNEL.double(), padding=1).sum(1)
        close(explainer(model, image, Target.neuron("two", 2, 2, 3)).map, wanted)
    assert wanted.abs().max() > 1


@pytest.mark.parametrize("cell", [None, (2, 3)])
@pytest.mark.parametrize("name", names("explainers"))
def test_every_explainer_sees_the_model_as_if_it_ended_there(name, cell):
    model, image = Deep(), images()
    target = Target.channel("two", 1) if cell is None else Target.neuron("two", 1, *cell)
    explainer = resolve("explainers", name)(**({"masks": 20} if name == "rise" else {}))
    if name in ("lime", "kernel_shap"):
        pytest.importorskip("captum")
    if "cam" in name or name in ("intrinsic", "unit_relevance", "attention_rollout", "attention_gradient"):
        with pytest.raises(UnsupportedError, match=r"^[^\n]+$"):
            explainer(model, image, target)
        return
    explanation = explainer(model, image, target)
    assert name == "rise" or model.heads <= 2  # to see how it lies
    ended = explainer(Ended(model, 1, cell), image, Target.cls(0))
    close(explanation.map, ended.map)
    close(explanation.value, ended.value)
    assert explanation.map.abs().max() > 0


@pytest.mark.parametrize(
    "explainer",
    [
        GradCAM(layer="one"),
        AblationCAM(layer="one"),
        GradientTimesInput(layer="one"),
        IntegratedGradients(layer="one"),
        LRP(layer="one"),
    ],
)
def test_by_an_earlier_layer(explainer):
    model, image = Deep(), images()
    ended = explainer(Ended(model, 3, (1, 1)), image, Target.cls(0))
    close(explainer(model, image, Target.neuron("two", 3, 1, 1)).map, ended.map)
    with pytest.raises(UnsupportedError, match="'late' does not run before 'two', which is explained"):
        GradCAM(layer="late")(model, image, Target.neuron("two", 3, 1, 1))


def test_an_account_of_an_earlier_layer_adds_up():
    """A convolution is affine in what it is given: gradient times activation, and the bias, are the neuron."""
    found = layer_attribution(Deep(), images(), "one", Target.neuron("two", 3, 1, 1), "gradient_input")
    close(found.completeness, torch.zeros(2, dtype=torch.float64), atol=1e-9, rtol=0)


class Tokens(nn.Module):
    """A vision transformer cut off by hand behind its first block: one number of one patch's token."""

    def __init__(self, vit, token, channel):
        super().__init__()
        self.vit, self.token, self.channel = vit, token, channel

    def forward(self, x):
        return self.vit.blocks[0](self.vit.tokens(x))[:, self.token, self.channel].unsqueeze(1)


@pytest.mark.parametrize("explainer", [Saliency(), IntegratedGradients(), LRP("epsilon"), AttentionRollout()])
def test_of_tokens_it_is_the_map_of_the_patches(explainer):
    vit, image = TinyViT(extra=2), torch.rand(2, 3, 8, 12, dtype=torch.float64)
    explanation = explainer(vit, image, Target.neuron("blocks.0", 5, 1, 2))
    ended = explainer(Tokens(vit, 2 + 1 * 3 + 2, 5), image, Target.cls(0))
    close(explanation.map, ended.map)
    close(explanation.value, ended.value)


class ChannelsLast(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.last, self.head = nn.Conv2d(3, 4, 2, 2), nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        x = self.last(self.stem(x).permute(0, 2, 3, 1)).relu()
        return self.head(x.mean((1, 2)))


def test_of_a_map_with_its_channels_last():
    model, image = ChannelsLast().double(), images()
    value = Saliency()(model, image, Target.neuron("last", 5, 1, 2)).value
    close(value, model.last(model.stem(image)[:, :, 1, 2])[:, 5].detach())


def test_the_last_run_of_a_layer_is_meant():
    model, image = Deep(), images()
    assert Saliency()(model, image, Target.channels("act", [0, 4])).value.shape == (2, 2)
    late = model.late(F.relu(model.two(F.relu(model.one(image))))).relu().mean((2, 3))
    close(Saliency()(model, image, Target.channels("act", [0, 4])).value, late[:, [0, 4]].detach())


def test_where_it_is_highest_stays_where_it_was():
    """Also for covered images, of which each has another place; and in a batch as alone."""
    model, image = Deep(), images(3)
    before = F.conv2d(image, KERNEL.double(), padding=1)[:, 0]
    cells = [divmod(int(own.flatten().argmax()), 10) for own in before]
    assert len(set(cells)) == 3
    for explainer in (Occlusion(window=3, stride=3, batch_size=4), Rise(masks=20, batch_size=4), Saliency()):
        together = explainer(model, image, Target.neuron("one", 0))
        for row, cell in enumerate(cells):
            alone = explainer(model, image[row : row + 1], Target.neuron("one", 0, *cell))
            close(together.map[row], alone.map[0])
            close(together.value[row], alone.value[0])


@pytest.mark.parametrize("explainer", [Saliency(reduce="sum"), LRP("epsilon")])
def test_hidden_targets_and_classes_add_up(explainer):
    model, image = Deep(), images()
    both = explainer(model, image, Target.cls(2) - 0.5 * Target.neuron("two", 1, 0, 0))
    alone = [explainer(model, image, target) for target in (Target.cls(2), Target.neuron("two", 1, 0, 0))]
    close(both.map, alone[0].map - 0.5 * alone[1].map)
    close(both.value, alone[0].value - 0.5 * alone[1].value)
    predicted = Occlusion(window=5)(model, image, Target.predicted() - Target.neuron("two", 1))
    assert str(predicted.target).endswith("- channel 1 of 'two' where it is highest")


def test_what_passes_an_earlier_layer_is_all_there_is():
    """The first layer has one channel: all of a later neuron's relevance passes it."""
    model, image, target = Deep(), images(), Target.neuron("two", 1, 2, 3)
    passed = LRP("epsilon")(model, image, target.through(layer="one", channels=[0]))
    close(passed.map, LRP("epsilon")(model, image, target).map)


def test_one_channel_for_each_image():
    model, image = Deep(), images()
    together = Saliency()(model, image, Target.neuron("two", torch.tensor([3, 0]), 1, 2))
    for row, channel in enumerate((3, 0)):
        close(together.map[row], Saliency()(model, image[row : row + 1], Target.neuron("two", channel, 1, 2)).map[0])


def test_of_a_layer_without_places():
    model, image = Deep(), images()
    close(Saliency()(model, image, Target.channel("head", 2)).value, model(image)[:, 2].detach())
    close(Saliency()(model, image, Target.neuron("head", 2)).value, model(image)[:, 2].detach())


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (lambda: Target.neuron("two", 9, 0, 0), "no channel 9: there are 4, counted from 0"),
        (lambda: Target.neuron("two", 1, 5, 0), "no place 5, 0 in 'two' of 5 x 5"),
        (lambda: Target.neuron("too", 1), "no layer 'too'"),
        (lambda: Target.neuron("two", 1, 3), "row 3, column None"),
        (lambda: Target.neuron("two", 1, -1, 0), "row -1, column 0"),
        (lambda: Target.channel("two", "red"), "channels by number"),
        (lambda: Target.channels("two", []), "at least one channel"),
        (lambda: Target.channel("two", [0, 1, 2]), "3 channel numbers for 2 images"),
        (lambda: Target.channel("two", 0).through("wing"), "asked for of a class"),
    ],
)
def test_what_there_is_not(target, said):
    with pytest.raises(ConfigError, match=said):
        Saliency()(Deep(), images(), target())


def test_what_is_refused():
    model, image = Deep(), images()
    with pytest.raises(UnsupportedError, match="is that layer's own: name an earlier layer"):
        GradCAM()(model, image, Target.channel("two", 0))
    with pytest.raises(UnsupportedError, match="only explainers read what layer 'two' puts out"):
        Target.channel("two", 0).scores(model(image))
    with pytest.raises(UnsupportedError, match=r"Objective\.channel"):
        maximize_activation(model, Objective.of(Target.channel("two", 0)), size=8, steps=1)
    with pytest.raises(UnsupportedError, match="no hidden layers"):
        Intrinsic()(make_module(), torch.rand(1, 3, 16, 16), Target.channel("backbone", 0))
    vit = TinyViT()
    with pytest.raises(UnsupportedError, match="at different places"):
        AttentionRollout()(vit, torch.rand(6, 3, 8, 12, dtype=torch.float64), Target.neuron("blocks.0", 5))
