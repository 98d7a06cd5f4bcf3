"""Which epoch is the best one, and which count for early stopping: by hand, without any training."""

import math
from types import SimpleNamespace

import pytest
import torch

from ibd.models.lightning import InterpretableModule
from ibd.training.keeping import KeepRun
from ibd.training.stopping import StopEarly
from tests.model_makers import make_pipnet

NAN = math.nan


@pytest.mark.parametrize(
    ("epochs", "best"),
    [
        ([(0.165, 0.73), (0.165, 0.60), (0.165, 0.54)], 2),  # as after an issue: the same accuracy, a falling loss
        ([(0.5, 0.5), (0.5, 0.4), (0.5, 0.6)], 1),
        ([(0.5, 0.5), (0.5, 0.5)], 1),  # the later one where the loss is the same, too
        ([(0.5, NAN), (0.5, NAN), (0.4, NAN)], 1),
        ([(0.9, 9.0), (0.8, 0.1)], 0),
        ([(NAN, 0.1), (0.2, 0.5), (NAN, 0.1)], 1),
    ],
)
def test_ties_go_to_the_smaller_loss_and_then_to_the_later_epoch(epochs, best, tmp_path):
    for sign, mode in ((1, "max"), (-1, "min")):
        keep, chosen = KeepRun(tmp_path, "val/accuracy", mode), None
        for epoch, (value, loss) in enumerate(epochs):
            if keep.is_better(sign * value, loss):
                chosen, keep.best, keep.loss = epoch, sign * value, loss
        assert chosen == best


def stopped_after(scores, module=None, **options):
    """Return after how many epochs early stopping stops, going through (accuracy, loss) of each; None if it does not.

    After every epoch it is put down and taken up, as in a run that is resumed.
    """
    trainer = SimpleNamespace(
        fast_dev_run=False,
        should_stop=False,
        lightning_module=module,
        strategy=SimpleNamespace(reduce_boolean_decision=lambda decision, **_: decision),
    )
    state = None
    for trainer.current_epoch, (accuracy, loss) in enumerate(scores):
        stop = StopEarly("val/accuracy", mode="max", strict=False, **options)
        if state:
            stop.load_state_dict(state)
        trainer.callback_metrics = {"val/accuracy": torch.tensor(accuracy), "val/loss": torch.tensor(loss)}
        stop._run_early_stopping_check(trainer)
        if trainer.should_stop:
            return trainer.current_epoch + 1
        state = stop.state_dict()
    return None


def test_early_stopping_waits_while_the_loss_falls():
    falling = [(0.5, 0.9 - 0.1 * epoch) for epoch in range(5)]
    assert stopped_after(falling, patience=2) is None
    assert stopped_after([(0.5, 0.5)] * 5, patience=2) == 3
    assert stopped_after([*falling[:3], (0.4, 0.1), (0.5, 0.8)], patience=2) == 5
    assert stopped_after(falling, patience=2, min_delta=0.01) == 3  # what counts is said


def test_epochs_without_labels_count_for_nothing():
    """PIP-Net with four epochs before the classifier learns anything, and a patience of two."""
    made = make_pipnet(pretrain={"epochs": 4}, train={"epochs": 4, "classifier_only": 1})
    assert [made.has_learned(epoch) for epoch in range(8)] == [False] * 4 + [True] * 4
    scores = [(0.95, 1.0)] + [(0.5, 1.0)] * 3 + [(0.6, 0.9), (0.7, 0.8), (0.8, 0.7), (0.875, 0.6)]
    assert stopped_after(scores, made, patience=2) is None
    assert stopped_after([*scores[:5], (0.5, 1.0), (0.5, 1.0)], made, patience=2) == 7
    assert InterpretableModule.has_learned(made, 0)  # other models learn from labels from the beginning
