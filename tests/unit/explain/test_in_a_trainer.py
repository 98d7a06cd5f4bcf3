"""Explanations where Lightning runs the model: in `predict`, which is in inference mode, and during `fit`."""

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from ibd.explain.targets import Target
from ibd.models.baseline.lightning import Baseline
from tests.explainer_makers import APART, EXPLAINERS, MODELS, REPEATED, WITH_UNITS, explainer, images, make, refused
from tests.model_makers import SMALL, SPEC, TensorData
from tests.model_state import check_untouched, snapshot

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
CAPTUM = ("lime", "kernel_shap")


def trainer(**options):
    return pl.Trainer(accelerator="cpu", devices=1, max_epochs=1, **QUIET, **options)


class Asked(pl.LightningModule):
    """Explains a model that it holds, or itself."""

    def __init__(self, model, rows, target, itself):
        super().__init__()
        self.model, self.rows, self.target, self.itself = model, rows, target, itself

    def forward(self, image):
        return self.model(image)

    def predict_step(self, batch):
        assert torch.is_inference_mode_enabled()
        asked = self if self.itself else self.model
        before = snapshot(asked)
        found = {row: explainer(row)(asked, batch, self.target) for row in self.rows}
        check_untouched(asked, before)
        assert torch.is_inference_mode_enabled()
        return found


def check_predict(model, rows, target=None, itself=False, **options):
    target = target or Target.cls(1)
    rows = [row for row in rows if not refused(row, model, target.sums[0][0].kind)]
    network, image = make(model), images(4, (33, 38))
    outside = [{row: explainer(row)(network, part, target) for row in rows} for part in image.split(2)]
    inside = trainer(**options).predict(Asked(network, rows, target, itself), DataLoader(image, batch_size=2))
    assert len(rows) > 10
    for one, other in zip(inside, outside, strict=True):
        for row in rows:
            assert one[row].map.isfinite().all(), row
            assert not one[row].map.is_inference(), row
            if not options:
                assert torch.equal(one[row].map, other[row].map), row
                assert torch.equal(one[row].value, other[row].value), row
            else:
                assert one[row].map.dtype == torch.float32, row


QUICK = [row for row in EXPLAINERS if row not in (*CAPTUM, *REPEATED, *APART, "scorecam")]


@pytest.mark.parametrize("model", ["protopnet", "dict"])
def test_in_predict(model):
    check_predict(model, QUICK)


def test_of_the_module_that_predicts():
    check_predict("functional", QUICK, itself=True)


@pytest.mark.slow
def test_in_mixed_precision():
    check_predict("cbm", QUICK, precision="bf16-mixed")


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_in_predict_all(model):
    rows = [row for row in EXPLAINERS if row not in CAPTUM]
    if model == "resnet18":
        rows = [row for row in rows if row not in (*REPEATED, "scorecam")]
    check_predict(model, rows)
    check_predict(model, rows, precision="bf16-mixed")
    if model in WITH_UNITS:
        check_predict(model, rows, Target.unit(1))


@pytest.mark.slow
@pytest.mark.parametrize("row", CAPTUM)
def test_in_predict_by_captum(row):
    explainer(row)  # skips
    rows = [row, *QUICK[:11]]
    check_predict("baseline", rows)
    check_predict("baseline", rows, precision="bf16-mixed")


class Curious(pl.Callback):
    """Asks everything, all the time."""

    def __init__(self):
        self.asked, self.explainers = 0, [explainer(row) for row in QUICK]

    def ask(self, module):
        for each in self.explainers:
            each(module, images(2, SPEC.image_size), 1)
            self.asked += 1

    def on_train_batch_start(self, trainer, module, batch, index):
        self.ask(module)

    def on_before_backward(self, trainer, module, loss):
        self.ask(module)

    def on_validation_batch_end(self, trainer, module, outputs, batch, index):
        self.ask(module)


def fitted(*callbacks):
    pl.seed_everything(0)
    module, data = Baseline(SPEC, SMALL), TensorData((16, 8, 8), batch_size=8)
    trainer(callbacks=list(callbacks), num_sanity_val_steps=0).fit(module, data)
    return module.state_dict(), torch.rand(3)


def test_a_training_that_is_watched_is_the_same_training():
    curious = Curious()
    (plain, draws), (watched, others) = fitted(), fitted(curious)
    assert curious.asked == 5 * len(QUICK)
    assert list(plain) == list(watched)
    assert all(torch.equal(plain[name], watched[name]) for name in plain)
    assert torch.equal(draws, others)
