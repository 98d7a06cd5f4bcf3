"""PIP-Net: its network, views, losses and training."""

import math

import pytest
import pytorch_lightning as pl
import torch

from ibd import config as configuration
from ibd import registry
from ibd.data.toybirds.datamodule import ToyBirds
from ibd.errors import ConfigError
from ibd.io import load_model
from ibd.models.pipnet.lightning import PIPNet
from ibd.models.pipnet.losses import align_loss, class_loss, tanh_loss
from ibd.models.pipnet.network import PIPNetwork
from ibd.models.pipnet.views import shifted, two_views, vary_colour
from ibd.models.prediction import Prediction
from ibd.training.callbacks import SeedEpochs
from ibd.types import Batch
from tests.command import ROOT, ibd
from tests.model_makers import SMALL, SPEC, CountingBackbone, TensorData, random_concepts

IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network(**options):
    """Return a network with peaked prototypes, some of them below the threshold."""
    torch.manual_seed(0)
    made = PIPNetwork(CountingBackbone(), SPEC, **{"prototypes": 7, **options})
    if options.get("prototypes", 7):
        torch.nn.init.normal_(made.add_on.weight, std=4)
    return made.eval()


def module(**options):
    torch.manual_seed(0)
    return PIPNet(SPEC, SMALL, **{"prototypes": 7, **options})


def predict(made, images=IMAGES):
    with torch.no_grad():
        logits, units = made(images)
    return Prediction(made, units, logits, torch.zeros_like(units.scores, dtype=torch.bool))


def batch(count=4, size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, size, size, generator=generator)
    return Batch(images, torch.arange(count) % 3, random_concepts(count), torch.arange(count))


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


# Network


@pytest.mark.parametrize("prototypes", [None, 7])
def test_a_position_has_one_unit_of_prototypes_and_an_image_the_most_of_any_position(prototypes):
    made = network(prototypes=prototypes, threshold=0)
    units = made.encode(IMAGES)
    assert units.maps.shape == (5, prototypes or 4, 4, 4)
    torch.testing.assert_close(units.maps.sum(1), torch.ones(5, 4, 4))
    features = made.add_on(made.backbone(IMAGES)).double()
    for b, j in ((0, 0), (4, 3)):
        shares = [
            (features[b, :, y, x].exp() / features[b, :, y, x].exp().sum())[j].item()
            for y in range(4)
            for x in range(4)
        ]
        assert units.scores[b, j].item() == pytest.approx(max(shares), abs=1e-6)
    assert made.unit_kind == "prototype"
    assert made.unit_names[3] == "prototype 3"


def test_below_the_threshold_a_prototype_is_absent_but_only_in_evaluation():
    made = network(threshold=0.3)
    full = network(threshold=0).encode(IMAGES).scores
    assert 0 < int((full < 0.3).sum()) < full.numel()
    assert torch.equal(made.encode(IMAGES).scores, torch.where(full >= 0.3, full, 0.0))
    assert torch.equal(made.train().encode(IMAGES).scores, full)


@pytest.mark.parametrize("bias", [False, True])
def test_contributions_add_up_to_the_logits_and_never_speak_against_a_class(bias):
    made = network(bias=bias)
    torch.nn.init.normal_(made.head.weight)
    if bias:
        torch.nn.init.uniform_(made.head.bias)
    p = predict(made)
    parts = p.contributions.double()
    assert parts.shape == (5, 7, 3)
    assert bool((parts >= 0).all())
    torch.testing.assert_close(made.bias().double() + parts.sum(1), p.logits.double(), atol=1e-6, rtol=1e-6)


def test_a_prototype_is_switched_off_and_reweighted():
    made = network()
    p = predict(made)
    j = int(p.contributions.sum((0, 2)).argmax())
    off, double = p.intervene({f"prototype {j}": 0}), p.intervene({j: 2})
    torch.testing.assert_close(off.logits, p.logits - p.contributions[:, j])
    torch.testing.assert_close(double.logits, p.logits + p.contributions[:, j])
    assert made.backbone.passes == 1
    assert f"prototype {j}" in off.table(0)
    made.reweight({f"prototype {j}": 0})
    torch.testing.assert_close(predict(made).logits, off.logits)
    made.mask[:] = False
    assert not predict(made).logits.any()


