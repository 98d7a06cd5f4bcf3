"""Files of groups: what they are called, and the columns of the table of images."""

from types import SimpleNamespace

import torch

from ibd.metrics.functional.by_group import by_group
from ibd.metrics.functional.where_wrong import where_wrong
from ibd.training.group_figures import file_names, save_groups
from ibd.training.tested.scored import Scored
from ibd.training.tested.tables import tables

PROBABILITIES = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]])
LABELS = torch.tensor([0, 1, 0, 0])


def groups_of(*columns):
    return [by_group(PROBABILITIES, LABELS, ["a", "b", "a", "b"], column) for column in columns]


def test_columns_in_any_language_have_a_picture_each(tmp_path):
    """With ASCII letters alone both of these were "by__.png", and the second took the place of the first."""
    paths = save_groups(groups_of("場所", "天気"), "test images", tmp_path)
    assert [path.name for path in paths] == ["by_場所.png", "by_天気.png"]
    assert all(path.exists() for path in paths)


def test_names_of_files_are_names_and_differ():
    names = file_names(groups_of("age group", "age/group", "Age_Group", "ä" * 200, "skin+sex"))
    assert names == ["by_age_group", "by_age_group_", "by_Age_Group__", f"by_{'ä' * 60}", "by_skin+sex"]


def test_a_column_that_is_called_as_one_of_the_table_of_images_does_not_hide_it():
    """Whoever reads the table by its names found the group (left or right eye) in the place of whether it is right."""
    eyes = ["left", "right", None, "left"]
    found = where_wrong(PROBABILITIES, LABELS, ["cat", "dog"])
    files = SimpleNamespace(sample_id=lambda index: f"{index}.png")
    images = tables(Scored(found, files, "test", found.silent, members={"right": eyes, "eye": eyes}))["images"]
    assert len(set(images.columns)) == len(images.columns)
    assert images.columns[-2:] == ("group right", "eye")
    assert [row[images.columns.index("right")] for row in images.rows] == [True, True, False, True]
    assert [row[-2] for row in images.rows] == eyes
