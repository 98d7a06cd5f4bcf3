"""Projection on training patches, against loops in float64, and what it leaves as it was."""

import weakref

import pytest
import torch
from torch import nn

from ibd.errors import CheckpointError, DataError
from ibd.models.protopnet import scan
from ibd.models.protopnet.collapse import DeadPrototypes
from ibd.models.protopnet.distance import patches_of
from ibd.models.protopnet.phases import LastLayer, Prune
from ibd.models.protopnet.projection import project
from ibd.models.protopnet.prune import kept_prototypes
from ibd.models.protopnet.push import projection_distances, push, sources
from tests.reference import prototypes as reference
from tests.unit.models.protopnet.makers import (
    GRID,
    SquareData,
    batch_statistics,
    features_of,
    make_module,
    make_network,
)

QUICK = LastLayer(ridge=0.1, tolerance=1e-2)


def provenance(network):
    return {name: value.clone() for name, value in network.provenance.named_buffers()}


@pytest.mark.parametrize("kind", ["l2", "cosine"])
@pytest.mark.parametrize("extent", [1, 2])
def test_the_nearest_patch_of_the_class(kind, extent):
    """Over several chunks, the last of which is not full; before, every prototype is something else."""
    network, data = make_network(distance=kind, extent=extent), SquareData()
    before = network.prototypes.detach().clone()
    report = push(network, data)
    images, labels, _ = data.splits["train"]
    expected = reference.push(features_of(network, data), labels, before, network.classes, kind, extent)
    columns = GRID[1] + 1 - extent
    for source, moved, (image, position, distance, patch) in zip(sources(network), report.moved, expected, strict=True):
        assert (source.index, source.row * columns + source.column) == (image, position)
        assert source.sample == f"tensor {image}"
        assert (
            source.class_name
            == data.spec.class_names[int(labels[image])]
            == network.class_names[int(network.classes[source.prototype])]
        )
        assert float(moved) == source.moved == pytest.approx(distance, rel=1e-4, abs=1e-6)
        # Chunks and single images round differently. With a random walk of 2^-24 for each product of the five layers,
        # carried through the weights' absolute values, a feature is off by up to 1.0e-5 ("l2") and 4.2e-5 ("cosine").
        wanted, bound = torch.tensor(patch), {"l2": 1e-5, "cosine": 4e-5}[kind]
        torch.testing.assert_close(network.prototypes[source.prototype].double(), wanted, atol=bound, rtol=0)
    assert {source.index // scan.CHUNK for source in sources(network)} != {len(images) // scan.CHUNK}
    assert float(projection_distances(network, data).max()) <= 1e-12


def test_batch_size_workers_and_order_change_nothing():
    """Error 10 of others: the index of a shuffled or sharded loader names another image."""
    results = []
    for batch_size, workers in ((1, 0), (7, 0), (64, 1)):
        network = make_network()
        data = SquareData(batch_size=batch_size, num_workers=workers)
        push(network, data)
        results.append((network.prototypes.detach().clone(), provenance(network)))
        shuffled = [int(i) for batch in data.train_dataloader() for i in batch.index]
        assert sorted(shuffled) == list(range(70))
        assert shuffled != list(range(70))  # such a loader would have been wrong
    for prototypes, where in results[1:]:
        assert torch.equal(prototypes, results[0][0])
        for name, value in where.items():
            assert torch.equal(value.nan_to_num(-1), results[0][1][name].nan_to_num(-1)), name


def test_error_10_without_augmentation():
    """The augmented images of this data are black; a projection on them would be one on nothing that is stored."""
    network, data = make_network(), SquareData()
    project(network, data, False, QUICK, Prune())
    assert {augment for _, augment in data.asked} == {False}
    assert {split for split, _ in data.asked} == {"train"}


def test_error_9_images_are_normalized_as_in_use():
    """Normalization is a layer of the network: there is nothing that a projection could forget."""
    network, data = make_network(), SquareData()
    push(network, data)
    image = data.dataset("train")[sources(network)[0].index].image  # as it is stored, in [0, 1]
    units = network.encode(image[None])
    assert units.scores[0, 0].item() >= 9.20
    wrong = network.backbone.normalize(image)  # as if the loader did it as well
    assert network.encode(wrong[None]).scores[0, 0].item() < 9


def test_error_2_the_best_of_all_batches():
    """Not of the last one that has the class: here the nearest patches are in the first chunk."""
    network, data = make_network(), SquareData()
    _, labels, _ = data.splits["train"]
    patches, _ = patches_of(features_of(network, data), (1, 1))
    chosen = [(int((labels == c).nonzero()[n]), 5 + n) for c in range(3) for n in range(2)]
    assert max(image for image, _ in chosen) < scan.CHUNK
    with torch.no_grad():
        for j, (image, position) in enumerate(chosen):
            network.prototypes[j] = patches[image, position] + 1e-5
    push(network, data)
    assert [(s.index, s.row * GRID[1] + s.column) for s in sources(network)] == chosen


def make_exact(**options):
    """Return a network whose features and distances are exact, in whatever order they are added up."""
    network = make_network(**options)
    network.features = lambda image: torch.cat([image, image.flip(1), image[:, :2]], 1)[:, :, 4::8, 4::8].mul(8).round()
    with torch.no_grad():
        network.prototypes.mul_(8).round_()
    return network


@pytest.mark.parametrize("distinct", [False, True])
def test_ties_go_to_the_first_image_and_position(distinct):
    """Every image is there twice, in chunks that lie apart. This is exact, as the distances themselves are."""
    network, data = make_exact(per_class=3), SquareData(sizes=(80, 6, 6))
    images, labels, _ = data.splits["train"]
    images[40:], labels[40:] = images[:40].clone(), labels[:40].clone()
    before = network.prototypes.detach().clone()
    push(network, data, distinct)
    found = [(source.index, source.row * GRID[1] + source.column) for source in sources(network)]
    expected = reference.push(features_of(network, data), labels, before, network.classes)
    if distinct:
        assert len(set(found)) == 9
        assert found[0] == expected[0][:2]
    else:
        assert found == [each[:2] for each in expected]
        assert all(image < 40 for image, _ in found)
    flat, data = make_exact(), SquareData(sizes=(80, 6, 6))
    data.splits["train"][0].fill_(0.5)  # all images are alike, and so are all patches
    push(flat, data)
    labels = data.splits["train"][1]
    for source in sources(flat):
        first = int((labels == source.prototype // 2).nonzero()[0])
        assert (source.index, source.row, source.column) == (first, 0, 0)


def test_distinct_patches():
    network, data = make_network(per_class=4), SquareData()
    with torch.no_grad():
        network.prototypes.copy_(network.prototypes[::4].repeat_interleave(4, 0))  # all want the same one
    together = push(network, data)
    assert together.duplicates == 9
    apart = push(network, data, distinct=True)
    assert apart.duplicates == 0
    where = [(source.index, source.row, source.column) for source in sources(network)]
    assert len(set(where)) == 12
    labels = data.splits["train"][1]
    assert all(int(labels[source.index]) == source.prototype // 4 for source in sources(network))
    assert float(projection_distances(network, data).max()) <= 1e-12


def test_distinct_takes_the_nearest_that_are_free():
    """Four prototypes at the same place get the four nearest patches of their class."""
    network, data = make_network(per_class=4), SquareData()
    with torch.no_grad():
        network.prototypes.copy_(network.prototypes[::4].repeat_interleave(4, 0))
    before = network.prototypes.detach().clone()
    report = push(network, data, distinct=True)
    labels = data.splits["train"][1]
    features = features_of(network, data)
    for c in range(3):
        all_of_class = sorted(
            d for i in (labels == c).nonzero().flatten() for d, _ in reference.nearest(features[i], before[4 * c])
        )
        assert sorted(report.moved[4 * c : 4 * c + 4].tolist()) == pytest.approx(all_of_class[:4], rel=1e-3)


def test_more_prototypes_than_patches():
    network = make_network(per_class=5, extent=3)  # 2 x 1 patches in an image
    data = SquareData(sizes=(6, 6, 6))
    data.splits["train"][1].copy_(torch.tensor([0, 0, 0, 1, 1, 2]))
    with pytest.raises(DataError, match="class 'bee' has fewer training patches than prototypes"):
        push(network, data, distinct=True)


def test_a_class_without_images():
    data = SquareData()
    data.splits["train"][1][data.splits["train"][1] == 1] = 0
    network = make_network()
    with pytest.raises(DataError, match="there is no training image of class 'bee'"):
        push(network, data)
    assert not network.provenance.valid
    with pytest.raises(DataError, match="there is no training image of class 'bee'"):  # before the training already
        make_module().check_data(data)


def test_error_1_nothing_moves_the_batch_statistics():
    """Neither the projection, nor the last layer, nor pruning; and all parts get back the mode that they had."""
    network, data = make_network(), SquareData()
    network.train()
    network.backbone.stage1.eval()
    statistics, modes = batch_statistics(network), [m.training for m in network.modules()]
    project(network, data, False, QUICK, Prune())
    assert [m.training for m in network.modules()] == modes
    for name, value in network.backbone.named_buffers():
        assert torch.equal(value, statistics[name]), name
    network.eval()
    assert float(projection_distances(network, data).max()) <= 1e-12


def test_memory_does_not_grow_with_the_data():
    """The features of a chunk are gone when the next but one is computed."""
    network, data = make_network(), SquareData(sizes=(scan.CHUNK * 6, 6, 6))
    alive, most, seen = [], 0, 0

    class Watch(nn.Identity):
        def forward(self, value):
            nonlocal most, seen
            alive.append(weakref.ref(value.untyped_storage()))
            most, seen = max(most, sum(ref() is not None for ref in alive)), seen + 1
            return value

    network.add_on.append(Watch())
    push(network, data)
    assert seen >= 6
    assert most <= 2


# Pruning


@pytest.mark.parametrize(("k", "threshold"), [(6, 3), (3, 2), (100, 20)])
def test_kept_prototypes(k, threshold):
    """Of a random network many prototypes have neighbors of other classes."""
    network, data = make_network(per_class=5), SquareData()
    push(network, data)
    expected = reference.kept(
        features_of(network, data), data.splits["train"][1], network.prototypes.detach(), network.classes, k, threshold
    )
    found = kept_prototypes(network, data, k, threshold)
    assert found.tolist() == expected
    assert k != 6 or 0 < sum(expected) < 15  # something to tell apart


@pytest.mark.slow
def test_pruning_is_a_mask_and_can_be_undone():
    module, data = make_module(per_class=5), SquareData()
    network = module.network.eval()
    project(network, data, False, QUICK, Prune(3, 3))
    mask, prototypes = network.mask.clone(), network.prototypes.detach().clone()
    assert 0 < int(mask.sum()) < 15
    assert network.prototypes.shape == (15, 8)
    assert not network.weight()[:, ~mask].any()
    prediction = module.predict(data.splits["val"][0])
    assert not prediction.contributions[:, ~mask].any()
    module.unprune()
    assert network.mask.all()
    assert torch.equal(network.prototypes, prototypes)
    assert torch.equal(module.predict(data.splits["val"][0]).logits, prediction.logits)  # until the layer is fitted
    module.unprune(data)
    assert network.weight()[:, ~mask].any()


def test_pruned_prototypes_are_not_dead():
    dead = DeadPrototypes(2, 2)
    by_class = torch.tensor([[[1.0, torch.inf], [2.0, torch.inf]]]).expand(2, 2, 2)
    dead.update(by_class, torch.tensor([0, 1]))
    assert dead.compute() == 0
    dead.update(torch.ones(1, 2, 2), torch.tensor([0]))
    assert dead.compute() == 0.5


def test_a_prototype_that_is_no_number_is_not_verified():
    module, data = make_module(per_class=2), SquareData()
    project(module.network.eval(), data, False, QUICK, None)
    module.network.prototypes.data[3] = torch.nan
    with pytest.raises(CheckpointError, match="prototype 3 is at distance nan"):
        module.verify_projection(data)


def test_no_class_loses_all_its_prototypes():
    network, data = make_network(per_class=3), SquareData()
    figures = project(network, data, False, QUICK, Prune(60, 60))  # nothing could pass this
    assert network.mask.view(3, 3).any(1).all()
    assert figures["prune/kept"] == int(network.mask.sum())


# Verification


def test_prototypes_that_are_no_patches():
    module, data = make_module(), SquareData()
    network = module.network
    with pytest.raises(CheckpointError, match="never projected"):
        module.verify_projection(data)
    assert module.sources() == []
    push(network, data)
    assert float(module.verify_projection(data).max()) <= 1e-12
    with torch.no_grad():
        network.prototypes[3, 0] += 0.01
    with pytest.raises(CheckpointError, match=r"prototype 3 is at distance 0\.0001 from its source 'tensor \d+'"):
        module.verify_projection(data)
    network.provenance.valid.fill_(False)  # what a training step does
    with pytest.raises(CheckpointError, match="trained further after"):
        module.verify_projection(data)


def test_batch_statistics_that_moved_are_found():
    """Error 1 of others, seen from outside."""
    module, data = make_module(), SquareData()
    push(module.network, data)
    module.train()
    module.network.backbone(data.splits["train"][0][:16])
    module.eval()
    with pytest.raises(CheckpointError, match="it is not a training patch"):
        module.verify_projection(data)


def test_data_that_changed():
    module, data = make_module(), SquareData()
    push(module.network, data)
    fewer = SquareData(sizes=(2, 6, 6))
    with pytest.raises(CheckpointError, match=r"training image \d+ is not 'tensor \d+' now: the data has changed"):
        module.verify_projection(fewer)
    renamed = SquareData()
    renamed.dataset("train").sample_id = lambda index: f"renamed {index}"
    with pytest.raises(CheckpointError, match="the data has changed"):
        module.verify_projection(renamed)
    repainted = SquareData()
    repainted.splits["train"][0].mul_(0.5)
    with pytest.raises(CheckpointError, match="not a training patch"):
        module.verify_projection(repainted)


def test_names_of_any_length_and_script():
    module, data = make_module(), SquareData()
    names = ["äöü/鳥.png", "x" * 300 + "/é.png", ""]
    data.dataset("train").sample_id = lambda index: names[index % 3]
    push(module.network, data)
    module.verify_projection(data)
    for source in module.sources():
        assert names[source.index % 3].endswith(source.sample)
        assert len(source.sample) >= min(200, len(names[source.index % 3]))
