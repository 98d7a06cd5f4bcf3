"""What thresholds come to on the images of a test: counted again from predictions, and said in a line."""

import pytest

from ibd.app.where_wrong import account
from ibd.models.calibration.reading import read_outputs
from ibd.models.thresholding import statements
from ibd.models.thresholds import CONFIDENCE
from ibd.training.tested.scoring import score
from ibd.training.tested.summary import summary
from ibd.training.tested.tables import tables
from ibd.training.thresholding import Wishes, find_thresholds
from tests.model_makers import TensorData, make_module


def scored_with(split="test", **wishes):
    """A model with thresholds by its validation images, its data, and a test of it."""
    model, data = make_module(), TensorData((8, 60, 80))
    model.thresholds = find_thresholds(
        model, statements(model, read_outputs(model, data, "val")), Wishes(**wishes)
    ).thresholds
    return model, data, score(model, data.dataset(split), split, read_outputs(model, data, split), {}, {}, {})


def test_they_are_counted_as_predictions_call():
    model, data, scored = scored_with(value=0.45, confidence=0.35)
    images, labels, concepts = data.splits["test"]
    prediction = model.predict(images)
    table = tables(scored)["thresholds"]
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert list(rows) == [CONFIDENCE, *model.thresholds.concepts]
    for name in model.thresholds.concepts:
        unit = model.network.unit_index(name)
        known = (concepts[:, unit] == 0) | (concepts[:, unit] == 1)
        called, true = prediction.present[:, unit] & known, (concepts[:, unit] == 1) & known
        right = int((called & true).sum())
        counts = (int(known.sum()), int(true.sum()), int(called.sum()), right)
        assert tuple(rows[name][key] for key in ("known", "true", "called_true", "right")) == counts
        assert rows[name]["precision"] == pytest.approx(right / counts[2])
        assert rows[name]["recall"] == pytest.approx(right / counts[1])
        assert rows[name]["wanted_precision"] is None
    answered, right = ~prediction.abstains, prediction.labels == labels
    assert rows[CONFIDENCE]["called_true"] == int(answered.sum())
    assert rows[CONFIDENCE]["precision"] == pytest.approx(float(right[answered].double().mean()))
    assert not [line for line in account(scored) if "thresholds" in line]  # nothing was wanted of them


def test_what_is_not_held_is_said():
    _, _, scored = scored_with(precision=0.55)
    count, held = len(scored.thresholds), sum(one.here.precision.mean >= 0.55 for one in scored.thresholds)
    assert 0 < held < count
    lines = list(account(scored))
    line = f"thresholds: {held} of {count} have the precision on these images that they were chosen for"
    following = lines[lines.index(f"{line}; furthest below it:") + 1 :]
    worst = min(scored.thresholds, key=lambda one: one.here.precision.mean)
    assert following[0].split()[:2] == [worst.name, f"{worst.here.precision.mean:.3f}"]
    assert following[0].endswith(f"from {worst.chosen.value:.4f}, 0.55 wanted")
    assert summary(scored)["thresholds"][0]["wanted"] == 0.55


def test_the_images_that_they_were_set_on_say_nothing_new():
    _, _, scored = scored_with("val", precision=0.55)
    assert not scored.thresholds
    assert "thresholds" not in tables(scored)
