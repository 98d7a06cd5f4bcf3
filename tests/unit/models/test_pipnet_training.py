"""The training of PIP-Net: what its phases change, what makes it sparse, and that nothing else does."""

import pytest
import pytorch_lightning as pl
import torch

from ibd import config as configuration, registry
from ibd.data.toybirds.datamodule import ToyBirds
from ibd.errors import ConfigError
from ibd.io import load_model
from ibd.models.pipnet.lightning import PIPNet
from ibd.training.callbacks import SeedEpochs
from tests.command import ROOT, ibd
from tests.model_makers import TensorData, make_pipnet

IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def trainer(epochs, **options):
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        **options,
    )


def test_an_image_without_a_prediction_counts_as_an_error_whatever_its_class():
    made = make_pipnet().eval()
    made.network.mask[:] = False
    data = TensorData()
    figures = trainer(1).test(made, datamodule=data, verbose=False)[0]
    assert bool((data.splits["test"][1] == 0).any())
    assert (figures["test/accuracy"], figures["test/abstention"], figures["test/local_size"]) == (0, 1, 0)


def test_the_phases_weigh_the_losses():
    made = make_pipnet(pretrain={"epochs": 4, "align": 2.0}, train={"epochs": 5, "classifier_only": 2})
    assert made.epochs == 9
    weights = []
    for epoch in range(9):
        phase, within = made._phase(epoch)
        weights.append((phase.weights(within), {name for name, rate in phase.rates.items() if rate}))
    assert [w["align"] for w, _ in weights] == [0.5, 1.0, 1.5, 2.0, 0, 0, 5, 5, 5]
    assert [w["tanh"] for w, _ in weights] == [5, 5, 5, 5, 0, 0, 2, 2, 2]
    assert [w["class_loss"] for w, _ in weights] == [0, 0, 0, 0, 2, 2, 2, 2, 2]
    everything = {"backbone", "add_on", "head"}
    assert [g for _, g in weights] == [{"backbone", "add_on"}] * 4 + [{"head"}] * 2 + [everything] * 3


class Watch(pl.Callback):
    """Keeps what each group was before every epoch, and at the end."""

    def __init__(self):
        self.states = []

    def on_train_epoch_start(self, trainer, module):
        self.states.append({name: value.clone() for name, value in module.network.state_dict().items()})

    def on_train_end(self, trainer, module):
        self.on_train_epoch_start(trainer, module)

    def changed(self, epoch):
        before, after = self.states[epoch], self.states[epoch + 1]
        return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def test_each_phase_changes_its_groups_alone():
    made, watch = make_pipnet(pretrain={"epochs": 1}, train={"epochs": 2, "classifier_only": 1}), Watch()
    trainer(3, callbacks=[watch]).fit(made, datamodule=TensorData())
    assert [watch.changed(e) for e in range(3)] == [{"backbone", "add_on"}, {"head"}, {"backbone", "add_on", "head"}]


def test_what_a_phase_fixes_gathers_no_momentum():
    made = make_pipnet(pretrain={"epochs": 1}, train={"epochs": 2, "classifier_only": 1})
    fit = trainer(3)
    fit.fit(made, datamodule=TensorData())
    steps = {
        name: {int(fit.optimizers[0].state[p]["step"]) for p in parameters}
        for name, parameters in made._groups().items()
    }
    assert steps == {"backbone": {6}, "add_on": {6}, "head": {6}}  # 3 batches in each of two epochs


def test_a_fixed_backbone_keeps_its_batch_statistics():
    learns = {"add_on": 1.0, "head": 1.0}
    made = make_pipnet(
        pretrain={"epochs": 1, "rates": {"add_on": 1.0}},
        train={"epochs": 1, "classifier_only": 0, "rates": learns},
    )
    watch = Watch()
    assert not any(p.requires_grad for p in made.network.backbone.parameters())
    trainer(2, callbacks=[watch]).fit(made, datamodule=TensorData())
    assert "backbone" not in watch.changed(0) | watch.changed(1)


def test_every_training_step_shrinks_the_connections_to_exact_zeros():
    made = make_pipnet(pretrain={"epochs": 0}, train={"epochs": 2, "classifier_only": 0}, sparsity=0.3)
    made.optimizer_settings = type(made.optimizer_settings)(lr=1e-9, schedule="constant")
    initial = made.network.head.weight.detach().clone()
    trainer(2, limit_train_batches=1).fit(made, datamodule=TensorData())
    torch.testing.assert_close(made.network.head.weight, (initial - 0.6).clamp(min=0), atol=1e-6, rtol=0)
    trainer(2, limit_train_batches=2).fit(made, datamodule=TensorData())
    assert torch.count_nonzero(made.network.head.weight) == 0
    assert made.network.zeros() == 1


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_evaluating_changes_nothing(verb):
    made, data = make_pipnet(sparsity=0.1), TensorData()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    if verb == "predict":
        made.predict(IMAGES)
    else:
        getattr(trainer(1), verb)(made, datamodule=data, verbose=False)
    after = made.state_dict()
    assert before.keys() == after.keys()
    different = [name for name in before if not torch.equal(before[name], after[name])]
    assert not [name for name in different if name.startswith("network.")]
    assert not different


