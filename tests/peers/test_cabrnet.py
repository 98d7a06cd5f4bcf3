"""Our distances and similarities against CaBRNet's (extra `peers`)."""

import pytest
import torch

from ibd.models.protopnet.distance import all_distances, nearest_patches, patches_of
from ibd.models.protopnet.similarity import activate

similarities = pytest.importorskip("cabrnet.core.utils.similarities")


def test_same_similarities():
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(3, 16, 5, 4, generator=generator)
    prototypes = torch.rand(7, 16, 1, 1, generator=generator)
    layer = similarities.ProtoPNetSimilarity()
    theirs = layer.distances(features, prototypes)
    patches, _ = patches_of(features, (1, 1))
    torch.testing.assert_close(all_distances(patches, prototypes.flatten(1)), theirs.flatten(2), atol=1e-4, rtol=1e-4)
    nearest = nearest_patches(patches, prototypes.flatten(1)).distance[..., 0]
    best = layer.distances_to_similarities(theirs).flatten(2).amax(2)
    torch.testing.assert_close(activate(nearest, "log", "l2"), best, atol=1e-4, rtol=1e-4)
