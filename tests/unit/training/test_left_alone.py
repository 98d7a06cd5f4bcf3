"""Who tells that a process of a training is gone: its child, which sees the connections close a moment before."""

import os

import pytest

from ibd.training import trainer


@pytest.mark.parametrize(
    ("seen", "alone"), [([7, 7, 7, 1], True), ([7], False), ([1], True)], ids=["dying", "alive", "dead"]
)
def test_a_parent_that_dies_is_waited_for(seen, alone, monkeypatch):
    numbers = list(seen)
    monkeypatch.setattr(os, "getppid", lambda: numbers.pop(0) if len(numbers) > 1 else numbers[0])
    monkeypatch.setattr(trainer, "_DYING", 60.0 if alone else 0.05)  # a busy machine must not end the wait
    assert trainer.left_alone(7) == alone
