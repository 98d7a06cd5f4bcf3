"""Trainings of a few small epochs: what each phase may change, when prototypes are projected, and what stays true."""

import math

import pytest
import pytorch_lightning as pl
import torch

from ibd.errors import CheckpointError, ConfigError
from ibd.io import load_model
from ibd.models.optimizer import OptimizerSettings
from ibd.models.protopnet import lightning as protopnet
from ibd.models.protopnet.phases import Push, rate
from tests.unit.models.protopnet.makers import (
    SHORT,
    SquareData,
    fitted,
    make_module,
    trainer,
)


class Watch(pl.Callback):
    """Writes down what a test wants to look at, at every step and epoch."""

    def __init__(self):
        self.rates, self.states, self.modes, self.needs, self.valid, self.accuracy = [], [], [], [], [], []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        rates = {}
        for group in optimizer.param_groups:
            rates.setdefault(group["name"].partition("/")[0], set()).add(group["lr"])
        self.rates.append({name: values.pop() for name, values in rates.items() if len(values) == 1})
        self.modes.append({m.training for m in module.network.backbone.modules()})
        self.needs.append([p.requires_grad for p in module.parameters()])

    def on_train_start(self, trainer, module):
        self.keep(module)

    def on_train_epoch_end(self, trainer, module):
        self.keep(module)
        self.valid.append(bool(module.network.provenance.valid))

    def on_validation_end(self, trainer, module):
        if not trainer.sanity_checking:
            self.accuracy.append(float(trainer.callback_metrics["val/projected_accuracy"]))

    def keep(self, module):
        self.states.append({k: v.clone() for k, v in module.network.state_dict().items()})

    def changed(self, epoch):
        """The parts of the network of which an epoch has changed anything."""
        one, other = self.states[epoch : epoch + 2]
        return {k.split(".")[0] for k in one if not torch.equal(one[k], other[k])} - {"provenance", "mask"}


@pytest.fixture(scope="module")
def run():
    """Warm, joint, joint; projections after the second and the third epoch."""
    torch.set_num_threads(1)
    watch = Watch()
    module, data = fitted(callbacks=[watch], optimizer={"lr": 0.01, "schedule": "constant"})
    return module, data, watch


@pytest.mark.parametrize("distance", ["l2", pytest.param("cosine", marks=pytest.mark.slow)])
def test_it_learns(distance):
    rates = {"backbone": 1.0, "add_on": 1.0, "prototypes": 1.0}
    phases = {"warm": {"epochs": 0}, "joint": {"epochs": 16, "rates": rates}, "push": {"every": 0}}
    module, data = fitted(distance=distance, optimizer={"lr": 0.02}, **phases)
    images, labels, _ = data.splits["test"]
    assert (module.eval().predict(images).labels == labels).float().mean() > 0.55  # by chance 1 / 3


def test_rates_of_the_phases(run):
    _, _, watch = run
    steps = len(watch.rates) // 3
    assert watch.rates[0] == {"backbone": 0, "add_on": 0.01, "prototypes": 0.01}
    assert watch.rates[:steps] == [watch.rates[0]] * steps
    joint = watch.rates[steps]
    assert joint["backbone"] == pytest.approx(0.01 / 30)
    assert joint["add_on"] == joint["prototypes"] == 0.01
    assert watch.rates[steps:] == [joint] * 2 * steps


def test_what_a_phase_does_not_train_stays_to_the_bit(run):
    """With its batch statistics, and with a weight decay that would move it."""
    _, _, watch = run
    assert watch.changed(0) == {"add_on", "prototypes"}
    assert watch.changed(1) == {"backbone", "add_on", "prototypes", "head"}
    statistics = [k for k in watch.states[0] if "running" in k or "num_batches" in k]
    assert statistics
    for name in statistics:
        assert torch.equal(watch.states[0][name], watch.states[1][name]), name
        assert not torch.equal(watch.states[1][name], watch.states[2][name]), name
    moving = [not torch.equal(watch.states[1][k], watch.states[2][k]) for k in watch.states[0] if "conv.weight" in k]
    assert all(moving)


def test_error_1_batch_statistics_rest_after_a_projection(run):
    """The backbone goes on learning in the third epoch; its statistics are those of the projection."""
    _, _, watch = run
    assert "backbone" in watch.changed(2)
    for name in watch.states[0]:
        if "running" in name or "num_batches" in name:
            assert torch.equal(watch.states[2][name], watch.states[3][name]), name


def test_modes_of_the_backbone(run):
    _, _, watch = run
    steps = len(watch.modes) // 3
    assert watch.modes == [{False}] * steps + [{True}] * steps + [{False}] * steps


