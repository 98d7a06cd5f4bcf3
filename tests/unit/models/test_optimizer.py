"""Parameter groups, and the shape of every schedule."""

import math

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError
from ibd.models.optimizer import OptimizerSettings, build_optimizer, build_schedule


def module():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def rates(steps=100, per_epoch=10, key="lr", **options):
    settings = OptimizerSettings(**{"lr": 0.2, "name": "sgd", **options})
    optimizer = build_optimizer(module(), settings)
    schedule = build_schedule(optimizer, settings, steps, per_epoch)
    found = []
    for _ in range(min(steps, 100)):
        found.append(optimizer.param_groups[0][key])
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return found


def test_only_weights_decay():
    optimizer = build_optimizer(module(), OptimizerSettings(weight_decay=0.3))
    assert [(len(g["params"]), g["weight_decay"]) for g in optimizer.param_groups] == [(2, 0.3), (4, 0.0)]
    assert all(p.ndim > 1 for p in optimizer.param_groups[0]["params"])
    everything = build_optimizer(module(), OptimizerSettings(weight_decay=0.3, decay_all=True))
    assert [(len(g["params"]), g["weight_decay"]) for g in everything.param_groups] == [(6, 0.3)]


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)]
)
def test_names(name, kind):
    assert type(build_optimizer(module(), OptimizerSettings(name=name))) is kind


def test_sgd_without_momentum_has_no_nesterov():
    group = build_optimizer(module(), OptimizerSettings(name="sgd", momentum=0)).param_groups[0]
    assert not group["nesterov"]
    assert set(rates(momentum=0, key="momentum")) == {0}


def test_constant():
    assert set(rates(schedule="constant")) == {0.2}
    assert rates(steps=1, schedule="onecycle") == [0.2]  # one step is no schedule
    assert set(rates(steps=math.inf, schedule="constant")) == {0.2}


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "step", "constant"])
def test_a_single_step_goes_on_for_longer(schedule):
    """What the optimizer of a training of one step has kept is all that the schedule of a longer one needs."""
    settings = OptimizerSettings(lr=0.2, schedule=schedule)
    short, longer = (build_optimizer(module(), settings) for _ in range(2))
    build_schedule(short, settings, 1, 1)
    plan = build_schedule(longer, settings, 4, 1)
    longer.load_state_dict(short.state_dict())
    if plan is not None:
        longer.step()
        plan.step()
    start = {"onecycle": 0.2 / 25}.get(schedule, 0.2)
    assert longer.param_groups[0].get("initial_lr", 0.2) == pytest.approx(start)


def test_cosine_goes_to_zero():
    expected = [0.1 * (1 + math.cos(math.pi * t / 100)) for t in range(100)]
    assert rates(schedule="cosine") == pytest.approx(expected)


def test_step_counts_epochs_and_needs_no_end():
    expected = [0.2] * 30 + [0.02] * 30 + [0.002] * 30 + [0.0002] * 10
    assert rates(schedule="step", step_epochs=3) == pytest.approx(expected)
    assert rates(steps=math.inf, schedule="step", step_epochs=3) == pytest.approx(expected)


def test_onecycle_rises_for_the_warmup_and_falls_to_nothing():
    found = rates(schedule="onecycle", warmup=0.3)
    peak = found.index(max(found))
    assert peak == 29
    assert found[peak] == pytest.approx(0.2)
    assert found[0] == pytest.approx(0.2 / 25)
    assert found[:peak] == sorted(found[:peak])
    assert found[peak:] == sorted(found[peak:], reverse=True)
    assert found[-1] < 1e-5


def test_onecycle_moves_the_momentum_around_what_is_set():
    found = rates(schedule="onecycle", momentum=0.8, key="momentum")
    assert (min(found), max(found)) == pytest.approx((0.75, 0.85))
    betas = [beta for beta, _ in rates(schedule="onecycle", name="adamw", key="betas")]
    assert (min(betas), max(betas)) == pytest.approx((0.85, 0.95))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"lr": 0}, "optimizer.lr: 0 given, more than 0"),
        ({"warmup": 1}, "optimizer.warmup: 1 given, a share between"),
        ({"momentum": 1.2}, "optimizer.momentum: 1.2 given"),
        ({"weight_decay": -1}, "optimizer.weight_decay: -1 given"),
        ({"step_epochs": 0}, "optimizer.step_epochs: 0 given"),
    ],
)
def test_errors(option, message):
    with pytest.raises(ConfigError, match=message):
        OptimizerSettings(**option)
