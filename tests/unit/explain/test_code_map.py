"""Maps of codes: planted clusters stay apart, a projection is the closed form, and what a map kept is counted."""

import numpy as np
import pytest
import torch
from torch import nn

from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.code_map import lay_out, neighbours_kept, principal, read_codes, same_class
from ibd.explain.code_map_figures import (
    code_map_figure,
    of_classes,
    of_concept,
    of_errors,
    shown_thumbnails,
    thumbnail,
)
from ibd.types import Batch

close = torch.testing.assert_close


def clusters(count=3, each=12, width=20, seed=0):
    """Far groups around planted centres, in order, and which is which."""
    generator = torch.Generator().manual_seed(seed)
    centres = 10 * torch.randn(count, width, generator=generator)
    labels = torch.arange(count).repeat_interleave(each)
    return centres[labels] + torch.randn(len(labels), width, generator=generator), labels


@pytest.mark.parametrize("method", ["pca", "tsne", pytest.param("umap", marks=pytest.mark.slow)])
def test_planted_clusters_stay_apart(method):
    if method == "umap":
        pytest.importorskip("umap")
    codes, labels = clusters()
    found = lay_out(codes, method, perplexity=8)
    middles = torch.stack([found.places[labels == group].mean(0) for group in range(3)])
    spread = max(float((found.places[labels == g] - middles[g]).norm(dim=1).max()) for g in range(3))
    assert torch.pdist(middles).min() > 2 * spread
    assert same_class(found.places, labels, 20) == 1
    assert found.places.min() == 0
    assert found.places.max() == 1
    again = lay_out(codes, method, perplexity=8)
    if method != "umap":
        close(again.places, found.places)


def test_pca_is_the_projection_on_the_largest_variances():
    """By the covariance's eigenvectors in NumPy; of a line in five dimensions it is the way along the line."""
    codes = clusters()[0].double()
    values, vectors = np.linalg.eigh(np.cov(codes.numpy().T))
    wanted = (codes.numpy() - codes.numpy().mean(0)) @ vectors[:, np.argsort(-values)[:2]]
    for own, other in zip(principal(codes, 2).T, torch.from_numpy(wanted).T, strict=True):
        close(own.abs(), other.abs())
    line = torch.tensor([[2.0, 0, 1, 0, -2]]).double() * torch.arange(6.0).double()[:, None]
    close(principal(line, 2), torch.stack([3 * (torch.arange(6.0) - 2.5), torch.zeros(6)], 1).double())


def test_the_share_of_neighbours_that_is_kept_is_counted():
    """Of four places on a line, of which the last two change places on the map, by hand."""
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert neighbours_kept(line, line, 1) == 1
    swapped = torch.tensor([[0.0], [1.0], [7.0], [3.0]])
    assert neighbours_kept(line, swapped, 1) == 0.5  # that of 2 was 1 and is 3, that of 3 was 2 and is 1
    labels = torch.tensor([0, 0, 1, 1])
    assert same_class(line, labels, 1) == 0.75
    assert same_class(line, labels, 3) == 0.75  # each class has one other: the nearest counts
    assert same_class(line, torch.tensor([0, 0, 1, 2]), 2) == 1  # who is alone does not


class Net(nn.Module):
    """Its layer puts out the color of the image; it predicts class 1 where there is more red than green."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1, bias=False)
        self.layer.weight.data.copy_(torch.eye(3).view(3, 3, 1, 1))

    def forward(self, x):
        color = self.layer(x).mean((2, 3))
        return color[:, [1, 0]]


def batch(colors, start=0, size=4):
    image = torch.tensor(colors).view(-1, 3, 1, 1).expand(-1, 3, size, size).contiguous()
    count = len(image)
    return Batch(image, torch.zeros(count, dtype=torch.long), torch.ones(count, 1), torch.arange(start, start + count))


RED, GREEN = [0.9, 0.1, 0.2], [0.1, 0.8, 0.3]


def test_a_code_is_what_the_layer_puts_out_and_the_class_what_the_model_says():
    codes = read_codes(Net(), [batch([RED, GREEN]), batch([GREEN], 2)], "layer")
    close(codes.values, torch.tensor([RED, GREEN, GREEN]))
    assert codes.predicted.tolist() == [1, 0, 0]
    assert codes.index.tolist() == [0, 1, 2]
    assert codes.complete
    with pytest.raises(UnsupportedError, match="no units"):
        read_codes(Net(), [batch([RED])], "units")
    with pytest.raises(ConfigError, match="no layer 'leyer'"):
        read_codes(Net(), [batch([RED])], "leyer")


def test_an_interrupt_leaves_what_was_read():
    def loader():
        yield batch([RED, GREEN])
        raise KeyboardInterrupt

    codes = read_codes(Net(), loader(), "layer")
    assert not codes.complete
    close(codes.values, torch.tensor([RED, GREEN]))


@pytest.mark.parametrize(
    ("codes", "options", "error", "said"),
    [
        (torch.rand(4, 3), {}, DataError, "at least 5 codes"),
        (torch.ones(9, 3), {}, DataError, "all images have the same code"),
        (torch.full((9, 3), torch.nan), {}, DataError, "finite codes"),
        (torch.rand(9, 3), {"method": "mds"}, ConfigError, "'mds' is not one of tsne, pca, umap"),
        (torch.rand(9, 3), {"perplexity": 1.0}, ConfigError, "perplexity"),
    ],
)
def test_what_cannot_be_laid_out(codes, options, error, said):
    with pytest.raises(error, match=said):
        lay_out(codes, **options)


def test_a_map_is_drawn_in_the_colors_of_its_groups():
    codes, labels = clusters()
    found = lay_out(codes, "pca")
    shown = shown_thumbnails(found.places, 5)
    assert len(shown) <= 5
    pictures = torch.stack([thumbnail(torch.rand(3, 20, 30), 8) for _ in shown])
    names = ["a $5_a$ bird", "wren", "jay"]
    for groups in (
        of_classes(labels, names),
        of_concept(torch.tensor([1.0, 0.0, torch.nan] * 12), "red"),
        of_errors(labels, labels.roll(1)),
    ):
        figure = code_map_figure(found, groups, pictures, shown, "a note")
        assert len(figure.axes) == 2
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["right (33)", "wrong (3)"]