def test_validation_within_the_training_changes_nothing_either():
    results = []
    for limit in (0, 2):
        made = make_pipnet(pretrain={"epochs": 1}, train={"epochs": 2, "classifier_only": 1}, sparsity=0.05)
        fit = trainer(3, limit_val_batches=limit, num_sanity_val_steps=0, callbacks=[SeedEpochs(0)])
        fit.fit(made, datamodule=TensorData())
        results.append(made.network.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_finishing_switches_off_what_no_training_image_shows():
    made, data = make_pipnet(), TensorData()
    with torch.no_grad():
        made.network.add_on.weight.zero_()
        made.network.add_on.bias[:] = torch.tensor([0.0, 0, 0, 0, 0, 0, -9])
    figures = made.finish(data)
    assert made.network.mask.tolist() == [True] * 6 + [False]
    assert figures == {"prototypes/present": 6, "prototypes/used": 6}
    assert ("train", False) in data.asked
    assert not made.network.weight()[:, 6].any()


def test_what_is_logged():
    made = make_pipnet(pretrain={"epochs": 1}, train={"epochs": 1, "classifier_only": 0})
    fit = trainer(2)
    fit.fit(made, datamodule=TensorData())
    figures = {name: float(value) for name, value in fit.callback_metrics.items()}
    names = {"train/align", "train/tanh", "train/class_loss", "lr/head", "val/sparsity", "val/abstention"}
    assert names | {"val/accuracy", "val/local_size", "train/local_size"} <= figures.keys()
    assert 0 <= figures["val/local_size"] <= 7
    assert made.monitor == ("val/accuracy", "max")


@pytest.mark.slow
def test_learns_and_is_the_same_when_loaded(tmp_path):
    """Six classes at 32 px: far above chance, with zeros in the last layer."""
    pl.seed_everything(0, verbose=False)
    data = ToyBirds("tiny", batch_size=16, train_size=320, val_size=33, test_size=96)
    made = PIPNet(
        data.spec,
        {"name": "small_cnn", "width": 8, "depth": 3},
        prototypes=32,
        shift=1,
        pretrain={"epochs": 1, "rates": {"backbone": 1.0, "add_on": 1.0}},
        train={"epochs": 7, "classifier_only": 1, "rates": {"backbone": 1.0, "add_on": 1.0, "head": 5.0}},
        optimizer={"lr": 0.01},
    )
    trainer(8, callbacks=[SeedEpochs(0)]).fit(made, datamodule=data)
    figures = trainer(1).test(made, datamodule=data, verbose=False)[0]
    assert figures["test/accuracy"] > 0.5
    assert figures["test/sparsity"] > 0.1
    assert figures["test/local_size"] < 20
    made.finish(data)
    made.reweight({3: 0.5})
    made.save(tmp_path / "model.ckpt")
    loaded = load_model(tmp_path / "model.ckpt")
    images = torch.rand(3, 3, 32, 32)
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in made.state_dict().items())
    # What was trained lies in memory in another order (channels last), for which torch may take other kernels.
    torch.testing.assert_close(loaded.predict(images).logits, made.predict(images).logits)


# Configuration


def test_registered_and_described(tmp_path):
    assert registry.resolve("models", "pipnet") is PIPNet
    file = ROOT / "configs" / "toybirds" / "pipnet.yaml"
    config = configuration.load_config(file, "model.sparsity=0.01", "model.train.tanh=1.5")
    assert config.model.train.align == 5.0
    configuration.save_config(config, tmp_path / "again.yaml")
    assert configuration.load_config(tmp_path / "again.yaml") == config
    answer = ibd("config", file)
    assert answer.code == 0
    assert "classifier_only: 3" in answer.out
    assert "sparsity: 0.001" in answer.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": -1}, "model.sparsity: -1 given, at least 0"),
        ({"color": 1.5}, "model.color: 1.5 given, from 0 to 1"),
        ({"prototypes": 0}, "model.prototypes: 0 given, at least 1"),
        ({"pretrain": {"rates": {"head": 1.0}}}, "there is no group 'head'"),
        ({"pretrain": {"rates": {}}}, "model.pretrain.rates: a rate for at least one of backbone, add_on"),
        ({"train": {"rates": {"backbone": 1.0}}}, "a rate for the 'head' is needed"),
        ({"train": {"epochs": 2, "classifier_only": 3}}, "3 given, but the phase has 2 epochs"),
        ({"prototypes": None, "pretrain": {"rates": {"add_on": 1.0}}}, "a rate for the backbone is needed if"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ConfigError, match=message):
        make_pipnet(**options)
