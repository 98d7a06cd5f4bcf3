import itertools

import pytest

from ibd.data.toybirds.classes import ToyClasses, class_names, make_classes
from ibd.data.toybirds.parts import PARTS, VARIANTS
from ibd.errors import ConfigError

STRUCTURES = [
    ("random", 20, None),
    ("random", 20, 1.0),
    ("single", 6, None),
    ("single", 9, 0.0),
    ("double", 12, None),
    ("xor", 6, None),
    ("linked", 12, None),
    ("linked", 5, 0.0),
]


def every_bird(classes, cls):
    """Brute force: all birds that images of a class can show."""
    for bird in classes.birds[cls]:
        options = [VARIANTS[p] if classes.redraw > 0 and p not in classes.deciding else (bird[p],) for p in PARTS]
        yield from itertools.product(*options)


@pytest.mark.parametrize(("structure", "count", "redraw"), STRUCTURES)
def test_minimal_sets_are_what_the_possible_birds_say(structure, count, redraw):
    classes = make_classes(structure, count, redraw)
    shown = [set(every_bird(classes, c)) for c in range(count)]
    assert sum(len(birds) for birds in shown) == len(set.union(*shown)), "a bird of two classes"
    for cls in range(count):
        sufficient = []
        for size in range(6):
            for subset in itertools.combinations(range(5), size):
                mine = {tuple(b[p] for p in subset) for b in shown[cls]}
                others = {tuple(b[p] for p in subset) for o in range(count) if o != cls for b in shown[o]}
                if not mine & others and not any(set(s) <= set(subset) for s in sufficient):
                    sufficient.append(subset)
        assert {tuple(PARTS[p] for p in s) for s in sufficient} == set(classes.minimal_sets(cls))
        assert set(classes.relevant(cls)) | set(classes.irrelevant(cls)) == set(PARTS)


@pytest.mark.parametrize(
    ("structure", "count", "expected"),
    [("single", 6, {("wing",)}), ("double", 54, {("tail", "wing")}), ("xor", 4, {("tail", "wing")})],
)
def test_structures_by_definition(structure, count, expected):
    classes = make_classes(structure, count)
    assert all(set(classes.minimal_sets(c)) <= expected | {("tail",), ("wing",)} for c in range(count))
    assert set(classes.minimal_sets(0)) == expected
    assert classes.part_weights(0)["eye"] == 0
    if structure == "xor":
        assert all(classes.consistent({part: classes.birds[0][0][part]}) == tuple(range(count)) for part in PARTS)


def test_linked_birds_by_hand():
    """Six tails and six wings in a ring: tail t has wings t and t + 1, so each wing has two tails."""
    classes = make_classes("linked", 12)
    birds = [[VARIANTS[part].index(options[0][part]) for part in ("tail", "wing", "beak", "eye", "foot")]
             for options in classes.birds]  # fmt: skip
    assert birds[::2] == [[0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [2, 2, 2, 2, 2], [3, 3, 3, 0, 3], [4, 4, 0, 1, 1],
                          [5, 5, 1, 2, 2]]  # fmt: skip
    assert [wing for _, wing, *_ in birds[1::2]] == [1, 2, 3, 4, 5, 0]
    assert (classes.deciding, classes.redraw) == (("tail", "wing"), 0.2)
    assert len({(beak, eye) for _, _, beak, eye, _ in birds}) == 6  # these two parts tell the tail


def test_random_classes_keep_their_distance():
    classes = make_classes("random", 50, min_distance=2)
    birds = [options[0] for options in classes.birds]
    assert min(sum(a[p] != b[p] for p in PARTS) for a, b in itertools.combinations(birds, 2)) >= 2
    assert all(min(map(len, classes.minimal_sets(c))) >= 1 for c in range(50))


def test_consistent_ignores_removed_parts():
    classes = make_classes("random", 20)
    bird = classes.birds[7][0]
    assert classes.consistent(bird) == (7,)
    assert classes.consistent(dict.fromkeys(PARTS)) == tuple(range(20))


def test_a_part_in_one_of_three_minimal_sets_is_relevant():
    """Beak, eye and wing tell class 0 each alone, weight 1/3; foot and tail are those of class 1."""
    bird = {part: VARIANTS[part][0] for part in PARTS}
    other = bird | {part: VARIANTS[part][1] for part in ("beak", "eye", "wing")}
    classes = ToyClasses(class_names(2), PARTS, ((bird,), (other,)), 0.0)
    assert classes.minimal_sets(0) == (("beak",), ("eye",), ("wing",))
    assert classes.part_weights(0) == pytest.approx({"beak": 1 / 3, "eye": 1 / 3, "foot": 0, "tail": 0, "wing": 1 / 3})
    assert classes.relevant(0) == ("beak", "eye", "wing")
    assert classes.irrelevant(0) == ("foot", "tail")


def test_names_are_unique():
    assert len(set(class_names(324))) == 324


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("xor", 7), "data.num_classes: 7 given, the structure 'xor' has 6 at most"),
        (("linked", 13), "data.num_classes: 13 given, the structure 'linked' has 12 at most"),
        (("single", 10), "data.num_classes: 10 given, the structure 'single' has 9 at most"),
        (("double", 5, None, 0, ["wing"]), "data.deciding_parts: ['wing'] given, 'double' needs 2 different parts"),
        (("random", 5, 2.0), "data.redraw: 2.0 given, 0 to 1 is needed"),
        (("random", 300), "data.num_classes: 300 given, at most"),
        (("random", 20, None, 0, ["eye"]), "data.deciding_parts: eye do not tell the 20 classes apart"),
    ],
)
def test_impossible_classes(arguments, message):
    with pytest.raises(ConfigError, match=None) as error:
        make_classes(*arguments)
    assert message in str(error.value)
