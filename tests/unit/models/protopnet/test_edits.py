"""Prototypes that a person switches off, reweighs or replaces, for one prediction or for good."""

import pytest
import torch

from ibd.errors import ConfigError, DataError
from ibd.io import load_model
from ibd.models.protopnet.push import push
from tests.unit.models.protopnet.makers import SquareData, make_module


@pytest.fixture
def module():
    module = make_module().eval()
    push(module.network, SquareData())
    torch.manual_seed(1)
    torch.nn.init.normal_(module.network.head.weight)
    return module


@pytest.fixture
def images():
    return SquareData().splits["test"][0][:5]


def test_contributions_add_up(module, images):
    prediction = module.predict(images)
    torch.testing.assert_close(prediction.contributions.sum(1), prediction.logits, atol=1e-5, rtol=0)
    by_hand = prediction.units.scores[:, :, None] * module.network.head.weight.detach().t()[None]
    torch.testing.assert_close(prediction.contributions, by_hand)
    assert not module.network.bias().any()


@pytest.mark.parametrize("factor", [0, 0.5, 2, -1])
def test_a_factor(module, images, factor):
    """0 is what would be without the prototype."""
    before = module.predict(images)
    after = before.intervene({"prototype 3": factor})
    expected = before.logits + (factor - 1) * before.contributions[:, 3]
    torch.testing.assert_close(after.logits, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(after.contributions.sum(1), after.logits, atol=1e-5, rtol=0)
    others = [j for j in range(6) if j != 3]
    assert torch.equal(after.contributions[:, others], before.contributions[:, others])
    assert after.edited[:, 3].all()
    assert not after.edited[:, others].any()
    assert torch.equal(module.predict(images).logits, before.logits)  # only for this prediction
    assert "prototype 3" in after.table(0, top=1)
    assert "multiplied by what is given" in after.table(0)


def test_one_factor_for_each_image(module, images):
    before = module.predict(images)
    factors = torch.tensor([0.0, 1.0, 2.0, 1.0, 0.5])
    after = before.intervene({2: factors})
    torch.testing.assert_close(after.units.scores[:, 2], before.units.scores[:, 2] * factors)


def test_mistakes(module, images):
    prediction = module.predict(images)
    with pytest.raises(ConfigError, match=r"unknown prototype 'prototyp 3'. Did you mean.*'prototype 3'"):
        prediction.intervene({"prototyp 3": 0})
    with pytest.raises(ConfigError, match="no prototype 6: there are 6"):
        module.reweight({6: 0})
    with pytest.raises(ConfigError, match="a finite number"):
        module.reweight({1: float("nan")})
    assert torch.equal(module.network.factor, torch.ones(6))
    with pytest.raises(ConfigError, match=r"there is no position \(4, 0\): patches lie in 4 rows, 3 columns"):
        module.replace(0, images[0], 4, 0)
    with pytest.raises(DataError, match="the model was trained on 32 x 24"):
        module.replace(0, torch.rand(3, 16, 16), 0, 0)


def test_reweight_is_an_intervention_for_good(module, images):
    expected = module.predict(images).intervene({"prototype 3": 0, 1: 2.0}).logits
    module.reweight({"prototype 3": 0, 1: 2.0})
    edited = module.predict(images)
    torch.testing.assert_close(edited.logits, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(edited.contributions.sum(1), edited.logits, atol=1e-5, rtol=0)
    module.reweight({"prototype 3": 1, 1: 1})
    torch.testing.assert_close(module.predict(images).logits, module.predict(images).intervene({}).logits)
    assert torch.equal(module.network.factor, torch.ones(6))


def test_replace_takes_the_patch_of_an_image(module, images):
    module.replace("prototype 4", images[2], 1, 2)
    similarity = module.predict(images).units
    assert float(similarity.maps[2, 4, 1, 2]) >= 9.20
    assert float(similarity.scores[2, 4]) >= 9.20
    distances = module.verify_projection(SquareData())
    assert distances.isnan().tolist() == [j == 4 for j in range(6)]
    source = module.sources()[4]
    assert (source.index, source.row, source.column) == (-1, 1, 2)


def test_edits_are_saved(module, images, tmp_path):
    from torchvision.utils import save_image

    save_image(images[1], tmp_path / "bird.png")
    module.reweight({0: 0.5, "prototype 3": 0})
    module.replace(5, str(tmp_path / "bird.png"), 2, 1)
    module.network.mask[2] = False
    module.save(tmp_path / "edited.ckpt")
    loaded = load_model(tmp_path / "edited.ckpt")
    before, after = module.predict(images), loaded.predict(images)
    torch.testing.assert_close(after.logits, before.logits)
    assert not after.contributions[:, [2, 3]].any()
    assert loaded.network.factor.tolist() == [0.5, 1, 1, 0, 1, 1]
    assert loaded.sources()[:5] == module.sources()[:5]
    assert loaded.sources()[5].sample.endswith("bird.png")
    loaded.verify_projection(SquareData())
    assert loaded.predict(images).table(0, top=0) == module.predict(images).table(0, top=0)


def test_the_table_names_weight_class_and_source(module, images):
    text = module.predict(images).table(0, top=0)
    source = module.sources()[0]
    line = next(line for line in text.splitlines() if "prototype 0 " in line)
    assert f"ant  {source.sample} ({source.row}, {source.column})" in line