def test_what_needs_a_gradient_never_changes(run):
    """A process group would not notice, and its members would drift apart."""
    module, _, watch = run
    assert all(needs == watch.needs[0] for needs in watch.needs)
    assert not module.network.head.weight.requires_grad


def test_projected_when_due_and_at_the_end(run):
    _, _, watch = run
    assert watch.valid == [False, True, True]


def test_error_14_the_best_epoch_is_a_projected_one_by_validation(run):
    """The figure that picks it is no number before there is a projection, and is of the validation split."""
    module, _, watch = run
    assert module.monitor == ("val/projected_accuracy", "max")
    assert [value == value for value in watch.accuracy] == [False, True, True]


def test_every_prototype_is_a_patch(run):
    module, data, _ = run
    assert_patches(module, data)


def test_explanations_still_reach_the_image(run):
    """The shortcut of a fixed backbone is one of training alone."""
    module, data, _ = run
    module.eval()
    module.network.fixed_backbone = True
    image = data.splits["val"][0][:2].clone().requires_grad_()
    module(image).logits.sum().backward()
    module.network.fixed_backbone = False
    assert image.grad.any()


def assert_patches(module, data):
    """All prototypes are their recorded patches, computed anew, and the network itself says so of those images."""
    assert float(module.verify_projection(data).max()) <= 1e-5
    module.eval()
    dataset = data.dataset("train")
    for start in range(0, len(dataset), 32):  # as they were read
        members = [s for s in module.sources() if start <= s.index < start + 32]
        images = torch.stack([dataset[i].image for i in range(start, min(start + 32, len(dataset)))])
        with torch.no_grad():
            units = module(images).units
        for source in members:
            assert float(units.scores[source.index - start, source.prototype]) >= 9.20
            assert float(units.maps[source.index - start, source.prototype, source.row, source.column]) >= 9.20


@pytest.mark.parametrize("distance", ["l2", pytest.param("cosine", marks=pytest.mark.slow)])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "64-true"])
def test_prototypes_stay_patches_in_every_precision(precision, distance, tmp_path):
    """After the projection, the last layer, pruning, saving and loading; error 15: the file holds tensors alone."""
    options = {"distance": distance, "warm": {"epochs": 0}, "joint": {"epochs": 1}, "prune": {}}
    module, data = fitted(precision=precision, **options)
    assert module.network.provenance.valid
    assert int(module.network.provenance.precision) == (precision == "bf16-mixed")  # what validation computed in
    module.eval()
    assert_patches(module, data)
    module.save(tmp_path / "model.ckpt")
    torch.load(tmp_path / "model.ckpt", weights_only=True)
    loaded = load_model(tmp_path / "model.ckpt")
    if precision != "64-true":  # which is read as float32
        assert loaded.network.prototypes.dtype == module.network.prototypes.dtype
        assert torch.equal(loaded.network.prototypes, module.network.prototypes)
    assert_patches(loaded, data)
    prediction = loaded.predict(data.splits["val"][0])
    assert torch.isfinite(prediction.logits).all()
    total = prediction.contributions.sum(1)
    torch.testing.assert_close(total, prediction.logits, atol=1e-5, rtol=1e-5)


def test_trained_on_since():
    """Prototypes that were moved by a step are not called patches."""
    module, data = fitted(max_epochs=1, warm={"epochs": 0}, joint={"epochs": 1})  # the end is a projection
    assert module.network.provenance.valid
    again, _ = fitted(data, max_epochs=2, warm={"epochs": 1}, joint={"epochs": 5}, push={"start": 0, "every": 9},
                      callbacks=[Fail(2)])  # fmt: skip
    assert again.network.provenance.ever
    assert not again.network.provenance.valid
    with pytest.raises(CheckpointError, match="trained further after"):
        again.verify_projection(data)
    with pytest.raises(CheckpointError, match="trained further after"):
        again.sources()


