import numpy as np
import pytest
import torch

from ibd.data.dataset import Key
from ibd.data.toybirds import PARTS, ToyBirds, contact_sheet, part_masks, render
from ibd.data.toybirds.parts import VARIANTS
from ibd.errors import ConfigError

SMALL = {"preset": "tiny", "train_size": 60, "val_size": 40, "test_size": 40}


def test_workers_change_nothing():
    batches = []
    for workers in (0, 2):
        data = ToyBirds(**SMALL, augment="flip", part_drop=0.5, masks=True, batch_size=16, num_workers=workers)
        batches.append(list(data.train_dataloader()))
    for alone, worked in zip(*batches, strict=True):
        for name in ("image", "label", "concepts", "index", "masks"):
            assert torch.equal(getattr(alone, name), getattr(worked, name)), name


def test_an_image_depends_on_seed_split_and_index_alone():
    one = ToyBirds(**SMALL).dataset("train")
    assert one.scene(7) == ToyBirds(**SMALL | {"train_size": 8}).dataset("train").scene(7)
    assert one.scene(7) != ToyBirds(**SMALL).dataset("val").scene(7)
    assert one.scene(7) != ToyBirds(**SMALL, seed=1).dataset("train").scene(7)
    assert ToyBirds(**SMALL).classes == ToyBirds(**SMALL, seed=1).classes


def test_sample_fits_the_spec():
    data = ToyBirds(**SMALL, masks=True)
    dataset, spec = data.dataset("val"), data.spec
    sample = dataset[13]
    image, _ = render(dataset.scene(13), 32)
    assert torch.equal(sample.image, torch.from_numpy(image).permute(2, 0, 1) / 255)
    assert np.array_equal(sample.masks.numpy(), part_masks(dataset.scene(13), 32))
    assert spec.image_size == (32, 32)
    assert len(spec.concept_names) == 26
    assert spec.part_names == PARTS
    assert spec.exclusive_groups == tuple(spec.concept_groups) == PARTS
    assert dataset.sample_id(13) == "toybirds/val/13"
    assert data.dataset("val") is dataset
    assert dataset.labels.bincount().min() >= 40 // 6


def test_correlated_parts_go_together_as_documented():
    """The conditional frequencies of docs/data.md, in 3600 scenes that nobody draws."""
    data = ToyBirds("correlated")
    scenes = [data._scene("train", i) for i in range(3600)]
    seen = [[VARIANTS[part].index(scene.parts[part]) for scene in scenes] for part in ("tail", "wing", "beak", "eye")]
    tail, wing, beak, eye = map(np.array, seen)
    assert set(tail) == set(range(6))
    at = tail == 4
    assert (wing[at] == 4).mean() == 0.5  # the classes take turns
    assert (wing[at] == 5).mean() == 0.5
    assert (beak[at] == 0).mean() == pytest.approx(0.8 + 0.2 / 4, abs=0.05)
    assert (eye[at] == 1).mean() == pytest.approx(0.8 + 0.2 / 3, abs=0.05)
    assert ((beak[at] == 0) & (eye[at] == 1)).mean() == pytest.approx(0.85 * 0.8667, abs=0.05)  # given the tail, apart
    assert (tail[(beak == 3)] == 3).mean() == pytest.approx(0.85 / (0.85 + 5 * 0.05), abs=0.05)


def test_hidden_parts_of_correlated_birds_are_labeled_as_what_they_are():
    data = ToyBirds("correlated", train_size=30)
    assert data.dataset("train").concepts.sum(1).tolist() == [5.0] * 30
    assert data._scene("train", 3) == ToyBirds("correlated", train_size=4)._scene("train", 3)
    assert max(len(data._scene("train", i).occluders) for i in range(30)) > 4
    zero = ToyBirds("correlated", train_size=30, min_visible=0.6).dataset("train").concepts.sum(1)
    assert 2 < zero.mean() < 4.8


def test_truth_is_where_the_deciding_part_is():
    dataset = ToyBirds(**SMALL, structure="single").dataset("test")
    truth = dataset.truth(5)
    assert truth.minimal_sets == (("wing",),)
    assert truth.part_weights.tolist() == [0, 0, 0, 0, 1]
    assert truth.irrelevant == PARTS[:-1]
    assert torch.equal(truth.disc_mask, dataset.masks(5)[PARTS.index("wing")])
    assert torch.equal(dataset.deciding_mask(5), truth.disc_mask)


def test_cache_changes_nothing():
    kept, made = (ToyBirds(**SMALL, cache=cache).dataset("test") for cache in (True, False))
    for i in (0, 3, 0):
        assert torch.equal(kept[i].image, made[i].image)
        assert torch.equal(kept.masks(i), made.masks(i))


def test_flip_takes_the_masks_along():
    data = ToyBirds(**SMALL, augment="flip", masks=True)
    plain, flipped = data.dataset("train"), data.dataset("train", augment=True)
    seen = set()
    for i in range(8):
        before, after = plain[i], flipped[Key(i, seed=i)]
        mirrored = not torch.equal(before.image, after.image)
        seen.add(mirrored)
        assert torch.equal(before.masks.flip(-1) if mirrored else before.masks, after.masks)
    assert seen == {True, False}


@pytest.mark.parametrize("concepts", ["variants", "factored"])
def test_concepts_say_what_the_scene_has(concepts):
    data = ToyBirds("small", concepts=concepts, train_size=40, occlusion=0.0, redraw=1.0)
    dataset = data.dataset("train")
    for i in range(40):
        named = {data.spec.concept_names[k] for k in dataset.concepts[i].nonzero().flatten()}
        groups: dict[str, list[str]] = {}
        for group, value in (name.split("::") for name in sorted(named)):
            groups.setdefault(group.split("_")[0], []).append(value)
        assert {part: "_".join(values) for part, values in groups.items()} == dataset.scene(i).parts


