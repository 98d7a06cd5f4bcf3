"""Which model a training chooses and reports, through the command line."""

import math
import signal
import warnings
from pathlib import Path
from unittest import mock

import pytest

from ibd.cli import main
from ibd.lock import LOCK, locked
from ibd.models.cbm.lightning import ConceptBottleneck
from ibd.models.lightning import InterpretableModule
from ibd.models.pipnet.lightning import PIPNet
from ibd.training import display, keeping
from tests.command import SMALL, TINY, checkpoint, ibd, rows

CONFIG = ("fit", TINY, *SMALL, "trainer.max_epochs=3")
DATA = "data: {name: toybirds, preset: tiny, batch_size: 16}\n"
BODY = "backbone: {name: small_cnn, width: 4, depth: 3}"
PIPNET = (
    f"name: pip\nmodel: {{name: pipnet, prototypes: 8, {BODY}, pretrain: {{epochs: 2}}, "
    f"train: {{epochs: 2, classifier_only: 1}}}}\n{DATA}"
)
PROTOPNET = f"model: {{name: protopnet, per_class: 1, {BODY}, warm: {{epochs: 1}}, joint: {{epochs: 4}}}}\n{DATA}"


def only(folder):
    """Return the one run of a name."""
    (run,) = Path(folder).iterdir()
    return run


def test_equal_epochs_are_told_apart_by_the_loss_and_the_best_is_reported():
    """Everything that reads a run takes the best epoch, and so does what `fit` prints of it: three figures."""
    constant = mock.patch.object(
        InterpretableModule, "_log_metrics", lambda self, split: self.log(f"{split}/accuracy", 0.165)
    )
    with constant:
        answer = ibd(*CONFIG)
    losses = [float(row["val/loss"]) for row in rows(answer.run)]
    best = min(range(3), key=lambda epoch: (losses[epoch], -epoch))
    assert best > 0  # which the first of equals would not be
    assert checkpoint(answer.run, "best")["epoch"] == best
    *_, figures, then = answer.out.splitlines()
    assert figures == f"best epoch {best + 1}: val/accuracy 0.1650  val/loss {losses[best]:.4f}"
    assert then == f"next: ibd test {answer.run}"


def scored(by_epoch):
    """Let PIP-Net reach certain accuracies, whatever it learns."""
    return mock.patch.object(
        PIPNet, "_log_metrics", lambda self, split: self.log(f"{split}/accuracy", by_epoch[self.current_epoch])
    )


@pytest.mark.slow
def test_only_epochs_with_labels_are_best_or_count_for_patience(tmp_path):
    (tmp_path / "pip.yaml").write_text(PIPNET)
    with scored([0.95, 0.5, 0.6, 0.7]):
        answer = ibd("fit", "pip.yaml", *SMALL, "early_stopping.patience=1")
    assert answer.code == 0, answer.err
    assert [row["epoch"] for row in rows(answer.run)] == ["0", "1", "2", "3", ""]  # the last one is of finishing
    assert checkpoint(answer.run, "best")["epoch"] == 3
    assert "best epoch 4: val/accuracy 0.7000" in answer.out
    assert "cuts the training short" not in answer.err
    assert "ended the training" not in answer.err


@pytest.mark.slow
def test_what_is_cut_is_said(tmp_path):
    (tmp_path / "pip.yaml").write_text(PIPNET)
    (tmp_path / "proto.yaml").write_text(f"name: proto\n{PROTOPNET}trainer: {{max_epochs: 2}}\n")  # left over
    answer = ibd("fit", "pip.yaml", *SMALL, "trainer.max_epochs=1")
    blind = "without 1 of model.pretrain.epochs=2, 2 of model.train.epochs=2 epochs; no label is used, and nothing is"
    assert f"trainer.max_epochs=1 cuts the training short: {blind}" in answer.err
    assert "no epoch is the best one, so the last one is used: no label was used in any of them" in answer.err
    assert "last epoch 1: " in answer.out
    with scored([0.5, 0.5, 0.6, 0.6]):
        answer = ibd("fit", "pip.yaml", *SMALL, "early_stopping.patience=1", "early_stopping.min_delta=1")
    assert "early_stopping.patience=1 without a better val/accuracy ended the training" not in answer.err  # all epochs
    answer = ibd("fit", "proto.yaml", *SMALL)
    assert "trainer.max_epochs=2 cuts the training short: without 3 of model.joint.epochs=4 epochs\n" in answer.err
    assert "val/projected_accuracy was never a number; an epoch is scored only if prototypes are" in answer.err
    assert ".py:" not in answer.err


@pytest.mark.slow
def test_early_stopping_says_so():
    answer = ibd(*CONFIG, "early_stopping.monitor=lr", "early_stopping.mode=max", "early_stopping.patience=1",
                 "optimizer.schedule=constant")  # fmt: skip
    assert "early_stopping.patience=1 without a better lr ended the training after epoch 2\n" in answer.err


