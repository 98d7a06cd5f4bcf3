"""Activation atlases: planted clusters of places get cells of their own, which are drawn as what they hold."""

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain import atlas as module
from ibd.explain.atlas import activation_atlas, atlas_examples, by_cell, sample_places
from ibd.explain.atlas_figures import atlas_figure, top_classes
from ibd.types import Batch

close = torch.testing.assert_close
COLORS = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]])
FAST = {"grid": 6, "least": 2, "perplexity": 8, "size": 16, "steps": 12, "progress": False}


class Painted(nn.Module):
    """Its layer holds the colors of the image; a class for each color, by the mean over it and a linear layer."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Conv2d(3, 3, 1, bias=False), nn.Linear(3, 3)
        self.layer.weight.data.copy_(torch.eye(3).view(3, 3, 1, 1))
        self.head.weight.data.copy_(2 * torch.eye(3))

    def forward(self, x):
        return self.head(self.layer(x).mean((2, 3)))


def batches(count=8, size=4):
    """Images of four quarters, each of one of the three colors, a little noisy."""
    generator = torch.Generator().manual_seed(0)
    for start in range(0, count, 4):
        chosen = torch.randint(3, (4, 2, 2), generator=generator)
        image = COLORS[chosen].permute(0, 3, 1, 2).repeat_interleave(size // 2, 2).repeat_interleave(size // 2, 3)
        image = image + 0.05 * torch.rand(image.shape, generator=generator)
        labels = torch.arange(4) % 3
        yield Batch(image.clamp(0, 1), labels, torch.empty(4, 0), torch.arange(start, start + 4))


def sampled(**options):
    return sample_places(Painted(), batches(), "layer", [0, 1, 2], **{"per_image": 16, **options})


def test_places_hold_what_the_layer_puts_out_there():
    """And what they do for a class is the weight times that, over the number of places: it adds up to the logits."""
    model, found = Painted(), sampled()
    images = torch.cat([batch.image for batch in batches()])
    row, column = found.places.unbind(1)
    wanted = images[found.index, :, row, column]
    close(found.vectors, wanted)
    weight = model.head.weight - model.head.weight.mean(0)
    close(found.parts, wanted @ weight.t() / 16)
    logits = model(images) - model.head.bias
    close(found.parts.view(8, 16, 3).sum(1), (logits - logits.mean(1, keepdim=True)).detach())
    assert found.complete


def test_planted_clusters_get_cells_of_their_own():
    found = sampled()
    truth = (found.vectors @ COLORS.t()).argmax(1)
    atlas = activation_atlas(Painted(), found, "layer", **FAST)
    for number in range(len(atlas.cells)):
        inside = atlas.member == number
        assert int(inside.sum()) == int(atlas.counts[number])
        assert len(truth[inside].unique()) == 1
        close(atlas.vectors[number], found.vectors[inside].mean(0))
        close(atlas.parts[number], found.parts[inside].mean(0))
        color = int(truth[inside][0])
        assert int(top_classes(atlas)[number]) == color
        assert int(atlas.images[number].mean((1, 2)).argmax()) == color  # what excites a red cell is red
    assert (atlas.member >= 0).sum() > 100
    assert atlas.counts.tolist() == sorted(atlas.counts.tolist(), reverse=True)
    images = torch.cat([batch.image for batch in batches()])
    examples = atlas_examples(Painted(), found, atlas, images, 8)
    close(examples.mean((2, 3)), found.vectors[atlas.nearest])  # a cell of this layer sees one pixel
    assert torch.equal(atlas.member[atlas.nearest], torch.arange(len(atlas.cells)))
    figure = atlas_figure(atlas, found, ["red", "$green", "blue"], examples)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["red", "$green", "blue"]


def test_the_cells_of_a_grid_by_hand():
    """Rows count from above, places from below; a cell of one place is left out."""
    places = torch.tensor([[0.0, 0.0], [0.1, 0.2], [1.0, 1.0], [0.9, 0.1], [0.6, 0.4], [0.7, 0.3]])
    cells, counts, member = by_cell(places, 2, 2)
    assert cells.tolist() == [[1, 1], [1, 0]]
    assert counts.tolist() == [3, 2]
    assert member.tolist() == [1, 1, -1, 0, 0, 0]


def test_the_places_of_an_image_do_not_depend_on_its_batch():
    apart = [Batch(b.image[i : i + 1], b.label[i : i + 1], b.concepts[i : i + 1], b.index[i : i + 1])
             for b in batches() for i in range(4)]  # fmt: skip
    one = sample_places(Painted(), apart, "layer", [0, 2], per_image=3)
    other = sample_places(Painted(), batches(), "layer", [0, 2], per_image=3)
    assert torch.equal(one.places, other.places)
    close(one.parts, other.parts)
    assert len(sampled(most=20).vectors) == 20


def test_an_interrupt_leaves_what_is_done(monkeypatch):
    def loader():
        yield next(batches())
        raise KeyboardInterrupt

    found = sample_places(Painted(), loader(), "layer", [0], per_image=16)
    assert not found.complete
    assert len(found.vectors) == 64
    drawn, calls = module.small_images, []

    def stopped(*args):
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return drawn(*args)

    monkeypatch.setattr(module, "small_images", stopped)
    atlas = activation_atlas(Painted(), found, "layer", batch_size=2, **FAST)
    assert not atlas.complete
    assert len(atlas.images) == 2
    assert f"not drawn, {len(atlas.cells) - 2} of {len(atlas.cells)} cells" in " ".join(
        atlas_figure(atlas, found, ["red"]).get_supxlabel().split()
    )


@pytest.mark.parametrize(
    ("work", "error", "said"),
    [
        (lambda: sampled(per_image=0), ConfigError, "per_image"),
        (lambda: sample_places(Painted(), batches(), "head", [0]), UnsupportedError, "puts out no map"),
        (lambda: sample_places(Painted(), batches(), "layer", [3]), ConfigError, "no class 3"),
        (lambda: sample_places(Painted(), [], "layer", [0]), DataError, "no images"),
        (lambda: activation_atlas(Painted(), sampled(), "layer", least=1000), DataError, "no cell of 10 x 10"),
    ],
)
def test_what_cannot_be_drawn(work, error, said):
    with pytest.raises(error, match=said):
        work()
