"""A model is left as it was where an explanation fails, at whatever moment; and in the middle of a training step."""

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError, DataError
from ibd.explain.targets import Target, logits_of
from tests.explainer_makers import EXPLAINERS, ROWS, explainer, images, make
from tests.model_state import check_untouched, snapshot


class BrokenError(RuntimeError):
    """What a model raises here."""


class Faults:
    """Counts what happens in a model, and raises from the k-th time on."""

    def __init__(self):
        self.ready()

    def ready(self, stage="", at=1, error=BrokenError):
        self.stage, self.at, self.error, self.counts = stage, at, error, {}

    def pass_by(self, stage):
        count = self.counts[stage] = self.counts.get(stage, 0) + 1
        if stage == self.stage and count >= self.at:
            raise self.error(stage)


class Back(torch.autograd.Function):
    """Does nothing, but may fail on the way back."""

    @staticmethod
    def forward(ctx, x, faults):
        ctx.faults = faults
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        ctx.faults.pass_by("backward")
        return gradient, None


class Head(nn.Linear):
    """A linear layer that may fail."""

    faults: Faults

    def forward(self, x):
        self.faults.pass_by("head")
        return super().forward(x)


class Fault(nn.Module):
    """A place between layers."""

    def __init__(self, faults, stage):
        super().__init__()
        self.faults, self.stage = faults, stage

    def forward(self, x):
        self.faults.pass_by(self.stage)
        return Back.apply(x, self.faults) if self.faults.stage == "backward" else x


@pytest.fixture(scope="module")
def fragile():
    """A network of ours, in training, that may fail: before its first layer, amid its layers, in its head."""
    faults, module = Faults(), make("baseline")
    network = module.network
    network.backbone.stage1 = nn.Sequential(Fault(faults, "first layer"), network.backbone.stage1)
    network.backbone.stage3 = nn.Sequential(Fault(faults, "middle layer"), network.backbone.stage3)
    network.head = Head(network.head.in_features, network.head.out_features)
    network.head.faults = faults
    network.head.bias.requires_grad_(False)
    module.network.backbone.stage2.eval()
    module.register_forward_hook(lambda *_: None)
    module.register_forward_pre_hook(lambda *_: None)
    module.register_full_backward_hook(lambda *_: None)
    module.register_state_dict_post_hook(lambda *_: None)
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, 0.25)
    return module, faults


STAGES = [
    *(("first layer", at, BrokenError) for at in (1, 2, 3)),
    *(("middle layer", at, BrokenError) for at in (1, 2)),
    *(("head", at, BrokenError) for at in (1, 2)),
    *(("backward", at, BrokenError) for at in (1, 2)),
    *(("gradient", at, BrokenError) for at in (1, 2)),
    *(("target", at, BrokenError) for at in (1, 2)),
    ("first layer", 1, KeyboardInterrupt),
    ("middle layer", 2, KeyboardInterrupt),
    ("backward", 1, KeyboardInterrupt),
]


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("row", ROWS)
def test_after_a_failure(row, fragile, monkeypatch):
    """How often each stage is passed is counted first, so that it is known which failures must come out."""
    module, faults = fragile
    explain, image, given = explainer(row), images(2, (17, 20)), images(2, (17, 20))
    differentiate = torch.autograd.grad

    def grad(*args, **kwargs):
        faults.pass_by("gradient")
        return differentiate(*args, **kwargs)

    def score(output):
        faults.pass_by("target")
        return logits_of(output)[:, 1]

    monkeypatch.setattr(torch.autograd, "grad", grad)
    before = snapshot(module)
    often = {stage: count_calls(explain, module, faults, stage, target_of(stage, score)) for stage, _, _ in STAGES}
    raised = 0
    for stage, at, error in STAGES:
        faults.ready(stage, at, error)
        if often[stage] >= at:
            with pytest.raises(error):
                explain(module, image, target_of(stage, score))
            raised += 1
            check_untouched(module, before)
    assert torch.equal(image, given)
    assert raised >= 4


def target_of(stage, score):
    return Target.of(score) if stage == "target" else Target.cls(1)


def count_calls(explain, module, faults, stage, target):
    """Return how often a stage is passed in a call that succeeds."""
    faults.ready(stage, at=10**9)
    if explain.name == "intrinsic" and stage == "target":
        return 0  # it explains classes and units only
    if explain.name == "lrp" and stage == "backward":
        return 0  # refused: what an autograd.Function does cannot be followed
    explain(module, images(2, (17, 20)), target)
    return faults.counts.get(stage, 0)


@pytest.mark.parametrize("row", ROWS)
def test_after_a_mistake(row, fragile):
    module, faults = fragile
    explain, image = explainer(row), images(2, (17, 20))
    faults.ready()
    before = snapshot(module)
    with pytest.raises(ConfigError, match="no class 99"):
        explain(module, image, 99)
    with pytest.raises(ConfigError, match="no class 98"):
        explain(module, image, Target.classes([0, 98]))
    with pytest.raises(ConfigError, match="3 class numbers for 2 images"):
        explain(module, image, Target.cls([0, 1, 2]))
    with pytest.raises(DataError):
        explain(module, image * torch.nan, 1)
    check_untouched(module, before)


@pytest.mark.parametrize("row", ["gradcam", "saliency", "ablationcam"])
def test_where_a_replay_raises(row, monkeypatch):
    """What comes after the layer fails at its second run."""
    network, image = make("tuple"), images(2, (24, 33))
    calls = []

    def tanh(x):
        calls.append(x)
        if len(calls) > 1:
            raise RuntimeError("broken at the second run")
        return x.sigmoid() - 0.5 * bool(x.sum() > -torch.inf)  # reads a value: the tape is no use

    monkeypatch.setattr(torch, "tanh", tanh)
    before = snapshot(network)
    explain = EXPLAINERS[row]()
    if row == "ablationcam":
        with pytest.raises(RuntimeError, match="second run"):
            explain(network, image, 1)
    else:
        explain(network, image, 1)
    check_untouched(network, before)


def trained(explain=None):
    """Return the losses, gradients, weights and random numbers of two training steps, explained before and amid."""
    network, image, label = make("baseline"), images(4, (17, 20)), torch.tensor([0, 1, 2, 0])
    network.network.backbone.stage3.append(nn.Dropout(0.3))
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    torch.manual_seed(0)
    losses = []
    for _ in range(2):
        if explain is not None:
            explain(network, image[:2], 1)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(logits_of(network(image)), label)
        if explain is not None:
            explain(network, image[1:], Target.classes([0, 1]))
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    gradients = [each.grad for each in network.parameters()]
    return [*losses, *gradients, *network.state_dict().values(), torch.rand(3)]


@pytest.fixture(scope="module")
def twin():
    return trained()


@pytest.mark.parametrize("row", ROWS)
def test_training_goes_on(row, twin):
    """To the bit as if nothing had been explained."""
    found = trained(explainer(row))
    assert all(torch.equal(one, other) for one, other in zip(found, twin, strict=True))


def test_every_weight_of_the_twin_learns():
    fresh = make("baseline").state_dict()
    after = dict(zip(fresh, trained()[-len(fresh) - 1 : -1], strict=True))
    learnt = [name for name in fresh if "normalize" not in name]
    assert learnt
    assert not any(torch.equal(fresh[name], after[name]) for name in learnt)
