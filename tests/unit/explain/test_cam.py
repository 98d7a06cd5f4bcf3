"""The CAM family against plain loops, and against what must hold exactly."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.base import Call, undisturbed
from ibd.explain.boxes import placed, spread
from ibd.explain.cam import (
    CAM,
    AblationCAM,
    Cams,
    EigenCAM,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    ScoreCAM,
    XGradCAM,
    formulas,
)
from ibd.explain.cam.base import cut_map
from ibd.explain.gradients import Saliency
from ibd.explain.intrinsic import Intrinsic
from ibd.explain.render import upsample
from ibd.explain.targets import Target
from tests.explainer_makers import Functional, TwoLayers, images, make
from tests.reference import explainers as reference

FORMULAS = ["gradcam", "hirescam", "layercam", "gradcam_plus_plus", "xgradcam"]


def random_maps(seed=0, signed=False):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(2, 4, 3, 5, generator=generator, dtype=torch.float64)
    a = a if signed else a.relu()
    a[:, 1] = 0
    return a, torch.randn(2, 3, 4, 3, 5, generator=generator, dtype=torch.float64)


def raw(explainer, model, image, target):
    """Return the maps before they are upsampled, and the cut."""
    target = target if isinstance(target, Target) else Target.cls(target)
    with undisturbed(model):
        at = cut_map(Call(model, target), image, explainer.layer, explainer.replays)
        return explainer.maps(at).detach(), at


def double(model):
    return model.double().eval(), images(2, (33, 38)).double()


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("signed", [False, True])
def test_formulas(name, signed):
    a, g = random_maps(signed=signed)
    found = getattr(formulas, name)(a, g)
    for b in range(2):
        for k in range(3):
            torch.testing.assert_close(found[b, k], getattr(reference, name)(a[b], g[b, k]))


@pytest.mark.parametrize("shape", [(6, 3, 4), (3, 4, 5)])
def test_eigencam(shape):
    a = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = formulas.eigencam(a)
    for each, one in zip(found, a, strict=True):
        torch.testing.assert_close(each, reference.eigencam(one))
    torch.testing.assert_close(formulas.eigencam(-a), found)  # no sign is left to chance
    assert formulas.eigencam(torch.ones(1, *shape)).abs().max() == 0


def test_cam_is_the_weights_of_the_head_and_grad_cam_times_the_cells():
    model, image = double(Functional())
    found, at = raw(CAM(), model, image, 2)
    a = model.features(image)
    torch.testing.assert_close(at.value, a)
    torch.testing.assert_close(found[:, 0], torch.einsum("c,bchw->bhw", model.head.weight[2], a))
    gradcam, _ = raw(GradCAM(), model, image, 2)
    torch.testing.assert_close(found, a.shape[2] * a.shape[3] * gradcam)
    torch.testing.assert_close(found.mean((2, 3))[:, 0] + model.head.bias[2], model(image)[:, 2])


def test_cam_is_what_the_baseline_says_of_itself():
    """By hand: the class's weights times the features, drawn where the cells look; over the cells they have a mean."""
    model, image = make("baseline").eval(), images()
    network, size = model.network, tuple(image.shape[2:])
    with torch.no_grad():
        features = network.encode(image).maps
        cells = torch.einsum("d,bdhw->bhw", network.head.weight[1], features)
    field = network.receptive_field(size)
    assert field is not None
    torch.testing.assert_close(CAM()(model, image, 1).map, placed(cells, size, field), rtol=1e-3, atol=1e-4)
    own = spread(cells / cells[0].numel(), size, field)
    torch.testing.assert_close(Intrinsic()(model, image, 1).map, own, rtol=1e-3, atol=1e-5)


def test_cam_is_refused_where_the_head_is_not_linear():
    image = images()
    with pytest.raises(UnsupportedError, match="not linear in the map"):
        CAM()(make("tuple"), image, 1)
    with pytest.raises(UnsupportedError, match="not linear"):
        CAM()(make("functional"), image, Target.cls(1, "log_prob"))
    flat = nn.Sequential(nn.Conv2d(3, 4, 3, 4), nn.Flatten(), nn.Linear(4 * 9 * 10, 3))
    with pytest.raises(UnsupportedError, match="all positions alike"):
        CAM()(flat, images(2, (36, 40)), 1)


def test_hirescam_adds_up_to_the_logit_less_its_bias():
    model, image = double(Functional())
    found, at = raw(HiResCAM(), model, image, Target.classes([0, 3]))
    torch.testing.assert_close(found.sum((2, 3)) + model.head.bias[[0, 3]], at.scores.detach())