class Fail(pl.Callback):
    """Ends a training suddenly, one step into an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.current_epoch + 1 == self.epoch:
            trainer.limit_val_batches = 0
            trainer.should_stop = True
            module.push = Push(99, 0)
            trainer.fit_loop.max_epochs = 99


def test_finish_projects_what_was_interrupted():
    module, data = fitted(max_epochs=3, callbacks=[Fail(1)])
    assert not module.network.provenance.ever
    statistics = {k: v.clone() for k, v in module.network.backbone.named_buffers()}
    data.trainer = None
    figures = module.eval().finish(data)
    assert figures["prune/kept"] == 6
    assert_patches(module, data)
    assert module.finish(data) == {}  # it is done
    for name, value in module.network.backbone.named_buffers():
        assert torch.equal(value, statistics[name])


@pytest.mark.parametrize(
    ("push", "expected"),
    [
        ({"start": 0, "every": 1}, [0, 1, 2, 3]),
        ({"start": 1, "every": 2}, [1, 3]),
        ({"start": 0, "every": 0}, [3]),
        ({"start": 9, "every": 1}, [3]),
    ],
)
def test_epochs_of_projections(push, expected, monkeypatch):
    seen = []
    module = make_module(warm={"epochs": 1}, joint={"epochs": 3}, push=push)

    def project(network, *_):
        seen.append(module.trainer.current_epoch)
        network.provenance.valid.fill_(True)
        return {}

    monkeypatch.setattr(protopnet, "project", project)
    fitted(SquareData(sizes=(8, 6, 6)), module=module)
    assert seen == expected


@pytest.mark.parametrize("validates", [{"limit_val_batches": 0}, {"val_check_interval": 0.5}])
def test_one_projection_an_epoch_however_often_there_is_a_validation(validates, monkeypatch):
    seen = []
    module = make_module(warm={"epochs": 0}, joint={"epochs": 2}, push={"start": 0, "every": 1})

    def project(network, *_):
        seen.append(module.trainer.current_epoch)
        network.provenance.valid.fill_(True)
        return {"push/duplicates": 0.0}

    monkeypatch.setattr(protopnet, "project", project)
    trainer(max_epochs=2, **validates).fit(module, datamodule=SquareData(sizes=(40, 6, 6)))
    assert seen == [0, 1]


def test_error_13_duplicates_are_watched():
    logged = {}
    module = make_module(warm={"epochs": 0}, joint={"epochs": 1})
    with torch.no_grad():
        module.network.prototypes.copy_(module.network.prototypes[::2].repeat_interleave(2, 0))
    fitted(module=module, callbacks=[Log(logged)])
    assert {"val/dead_prototypes", "val/duplicates", "val/diversity", "push/duplicates"} <= set(logged)
    assert logged["val/duplicates"] == 1  # both of a class started, and were projected, as one
    assert logged["push/duplicates"] == 3
    assert logged["val/diversity"] == pytest.approx(0, abs=1e-5)


class Log(pl.Callback):
    def __init__(self, into):
        self.into = into

    def on_train_end(self, trainer, module):
        self.into |= {name: float(value) for name, value in trainer.callback_metrics.items()}


# Settings


@pytest.mark.parametrize("phase", ["warm", "joint"])
def test_a_misspelt_group(phase):
    with pytest.raises(ConfigError, match=rf"{phase}\.rates: there is no group 'bakbone'. Did you mean 'backbone'"):
        make_module(**{phase: {"rates": {"bakbone": 1.0}}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warm": {"epochs": 1, "rates": {}}}, r"model\.warm\.rates: a rate for at least one of backbone, add_on"),
        ({"joint": {"rates": {"add_on": -1.0}}}, r"model\.joint\.rates\.add_on: -1\.0 given"),
        ({"prune": {"k": 2}}, r"model\.prune\.threshold: 3 given, at most k = 2"),
        ({"per_class": 0}, r"model\.per_class: 0 given"),
        ({"add_on": "none"}, r"model\.dimension: 8 given, but without add-on layers .* 16 channels"),
        ({"cluster": float("nan")}, r"model\.cluster: nan given"),
        ({"last_layer": {"tolerance": 0}}, r"model\.last_layer\.tolerance"),
    ],
)
def test_settings_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        make_module(**options)


def test_a_prototype_larger_than_the_map():
    with pytest.raises(ConfigError, match=r"model\.extent: 5 given, but the feature map has 4 x 3 cells"):
        make_module(extent=5).predict(torch.rand(1, 3, 32, 24))


@pytest.mark.parametrize("schedule", ["constant", "cosine", "onecycle", "step"])
def test_schedules_over_a_phase(schedule):
    settings = OptimizerSettings(schedule=schedule, step_epochs=2, gamma=0.1)
    factors = [rate(settings, step, 40, step // 10) for step in range(40)]
    expected = {
        "constant": [1.0] * 40,
        "step": [1.0] * 20 + [0.1] * 20,
        "cosine": [(1 + math.cos(math.pi * step / 40)) / 2 for step in range(40)],
    }
    if schedule in expected:
        assert factors == pytest.approx(expected[schedule], abs=1e-6)
    else:
        assert factors.index(max(factors)) == 10
        assert max(factors) == pytest.approx(1)
        assert factors[0] == pytest.approx(0.04)
        assert 0 < factors[-1] < 0.02


def test_phases_say_how_long():
    assert make_module(**SHORT).epochs == 3
    assert make_module().epochs == 26
