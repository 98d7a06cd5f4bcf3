"""Strategies of a model in a comparison: what clusters lie on, and a tag that is found without being told of it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from ibd import explain
from ibd.comparison.images import images_of_class, some_images
from ibd.comparison.named_places import named_masks, places
from ibd.comparison.probes.strategies import strategies_account
from ibd.comparison.report.clusters import cluster_rows
from ibd.comparison.report.page import family_views, render
from ibd.comparison.stored import joined, split
from ibd.data import ToyBirds
from ibd.errors import ConfigError, DataError, UnsupportedError
from tests.report_makers import MODELS, make_comparison, small_report


@pytest.fixture(scope="module")
def birds():
    return ToyBirds(preset="tiny", tag="patch", tag_rho=1.0, train_size=300, val_size=12, test_size=12)


def test_relevance_on_the_tag_is_said_to_be_there(birds):
    dataset, names = birds.dataset("train"), birds.spec.part_names
    every, masks = named_masks(dataset, [0, 1, 2], names)
    assert every[-1] == "tag"
    assert masks.shape[:2] == (3, len(names) + 1)
    on_tag = masks[:, -1].float()
    assert on_tag.sum((1, 2)).min() > 0
    (first, *others) = places(3 * on_tag - 1, dataset, [0, 1, 2], names, batch_size=2)  # what is below 0 does not count
    assert (first.name, first.share) == ("tag", 1.0)
    assert first.area == pytest.approx(float(on_tag.mean()))
    assert sum(place.share for place in others) < 0.2
    assert "tag: 100% of the relevance" in str(first)
    with pytest.raises(ConfigError, match="1 maps of 2 images"):
        places(on_tag[:1], dataset, [0, 1], names)


class Corners(nn.Module):
    """A network that reads the corners, where the tags of the tiny birds are, and nothing else."""

    def __init__(self, classes=6, size=32):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 4, 4, bias=False)
        self.conv.weight.data = torch.randn(8, 3, 4, 4, generator=generator)
        corners = torch.zeros(size // 4, size // 4)
        corners[[0, 0, -1, -1], [0, -1, 0, -1]] = 1
        self.register_buffer("corners", corners)
        self.head = nn.Linear(8, classes)
        self.head.weight.data = torch.rand(classes, 8, generator=generator)

    def forward(self, image):
        return self.head((self.conv(image).relu() * self.corners).sum((2, 3)))


def test_a_report_shows_the_strange_clusters_of_a_network_that_reads_corners(birds):
    made = SimpleNamespace(module=Corners(), data=birds)
    account = strategies_account(SimpleNamespace(model=made, seed=0))
    assert account.figures["spray_clusters"] >= 1
    assert account.figures["spray_strangest"] == account.clusters[0].strangeness
    assert account.figures["spray_on_tag"] > 5 * account.figures["spray_tag_area"]
    strangest = [cluster.strangeness for cluster in account.clusters]
    assert strangest == sorted(strangest, reverse=True)
    arrays = {}
    kept = joined(type(account), split(account, arrays), arrays)  # as the cache keeps it
    assert np.array_equal(kept.clusters[0].relevance, account.clusters[0].relevance)
    comparison = make_comparison(images=12, shown=0)
    comparison.clusters[MODELS[0].name] = account.clusters
    views = family_views(comparison)
    assert len(views[0].clusters) == len(account.clusters)
    page = render(comparison, views)
    assert 'id="clusters"' in page
    assert "of the relevance on" in page
    assert not cluster_rows(small_report().comparison, views[0].table)


def test_a_class_without_images_is_said(birds):
    with pytest.raises(DataError, match="the test split has no images of"):
        images_of_class(_without(birds), "test", 0, 10)


def _without(birds):
    dataset = SimpleNamespace(labels=torch.ones(3, dtype=torch.int64))
    return SimpleNamespace(dataset=lambda split: dataset, spec=birds.spec, batch_size=2)


def test_data_without_masks_names_nothing():
    class Plain:
        def __getitem__(self, index):
            from ibd.types import Sample

            return Sample(torch.zeros(3, 4, 4), 0, torch.zeros(0), index)

    with pytest.raises(UnsupportedError, match="no part masks"):
        named_masks(Plain(), [0], [])


@pytest.mark.slow
def test_the_tag_that_a_trained_network_reads_is_the_strangest_of_its_clusters(tmp_path):
    import ibd

    config = {
        "name": "hans",
        "output": str(tmp_path),
        "data": {"name": "toybirds", "preset": "hans", "train_size": 1600, "val_size": 100, "batch_size": 32},
        "model": {"name": "baseline", "backbone": {"name": "small_cnn"}},
        "optimizer": {"lr": 0.01, "schedule": "onecycle"},
        "trainer": {"max_epochs": 5, "accelerator": "cpu"},
        "logger": {"name": "wandb", "mode": "disabled"},
    }
    run = ibd.fit(config)
    from ibd.io import load_run

    model, data = load_run(run)
    spread = explain.pixel_spread(some_images(data, "train", 256))
    clusters = []
    for label in range(len(data.spec.class_names)):
        maps = explain.class_maps(model, images_of_class(data, "train", label, 200), label)
        found = explain.spray(maps, spread, draws=9)
        clusters += [(cluster.strangeness, maps, cluster) for cluster in found.clusters]
    strangeness, maps, cluster = max(clusters, key=lambda one: one[0])
    index = maps.index[cluster.members].tolist()
    lies = places(maps.maps[cluster.members], data.dataset("train"), index, data.spec.part_names)
    assert strangeness > 0.5
    assert lies[0].name == "tag"
    assert lies[0].times > 10
