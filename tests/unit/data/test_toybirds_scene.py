import dataclasses
import hashlib
import json

import numpy as np
import pytest

from ibd.data.toybirds import (
    PARTS,
    VARIANTS,
    Distractor,
    Pose,
    Scene,
    Tag,
    ToyBirds,
    part_masks,
    render,
    visible_fraction,
)
from ibd.data.toybirds.parts import FIRST_PART
from ibd.errors import ConfigError

BIRD = {"beak": "cone", "eye": "ring", "foot": "blue_claw", "tail": "red_fan", "wing": "yellow_oval"}
OCCLUDER = Distractor("square", 0.0, 0.0, 0.1, 0.0, (0.1, 0.9, 0.1), "front")


@pytest.fixture(scope="module")
def scenes():
    data = ToyBirds("hard", train_size=12, tag="patch").dataset("train")
    return [data.scene(i) for i in range(12)]


def crisp(index):
    """The pixels that show more of a part than of anything else, (P, H, W)."""
    return index == np.arange(FIRST_PART, FIRST_PART + len(PARTS))[:, None, None]


def test_golden_hash(scenes):
    digest = hashlib.sha256()
    for size in (32, 64, 224):
        for scene in scenes[:4]:
            for array in render(scene, size):
                digest.update(array.astype("<i2").tobytes())
    assert digest.hexdigest()[:16] == "d5746913e1e8e7a2"


def test_json_roundtrip(scenes):
    for scene in scenes:
        assert Scene.from_dict(json.loads(json.dumps(scene.to_dict()))) == scene


@pytest.mark.parametrize("size", [32, 64, 224])
def test_every_part_of_every_variant_shows(size):
    for i in range(9):
        scene = Scene(0, 0, {part: VARIANTS[part][i % len(VARIANTS[part])] for part in PARTS})
        image, index = render(scene, size)
        assert image.shape == (size, size, 3)
        assert image.dtype == np.uint8
        assert index.dtype == np.int16
        areas = crisp(index).sum(axis=(1, 2)) / size**2
        assert (areas > 0.004).all(), dict(zip(PARTS, areas, strict=True))


def test_variants_of_a_part_look_different():
    scene = Scene(0, 0, BIRD)
    for part in PARTS:
        looks = [render(scene.replace(part, variant), 64)[0].astype(int) for variant in VARIANTS[part]]
        assert min(np.abs(a - b).sum() for i, a in enumerate(looks) for b in looks[:i]) > 1000


def test_what_a_pixel_shows_is_owned(scenes):
    for scene in scenes:
        _, index = render(scene, 64)
        masks = part_masks(scene, 64)
        assert not (crisp(index) & ~masks).any()
        assert set(np.unique(index[~masks.any(axis=0)])) <= {0, 1, 100, *range(20, 20 + len(scene.distractors))}


@pytest.mark.parametrize("part", PARTS)
def test_swapping_a_part_leaves_other_pixels_alone(scenes, part):
    for scene in scenes:
        image, _ = render(scene, 64)
        mask = part_masks(scene, 64)[PARTS.index(part)]
        other = scene.replace(part, next(v for v in VARIANTS[part] if v != scene.parts[part]))
        changed = (render(other, 64)[0] != image).any(axis=2)
        assert not changed[~(mask | part_masks(other, 64)[PARTS.index(part)])].any()
        assert other.background == scene.background


def test_removed_parts_have_no_mask_and_no_visibility():
    scene = Scene(0, 0, BIRD).remove("wing", "eye")
    assert [m.any() for m in part_masks(scene, 64)] == [True, False, True, True, False]
    assert visible_fraction(scene) == {"beak": 1, "eye": 0, "foot": 1, "tail": 1, "wing": 0}


def test_visible_fraction_counts_occluders_and_the_frame():
    scene = Scene(0, 0, BIRD, pose=Pose(scale=0.9), distractors=(OCCLUDER,))
    shares = visible_fraction(scene)
    assert 0.3 < shares["wing"] < 0.9
    assert shares["beak"] == shares["foot"] == 1
    assert scene.occluders == (0,)
    assert visible_fraction(scene.drop_distractor(0))["wing"] == 1
    gone = visible_fraction(dataclasses.replace(scene, pose=Pose(scale=0.9, x=scene.pose.x + 1)))
    assert gone["beak"] == 0
    assert gone["tail"] == 1


def test_subset_grid_orders_subsets_by_bits():
    grid = Scene(0, 0, BIRD).subset_grid()
    assert len(grid) == 32
    for subset, scene in enumerate(grid):
        assert [scene.parts[part] is not None for part in PARTS] == [bool(subset >> p & 1) for p in range(5)]


def hull(mask, by=4):
    """The mask and the pixels around it: stripes shimmer through the soft edges of thin things before them."""
    shifts = range(-by, by + 1)
    return np.logical_or.reduce([np.roll(mask, (dy, dx), (0, 1)) for dy in shifts for dx in shifts])


@pytest.mark.parametrize("kind", ["patch", "frame", "texture"])
def test_tags_have_a_mask_and_codes_differ(kind):
    scene = Scene(0, 0, BIRD)
    images = [render(scene.set_tag(Tag(kind, code)), 64) for code in range(8)]
    for image, index in images:
        changed = (image != render(scene, 64)[0]).any(axis=2)
        assert changed.any()
        assert not changed[~hull(index == 100)].any()
    assert min(np.abs(a[0].astype(int) - b[0]).sum() for i, a in enumerate(images) for b in images[:i]) > 1000


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s.remove("wings"), "'wings' is not a part of a toy bird. Did you mean 'wing'?"),
        (
            lambda s: s.replace("tail", "red_fam"),
            "'red_fam' is not a variant of the tail. Did you mean one of: 'red_fan'",
        ),
        (lambda s: s.drop_distractor(3), "distractor 3 given, the scene has 0"),
        (lambda s: s.set_background("gray"), "background 'gray' given, a seed of 0 or more or 'flat' is needed"),
    ],
)
def test_wrong_names_are_one_clear_line(edit, message):
    with pytest.raises(ConfigError) as error:
        edit(Scene(0, 0, BIRD))
    assert message in str(error.value)
    assert "\n" not in str(error.value)