def test_without_any_evidence_it_abstains():
    made = network()
    with torch.no_grad():
        made.head.weight[:, 2:] = 0
    p = predict(made)
    q = p.intervene({0: torch.tensor([0.0, 1, 1, 1, 0]), 1: torch.tensor([0.0, 1, 1, 1, 0])})
    assert q.abstains.tolist() == [True, False, False, False, True] or (p.units.scores[:, :2].sum(1) == 0).any()
    assert made.abstains(torch.tensor([[0.0, 0, 0], [0, 0.2, 0]])).tolist() == [True, False]
    torch.testing.assert_close(q.probabilities[0], torch.full((3,), 1 / 3))
    assert q.table(0).splitlines()[0] == "image 0: abstains"
    assert "%" in q.table(1).splitlines()[0]
    assert str(q).splitlines()[0] == "image 0: abstains"  # five images: a line for each
    made = network(bias=True)
    with torch.no_grad():
        made.head.bias[:] = torch.tensor([0.3, 0, 0])
    nothing = predict(made).intervene(dict.fromkeys(range(7), 0))
    assert nothing.abstains.all()
    torch.testing.assert_close(nothing.logits[0], torch.tensor([0.3, 0, 0]))


def test_an_image_without_a_prediction_counts_as_an_error_whatever_its_class():
    made = module().eval()
    made.network.mask[:] = False
    data = TensorData()
    figures = trainer(1).test(made, datamodule=data, verbose=False)[0]
    assert bool((data.splits["test"][1] == 0).any())
    assert (figures["test/accuracy"], figures["test/abstention"], figures["test/local_size"]) == (0, 1, 0)


def test_probabilities_are_those_that_are_trained():
    logits = torch.tensor([[0.0, 1, 3]])
    expected = torch.tensor([[1.0, 2, 10]]) / 13
    torch.testing.assert_close(network().probabilities(logits), expected)
    assert class_loss(logits, torch.tensor([2])).item() == pytest.approx(-math.log(10 / 13))


def test_presence_is_in_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        logits, units = network()(IMAGES)
    assert units.maps.dtype == units.scores.dtype == logits.dtype == torch.float32
    torch.testing.assert_close(units.maps.sum(1), torch.ones(5, 4, 4))


def test_a_finer_map_has_the_same_weights():
    coarse, fine = module(), module(finer=2)
    assert predict(coarse.network).units.maps.shape[2:] == (2, 2)
    assert predict(fine.network).units.maps.shape[2:] == (8, 8)
    fine.load_state_dict(coarse.state_dict())
    with pytest.raises(ConfigError, match=r"model.finer: 4 given, but SmallCNN has 3 strided stages"):
        module(finer=4)


def test_a_finer_map_of_a_residual_network():
    made = PIPNet(SPEC, {"name": "resnet18"}, finer=2).eval()
    assert made.network.encode(torch.rand(1, 3, 64, 64)).maps.shape == (1, 512, 8, 8)


# Views


def test_views_share_geometry_stay_in_range_and_differ():
    torch.manual_seed(0)
    data = batch(6)
    both = two_views(data, colour=0.3, shift=2)
    assert both.image.shape == (12, 3, 16, 16)
    assert torch.equal(both.label, data.label.repeat(2))
    assert torch.equal(both.index, data.index.repeat(2))
    assert bool((both.image >= 0).all() & (both.image <= 1).all())
    assert all(not torch.equal(one, two) for one, two in zip(*both.image.chunk(2), strict=True))
    assert torch.equal(data.image, batch(6).image)
    torch.manual_seed(0)
    assert torch.equal(two_views(data, 0.3, 2).image, both.image)
    same = two_views(data, colour=0, shift=0)
    torch.testing.assert_close(same.image, data.image.repeat(2, 1, 1, 1))