@pytest.mark.parametrize("model", [Functional, TwoLayers])
def test_ablationcam(model):
    torch.manual_seed(3)
    model, image = double(model())
    found, at = raw(AblationCAM(), model, image, Target.classes([2, 1]))
    a = model.features(image).detach()

    def head(k):
        if isinstance(model, TwoLayers):
            return lambda one: model.head(torch.tanh(model.hidden(one.mean((1, 2)))))[k]
        return lambda one: model.head(one.mean((1, 2)))[k]

    for b in range(2):
        for column, k in enumerate((2, 1)):
            torch.testing.assert_close(found[b, column], reference.ablationcam(a[b], head(k)))
    if model.__class__ is Functional:  # closed form: w_c mean(A_c)
        absolute, _ = raw(AblationCAM(relative=False), model, image, 2)
        expected = torch.einsum("bc,bchw->bhw", model.head.weight[2] * a.mean((2, 3)), a)
        torch.testing.assert_close(absolute[:, 0], expected)
    assert at.call.cost.forwards == 2


def test_the_head_alone_runs_again_for_ablationcam():
    for name in ("tuple", "cbm", "pipnet"):
        model = make(name)
        found = AblationCAM()(model, images(), Target.cls(1) if name != "cbm" else Target.cls(1, "log_prob"))
        assert found.cost.forwards == 3
        assert found.cost.heads > 3 * 6


def test_ablationcam_without_a_tape_is_the_same():
    """A head that reads a value, so that the model has to run again."""

    class Reading(TwoLayers):
        def forward(self, image):
            pooled = self.features(image).mean((2, 3))
            return self.head(torch.tanh(self.hidden(pooled)) * (1.0 if bool(pooled.sum() > -1e9) else 0.0))

    torch.manual_seed(0)
    model, other = Reading(), TwoLayers()
    other.load_state_dict(model.state_dict())
    slow, fast = AblationCAM(relu=False)(model, images(), 1), AblationCAM(relu=False)(other, images(), 1)
    torch.testing.assert_close(slow.map, fast.map, rtol=1e-4, atol=1e-6)
    assert slow.cost.forwards > fast.cost.forwards == 3


def test_scorecam():
    model, image = double(Functional())
    found, at = raw(ScoreCAM(chunk=4), model, image.float().double(), 1)
    for b in range(2):
        expected = reference.scorecam(at.value[b].detach(), image[b], lambda one: model(one[None])[0, 1])
        torch.testing.assert_close(found[b, 0], expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("explainer", "keeps"),
    [
        (GradCAM, True),
        (GradCAMPlusPlus, True),
        (XGradCAM, True),
        (LayerCAM, True),
        (HiResCAM, False),
        (EigenCAM, False),
    ],
)
def test_relu_as_published_or_as_asked(explainer, keeps):
    model, image = make("functional"), images(3, seed=5)
    signed = explainer(relu=False)(model, image, 0).map
    cut = explainer(relu=True)(model, image, 0).map
    published = explainer()(model, image, 0).map
    assert torch.equal(published, cut if keeps else signed)
    assert cut.min() >= 0


def test_several_in_one_pass():
    model, image, target = make("tuple"), images(), Target.classes([0, 1, 3])
    chosen = [GradCAM(), HiResCAM(), LayerCAM(), XGradCAM(), GradCAMPlusPlus(), EigenCAM(), AblationCAM()]
    passes = []
    handle = model.first.register_forward_hook(lambda *_: passes.append(1))
    together = Cams(chosen)(model, image, target)
    assert len(passes) == 1
    handle.remove()
    assert list(together) == [each.name for each in chosen]
    for each in chosen:
        torch.testing.assert_close(together[each.name].map, each(model, image, target).map)
    with pytest.raises(ConfigError, match="no name"):
        Cams([])
    with pytest.raises(ConfigError, match="not of the CAM family"):
        Cams([Saliency()])
    with pytest.raises(ConfigError, match="uses layer 'second'"):
        Cams([GradCAM("second")])


def test_many_targets_in_parts_are_those_of_one_gradient(monkeypatch):
    model, image, target = make("functional"), images(), Target.classes([0, 1, 2, 3])
    whole = GradCAM()(model, image, target)
    monkeypatch.setattr("ibd.explain.layers._AT_ONCE", 1)
    torch.testing.assert_close(GradCAM()(model, image, target).map, whole.map)


@pytest.mark.parametrize("shape", [(7, 7), (3, 5), (1, 1), (40, 3)])
def test_upsampling_is_bilinear(shape):
    maps = torch.randn(2, 3, *shape)
    expected = F.interpolate(maps, (33, 38), mode="bilinear", align_corners=False)
    torch.testing.assert_close(upsample(maps, (33, 38)), expected)


def test_several_at_once_say_what_each_would_of_images_that_are_not_from_0_to_1():
    for call in (ScoreCAM(), Cams(["gradcam", "scorecam"])):
        with pytest.warns(UserWarning, match="'scorecam': the images range from -1"):
            call(TwoLayers().eval(), 2 * images(1) - 1.001, 1)
