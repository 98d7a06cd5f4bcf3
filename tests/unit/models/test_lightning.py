"""The Lightning modules: losses by regime, training, finishing, and reading back what was saved."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional as F

from ibd.errors import CheckpointError, ConfigError
from ibd.io import load_model
from ibd.metrics.concepts import auroc_per_concept
from ibd.models.baseline.lightning import Baseline
from ibd.models.cbm.lightning import ConceptBottleneck
from ibd.types import Batch, DataSpec
from tests.model_makers import SMALL, SPEC, TensorData, make_module, random_concepts

IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def batch(unknown=0.0):
    return Batch(IMAGES, torch.tensor([0, 1, 2, 1]), random_concepts(4, unknown=unknown), torch.arange(4))


def trainer(**options):
    return pl.Trainer(
        **{"max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_progress_bar": False, **options},
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
    )


# Losses


def test_joint_loss_is_the_published_one():
    module = make_module(concept_weight=0.5, imbalance="none")
    output, data = module(IMAGES), batch()
    terms = module.losses(output, data)
    task = F.cross_entropy(output.logits, data.label)
    concepts = F.binary_cross_entropy_with_logits(output.units.scores, data.concepts, reduction="none").mean(0).sum()
    torch.testing.assert_close(terms["loss"], (task + 0.5 * concepts) / (1 + 0.5 * 6))
    torch.testing.assert_close(terms["class_loss"], task)
    torch.testing.assert_close(terms["concept_loss"], concepts / 6)


@pytest.mark.parametrize(("regime", "reaches"), [("joint", True), ("sequential", False), ("independent", False)])
def test_only_joint_sends_the_class_loss_to_the_concepts(regime, reaches):
    module = make_module(regime=regime).train()
    module.losses(module(IMAGES), batch())["class_loss"].backward()
    for parameter in (module.network.concepts.weight, next(module.network.backbone.parameters())):
        assert (parameter.grad is not None and bool(parameter.grad.any())) == reaches
    assert module.network.head.weight.grad.any()


@pytest.mark.parametrize("regime", ["joint", "sequential", "independent"])
def test_all_regimes_train_the_concepts(regime):
    module = make_module(regime=regime).train()
    module.losses(module(IMAGES), batch())["loss"].backward()
    assert module.network.concepts.weight.grad.any()


def test_the_independent_head_learns_from_the_truth_where_it_is_known():
    module, data = make_module(regime="independent").train(), batch(unknown=0.3)
    output = module(IMAGES)
    reads = torch.where(data.concepts.isnan(), output.units.scores.sigmoid(), data.concepts)
    expected = F.cross_entropy(module.network.head(reads), data.label)
    torch.testing.assert_close(module.losses(output, data)["class_loss"], expected)
    module.eval()  # the validation loss is that of predicted concepts
    torch.testing.assert_close(module.losses(output, data)["class_loss"], F.cross_entropy(output.logits, data.label))


def test_baseline_loss_smooths_labels_in_training_only():
    torch.manual_seed(0)
    module, data = Baseline(SPEC, SMALL, label_smoothing=0.2), batch()
    for training in (True, False):
        module.train(training)
        output = module(IMAGES)
        expected = F.cross_entropy(output.logits, data.label, label_smoothing=0.2 * training)
        assert module.losses(output, data)["loss"] == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regime": "independent", "bottleneck": "logits"}, "'logits' does not go with model.regime 'independent'"),
        ({"concept_weight": -1}, "model.concept_weight: -1 given"),
        ({"head_epochs": 0}, "model.head_epochs: 0 given"),
        ({"hidden_units": 0}, "model.hidden_units: 0 given"),
        ({"head_lr": 0}, "model.head_lr: 0 given"),
        ({"head_weight_decay": -1}, "model.head_weight_decay: -1 given"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ConfigError, match=message):
        ConceptBottleneck(SPEC, SMALL, **options)
    with pytest.raises(ConfigError, match=r"model\.label_smoothing: 2 given"):
        Baseline(SPEC, SMALL, label_smoothing=2)


# Training


def test_a_short_training_logs_what_the_metrics_say():
    data, module = TensorData(), make_module(optimizer={"lr": 0.01}).train()
    fitting = trainer()
    fitting.fit(module, datamodule=data)
    logged = {name: float(value) for name, value in fitting.callback_metrics.items()}
    images, labels, concepts = data.splits["val"]
    module.eval()
    with torch.no_grad():
        logits, units = module(images)
    assert logged["val/accuracy"] == pytest.approx(float((logits.argmax(1) == labels).float().mean()))
    assert logged["val/concept_auroc"] == pytest.approx(float(auroc_per_concept(units.scores, concepts).nanmean()))
    assert logged["val/class_loss"] == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)
    assert {"train/loss", "train/accuracy", "train/concept_accuracy", "val/balanced_accuracy", "lr"} <= set(logged)
    assert logged["lr"] < 2e-3  # the cycle came to its end with the training


def test_padding_is_not_counted():
    module, logged = make_module(), []
    module.log_dict = lambda terms, **options: logged.append(options["batch_size"])
    padded = Batch(IMAGES, batch().label, batch().concepts, torch.tensor([0, 1, -1, -1]))
    module.validation_step(padded, 0)
    module.validation_step(Batch(IMAGES, batch().label, batch().concepts, torch.full((4,), -1)), 1)
    assert logged == [2]
    assert int(module.metrics["val_concept"]["concept_accuracy"].known) == 2 * 6


def test_imbalance_is_counted_on_the_training_set():
    data, module = TensorData(), make_module(imbalance="pos_weight").train()
    trainer(max_epochs=1).fit(module, datamodule=data)
    concepts = data.splits["train"][2]
    negatives, positives = (concepts == 0).sum(0), (concepts == 1).sum(0)
    torch.testing.assert_close(module.ratio, negatives / positives)
    with pytest.raises(ConfigError, match=r"needs trainer\.fit"):
        trainer(max_epochs=1).fit(make_module(imbalance="concept"), data.loader("train"))


@pytest.mark.parametrize("schedule", ["onecycle", "cosine"])
def test_an_endless_training_needs_a_schedule_without_end(schedule):
    module = make_module(imbalance="none", optimizer={"schedule": schedule})
    with pytest.raises(ConfigError, match=f"'{schedule}' needs to know how long the training is"):
        trainer(max_epochs=-1).fit(module, datamodule=TensorData())


def test_step_schedule_counts_epochs_with_accumulated_batches():
    module = make_module(imbalance="none", optimizer={"schedule": "step", "step_epochs": 1, "lr": 0.5, "name": "sgd"})
    fitting = trainer(max_epochs=-1, max_steps=4, accumulate_grad_batches=2)  # 40 images: 3 batches, 2 steps an epoch
    fitting.fit(module, datamodule=TensorData())
    assert fitting.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.5 * 0.1**2)


# Finishing


def test_finish_stores_percentiles_of_the_images_without_augmentation():
    data, module = TensorData(), make_module().train()
    module.network.low.fill_(torch.nan)
    assert module.finish(data) == {}
    assert ("train", True) not in data.asked
    assert module.training
    with torch.no_grad():
        scores = module.eval()(data.splits["train"][0]).units.scores
    low, high = np.percentile(scores.numpy(), [5, 95], axis=0)
    np.testing.assert_allclose(module.network.low, low, rtol=1e-4)
    np.testing.assert_allclose(module.network.high, high, rtol=1e-4)


@pytest.mark.parametrize("regime", ["independent", "sequential"])
def test_finish_fits_the_head_and_leaves_the_concepts(regime):
    data, module = TensorData(sizes=(60, 60, 10)), make_module(regime=regime, head_epochs=30)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    figures = module.finish(data)
    changed = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"network.head.weight", "network.head.bias", "network.low", "network.high"}
    images, labels, _ = data.splits["val"]
    with torch.no_grad():
        logits = module(images).logits
    assert figures["head/val_loss"] == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)
    assert figures["head/val_accuracy"] == pytest.approx(float((logits.argmax(1) == labels).float().mean()))


# Checkpoints


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_module(bottleneck="logits", head="mlp", hidden_units=5, optimizer={"lr": 0.1}),
        lambda: make_module(regime="independent", bottleneck="hard", softmax_groups=["wing"], imbalance="none"),
        lambda: Baseline(SPEC, SMALL, label_smoothing=0.1),
    ],
)
def test_a_checkpoint_needs_nothing_else(tmp_path, make):
    module, path = make().train(), tmp_path / "x.ckpt"
    fitting = trainer(max_epochs=1)
    fitting.fit(module, datamodule=TensorData())
    if isinstance(module, ConceptBottleneck):
        module.finish(TensorData())
    fitting.save_checkpoint(path)
    content = torch.load(path, weights_only=True)  # plain values only
    assert DataSpec.from_dict(content["hyper_parameters"]["spec"]) == SPEC
    loaded = load_model(path)
    assert type(loaded) is type(module)
    assert not loaded.training
    assert loaded.spec == SPEC
    assert dict(loaded.hparams) == dict(module.hparams)
    for name, value in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name].nan_to_num(-1), value.nan_to_num(-1)), name  # to the bit
    # Logits may differ by rounding: what was trained may lie in memory in another order.
    before, after = module.predict(IMAGES), loaded.predict(IMAGES)
    torch.testing.assert_close(after.logits, before.logits)
    edit = {0: 1.0}
    torch.testing.assert_close(after.intervene(edit).logits, before.intervene(edit).logits)


def test_initial_weights_are_not_in_the_hyper_parameters(tmp_path):
    backbone = Baseline(SPEC, SMALL).network.backbone
    torch.save(backbone.state_dict(), tmp_path / "weights.pt")
    module = Baseline(SPEC, {**SMALL, "weights": str(tmp_path / "weights.pt")})
    assert module.hparams["backbone"] == SMALL


def test_a_checkpoint_that_does_not_fit_says_so(tmp_path):
    module, path = make_module(), tmp_path / "x.ckpt"
    content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams), "ibd_model": "cbm"}
    torch.save({**content, "hyper_parameters": {**content["hyper_parameters"], "speed": 3}}, path)
    with pytest.raises(CheckpointError, match=r"does not fit this version of ibd.*speed"):
        load_model(path)
