"""A scorer of the user's own: found, checked, and asked for names."""

import sys
import types

import pytest
import torch

from ibd import registry
from ibd.errors import ConfigError, UntrustedError
from ibd.explain.discovery.scorers import find_scorer, fitting_texts, text_scores


@pytest.fixture
def module(monkeypatch):
    made = types.ModuleType("my_scorer")
    made.score = lambda images, texts: images.mean((2, 3))[:, : len(texts)]
    monkeypatch.setitem(sys.modules, "my_scorer", made)
    return made


def test_scores_all_images_in_parts(module):
    images = torch.rand(130, 3, 4, 4)
    found = text_scores(find_scorer("my_scorer:score"), images, ["red", "green"])
    assert torch.allclose(found, images.mean((2, 3))[:, :2])


def test_text_that_fits_a_group_best_is_told_by_all_pictures():
    """The second text is high everywhere: it says nothing of a group."""
    scores = torch.tensor([[1.0, 9.0], [1.0, 9.1], [0.0, 9.0], [0.0, 9.1]])
    best, above = fitting_texts(scores, torch.tensor([0, 0, 1, 1]), 3)
    assert best.tolist()[::2] == [0, -1]
    assert float(above[0]) == pytest.approx(1.0)
    assert bool(above[2].isnan())


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda images, texts: torch.zeros(len(images), 7), r"returns \(2, 7\) for 2 images and 1 texts: \(2, 1\)"),
        (lambda images, texts: torch.full((len(images), 1), torch.nan), "not finite"),
        (lambda images, texts: "high", "it fails: "),
        (lambda images: images, "it fails: TypeError"),
    ],
)
def test_bad_scorers_are_one_line(function, message):
    with pytest.raises(ConfigError, match=message) as caught:
        text_scores(function, torch.zeros(2, 3, 4, 4), ["a"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["my_scorer", "my_scorer:", "my_scorer:scoer", "no_such_module_anywhere:score"])
def test_scorer_that_there_is_not(module, place):
    with pytest.raises(ConfigError, match=r"scorer|no module"):
        find_scorer(place)


def test_scorer_that_a_stranger_names_is_not_called(module):
    with registry.loading(), pytest.raises(UntrustedError, match="--trust"):
        find_scorer("my_scorer:score")
    with registry.trusting(), registry.loading():
        assert find_scorer("my_scorer:score") is module.score
