"""What a test of a split says of images that are not answered, and how sure an error is."""

import pytest

from ibd.app.where_wrong import account
from ibd.models.calibration.reading import read_outputs
from ibd.models.thresholding import statements
from ibd.training.tested.scoring import score
from ibd.training.tested.worst_images import percent
from ibd.training.thresholding import Wishes, find_thresholds
from tests.model_makers import TensorData, make_module


def scored_at(confidence):
    """A test of a model with a threshold of confidence, and what its predictions say of the same images."""
    model, data = make_module(), TensorData()
    read = read_outputs(model, data, "test")
    model.thresholds = find_thresholds(model, statements(model, read), Wishes(confidence=confidence)).thresholds
    scored = score(model, data.dataset("test"), "test", read, {}, {}, {})
    return scored, model.predict(data.splits["test"][0])


def test_a_test_abstains_where_a_prediction_does():
    said = scored_at(0.0)[1].probabilities.amax(1)
    scored, prediction = scored_at(float(said.median()) + 1e-4)
    assert 0 < int(scored.abstains.sum()) < 30
    assert scored.abstains.tolist() == prediction.abstains.tolist()
    kept, right = int((~scored.abstains).sum()), int((scored.found.right & ~scored.abstains).sum())
    line = f"  with its threshold of confidence it answers {kept} of all 30; right: {right / kept:.3f} ["
    assert any(each.startswith(line) for each in account(scored))
    assert scored.found.accuracy.n == 30  # which counts as without it


def test_where_all_or_nothing_is_answered_no_share_is_made_up():
    assert not [line for line in account(scored_at(0.0)[0]) if "it answers" in line]
    assert "  with its threshold of confidence it answers 0 of all 30" in list(account(scored_at(1.0)[0]))


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.99668, "99.7 %"), (0.999, "99.9 %"), (0.99996, "over 99.9 %"), (1.0, "100.0 %"), (0.0, "0.0 %")],
)
def test_how_sure_an_error_is_is_rounded_but_never_to_certainty(share, said):
    assert percent(share) == said
