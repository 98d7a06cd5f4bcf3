"""Compiled steps learn what plain ones learn, and nothing but steps is compiled."""

import pytest
import torch

import ibd
from ibd.errors import ConfigError
from ibd.models.lightning import InterpretableModule
from ibd.training import compiling

BACKBONE = {"name": "small_cnn", "width": 4, "depth": 3}
MODELS = {
    "bottleneck": {"name": "cbm", "backbone": BACKBONE, "concept_weight": 1.0},
    "B-cos": {"name": "baseline", "backbone": {**BACKBONE, "name": "bcos_small_cnn"}},
}


class Counter:
    """A compiler that changes nothing, and counts how often what it was given ran."""

    def __init__(self):
        self.ran = 0

    def __call__(self, graph, example_inputs):
        def run(*arguments):
            self.ran += 1
            return graph.forward(*arguments)

        return run


@pytest.fixture
def counter(monkeypatch):
    torch.compiler.reset()
    counter = Counter()
    monkeypatch.setattr(compiling, "COMPILER", counter)
    yield counter
    torch.compiler.reset()


def fit(model, folder, *changes):
    config = {
        "name": "small",
        "model": model,
        "data": {
            "name": "toybirds",
            "preset": "tiny",
            "train_size": 24,
            "val_size": 12,
            "test_size": 6,
            "batch_size": 8,
        },
        "trainer": {"max_epochs": 1, "precision": "64-true"},
        "logger": {"mode": "off", "figures_every": 0},
        "output": str(folder),
    }
    run = ibd.fit(config, *changes)
    return torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_compiled_steps_learn_the_same(model, tmp_path, counter):
    plain = fit(model, tmp_path / "plain")
    assert counter.ran == 0
    compiled = fit(model, tmp_path / "compiled", "compile=true")
    assert counter.ran >= 3  # steps of 8 images
    torch.testing.assert_close(compiled, plain, rtol=1e-7, atol=1e-9)


def test_what_comes_between_steps_is_not_compiled(tmp_path, counter, monkeypatch):
    compiled = []

    def validated(self, batch, batch_idx):
        compiled.append("forward" in vars(self.network.backbone))
        return validate(self, batch, batch_idx)

    validate = InterpretableModule.validation_step
    monkeypatch.setattr(InterpretableModule, "validation_step", validated)
    fit(MODELS["bottleneck"], tmp_path, "compile=true")
    assert len(compiled) >= 2
    assert not any(compiled)


def test_a_conversion_is_not_compiled(tmp_path):
    model = {"name": "baseline", "backbone": {**BACKBONE, "name": "bcos_small_cnn", "converted": True}}
    with pytest.raises(ConfigError, match=r"compile: true given, but a backbone that is converted .* false"):
        fit(model, tmp_path, "compile=true")


def test_a_step_without_the_backbone_says_so(tmp_path, counter):
    model = {"name": "concept_whitening", "backbone": {**BACKBONE, "width": 8}, "alignment": {"every": 1, "images": 4}}
    with pytest.raises(ConfigError, match="a step of ConceptWhitening does not run its backbone as a whole: false"):
        fit(model, tmp_path, "compile=true")
