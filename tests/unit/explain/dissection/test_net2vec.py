"""Net2Vec: a planted combination of filters is found again, and scored on other images."""

import numpy as np
import pytest
import torch
from torch import nn

from ibd.errors import ConfigError
from ibd.explain.dissection.dissect import dissect
from ibd.explain.dissection.net2vec import _best_level, net2vec
from tests.mask_makers import squares


class Halves(nn.Module):
    """Channels that respond to the upper and to the lower half of the squares of the first concept, and to noise."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, image):
        mask = image[:, :1]
        upper, lower = mask.clone(), mask.clone()
        upper[:, :, image.shape[2] // 2 :] = 0
        lower[:, :, : image.shape[2] // 2] = 0
        noise = torch.rand(image.shape[0], 2, *image.shape[2:], generator=torch.Generator().manual_seed(0))
        return self.layer(torch.cat([noise[:, :1] * (1 - mask), upper, noise[:, 1:] * (1 - mask), lower], 1)).mean(
            (2, 3)
        )


@pytest.fixture(scope="module")
def found():
    model, fitted, unseen = Halves(), squares(0), squares(1)
    return model, dissect(model, fitted, unseen, ["layer"], share=0.3), fitted, unseen


def test_a_planted_combination_of_filters_is_found_again(found):
    said = net2vec(*found, layer="layer")
    assert said.filters == (1, 2, 3, 4)
    two = said.weights[1, 0]
    assert two.nonzero().flatten().tolist() == [1, 3]
    assert bool((two[[1, 3]] > 1).all())
    assert said.iou[1:, 0].tolist() == [1.0] * 3  # on unseen images
    assert said.iou[0, 0] == said.single[0]
    assert 0.3 < float(said.single[0]) < 0.8
    assert int(said.single_channel[0]) in (1, 3)
    assert float(said.chance[-1, 0]) < 0.3
    assert "all 4" in str(said)


def test_iou_is_that_of_a_loop(found):
    model, dissected, fitted, unseen = found
    said = net2vec(model, dissected, fitted, unseen, "layer", filters=(2,), pixels=40)
    maps = []
    handle = model.layer.register_forward_hook(lambda _, __, output: maps.append(output))
    for image, _ in unseen.batches():
        model(image)
    handle.remove()
    above = (torch.cat(maps) > dissected.layers[0].thresholds.view(-1, 1, 1)).double()
    for c in range(3):
        told = torch.einsum("u,nuhw->nhw", said.weights[0, c].double(), above) > said.levels[0, c]
        mask = unseen.dataset.masks[:, c]
        assert float(said.iou[0, c]) == pytest.approx(float((told & mask).sum() / (told | mask).sum()))


def test_a_concept_that_is_nowhere_has_no_figure(found):
    model, _, fitted, unseen = found
    without = squares(0)
    without.dataset.masks[:, 1] = False
    dissected = dissect(model, without, unseen, ["layer"], share=0.3)
    said = net2vec(model, dissected, without, unseen, "layer")
    assert said.iou[:, 1].isnan().all()
    assert said.single.isnan().tolist() == [False, True, False]
    with pytest.raises(ConfigError, match="'other' was not dissected; there are layer"):
        net2vec(model, dissected, fitted, unseen, "other")


def test_the_level_of_the_best_iou():
    scores, truth = np.array([0.0, 1, 1, 2, 3]), np.array([False, False, True, True, True])
    assert _best_level(scores, truth, np.ones(5)) == 0.5  # 3 / 4 beats 2 / 3
    assert _best_level(scores, truth, np.array([1, 9, 1, 1, 1.0])) == 1.5
