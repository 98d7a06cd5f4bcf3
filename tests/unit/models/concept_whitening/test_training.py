"""Concept examples, passes that turn the axes, recalibration, whole small trainings."""

import logging

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from ibd.errors import ConfigError, DataError
from ibd.io import load_model
from ibd.metrics.concepts import auroc_per_concept
from ibd.models.concept_whitening.alignment import Alignment, align, turn
from ibd.models.concept_whitening.examples import ConceptExamples, ConceptImages, draw
from ibd.models.concept_whitening.layer import ConceptWhiteningLayer
from ibd.models.concept_whitening.recalibration import recalibrate
from tests.unit.models.concept_whitening.makers import SPEC, ColorData, make_module, make_network

COLORS = ["wing::red", "wing::blue", "wing::green"]


def fit(module, data, epochs=1, **options):
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return trainer


def test_draw():
    concepts = torch.tensor([[1, 0], [1, 1], [0, 1], [torch.nan, 1], [1, 0], [0, 0]])
    for seed in range(5):
        indices = draw(concepts, 2, seed)
        assert (concepts[indices] > 0.5).any(1).all()  # never 5, which shows nothing
        assert bool(((concepts[indices] > 0.5).sum(0) >= 2).all())
        assert len(indices) == len(indices.unique()) <= 4
        assert torch.equal(indices, draw(concepts, 2, seed))
    assert draw(concepts, 100, 0).tolist() == [0, 1, 2, 3, 4]
    many = (torch.rand(500, 20, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    indices = draw(many, 4, 0)
    assert int(many[indices].sum(0).min()) >= 4
    assert len(indices) <= 25  # of 80 for each concept by itself
    assert len({tuple(draw(torch.ones(30, 1), 3, seed).tolist()) for seed in range(5)}) == 5


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_passes_are_the_same_however_they_are_read(workers):
    """In order, from the middle (as a resumed run does), by one process or the shares of two."""
    dataset = ColorData().dataset("train")
    one = ConceptExamples(dataset, [0, 1, 2], 4, 5, workers)
    passes = [[torch.cat(part) for part in zip(*one.read(number), strict=True)] for number in range(3)]
    assert len(passes[0][0]) == len(passes[0][1]) == 12
    assert bool((passes[0][1] == 1).any(1).all())
    assert not torch.equal(passes[0][0], passes[1][0])
    later = ConceptExamples(dataset, [0, 1, 2], 4, 5, workers)
    assert torch.equal(torch.cat([image for image, _ in later.read(2)]), passes[2][0])
    shares = [ConceptExamples(dataset, [0, 1, 2], 4, 5, workers, 0, rank, 2) for rank in range(2)]
    both = torch.cat([image for share in shares for image, _ in share.read(1)])
    assert torch.equal(both.sum((1, 2, 3)).sort().values, passes[1][0].sum((1, 2, 3)).sort().values)


@pytest.mark.parametrize("workers", [0, 1])
def test_more_processes_than_examples(workers):
    """The one that has nothing to read does not wait for it."""
    dataset = ColorData().dataset("train")
    share = ConceptExamples(dataset, [0], 1, 5, workers, 0, 1, 2)
    assert [list(share.read(number)) for number in range(3)] == [[], [], []]


def test_images_of_a_folder_for_each_concept(tmp_path):
    for name, count in (("wing::red", 2), ("flies", 1)):
        (tmp_path / name).mkdir()
        for index in range(count):
            Image.new("RGB", (20, 30), (200, 10 * index, 0)).save(tmp_path / name / f"{index}.png")
    module = make_module(concept_folder=str(tmp_path))
    assert module.network.concept_names == ["flies", "wing::red"]
    images = ConceptImages(tmp_path, ["wing::red", "flies"], SPEC)
    assert len(images) == 3
    torch.testing.assert_close(
        images.concepts, torch.tensor([[1, torch.nan], [1, torch.nan], [torch.nan, 1]]), equal_nan=True
    )
    assert images[0].image.shape == (3, 16, 16)
    assert images.sample_id(2).endswith("flies/0.png")
    fit(module, ColorData((32, 8, 8)), limit_val_batches=0)
    assert module.annotated == {0: 5, 1: 0}
    with pytest.raises(DataError, match=r"has no folder 'swims'"):
        ConceptImages(tmp_path, ["swims"], SPEC)
    (tmp_path / "flies" / "._0.png").write_bytes(b"not an image")  # as macOS leaves them behind
    assert len(ConceptImages(tmp_path, ["flies"], SPEC)) == 1
    (tmp_path / "flies" / "1.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"flies/1.png: cannot be read"):
        module.check_data(ColorData())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty' holds no image"):
        ConceptImages(tmp_path, ["empty"], SPEC)


def test_a_pass_turns_the_axes_of_every_layer_up_the_activation():
    network = make_network(layers=["stage2.norm", "stage3.norm"], activation="mean")
    data = ColorData()
    examples = list(ConceptExamples(data.dataset("train"), list(range(6)), 200, 200).read(0))
    before = {name: layer.rotation.clone() for name, layer in network.whitened.items()}
    image, concepts = examples[0]
    first = []
    for _ in range(3):  # what reaches the second layer changes with the axes of the first
        reached = network.pool(network.depth_maps(image)["stage2.norm"])[:, :6]
        first.append((reached * (concepts > 0.5)).sum(0) / (concepts > 0.5).sum(0))
        align(network, examples, Alignment(momentum=1.0))
    assert bool((first[1] > first[0]).all())
    assert float(first[2].sum()) > float(first[1].sum())
    assert not network.training
    for name, layer in network.whitened.items():
        assert float((layer.rotation - before[name]).abs().max()) > 0.1
        eye = torch.eye(layer.channels)
        torch.testing.assert_close(layer.rotation @ layer.rotation.t(), eye, atol=1e-5, rtol=0)


def test_the_pull_does_not_depend_on_the_batches_of_a_pass():
    data = ColorData(unknown=0.3)
    pulls = []
    for size in (7, 200):
        network = make_network()
        align(network, ConceptExamples(data.dataset("train"), list(range(6)), 200, size).read(0), Alignment())
        pulls.append(network.whitened["stage3.norm"].pull.clone())
    torch.testing.assert_close(*pulls)


def test_pulls_are_averaged_over_the_passes():
    layer = ConceptWhiteningLayer(5, 2)
    first, second = torch.randn(2, 2, 5)
    turn(layer, first, torch.tensor([True, True]), Alignment(momentum=0.25))
    torch.testing.assert_close(layer.pull, first)
    turn(layer, second, torch.tensor([True, False]), Alignment(momentum=0.25))
    torch.testing.assert_close(layer.pull[0], 0.75 * first[0] + 0.25 * second[0])
    torch.testing.assert_close(layer.pull[1], first[1])


@torch.no_grad()
def test_recalibration_whitens_what_it_has_seen():
    """Mean and covariance over all images, layer after layer, by an obvious calculation in float64."""
    network = make_network(layers=["stage1.norm", "stage3.norm"], whitening={"shrinkage": 0.0, "eps": 0.0})
    data = ColorData((90, 8, 8))
    for layer in network.whitened.values():
        layer.running_mean.add_(3.0)
    scores = recalibrate(network, data)
    images = data.splits["train"][0]
    torch.testing.assert_close(scores, network.encode(images).scores)
    for maps in network.depth_maps(images).values():
        flat = maps.permute(0, 2, 3, 1).flatten(0, 2).double()
        assert float(flat.mean(0).abs().max()) < 1e-3
        torch.testing.assert_close(flat.t() @ flat / len(flat), torch.eye(flat.shape[1]).double(), atol=2e-3, rtol=0)


@pytest.mark.parametrize("rotation", ["cayley", "procrustes"])
def test_a_training_gives_the_first_axes_their_meaning(rotation):
    data = ColorData((192, 48, 96))
    module = make_module(
        activation="mean",
        concepts=COLORS,
        alignment={"every": 3, "images": 16, "rotation": rotation},
        optimizer={"lr": 0.02},
    )
    fit(module, data, epochs=4)
    module.finish(data)
    images, labels, concepts = data.splits["test"]
    output = module.predict(images)
    assert float((output.labels == labels).float().mean()) > 0.9
    purity = auroc_per_concept(output.units.scores[:, :3], concepts[:, :3])
    assert float(purity.min()) > 0.9
    others = auroc_per_concept(output.units.scores[:, [1, 2, 0]], concepts[:, :3])
    assert float(others.max()) < 0.6  # an axis is not high for all colors
    assert bool((module.network.low <= module.network.high).all())


def test_a_training_too_short_for_a_pass_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        fit(make_module(alignment={"every": 3}), ColorData((32, 8, 8)))
    assert "fewer steps than model.alignment.every (3): no axis was turned" in caplog.text


def test_finishing_scores_the_model_that_is_kept():
    data = ColorData()
    module = make_module(alignment={"every": 0})
    fit(module, data)
    figures = module.finish(data)
    images, labels, concepts = data.splits["val"]
    prediction = module.predict(images)
    assert figures["finished/accuracy"] == pytest.approx(float((prediction.labels == labels).float().mean()))
    purity = auroc_per_concept(prediction.units.scores[:, :6], concepts).nanmean()
    assert figures["finished/axis_purity"] == pytest.approx(float(purity), abs=1e-6)


def test_axes_stay_where_they_are_without_passes():
    module = make_module(alignment={"every": 0})
    fit(module, ColorData((32, 8, 8)))
    assert torch.equal(module.network.whitened["stage3.norm"].rotation, torch.eye(32))


def test_passes_come_every_so_many_steps(monkeypatch):
    seen = []
    module = make_module(alignment={"every": 4, "images": 2})
    monkeypatch.setattr(
        "ibd.models.concept_whitening.lightning.align",
        lambda network, examples, settings: seen.append(module.trainer.global_step) or torch.zeros(6),
    )
    fit(module, ColorData((96, 16, 16)), epochs=3, accumulate_grad_batches=2)  # 3 steps of 2 batches an epoch
    assert seen == [4, 8]


def test_concepts_without_examples(caplog):
    data = ColorData((32, 16, 8))
    data.splits["train"][2][:, 5] = 0
    data.splits["train"][2][:, 4] = 1
    data.splits["train"][2][::2, 3] = torch.nan  # known of half of the images, and present there: examples enough
    data.splits["train"][2][1::2, 3] = 1
    module = make_module(alignment={"every": 1, "images": 4})
    with caplog.at_level(logging.WARNING):
        fit(module, data)
    names = data.spec.concept_names
    assert (
        f"the training images teach nothing about these concepts: never present: '{names[5]}'; "
        f"never absent: '{names[4]}': their axes mean nothing" in caplog.text
    )
    assert not module.network.whitened["stage3.norm"].pull[5].any()
    data.splits["train"][2][:] = torch.nan
    with pytest.raises(DataError, match="the concepts of the training images teach nothing: never known"):
        fit(make_module(), data)
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    loader = data.train_dataloader()
    with pytest.raises(ConfigError, match="needs trainer"):
        trainer.fit(make_module(), train_dataloaders=loader)


def test_a_checkpoint_needs_neither_data_nor_folder(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / "examples" / name).mkdir(parents=True)
        Image.new("RGB", (20, 30)).save(tmp_path / "examples" / name / "0.png")
    module = make_module(concept_folder=str(tmp_path / "examples"), layers=["stage[23].norm"])
    module.save(tmp_path / "model.ckpt")
    for path in (tmp_path / "examples").rglob("*.png"):
        path.unlink()
    for name in ("ant", "bee", ""):
        (tmp_path / "examples" / name).rmdir()
    loaded = load_model(tmp_path / "model.ckpt")
    assert loaded.network.concept_names == ["ant", "bee"]
    assert loaded.network.layer_names == ["stage2.norm", "stage3.norm"]
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(loaded.predict(images).logits, module.eval().predict(images).logits)
