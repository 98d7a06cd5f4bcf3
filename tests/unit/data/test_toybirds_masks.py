"""Masks own what their part changes, soft edges and all; a ring around them is free of it."""

import dataclasses

import numpy as np
import pytest
import torch

from ibd.data.toybirds import PARTS, VARIANTS, Distractor, Pose, Scene, Tag, ToyBirds, part_masks, render
from ibd.data.toybirds.masks import take_apart
from ibd.data.toybirds.raster import Stroke
from ibd.metrics.functional.part_scores import part_importance

BIRD = {"beak": "cone", "eye": "ring", "foot": "blue_claw", "tail": "red_fan", "wing": "yellow_oval"}
SIZES = (33, 48, 64, 96)


def scenes(count=6):
    data = ToyBirds("hard", train_size=count, occlusion=0.5, tag="patch").dataset("train")
    return [data.scene(i) for i in range(count)]


def changed(scene, other, size):
    return (render(scene, size)[0] != render(other, size)[0]).any(axis=2)


@pytest.mark.parametrize("size", SIZES)
def test_a_mask_is_what_changes_when_the_part_is_drawn_away(size):
    for scene in scenes():
        masks = part_masks(scene, size)
        for part, mask in zip(PARTS, masks, strict=True):
            assert np.array_equal(changed(scene, scene.remove(part), size), mask), part


@pytest.mark.parametrize("size", SIZES)
def test_nothing_of_a_ring_changes_when_parts_are_drawn_away(size):
    """A map of all that parts change is 0 on every ring: what it says of a part is its mean over that part alone."""
    for scene in scenes(3):
        masks = torch.from_numpy(part_masks(scene, size)).unsqueeze(0)
        whole = render(scene, size)[0].astype(float)
        change = sum(np.abs(whole - render(scene.remove(part), size)[0]).sum(axis=2) for part in PARTS)
        change = torch.from_numpy(change).unsqueeze(0)
        for found, mask in zip(part_importance(change, masks)[0], masks[0], strict=True):
            if mask.any():
                torch.testing.assert_close(found, change[0][mask].mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("turn", range(9))
def test_every_stroke_of_every_variant_is_taken_away(turn):
    scene = Scene(0, 0, {part: VARIANTS[part][turn % len(VARIANTS[part])] for part in PARTS})
    for part, picture in zip(PARTS, take_apart(scene, 64).without, strict=True):
        assert np.array_equal(picture, render(scene.remove(part), 64)[0])


def test_a_scene_taken_apart_is_the_scene_drawn_without_each():
    kinds = [None, Tag("patch", 3), Tag("frame", 1), Tag("texture", 2)]
    for scene, tag in zip(scenes(4), kinds, strict=True):
        tagged = dataclasses.replace(scene, tag=tag).remove("eye")
        found = take_apart(tagged, 48)
        others = [tagged.remove(part) for part in PARTS]
        others += [tagged.drop_distractor(i) for i in range(len(tagged.distractors))]
        assert len(others) > 5
        assert np.array_equal(found.picture, render(tagged, 48)[0])
        for other, picture, mask in zip(others, found.without, found.masks, strict=True):
            assert np.array_equal(picture, render(other, 48)[0])
            assert np.array_equal(mask, changed(tagged, other, 48))
        away = dataclasses.replace(tagged, pose=dataclasses.replace(tagged.pose, x=tagged.pose.x + 20))
        far = away.set_tag(tag if tag and tag.kind == "texture" else None)
        assert np.array_equal(found.behind, render(dataclasses.replace(far, distractors=()), 48)[0])


def test_a_soft_edge_is_shared_and_what_cannot_be_seen_is_owned_by_none():
    """A square of 8.8 pixels before flat gray: 10 columns of its mask, of which 0.4 of the outer two are covered."""
    square = Distractor("square", 0.0, 0.0, 8.8 / 64 / 0.9, 0.0, (1.0, 0.0, 0.0), "front")
    away = Scene(0, 0, BIRD, pose=Pose(x=20.0), distractors=(square,)).set_background("flat")
    mask = take_apart(away, 64).masks[5]
    assert mask.any(axis=0).sum() == mask.any(axis=1).sum() == 10
    assert mask.sum() == 100
    assert (render(away, 64)[1] == 20).sum() == 64  # by half or more: the index map does not know the edge
    beside = dataclasses.replace(square, x=9 / 32, color=(0.0, 0.0, 1.0))
    two = take_apart(dataclasses.replace(away, distractors=(square, beside)), 64).masks[5:]
    assert (two[0] & two[1]).any()
    gray = dataclasses.replace(square, color=(0.5, 0.5, 0.5))
    assert not take_apart(dataclasses.replace(away, distractors=(gray,)), 64).masks[5].any()
    hidden = dataclasses.replace(square, size=0.05, color=(0.0, 1.0, 0.0))
    assert not take_apart(dataclasses.replace(away, distractors=(hidden, square)), 64).masks[5].any()


def test_a_stroke_is_cut_to_a_box():
    image = np.zeros((3, 4, 5), dtype=np.float32)
    alpha = np.arange(6, dtype=np.float32).reshape(2, 3) / 10
    stroke = Stroke(7, 1, 2, 4, 4, alpha, (1.0, 0.5, 0.0))
    stroke.apply(image)
    np.testing.assert_array_equal(image[0, 2:, 1:4], alpha)
    np.testing.assert_array_equal(image[1], image[0] / 2)
    inner = stroke.within(2, 3, 5, 4)
    assert (inner.left, inner.top, inner.right, inner.bottom) == (0, 0, 2, 1)
    np.testing.assert_array_equal(inner.alpha, alpha[1:, 1:])
    assert stroke.within(0, 0, 1, 4) is None
