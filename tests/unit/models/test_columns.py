"""Predictions as columns, CSV and frames: values known by hand."""

import csv
import dataclasses

import pytest
import torch

from ibd.models.columns import csv_line, json_line, table_columns
from tests.model_makers import SPEC, make_filters, make_module, make_pipnet, make_prototypes, make_whitening
from tests.unit.models.calibration.test_calibrated_predictions import SETS, WARY, hand
from tests.unit.models.test_prediction import by_hand

IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
PARTS = ["file", "class", "probability", "abstains"]


def test_the_columns_of_a_prediction_by_hand():
    """Its logits are 0.62 and 2.13 of cow and bee, its concepts 0.75, 0.25, 0.5 and 0.88."""
    prediction = dataclasses.replace(by_hand(), names=["a.png"])
    columns = prediction.to_dict()
    names = prediction.network.unit_names
    assert list(columns) == [*PARTS, *names]
    assert (columns["file"], columns["class"], columns["abstains"]) == (["a.png"], ["bee"], [False])
    others = torch.tensor(prediction.logits[0].tolist()).exp()
    assert columns["probability"] == [pytest.approx(float(others.max() / others.sum()))]
    assert [columns[name][0] for name in names] == pytest.approx([0.75, 0.25, 0.5, 0.88], abs=0.005)


def test_an_intervention_is_in_the_columns():
    prediction = by_hand()
    name = prediction.network.unit_names[1]
    assert prediction.intervene({name: 1.0}).to_dict()[name] == pytest.approx([1.0])


def test_a_calibration_abstains_and_says_its_sets():
    prediction = hand(abstention=WARY, sets=SETS)
    columns = prediction.to_dict()
    assert columns["abstains"] == prediction.abstains.tolist()
    (names,) = columns["class_set"]
    inside = prediction.class_sets[0].nonzero().flatten().tolist()
    assert names == [prediction.network.class_names[i] for i in inside]
    assert columns["probability"] == pytest.approx([float(prediction.probabilities.max())])


def test_a_network_that_abstains_by_itself_names_no_class():
    network = make_pipnet().eval()
    prediction = network.predict(IMAGES[:, :, :32])
    silent = dataclasses.replace(prediction, logits=torch.zeros_like(prediction.logits))
    columns = silent.to_dict()
    assert bool(silent.abstains.all())
    assert columns["class"] == columns["probability"] == [None] * 5
    assert columns["abstains"] == [True] * 5
    assert silent.to_dict(probabilities=True)[f"probability of {silent.network.class_names[0]}"] == [None] * 5


@pytest.mark.parametrize("make", [make_module, make_prototypes, make_whitening, make_filters])
def test_all_families_have_the_columns_that_are_announced(make):
    module = make().eval()
    size = module.spec.image_size
    images = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(0))
    prediction = module.predict(images)
    columns = prediction.to_dict()
    assert list(columns) == table_columns(module.network, sets=False)
    values = torch.tensor([columns[name] for name in list(columns)[4:]]).T
    torch.testing.assert_close(values, prediction.unit_values)
    assert columns["class"] == prediction.classes


def test_a_unit_of_the_name_of_another_column_stays_apart():
    names = ("class", "file", *SPEC.concept_names[2:])
    module = make_module(dataclasses.replace(SPEC, concept_names=names, concept_groups={}, exclusive_groups=()))
    columns = module.predict(IMAGES).to_dict()
    assert {"class", "file", "unit class", "unit file"} <= set(columns)
    assert columns["class"] != columns["unit class"]
    assert list(columns) == table_columns(module.network, sets=False)


def test_csv_is_read_back(tmp_path):
    prediction = dataclasses.replace(
        make_module().predict(IMAGES), names=['a,"b".png', "c\nd.png", "é\udc80", "x", "y"]
    )
    prediction.to_csv(tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ['a,"b".png', "c\nd.png", "é\\udc80", "x", "y"]
    for name in prediction.network.unit_names:
        wanted = torch.tensor(prediction.to_dict()[name])
        torch.testing.assert_close(torch.tensor([float(row[name]) for row in rows]), wanted, rtol=1e-6, atol=0)
    assert {row["abstains"] for row in rows} == {"false"}


def test_lines():
    row = ("a", None, 1 / 3, True, ["x,y", "z"])
    assert csv_line(row) == 'a,,0.3333333,true,"[""x,y"", ""z""]"\r\n'
    assert json_line(list("abcde"), row) == ('{"a": "a", "b": null, "c": 0.3333333, "d": true, "e": ["x,y", "z"]}\n')


def test_a_frame():
    pd = pytest.importorskip("pandas")
    prediction = make_module().predict(IMAGES)
    frame = prediction.to_pandas()
    assert list(frame.columns) == list(prediction.to_dict())
    assert frame["class"].tolist() == prediction.classes
    assert pd.api.types.is_bool_dtype(frame["abstains"])
    assert len(prediction[:0].to_pandas()) == 0
