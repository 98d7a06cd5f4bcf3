"""Thresholds of confidence: by trying every one, and with the promise that they make."""

import pytest
import torch

from ibd.errors import DataError
from ibd.models.calibration.abstention import choose_threshold


def by_trying(confidence, right, accuracy):
    """Return (threshold, kept) of the largest share of answers that is accurate enough, over all thresholds."""
    best = (None, 0)
    for threshold in confidence.unique().tolist():
        kept = confidence >= threshold
        if int(right[kept].sum()) / int(kept.sum()) >= accuracy and int(kept.sum()) > best[1]:
            best = (threshold, int(kept.sum()))
    return best


def test_by_hand():
    confidence = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5], dtype=torch.float64)
    right = torch.tensor([True, True, False, True, False])
    found = choose_threshold(confidence, right, 0.75, certainty=None)
    assert (found.threshold, found.kept, found.right, found.images) == (0.6, 4, 3, 5)
    assert choose_threshold(confidence, right, 1.0, certainty=None).threshold == 0.8
    assert choose_threshold(confidence, right, 0.6, certainty=None).threshold == 0  # all may be answered


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_best_of_all_thresholds(seed):
    generator = torch.Generator().manual_seed(seed)
    confidence = (torch.rand(80, generator=generator, dtype=torch.float64) * 20).round() / 20  # with equal ones
    right = torch.rand(80, generator=generator) < confidence
    for accuracy in (0.6, 0.75, 0.9):
        threshold, kept = by_trying(confidence, right, accuracy)
        if threshold is None:
            with pytest.raises(DataError, match="which no threshold reaches on the 80 images"):
                choose_threshold(confidence, right, accuracy)
            continue
        found = choose_threshold(confidence, right, accuracy)
        assert found.kept == kept
        assert found.threshold == (0 if kept == 80 else threshold)
        assert found.right == int(right[confidence >= threshold].sum())


def test_a_promise_is_kept_as_often_as_it_is_certain():
    """Confidences that promise too much; the true accuracy of a threshold is known: (1 + t) / 2 - 0.1."""
    generator = torch.Generator().manual_seed(0)
    broken, chosen, flattered = 0, 0, 0
    for _ in range(60):
        confidence = torch.rand(300, generator=generator, dtype=torch.float64)
        right = torch.rand(300, generator=generator) < confidence - 0.1
        flattered += (1 + choose_threshold(confidence, right, 0.6, None).threshold) / 2 - 0.1 < 0.6
        try:
            threshold = choose_threshold(confidence, right, 0.6, 0.9).threshold
        except DataError:
            continue
        chosen += 1
        broken += (1 + threshold) / 2 - 0.1 < 0.6
    assert chosen > 35
    assert broken <= 6 + 3 * 2.4  # a tenth of 60, and three standard deviations
    assert flattered > 18  # without a promise: as likely as not


def test_where_a_network_has_no_answer_none_is_counted():
    confidence = torch.tensor([0.9, 0.8, -1.0, -1.0]).double()
    found = choose_threshold(confidence, torch.tensor([True, True, True, True]), 0.9, None)
    assert (found.threshold, found.kept, found.images) == (0, 2, 4)
    with pytest.raises(DataError, match="answers for none of the 2 images"):
        choose_threshold(confidence[2:], torch.tensor([True, True]), 0.9, None)


def test_what_cannot_be_reached_is_a_line():
    confidence, right = torch.linspace(0.5, 1, 40).double(), torch.arange(40) % 2 == 0
    with pytest.raises(
        DataError, match=r"^accuracy: 0\.9 given, which no threshold reaches with certainty 0\.9 on the"
    ):
        choose_threshold(confidence, right, 0.9, 0.9)
    everything = torch.ones(40, dtype=torch.bool)
    assert choose_threshold(confidence, everything, 0.85, 0.9).threshold == 0  # 0.85^40 = 0.0015, below 0.1 / 10
    with pytest.raises(DataError, match=r"at best 40 of the 40 most confident ones are right\): more images"):
        choose_threshold(confidence, everything, 0.95, 0.9)
