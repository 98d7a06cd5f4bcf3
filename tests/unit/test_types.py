"""The shared vocabulary."""

import json

import pytest
import torch

from ibd.types import Batch, DataSpec, Sample, Units, groups_of, stack_samples
from tests.model_makers import SPEC


def test_data_spec_round_trip_through_plain_values():
    for spec in (SPEC, DataSpec(("a",)), DataSpec(("a", "b"), part_names=("wing",), image_size=(8, 9), resize="pad")):
        plain = spec.to_dict()
        assert DataSpec.from_dict(plain) == spec
        assert DataSpec.from_dict(json.loads(json.dumps(plain))) == spec


def test_groups_follow_the_naming_convention():
    names = ["wing::red", "flies", "wing::blue", "a::b::c"]
    assert groups_of(names) == {"wing": (0, 2), "flies": (1,), "a": (3,)}


def sample(index, masks=False):
    return Sample(torch.rand(3, 4, 5), index % 2, torch.rand(6), index, torch.rand(2, 4, 5) > 0.5 if masks else None)


@pytest.mark.parametrize("masks", [True, False])
def test_samples_are_stacked_in_order(masks):
    samples = [sample(i, masks) for i in range(3)]
    batch = stack_samples(samples)
    assert len(batch) == 3
    assert batch.image.shape == (3, 3, 4, 5)
    assert batch.label.tolist() == [0, 1, 0]
    assert batch.label.dtype == batch.index.dtype == torch.int64
    assert torch.equal(batch.concepts[2], samples[2].concepts)
    assert (batch.masks is None) if not masks else torch.equal(batch.masks[1], samples[1].masks)


def test_masks_for_some_of_the_samples_are_refused():
    with pytest.raises(ValueError, match="some have none"):
        stack_samples([sample(0, masks=True), sample(1)])


def test_batch_selects_and_moves_everything():
    batch = stack_samples([sample(i, masks=True) for i in range(4)])
    some = batch.select(torch.tensor([True, False, False, True]))
    assert some.index.tolist() == [0, 3]
    assert torch.equal(some.masks, batch.masks[[0, 3]])
    moved = Batch(batch.image, batch.label, batch.concepts, batch.index).to("meta")
    assert moved.image.device.type == moved.index.device.type == "meta"
    assert moved.masks is None


def test_units_index_and_detach():
    units = Units(torch.rand(3, 2, requires_grad=True), torch.rand(3, 2, 4, 4), (torch.rand(3, 5, requires_grad=True),))
    assert units[1:].state[0].shape == (2, 5)
    assert torch.equal(units[torch.tensor([True, False, True])].maps, units.maps[[0, 2]])
    detached = units.detach()
    assert not detached.scores.requires_grad
    assert not detached.state[0].requires_grad
    assert Units(units.scores, units.maps).detach().state == ()
