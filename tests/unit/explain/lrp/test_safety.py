"""What LRP refuses, and that it leaves a model as it was."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ibd.errors import UnsupportedError
from ibd.explain.lrp import LRP
from ibd.explain.lrp.explainer import _random_states
from ibd.explain.targets import Target


class Net(nn.Module):
    """A small network with a place for an operation."""

    def __init__(self, operation=None):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.odd = Odd(operation or (lambda x: x))
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.odd(self.stem(x)).mean((2, 3)))


class Odd(nn.Module):
    def __init__(self, operation):
        super().__init__()
        self.operation = operation

    def forward(self, x):
        return self.operation(x)


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(x.detach().numpy() ** 3)

    @staticmethod
    def backward(ctx, g):
        return g


def write(x):
    y = torch.zeros_like(x)
    y[:, :2] = x[:, :2]
    return y


def through_a_view(x):
    y = x * 1.0
    y.view(-1).mul_(2.0)
    return y


def image(dtype=torch.float32):
    return torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)).to(dtype)


UNKNOWN = {
    "'exp'.*module 'odd'": lambda x: x.exp(),
    "'square'.*module 'odd'": lambda x: x.square(),
    "'cumsum'": lambda x: x.cumsum(1),
    "'__rdiv__'|'__rtruediv__'": lambda x: 1 / (x + 1),
    "product of two.*'__mul__'|product of two.*'mul'": lambda x: x * x,
    "'baddbmm'": lambda x: torch.baddbmm(x[:, 0], x[:, 0], x[:, 1])[:, None].expand(-1, 4, -1, -1),
    "'__setitem__'": write,
    "custom autograd.Function": Cube.apply,
    "changed in place through another view": through_a_view,
    "'log_softmax'": lambda x: F.log_softmax(x, 1),
}


@pytest.mark.parametrize("message", UNKNOWN)
def test_unknown_operations_are_refused_by_name_and_place(message):
    with pytest.raises(UnsupportedError, match=message):
        LRP()(Net(UNKNOWN[message]).eval(), image(), 1)


def test_what_does_not_matter_is_not_refused():
    class Side(Net):
        def forward(self, x):
            return {"logits": super().forward(x), "aside": self.stem(x).exp().sum()}

    torch.testing.assert_close(LRP()(Side().eval(), image(), 1).map, LRP()(Net().eval(), image(), 1).map)


def test_a_score_that_is_no_sum_of_outputs_is_refused():
    with pytest.raises(UnsupportedError, match="'log_softmax'"):
        LRP()(Net(), image(), Target.of(lambda logits: logits.log_softmax(1)[:, 1]))
    with pytest.raises(UnsupportedError, match="does not depend on the image"):
        LRP()(Net(lambda x: torch.ones_like(x)), image(), 1)


def test_what_is_no_logit_is_refused_in_its_own_words():
    for scalar in ("prob", "log_prob", "log_odds"):
        with pytest.raises(UnsupportedError, match=f"relevance is defined for logits, not for '{scalar}'"):
            LRP()(nn.Flatten(), torch.rand(1, 3, 2, 2), Target.cls(1) - Target.cls(0, scalar))


def test_statistics_of_the_batch_are_refused():
    net = Net()
    net.stem[1] = nn.BatchNorm2d(4, track_running_stats=False)
    with pytest.raises(UnsupportedError, match=r"statistics of the batch in module 'stem.1'"):
        LRP()(net, image(), 1)
    training = Net().train()
    torch.testing.assert_close(LRP()(training, image(), 1).map, LRP()(Net().eval(), image(), 1).map)
    assert training.stem[1].training


@pytest.mark.slow
def test_compiled_and_scripted_modules_are_refused():
    net = Net().eval()
    with pytest.raises(UnsupportedError, match="the model is compiled"):
        LRP()(torch.compile(net), image(), 1)
    net.odd.compile()
    with pytest.raises(UnsupportedError, match="module 'odd' is compiled"):
        LRP()(net, image(), 1)
    net = Net().eval()
    net.stem[0] = torch.jit.trace(net.stem[0], image())
    with pytest.raises(UnsupportedError, match=r"module 'stem.0' is scripted"):
        LRP()(net, image(), 1)


def state(model):
    return {
        "values": {name: value.clone() for name, value in model.state_dict().items()},
        "identities": [id(each) for each in (*model.parameters(), *model.buffers())],
        "wanted": [each.requires_grad for each in model.parameters()],
        "gradients": [None if each.grad is None else each.grad.clone() for each in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": [
            len(hooks) for module in model.modules() for name, hooks in vars(module).items() if name.endswith("_hooks")
        ],
        "attributes": [sorted(vars(module)) for module in model.modules()],
    }


def same(before, after):
    for name, value in before.pop("values").items():
        assert torch.equal(value, after["values"][name])
    for one, other in zip(before.pop("gradients"), after["gradients"], strict=True):
        assert (one is None and other is None) or torch.equal(one, other)
    assert before == {key: value for key, value in after.items() if key in before}


def fail(x):
    raise RuntimeError("in the middle")


@pytest.mark.parametrize("composite", ["epsilon", "epsilon_plus", "epsilon_gamma_box", "epsilon_alpha2_beta1_flat"])
@pytest.mark.parametrize("operation", [None, fail, torch.exp])
def test_a_model_is_left_as_it_was(composite, operation):
    net = Net(operation).train()
    net.stem[1].eval()
    net.head.bias.requires_grad_(False)
    net.stem[0].weight.grad = torch.ones_like(net.stem[0].weight)
    given, random = image(), torch.get_rng_state()
    before, kept = state(net), given.clone()
    if operation is None:
        LRP(composite)(net, given, 1)
    else:
        with pytest.raises((RuntimeError, UnsupportedError)):
            LRP(composite)(net, given, 1)
    same(before, state(net))
    assert torch.equal(given, kept)
    assert not given.requires_grad
    assert torch.equal(torch.get_rng_state(), random)
    assert not torch.overrides._get_current_function_mode_stack()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off(context):
    net, given = Net().eval(), image()
    outside = LRP()(net, given, 1)
    with context():
        inside = LRP()(net, image(), 1)
    torch.testing.assert_close(inside.map, outside.map)
    assert not outside.map.requires_grad
    assert not outside.value.requires_grad


def test_in_place_operations_do_not_reach_what_was_saved():
    """The ReLU's result is written over by what comes next; its mask is still that of before."""
    nets = [Net(lambda x: x.add_(1.0)), Net(lambda x: x + 1.0)]
    maps = [LRP("epsilon")(net.double().eval(), image(torch.float64), 1).map for net in nets]
    torch.testing.assert_close(*maps)


