"""What a split does not show."""

import torch

from ibd.data.coverage import listed, missing_classes, silent_concepts


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
    assert found == (["unknown", "undecided"], ["absent"], ["present", "probably"])
    assert silent_concepts(torch.zeros(0, 2), ["a", "b"]) == (["a", "b"], [], [])


def test_classes_without_images():
    assert missing_classes(torch.tensor([0, 2, 2]), ["a", "b", "c", "d"]) == ["b", "d"]
    assert listed([f"c{k}" for k in range(9)]) == "'c0', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6', 'c7', ... (9 in all)"
