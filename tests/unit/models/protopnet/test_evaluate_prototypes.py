"""Figures on prototypes: those of the metrics on everything at once, and what is left out where there are no masks."""

import dataclasses
import logging

import pytest
import torch

from ibd.data.toybirds import ToyBirds
from ibd.errors import ConfigError, UnsupportedError
from ibd.metrics.compactness import explanation_size
from ibd.metrics.parts import CONSISTENCY_HALF, PURITY_HALF, add_noise, part_centers, part_hits, peak_positions
from ibd.metrics.prototypes import EnergyPointingGame, PointingGame, PrototypeConsistency, PrototypeStability
from ibd.metrics.purity import PrototypePurity
from ibd.models.protopnet.evaluation import evaluate_prototypes, nearest_patches
from ibd.models.protopnet.explanations import patch_field
from tests.model_makers import LARGE, TensorData, make_module, make_prototypes

PARTS = ("consistency", "stability", "purity", "pointing", "energy_pointing")


@pytest.fixture(scope="module")
def birds():
    return ToyBirds("tiny", train_size=48, val_size=12, test_size=50, masks=True, batch_size=16)


@pytest.fixture(scope="module")
def model(birds):
    return make_prototypes(birds)


def everything(model, data, active, top):
    """Return the figures from one batch of all images and all maps."""
    dataset = data.dataset("test")
    samples = [dataset[i] for i in range(len(dataset))]
    image, masks = torch.stack([s.image for s in samples]), torch.stack([s.masks for s in samples])
    index = torch.arange(len(samples))
    own = dataset.labels.unsqueeze(1) == model.network.classes
    units, parts = len(active), masks.shape[1]
    with torch.no_grad():
        output = model(image)
        noisy = model(add_noise(image, (0.229, 0.224, 0.225), index)).units.maps
    size, maps = data.spec.image_size, output.units.maps
    field = patch_field(model)
    peaks, centers = peak_positions(maps, size, field), part_centers(masks)
    hits, visible = part_hits(peaks, centers, CONSISTENCY_HALF * size[0])
    noisy_hits, _ = part_hits(peak_positions(noisy, size, field), centers, CONSISTENCY_HALF * size[0])
    near, _ = part_hits(peaks, centers, PURITY_HALF * size[0])
    contributions = model.network.contributions(output.units)
    metrics = {
        "consistency": (PrototypeConsistency(units, parts, active=active), (hits, visible, own)),
        "stability": (PrototypeStability(units, active=active), (hits, noisy_hits, own, visible)),
        "purity": (PrototypePurity(units, parts, top, active=active), (output.units.scores, near, visible, index)),
        "pointing": (PointingGame(units, active=active), (peaks, masks, own)),
        "energy_pointing": (EnergyPointingGame(units, active=active), (maps, masks, own, field)),
    }
    figures = {}
    for name, (metric, inputs) in metrics.items():
        metric.update(*inputs)
        figures[name] = float(metric.compute())
    return figures | {"explanation_size": float(explanation_size(contributions, output.logits.argmax(1)).mean())}


@pytest.mark.parametrize("top", [3, 10])
def test_figures_are_those_of_all_images_and_maps_at_once(model, birds, top):
    model.network.mask[5] = False
    model.network.factor[2] = 0
    active = torch.ones(12, dtype=torch.bool)
    active[[2, 5]] = False
    try:
        figures = evaluate_prototypes(model, birds, top=top)
        expected = everything(model, birds, active, top)
    finally:
        model.network.mask.fill_(True)
        model.network.factor.fill_(1)
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert (figures["prototypes"], figures["kept"]) == (12, 10)
    assert 0 <= figures["max_projection_distance"] <= 1e-5


def test_without_masks_it_says_what_is_left_out(caplog):
    data = TensorData(spec=LARGE)
    with caplog.at_level(logging.WARNING):
        figures = evaluate_prototypes(make_prototypes(data), data)
    assert not set(figures) & set(PARTS)
    assert {"kept", "uniqueness", "head_sparsity", "explanation_size"} < set(figures)
    assert [r.getMessage() for r in caplog.records] == [
        "consistency, stability, purity and pointing are left out: the data has no part masks (TensorData is not given "
        "any)"
    ]


def test_masks_that_were_not_asked_for_and_a_model_that_was_never_projected(caplog):
    data = ToyBirds("tiny", train_size=12, val_size=12, test_size=12)
    model = make_prototypes(data)
    model.network.provenance.valid.fill_(False)
    figures = evaluate_prototypes(model, data)
    assert not set(figures) & {*PARTS, "max_projection_distance"}
    assert "data.masks" in caplog.text
    assert "trained further after" in caplog.text


def test_a_single_part_says_nothing_about_consistency(birds, caplog):
    """Whichever place a prototype has, the only part is the one it is nearest to."""
    data = ToyBirds("tiny", train_size=12, val_size=12, test_size=12, masks=True)
    dataset = data.dataset("test")
    load = dataset.load
    dataset.load = lambda i: dataclasses.replace(load(i), masks=load(i).masks.any(0, keepdim=True))
    data.spec = dataclasses.replace(data.spec, part_names=("bird",))
    figures = evaluate_prototypes(make_prototypes(data), data)
    assert set(figures) & set(PARTS) == {"pointing", "energy_pointing"}
    assert "a single part" in caplog.text


def test_mistakes():
    with pytest.raises(UnsupportedError, match="has no prototypes"):
        evaluate_prototypes(make_module(), TensorData(spec=LARGE))
    with pytest.raises(ConfigError, match=r"unknown split 'tests'\. Did you mean 'test'"):
        evaluate_prototypes(make_prototypes(), TensorData(spec=LARGE), split="tests")
    with pytest.raises(ConfigError, match="needs the data"):
        evaluate_prototypes(make_prototypes())


@pytest.mark.parametrize("distance", ["cosine", "l2"])
@pytest.mark.parametrize("extent", [1, 2])
def test_nearest_patches(distance, extent):
    data = TensorData(spec=LARGE)
    model = make_prototypes(data, distance=distance, extent=extent)
    found = nearest_patches(model, data, "test", k=4)
    assert len(found) == 6 * 4
    dataset = data.dataset("test")
    scores = model.predict(data.splits["test"][0]).units.scores
    for unit in range(6):
        mine = [patch for patch in found if patch.prototype == unit]
        assert [patch.rank for patch in mine] == [0, 1, 2, 3]
        highest = scores[:, unit].sort(descending=True).values[:4]
        torch.testing.assert_close(scores[[patch.index for patch in mine], unit], highest, atol=1e-4, rtol=0)
        assert len({patch.index for patch in mine}) == 4
        for patch in mine:
            assert patch.similarity == pytest.approx(float(scores[patch.index, unit]), abs=1e-4)
            assert patch.class_name == data.spec.class_names[dataset.labels[patch.index]]
            assert patch.sample == f"tensor {patch.index}"
            image = dataset[patch.index].image.unsqueeze(0)
            heat = model.predict(image).units.maps[0, unit]
            assert float(heat[patch.row, patch.column]) == pytest.approx(float(heat.max()), abs=1e-4)


def test_the_nearest_training_patch_is_the_source():
    data = TensorData(spec=LARGE)
    model = make_prototypes(data)
    first = nearest_patches(model, data, "train", k=1)
    assert [(p.index, p.row, p.column) for p in first] == [(s.index, s.row, s.column) for s in model.sources()]