def test_an_input_that_changes_before_its_output_is_used():
    class Late(Net):
        def forward(self, x):
            x = self.stem(x)
            y = F.conv2d(x, torch.ones(4, 4, 1, 1, dtype=x.dtype))
            x.add_(1.0)
            return self.head((y + x).mean((2, 3)))

    with pytest.raises(UnsupportedError, match="before its output was used"):
        LRP()(Late().eval(), image(), 1)


def test_the_range_of_pixels_is_that_of_the_models_own_normalization():
    """So that zB of a model that normalizes is zB with the limits given, of one that does not."""

    class Normalized(Net):
        def forward(self, x):
            return super().forward((x - 0.5) / 0.25)

    given = image(torch.float64)
    given[0, 0, 0, 0], given[0, 0, 0, 1] = 0.0, 1.0
    ours = LRP("epsilon_gamma_box")(Normalized().double().eval(), given, 1)
    plain = LRP("epsilon_gamma_box", low=-2.0, high=2.0)(Net().double().eval(), (given - 0.5) / 0.25, 1)
    torch.testing.assert_close(ours.map, plain.map)
    other = LRP("epsilon_gamma_box")(Net().double().eval(), (given - 0.5) / 0.25, 1)
    assert not torch.allclose(ours.map, other.map)


def test_a_normalization_across_maps_that_is_a_function_of_its_own_is_refused_by_name():
    model = Net()
    model.odd = nn.CrossMapLRN2d(3)
    with pytest.raises(UnsupportedError, match=r"no rule for 'CrossMapLRN2d' \(module 'odd'\)") as caught:
        LRP()(model.eval(), image(), 1)
    assert "\n" not in str(caught.value)


def test_every_pass_through_the_model_is_counted():
    """Two: of relevance, and the one that tells the layout of a layer."""
    model, passes = Net().eval(), []
    handle = model.register_forward_hook(lambda _, inputs, __: passes.append(len(inputs[0])))
    for layer in (None, "stem"):
        passes.clear()
        found = LRP(layer=layer)(model, image(), 1)
        assert found.cost.forwards == sum(passes)
    handle.remove()
    assert len(passes) == 2


def test_numbers_drawn_by_the_processor_count_wherever_the_images_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.zeros(1))
    before = _random_states(torch.device("cuda"))
    torch.rand(1)
    assert not torch.equal(before[0], _random_states(torch.device("cuda"))[0])
    assert len(before) == 2
    assert len(_random_states(torch.device("cpu"))) == 1


IN_PLACE = [
    *(nn.ReLU, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.SiLU, nn.Mish),
    *(nn.Hardswish, nn.Hardsigmoid, nn.ReLU6, nn.Hardtanh),
]


@pytest.mark.parametrize("kind", IN_PLACE, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("norm", [True, False], ids=["norm", "none"])
def test_an_activation_that_writes_over_its_input_says_the_same(kind, norm):
    def net(in_place):
        torch.manual_seed(0)
        steps = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4) if norm else nn.Identity(), kind(inplace=in_place)]
        return nn.Sequential(*steps, nn.Flatten(), nn.Linear(64, 3)).double().eval()

    x = image(torch.float64)
    torch.testing.assert_close(LRP()(net(True), x, 0).map, LRP()(net(False), x, 0).map)
