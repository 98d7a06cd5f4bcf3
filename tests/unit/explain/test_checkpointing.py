"""Models that compute parts again on the way back, against the same ones that do not."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils import checkpoint

from ibd.explain.checkpointing import kept
from tests.explainer_makers import APART, EXPLAINERS, Functional, explainer, images


class Checkpointed(Functional):
    def __init__(self, kind):
        torch.manual_seed(0)
        super().__init__()
        self.middle, self.kind = nn.Conv2d(6, 6, 3, padding=1), kind

    def features(self, image):
        def last(x):
            return F.relu(self.middle(F.relu(x)))

        x = F.relu(self.second(F.relu(self.first(image))))
        return last(x) if self.kind is None else checkpoint.checkpoint(last, x, use_reentrant=self.kind == "reentrant")

    def forward(self, image):
        return self.head(self.features(image).mean((2, 3)))


@pytest.mark.parametrize("kind", ["reentrant", "other"])
@pytest.mark.parametrize(
    "row", [row for row in EXPLAINERS if row not in ("intrinsic", *APART) and not row.startswith("lrp: ")]
)
def test_every_explainer_answers_as_without(row, kind):
    image = images(2)
    torch.testing.assert_close(
        explainer(row)(Checkpointed(kind), image, 1).map, explainer(row)(Checkpointed(None), image, 1).map
    )


@pytest.mark.parametrize("kind", ["reentrant", "other"])
@pytest.mark.parametrize("row", ["saliency", "guided_backprop", "gradcam", "lrp"])
def test_also_by_a_layer_inside(row, kind):
    made = type(explainer(row))
    maps = [made(layer="middle")(Checkpointed(each), images(2), 1).map for each in (kind, None)]
    torch.testing.assert_close(*maps)


def test_afterwards_parts_are_computed_again():
    names = ("_checkpoint_without_reentrant_generator", "_checkpoint_without_reentrant_generator_impl")
    names = [*(name for name in names if hasattr(checkpoint, name)), "CheckpointFunction"]
    before = [getattr(checkpoint, name) for name in names]
    with kept(), kept():
        assert all(getattr(checkpoint, name) is not each for name, each in zip(names, before, strict=True))
    with pytest.raises(IndexError), kept():
        names[9]
    assert all(getattr(checkpoint, name) is each for name, each in zip(names, before, strict=True))
    first, second = kept(), kept()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # not in the order of a stack, as of two threads
    second.__exit__(None, None, None)
    assert all(getattr(checkpoint, name) is each for name, each in zip(names, before, strict=True))
