"""LRP through attention: against relevance written down by hand in float64, and against itself written another way."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.attribution import layer_attribution
from ibd.explain.gradients import GradientTimesInput
from ibd.explain.lrp import LRP
from ibd.explain.targets import Target
from tests.attention_makers import STYLES, Attention, Planted, TinyViT, planted_images
from tests.explainer_makers import images
from tests.reference.attention import relevance

IMAGE = images(2, (8, 12)).double()
RULES = ["attnlrp", "constant"]
close = torch.testing.assert_close


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("model", [{}, {"pooled": True, "extra": 3}, {"bias": False, "heads": 1}], ids=str)
def test_is_what_the_rules_say(model, rule):
    model = TinyViT(**model)
    found = LRP("epsilon", attention=rule)(model, IMAGE, Target.classes([2, 0]))
    for row, image in enumerate(IMAGE):
        for column, index in enumerate((2, 0)):
            logits, expected = relevance(model, image, index, rule == "constant")
            close(found.value[row, column], torch.from_numpy(logits)[index])
            close(found.map[row, column], torch.from_numpy(expected))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("style", STYLES)
def test_how_attention_is_written_makes_no_difference(style, rule):
    explain = LRP("epsilon_plus", attention=rule)
    expected = explain(TinyViT(style="matmul"), IMAGE, 1)
    found = explain(TinyViT(style=style), IMAGE, 1)
    close(found.map, expected.map)
    close(found.extra["bias"], expected.extra["bias"])
    close(found.extra["conservation"], torch.ones(2).double())
    assert (found.cost.forwards, found.cost.backwards) == (2, 2)


@pytest.mark.parametrize("style", STYLES)
def test_constant_weights_without_biases_are_gradient_times_input_of_these(style):
    """Then all that is left is linear in the image but for the normalizations, which are left out here."""

    class Linear(nn.Module):
        def __init__(self, style):
            super().__init__()
            torch.manual_seed(1)
            self.patches, self.attention = nn.Conv2d(3, 8, 4, 4, bias=False), Attention(8, 2, style, bias=False)
            self.head, self.detached = nn.Linear(8, 2, bias=False), False
            self.double().eval()

        def forward(self, image):
            x = self.patches(image).flatten(2).transpose(1, 2)
            if not self.detached:
                return self.head((x + self.attention(x)).mean(1))
            q, k, v = F.linear(x, self.attention.inner.in_proj_weight).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
            weights = (q @ k.mT / 2).softmax(-1).detach()
            return self.head((x + self.attention.inner.out_proj((weights @ v).transpose(1, 2).flatten(2))).mean(1))

    model = Linear(style)
    found = LRP("epsilon", attention="constant")(model, IMAGE, 1)
    model.detached = True
    close(found.map, GradientTimesInput()(model, IMAGE, 1).map)
    close(found.map.sum((1, 2)), found.value)


def test_what_a_softmax_keeps_is_in_the_account():
    model = TinyViT(bias=False)
    model.extra.data.zero_()
    found = LRP("epsilon")(model, IMAGE, 1)
    close(found.map.sum((1, 2)) + found.extra["bias"], found.value)
    close(found.extra["conservation"], torch.ones(2).double())
    constant = LRP("epsilon", attention="constant")(model, IMAGE, 1)
    close(constant.map.sum((1, 2)), constant.value)  # nothing is kept: no bias, and weights are none of the input's
    close(constant.extra["bias"], torch.zeros(2).double())


@pytest.mark.parametrize("rule", RULES)
def test_relevance_is_in_the_patch_that_the_answer_is_in(rule):
    cells = [(1, 2), (0, 1), (1, 0)]
    model = Planted(lambda patches, own: (torch.cat([own, patches], 1), 0))
    found = LRP("epsilon", attention=rule)(model, planted_images(cells), 1)
    for heat, (row, column) in zip(found.map, cells, strict=True):
        inside = heat[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].abs().sum()
        assert inside > 0.95 * heat.abs().sum()


class Sequence(nn.Module):
    """Tokens before images, as `nn.TransformerEncoder` takes them by default."""

    def __init__(self, first, style="torch"):
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=first, activation="gelu", norm_first=True)
        self.patches, self.first = nn.Conv2d(3, 8, 4, 4), first
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 3)
        self.double().eval()

    def forward(self, image):
        x = self.patches(image).flatten(2)
        x = self.encoder(x.transpose(1, 2) if self.first else x.permute(2, 0, 1))
        return self.head(x.mean(1 if self.first else 0))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("target", [2, [2, 0], None])
def test_images_along_another_axis(rule, target):
    """Relevance that biases keep is counted for each image, though images are not the first axis."""
    target = Target.predicted() if target is None else Target.cls(target)
    explain = LRP("epsilon", attention=rule)
    expected, found = explain(Sequence(True), IMAGE, target), explain(Sequence(False), IMAGE, target)
    close(found.map, expected.map)
    close(found.extra["bias"], expected.extra["bias"])
    close(found.extra["conservation"], torch.ones(2).double())
    assert found.cost.backwards == 2


def test_masks_and_causal_attention():
    class Masked(nn.Module):
        def __init__(self, way):
            super().__init__()
            torch.manual_seed(0)
            self.patches, self.qkv, self.head, self.way = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, 12), nn.Linear(4, 2), way
            self.double().eval()

        def forward(self, image):
            q, k, v = self.qkv(self.patches(image).flatten(2).transpose(1, 2)).chunk(3, 2)
            allowed = torch.ones(6, 6, dtype=torch.bool).tril()
            added = torch.zeros(6, 6, dtype=torch.float64).masked_fill(~allowed, -torch.inf)
            mixed = {
                "causal": lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3),
                "bool": lambda: F.scaled_dot_product_attention(q, k, v, allowed, scale=0.3),
                "float": lambda: F.scaled_dot_product_attention(q, k, v, added, scale=0.3),
                "by hand": lambda: (0.3 * q @ k.mT + added).softmax(2) @ v,
            }[self.way]()
            return self.head(mixed.mean(1))

    for rule in RULES:
        maps = [LRP("epsilon", attention=rule)(Masked(way), IMAGE, 1) for way in ("causal", "bool", "float", "by hand")]
        for found in maps:
            close(found.map, maps[0].map)
            close(found.extra["conservation"], torch.ones(2).double())
        assert maps[0].map.abs().sum() > 0


def test_by_a_layer_of_tokens():
    """Patches have a map; what the class token has of the relevance is beside it, and all adds up."""
    model = TinyViT()
    found = LRP("epsilon", layer="blocks.0")(model, IMAGE, 1)
    assert found.unit_maps.shape == (2, 8, 2, 3)
    parts = found.units.sum(1) + found.extra["other_tokens"] + found.extra["bias"]
    close(parts, found.value)
    by_rule = layer_attribution(model, IMAGE, "blocks.0", 1, "lrp")
    close(by_rule.both, LRP(layer="blocks.0")(model, IMAGE, 1).unit_maps)


def test_by_a_layer_with_tokens_before_images():
    target = Target.classes([2, 0, 1])
    for layer in ("encoder.layers.0", "encoder.layers.1.norm1"):
        expected = LRP("epsilon", layer=layer)(Sequence(True), IMAGE, target)
        found = LRP("epsilon", layer=layer)(Sequence(False), IMAGE, target)
        close(found.unit_maps, expected.unit_maps)
        close(found.extra["conservation"], expected.extra["conservation"])
    close(found.map, expected.map)


def test_torchvision_with_fused_attention_gives_its_own_logits():
    torch.manual_seed(0)
    model = VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=4)
    nn.init.normal_(model.heads.head.weight)
    model, image = model.double().eval(), images(2, (32, 32)).double()
    for rule in RULES:
        found = LRP(attention=rule)(model, image, 1)
        close(found.value, model(image)[:, 1].detach())
        close(found.extra["conservation"], torch.ones(2).double())


def test_what_is_refused():
    class Net(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.patches, self.function = nn.Conv2d(3, 4, 4, 4).double(), function

        def forward(self, image):
            x = self.patches(image).flatten(2).transpose(1, 2)
            return self.function(x).mean(1)

    with pytest.raises(ConfigError, match="attention 'uniform' is not one of attnlrp, constant"):
        LRP(attention="uniform")
    with pytest.raises(UnsupportedError, match=r"product of two.*'matmul'"):  # scores themselves, without a softmax
        LRP(attention="constant")(Net(lambda x: x @ x.mT), IMAGE, 1)
    with pytest.raises(UnsupportedError, match="dropout_p"):
        LRP()(Net(lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)), IMAGE, 1)
    with pytest.raises(UnsupportedError, match="product of two"):  # no attention: two features multiplied
        LRP()(Net(lambda x: x * x), IMAGE, 1)