def test_lengths_that_cannot_be(tmp_path):
    (tmp_path / "proto.yaml").write_text(PROTOPNET)
    none = ibd("fit", "proto.yaml", *SMALL, "model.warm.epochs=0", "model.joint.epochs=0").mistake
    assert none.startswith("model.warm.epochs and model.joint.epochs: 0 given, so nothing would be trained")
    longer = ibd(*CONFIG, "trainer.min_epochs=4").mistake
    assert longer == "trainer.min_epochs: 4 given, at most 3, trainer.max_epochs, is possible"
    assert not Path("runs").exists()


@pytest.mark.slow
def test_what_is_told_of_an_epoch_is_on_disk():
    seen = []

    def telling(line):
        if line.startswith("epoch "):
            run = only("runs/toybirds-tiny")
            seen.append((checkpoint(run)["epoch"], int(rows(run)[-1]["epoch"]), int(line.split()[1][0]) - 1))

    with mock.patch.object(display, "tell", telling):
        assert ibd(*CONFIG).code == 0
    assert seen == [(0, 0, 0), (1, 1, 1), (2, 2, 2)]


@pytest.mark.parametrize("when", ["between validation and the checkpoint", "amid the checkpoint"])
def test_ctrl_c_at_the_end_of_an_epoch_leaves_table_and_checkpoint_of_one_epoch(when):
    saving = when == "amid the checkpoint"
    where, name = (keeping, "_write_table") if saving else (ConceptBottleneck, "on_train_epoch_end")
    real = getattr(where, name)

    def pressing(this):
        real(this)
        if this.current_epoch == 1:
            signal.raise_signal(signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a suite in the background has not
    try:
        with mock.patch.object(where, name, pressing):
            answer = ibd(*CONFIG)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert answer.code == 130, answer.err
    assert [int(row["epoch"]) for row in rows(answer.run)] == list(range(1 + saving))
    assert checkpoint(answer.run)["epoch"] == int(saving)


def test_a_run_that_still_trains_is_not_resumed():
    told = []
    real = ConceptBottleneck.training_step

    def meeting(self, batch, batch_idx):
        if self.global_step == 4 and not told:
            told.append(ibd("fit", f"resume={only('runs/toybirds-tiny')}").err)
        return real(self, batch, batch_idx)

    with mock.patch.object(ConceptBottleneck, "training_step", meeting):
        answer = ibd(*CONFIG)
    assert answer.code == 0, answer.err
    assert told[0].splitlines()[-1].startswith(f"ibd: '{answer.run}' is in use: a training is running there (process")
    assert not (answer.run / LOCK).exists()
    assert len(rows(answer.run)) == 3


def test_two_comparisons_do_not_share_a_folder(trained, tmp_path):
    with locked(tmp_path / "out", "a comparison", "compare"):
        assert "out' is in use: a comparison is running" in ibd("compare", trained, "--out", tmp_path / "out").mistake


@pytest.mark.slow
def test_a_gradient_that_is_no_number_where_anomalies_are_detected():
    real = ConceptBottleneck.losses

    def spoilt(self, output, batch):
        terms = real(self, output, batch)
        zero = terms["loss"] * 0 if self.training and self.global_step == 4 else terms["loss"]
        return {**terms, "loss": terms["loss"] + zero.sqrt()}  # whose derivative at 0 times 0 is NaN

    with mock.patch.object(ConceptBottleneck, "losses", spoilt), pytest.warns(UserWarning, match="Error detected in"):
        answer = ibd(*CONFIG, "trainer.detect_anomaly=true")
    message = answer.late_mistake
    assert message.startswith("a gradient is no longer finite at epoch 3, step 5 (Function 'MulBackward0' returned nan")
    assert message.endswith("Try a lower optimizer.lr or trainer.gradient_clip_val=1; "
                            f"'{only('runs/toybirds-tiny')}' keeps the finished epochs")  # fmt: skip


def test_features_that_cannot_be_whitened_are_not_blamed_on_the_learning_rate(tmp_path):
    (tmp_path / "cw.yaml").write_text(
        f"model: {{name: concept_whitening, concepts: ['eye::ring'], {BODY}, "
        f"whitening: {{eps: 0, shrinkage: 0}}}}\n{DATA}"
    )
    nan = mock.patch(
        "ibd.models.concept_whitening.lightning.F.cross_entropy", lambda logits, *_, **__: logits.sum() * math.nan
    )
    with nan:
        message = ibd("fit", "cw.yaml", *SMALL, "trainer.max_epochs=1").late_mistake
    assert "model.whitening.eps and model.whitening.shrinkage are both 0" in message
    assert "optimizer.lr" not in message


def test_warnings_name_no_file():
    """Also where something has set another format since, as Lightning does when it is imported."""
    shown, formatted, texts = warnings.showwarning, warnings.formatwarning, []

    def warn(kind):
        warnings.formatwarning = lambda *_: "elsewhere.py:12: why"
        warnings.warn("why", stacklevel=1)
        texts.append(warnings.formatwarning("why", UserWarning, "elsewhere.py", 12))

    with mock.patch.dict("ibd.cli.VERBS", {"list": warn}), pytest.warns(UserWarning, match="why"):
        main(["list"])
    assert texts == ["warning: why\n"]
    assert (warnings.showwarning, warnings.formatwarning) == (shown, formatted)
