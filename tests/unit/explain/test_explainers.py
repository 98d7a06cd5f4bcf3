"""What every explainer promises, on every kind of model."""

import pytest
import torch

from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.targets import Target
from tests.explainer_makers import EXPLAINERS, MODELS, WITH_UNITS, check_untouched, images, make, refused, snapshot

PAIRS = [(e, m) for e in EXPLAINERS for m in MODELS]


def close(one, other, tolerance=1e-4):
    scale = float(other.abs().max()) + 1e-12
    assert float((one - other).abs().max()) <= tolerance * scale


@pytest.mark.parametrize(("explainer", "model"), PAIRS)
def test_the_call(explainer, model):
    explain, network, image = EXPLAINERS[explainer](), make(model), images()
    if refused(explainer, model):
        with pytest.raises(UnsupportedError, match="'gradcam'"):
            explain(network, image, 1)
        return
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 0.25)
    before = snapshot(network)
    answer = explain(network, image, Target.cls(1))
    check_untouched(network, before)
    assert answer.map.shape == (3, 33, 38)
    assert answer.map.isfinite().all()
    assert not answer.map.requires_grad
    assert answer.value.shape == (3,)
    assert answer.cost.forwards >= 3
    close(explain(network, image, 1).map, answer.map, 0)  # again: bit for bit
    several = explain(network, image, Target.classes([0, 1]))
    assert several.map.shape == (3, 2, 33, 38)
    assert float(several.map.abs().max()) > 0
    close(several.map[:, 1], answer.map)
    close(several.value[:, 1], answer.value)
    alone = explain(network, image[1:2], 1)
    close(alone.map, answer.map[1:2])
    each = explain(network, image, Target.cls([0, 1, 2]))
    close(each.map[1], answer.map[1])
    close(each.map[0], several.map[0, 0])
    logits = network.eval()(image)
    logits = logits["logits"] if isinstance(logits, dict) else getattr(logits, "logits", logits)
    best = (logits[0] if isinstance(logits, tuple) else logits).argmax(1)
    network.train()
    close(explain(network, image).map, explain(network, image, Target.cls(best)).map)
    assert explain(network, image, Target.cls(1) - Target.cls(0)).map.isfinite().all()
    check_untouched(network, before)


@pytest.mark.parametrize(("explainer", "model"), [(e, m) for e in EXPLAINERS for m in WITH_UNITS])
def test_units(explainer, model):
    explain, network, image = EXPLAINERS[explainer](), make(model), images(2, (24, 33))
    if refused(explainer, model, "unit"):
        with pytest.raises(UnsupportedError):
            explain(network, image, Target.unit(1))
        return
    answer = explain(network, image, Target.unit(1))
    several = explain(network, image, Target.units([0, 1]))
    assert answer.map.shape == (2, 24, 33)
    close(several.map[:, 1], answer.map)
    assert several.map.isfinite().all()


@pytest.mark.parametrize("explainer", EXPLAINERS)
@pytest.mark.parametrize("context", ["no_grad", "inference_mode", "autocast"])
def test_inside_of(explainer, context):
    network, image = make("baseline"), images(2, (24, 33))
    explain = EXPLAINERS[explainer]()
    plain = explain(network, image, 1)
    before = snapshot(network)
    if context == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            answer = explain(network, image, 1)
        assert answer.map.isfinite().all()
        assert torch.corrcoef(torch.stack([answer.map.flatten(), plain.map.flatten()]))[0, 1] > 0.7
    else:
        with getattr(torch, context)():
            answer = explain(network, image * 1, 1)
        close(answer.map, plain.map)
        assert not answer.map.requires_grad
    check_untouched(network, before)


def broken(*_):
    raise RuntimeError("broken")


@pytest.mark.parametrize("explainer", EXPLAINERS)
def test_untouched_after_an_exception(explainer):
    explain, image = EXPLAINERS[explainer](), images(2, (24, 33))
    network = make("baseline")
    network.network.decode = broken
    before = snapshot(network)
    with pytest.raises(RuntimeError, match="broken"):
        explain(network, image, 1)
    check_untouched(network, before)
    network = make("baseline")
    before = snapshot(network)
    with pytest.raises(ConfigError, match="no class 99"):
        explain(network, image, 99)
    with pytest.raises(ConfigError, match="no class 98"):
        explain(network, image, Target.classes([0, 98]))
    with pytest.raises(ConfigError, match="3 class numbers for 2 images"):
        explain(network, image, Target.cls([0, 1, 2]))
    with pytest.raises(DataError):
        explain(network, image * torch.nan, 1)
    check_untouched(network, before)


@pytest.mark.parametrize("explainer", ["gradcam", "saliency", "ablationcam"])
def test_untouched_where_a_replay_raises(explainer, monkeypatch):
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
    explain = EXPLAINERS[explainer]()
    if explainer == "ablationcam":
        with pytest.raises(RuntimeError, match="second run"):
            explain(network, image, 1)
    else:
        explain(network, image, 1)
    check_untouched(network, before)


def test_training_goes_on():
    network, image = make("functional"), images(2, (24, 33))
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    EXPLAINERS["gradcam"]()(network, image, 1)
    before = [each.clone() for each in network.parameters()]
    network(image).sum().backward()
    optimizer.step()
    assert all(not torch.equal(one, other) for one, other in zip(before, network.parameters(), strict=True))