@pytest.mark.parametrize("absent", ["zero", "ignore"])
def test_hidden_parts_follow_the_policy(absent):
    data = ToyBirds("standard", train_size=60, occlusion=1.0, absent=absent, min_visible=0.9)
    concepts = data.dataset("train").concepts
    wing = concepts[:, list(data.spec.concept_groups["wing"])]
    hidden = wing.isnan().all(dim=1) if absent == "ignore" else wing.sum(dim=1) == 0
    assert 0.05 < hidden.float().mean() < 0.6
    assert bool(concepts.isnan().any()) == (absent == "ignore")


def test_noise_and_gaps_are_in_training_alone():
    clean = ToyBirds(**SMALL | {"train_size": 300})
    noisy = ToyBirds(**SMALL | {"train_size": 300}, concept_noise=0.2, concept_missing=0.1, label_noise=0.1)
    a, b = clean.dataset("train"), noisy.dataset("train")
    assert torch.equal(clean.dataset("test").concepts, noisy.dataset("test").concepts)
    assert b.concepts.isnan().float().mean() == pytest.approx(0.1, abs=0.02)
    assert (a.labels != b.labels).float().mean() == pytest.approx(0.1, abs=0.05)
    assert all(b.scene(i).cls == a.scene(i).cls for i in range(300))
    wrong = ((a.concepts == 1) & (b.concepts == 0)).sum() / ((a.concepts == 1) & ~b.concepts.isnan()).sum()
    assert wrong == pytest.approx(0.2, abs=0.05)


def test_a_part_can_go_without_concepts():
    data = ToyBirds(**SMALL, drop_concept_part="wing")
    assert "wing" not in data.spec.concept_groups
    assert data.dataset("train").concepts.shape == (60, 20)


def test_hans_tags():
    rates = {}
    for test in ("aligned", "absent", "flipped"):
        data = ToyBirds("hans", train_size=600, test_size=40, tag_test=test)
        scenes = [data.dataset("test").scene(i) for i in range(40)]
        rates[test] = sum(s.tag is not None and s.tag.code == s.cls for s in scenes) / 40
        assert all(s.tag is None for s in scenes) == (test == "absent")
        untagged = [s.set_tag(None) for s in scenes]
        assert untagged == [data.dataset("test").scene(i).set_tag(None) for i in range(40)]
    assert rates == {"aligned": 1.0, "absent": 0.0, "flipped": 0.0}
    train = data.dataset("train")
    assert sum(train.scene(i).tag.code == train.scene(i).cls for i in range(600)) / 600 == pytest.approx(0.95, abs=0.03)


def test_part_drop_leaves_the_class_determined():
    data = ToyBirds("standard", image_size=32, train_size=60, part_drop=1.0, absent="ignore", masks=True)
    dataset = data.dataset("train", augment=True)
    removed = 0
    for i in range(60):
        sample = dataset[Key(i, seed=i)]
        gone = [p for p in PARTS if sample.concepts[list(data.spec.concept_groups[p])].isnan().all()]
        removed += len(gone)
        assert all(not sample.masks[PARTS.index(part)].any() for part in gone)
        scene = dataset.scene(i)
        assert data.classes.consistent(scene.remove(*gone).parts) == (scene.cls,)
    assert removed > 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"preset": "tinny"},
            "data.preset: 'tinny' given, one of tiny, small, standard, wide, hard, hans, correlated is needed",
        ),
        ({"image_size": 8}, "data.image_size: 8 given, 32 to 1024 is needed"),
        ({"num_classes": 1}, "data.num_classes: 1 given"),
        ({"structure": "xnor"}, "data.structure: 'xnor' given, one of random, single, double, xor, linked is needed"),
        ({"train_size": 0}, "data.train_size: 0 given"),
        ({"concept_noise": 1.5}, "data.concept_noise: 1.5 given, 0 to 1 is needed"),
        ({"part_drop": -1}, "data.part_drop: -1 given, 0 to 1 is needed"),
        ({"drop_concept_part": "leg"}, "'leg' is not a part of a toy bird"),
        ({"tag_test": "absent"}, "data.tag_test: 'absent' given, but data.tag is 'none'"),
        ({"concepts": "factor"}, "data.concepts: 'factor' given, one of variants, factored is needed"),
        ({"augment": "spin"}, "data.augment: 'spin' given, one of none, flip is needed"),
    ],
)
def test_wrong_arguments_are_one_clear_line(arguments, message):
    with pytest.raises(ConfigError) as error:
        ToyBirds(**arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_structures_take_as_many_classes_as_they_can():
    assert len(ToyBirds("standard", structure="xor").spec.class_names) == 6
    assert len(ToyBirds("standard", structure="double").spec.class_names) == 20


def test_contact_sheet(tmp_path):
    path = contact_sheet(tmp_path / "figures" / "birds.png", ToyBirds(**SMALL).dataset("val"), classes=2, columns=2)
    assert path.stat().st_size > 5000
    assert path.read_bytes()[1:4] == b"PNG"


def test_a_version_is_the_same_exactly_where_the_picture_is():
    one, other = (ToyBirds("tiny", seed=seed).dataset("train") for seed in (0, 1))
    assert one.version(3) == ToyBirds("tiny", seed=0).dataset("train").version(3)
    assert len({one.version(3), one.version(4), other.version(3)}) == 3
    assert one.version(3) != ToyBirds("tiny", seed=0, image_size=48).dataset("train").version(3)