def test_a_view_is_the_same_scene_a_few_pixels_further():
    """Its bright spot lies at most `shift` away, and in all directions over many draws."""
    data = batch(200)
    data.image[:] = 0.1
    data.image[:, :, 8, 8] = 0.9
    spots = two_views(data, colour=0.3, shift=2).image.mean(1).flatten(1).argmax(1)
    offset = torch.stack([spots // 16 - 8, spots % 16 - 8], 1)
    assert {tuple(o) for o in offset.tolist()} == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}


def test_a_shift_repeats_the_border():
    image = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    moved = shifted(image, torch.tensor([[1, -2]]))[0, 0]
    assert moved.tolist() == [[2, 3, 3, 3], [2, 3, 3, 3], [6, 7, 7, 7], [10, 11, 11, 11]]


def test_colours_are_those_of_torchvision():
    from torchvision.transforms.v2 import functional

    image, factor = batch(3).image, torch.tensor([[0.7, 1.3, 0.6], [1.3, 0.7, 1.4], [1, 1, 1]])
    for one, varied, (b, c, s) in zip(image, vary_colour(image, factor), factor.tolist(), strict=True):
        expected = functional.adjust_saturation(functional.adjust_contrast(functional.adjust_brightness(one, b), c), s)
        torch.testing.assert_close(varied, expected, atol=1e-3, rtol=0)  # its grey has rounded weights


# Losses


def test_losses_are_the_published_ones():
    """Against plain loops in float64."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 4, 2, 3, generator=generator, dtype=torch.float64).mul(3).softmax(2)
    first, second = maps
    total, positions = 0.0, 0
    for b in range(3):
        for y in range(2):
            for x in range(3):
                dot = sum(float(first[b, d, y, x]) * float(second[b, d, y, x]) for d in range(4))
                total, positions = total - math.log(dot + 1e-12), positions + 1
    assert align_loss(first, second).item() == pytest.approx(total / positions, abs=1e-12)

    presence = first.amax((2, 3))
    total = 0.0
    for d in range(4):
        total -= math.log(math.tanh(sum(float(presence[b, d]) for b in range(3))) + 1e-8)
    assert tanh_loss(presence).item() == pytest.approx(total / 4, abs=1e-12)

    evidence = torch.rand(3, 5, generator=generator, dtype=torch.float64) * 4
    labels, total = torch.tensor([4, 0, 2]), 0.0
    for b in range(3):
        scores = [math.log(1 + float(o) ** 2) for o in evidence[b]]
        total -= scores[labels[b]] - math.log(sum(math.exp(s) for s in scores))
    assert class_loss(evidence, labels).item() == pytest.approx(total / 3, abs=1e-12)


def test_each_view_is_aligned_to_the_other_one_as_it_is():
    """Half the gradient of the plain symmetric loss: at each term only one of the views moves."""
    first, second = (torch.randn(2, 4, 3, 3).requires_grad_() for _ in range(2))
    align_loss(first.softmax(1), second.softmax(1)).backward()
    for moving, other in ((first, second), (second, first)):
        alone = moving.detach().clone().requires_grad_()
        (-torch.log((alone.softmax(1) * other.detach().softmax(1)).sum(1) + 1e-12).mean() / 2).backward()
        torch.testing.assert_close(moving.grad, alone.grad)


def test_the_phases_weigh_the_losses():
    made = module(pretrain={"epochs": 4, "align": 2.0}, train={"epochs": 5, "classifier_only": 2})
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


# Training


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
    made, watch = module(pretrain={"epochs": 1}, train={"epochs": 2, "classifier_only": 1}), Watch()
    trainer(3, callbacks=[watch]).fit(made, datamodule=TensorData())
    assert [watch.changed(e) for e in range(3)] == [{"backbone", "add_on"}, {"head"}, {"backbone", "add_on", "head"}]


def test_what_a_phase_fixes_gathers_no_momentum():
    made = module(pretrain={"epochs": 1}, train={"epochs": 2, "classifier_only": 1})
    fit = trainer(3)
    fit.fit(made, datamodule=TensorData())
    steps = {
        name: {int(fit.optimizers[0].state[p]["step"]) for p in parameters}
        for name, parameters in made._groups().items()
    }
    assert steps == {"backbone": {6}, "add_on": {6}, "head": {6}}  # 3 batches in each of two epochs


def test_a_fixed_backbone_keeps_its_batch_statistics():
    learns = {"add_on": 1.0, "head": 1.0}
    made = module(
        pretrain={"epochs": 1, "rates": {"add_on": 1.0}},
        train={"epochs": 1, "classifier_only": 0, "rates": learns},
    )
    watch = Watch()
    assert not any(p.requires_grad for p in made.network.backbone.parameters())
    trainer(2, callbacks=[watch]).fit(made, datamodule=TensorData())
    assert "backbone" not in watch.changed(0) | watch.changed(1)


def test_every_training_step_shrinks_the_connections_to_exact_zeros():
    made = module(pretrain={"epochs": 0}, train={"epochs": 2, "classifier_only": 0}, sparsity=0.3)
    made.optimizer_settings = type(made.optimizer_settings)(lr=1e-9, schedule="constant")
    initial = made.network.head.weight.detach().clone()
    trainer(2, limit_train_batches=1).fit(made, datamodule=TensorData())
    torch.testing.assert_close(made.network.head.weight, (initial - 0.6).clamp(min=0), atol=1e-6, rtol=0)
    trainer(2, limit_train_batches=2).fit(made, datamodule=TensorData())
    assert torch.count_nonzero(made.network.head.weight) == 0
    assert made.network.zeros() == 1


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_evaluating_changes_nothing(verb):
    made, data = module(sparsity=0.1), TensorData()
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
        made = module(pretrain={"epochs": 1}, train={"epochs": 2, "classifier_only": 1}, sparsity=0.05)
        fit = trainer(3, limit_val_batches=limit, num_sanity_val_steps=0, callbacks=[SeedEpochs(0)])
        fit.fit(made, datamodule=TensorData())
        results.append(made.network.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_finishing_switches_off_what_no_training_image_shows():
    made, data = module(), TensorData()
    with torch.no_grad():
        made.network.add_on.weight.zero_()
        made.network.add_on.bias[:] = torch.tensor([0.0, 0, 0, 0, 0, 0, -9])
    figures = made.finish(data)
    assert made.network.mask.tolist() == [True] * 6 + [False]
    assert figures == {"prototypes/present": 6, "prototypes/used": 6}
    assert ("train", False) in data.asked
    assert not made.network.weight()[:, 6].any()


def test_what_is_logged():
    made = module(pretrain={"epochs": 1}, train={"epochs": 1, "classifier_only": 0})
    fit = trainer(2)
    fit.fit(made, datamodule=TensorData())
    figures = {name: float(value) for name, value in fit.callback_metrics.items()}
    names = {"train/align", "train/tanh", "train/class_loss", "lr/head", "val/sparsity", "val/abstention"}
    assert names | {"val/accuracy", "val/local_size", "train/local_size"} <= figures.keys()
    assert 0 <= figures["val/local_size"] <= 7
    assert made.monitor == ("val/accuracy", "max")


def test_learns_and_is_the_same_when_loaded(tmp_path):
    """Six classes at 32 px: far above chance, with zeros in the last layer."""
    pl.seed_everything(0, verbose=False)
    data = ToyBirds("tiny", batch_size=32)
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
    assert torch.equal(loaded.predict(images).logits, made.predict(images).logits)


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
        ({"colour": 1.5}, "model.colour: 1.5 given, from 0 to 1"),
        ({"prototypes": 0}, "model.prototypes: 0 given, at least 1"),
        ({"pretrain": {"rates": {"head": 1.0}}}, "there is no group 'head'"),
        ({"pretrain": {"rates": {}}}, "model.pretrain.rates: a rate for at least one of backbone, add_on"),
        ({"train": {"rates": {"backbone": 1.0}}}, "a rate for the 'head' is needed"),
        ({"train": {"epochs": 2, "classifier_only": 3}}, "3 given, but the phase has 2 epochs"),
        ({"prototypes": None, "pretrain": {"rates": {"add_on": 1.0}}}, "a rate for the backbone is needed where"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ConfigError, match=message):
        module(**options)
