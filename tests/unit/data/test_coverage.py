"""What a split does not show."""

import torch

from ibd.data.coverage import listed, missing_classes, silent_concepts, untaught


def test_concepts_that_do_not_differ():
    nan = torch.nan
    columns = {
        "fine": [0, 1, nan],
        "unknown": [nan, nan, nan],
        "absent": [0, nan, 0],
        "present": [1, 1, nan],
        "soft": [0.25, 0.75, nan],
        "undecided": [0.5, 0.5, 0.5],
        "probably": [0.75, 1, 0.5],
    }
    found = silent_concepts(torch.tensor(list(columns.values())).T, list(columns))
    assert found == (["unknown", "undecided"], ["absent"], ["present", "probably"], [])
    assert silent_concepts(torch.zeros(0, 2), ["a", "b"], [1]) == (["a", "b"], [], [], [])


def test_numbers_that_do_not_differ():
    """A length of 0.2 to 0.4 is no concept that is never present; one of 3 everywhere teaches nothing."""
    nan = torch.nan
    values = torch.tensor([[0.2, 3.0, nan, 0.0], [0.4, 3.0, nan, 1.0], [nan, nan, nan, 0.0]])
    names = ["small", "same", "unknown", "fine"]
    assert silent_concepts(values, names, [0, 1, 2]) == (["unknown"], [], [], ["same"])
    assert untaught(values, names, numbers=[0, 1, 2]).endswith(": never known: 'unknown'; never different: 'same'")


def test_classes_without_images():
    assert missing_classes(torch.tensor([0, 2, 2]), ["a", "b", "c", "d"]) == ["b", "d"]
    assert listed([f"c{k}" for k in range(9)]) == "'c0', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6', 'c7', ... (9 in all)"
