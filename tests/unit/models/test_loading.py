"""A trained network alone: the same as the whole model, by what is ready sooner."""

import inspect
import subprocess
import sys
from dataclasses import make_dataclass
from pathlib import Path

import pytest
import torch

from ibd import registry
from ibd.config.schema import options
from ibd.errors import CheckpointError
from ibd.io import load_model, read_checkpoint
from ibd.models import loading
from ibd.models.baseline.lightning import Baseline
from ibd.models.loading import FAMILIES, load_network
from ibd.models.training_options import HINTS
from tests.model_makers import (
    SMALL,
    SPEC,
    make_embedding,
    make_filters,
    make_module,
    make_pipnet,
    make_posthoc,
    make_prototypes,
    make_stochastic_module,
    make_whitening,
)

MAKERS = {
    "baseline": lambda: Baseline(SPEC, SMALL),
    "cbm": lambda: make_module(bottleneck="logits", head="mlp", softmax_groups=["wing"]),
    "cem": make_embedding,
    "posthoc_cbm": lambda: make_posthoc(rest=True),
    "scbm": lambda: make_stochastic_module(covariance="amortized", rank=2, head="mlp", placement="confidence"),
    "protopnet": make_prototypes,
    "pipnet": make_pipnet,
    "concept_whitening": lambda: make_whitening(whitening={"eps": 1e-4}),
    "interpretable_cnn": make_filters,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_the_network_of_the_whole_model(name, tmp_path):
    module = MAKERS[name]().eval()
    module.save(tmp_path / "x.ckpt")
    found = loading._light(tmp_path / "x.ckpt", read_checkpoint(tmp_path / "x.ckpt"))  # nothing was read twice
    whole = load_model(tmp_path / "x.ckpt")
    assert type(found.network) is type(whole.network)
    assert not found.training
    assert found.spec == whole.spec
    state, expected = found.network.state_dict(), whole.network.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[key], expected[key]) for key in state if not expected[key].isnan().any())
    image = torch.rand(3, 3, *module.spec.image_size, generator=torch.Generator().manual_seed(0))
    assert str(found.predict(image)) == str(whole.predict(image))


def test_prototypes_are_read_in_the_precision_that_they_were_projected_in(tmp_path):
    mixed, half = make_prototypes(), make_prototypes().to(torch.bfloat16)
    mixed.network.provenance.precision.fill_(1)
    image = torch.rand(3, 3, *mixed.spec.image_size, generator=torch.Generator().manual_seed(0))
    for module in (mixed, half):
        module.save(tmp_path / "x.ckpt")
        found = load_network(tmp_path / "x.ckpt")
        assert next(found.parameters()).dtype == next(module.parameters()).dtype
        assert torch.equal(found.predict(image).logits, load_model(tmp_path / "x.ckpt").predict(image).logits)


@pytest.mark.parametrize("name", registry.list_models())
def test_all_options_are_known(name):
    """Those of the network and those of its training are together what the model takes; none is left out unseen."""
    family = FAMILIES[name]
    taken = set(inspect.signature(registry.resolve("models", name)).parameters)
    assert taken == {"spec", "backbone", "optimizer", *family.options, *family.training}
    assert set(family.options) <= set(inspect.signature(registry.load_class(family.network)).parameters)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_only_a_training_reads_has_the_types_that_it_has_there(name):
    trained = options(registry.resolve("models", name))
    for key in FAMILIES[name].training:
        here = options(make_dataclass("Here", [(key, HINTS[key])]))[key]
        there = trained[key]
        assert (here.type, here.block, here.optional) == (there.type, there.block, there.optional), key


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("cbm", {"concept_weight": "much"}),
        ("cbm", {"regime": "alone"}),
        ("cbm", {"normalize_loss": [1]}),
        ("cbm", {"optimizer": {"lr": "fast"}}),
        ("cbm", {"optimizer": {"speed": 1}}),
        ("protopnet", {"warm": {"epochs": "x"}}),
        ("protopnet", {"prune": 3}),
        ("concept_whitening", {"alignment": {"every": "x"}}),
        ("concept_whitening", {"concept_folder": [3]}),
    ],
)
def test_a_wrong_option_that_only_a_training_reads_is_one_line(name, changes, tmp_path):
    """As of the whole model, which a prediction does not read where all is well."""
    file = tmp_path / "x.ckpt"
    MAKERS[name]().save(file)
    content = torch.load(file, weights_only=True)
    torch.save({**content, "hyper_parameters": {**content["hyper_parameters"], **changes}}, file)
    said = []
    for load in (load_network, load_model):
        with pytest.raises(CheckpointError, match="does not fit this version of ibd") as caught:
            load(file)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]


def test_what_is_wrong_or_not_known_is_left_to_the_whole_model(tmp_path):
    file, module = tmp_path / "x.ckpt", make_module()
    module.save(file)
    content = torch.load(file, weights_only=True)
    for changes, message in (
        ({"bottleneck": "soft"}, "does not fit this version of ibd .*'soft'"),
        ({"later": 1}, "does not fit this version of ibd .*later"),
        ({"backbone": {"name": "os:path"}}, "none of ibd's own classes"),
        ({"backbone": {**SMALL, "width": 512}}, "larger network than its weights"),
    ):
        values = {**content["hyper_parameters"], **changes}
        torch.save({**content, "hyper_parameters": values}, file)
        with pytest.raises(CheckpointError, match=message):
            load_network(file)
    weights = {**content["state_dict"], "network.head.bias": torch.full((3,), torch.nan)}
    torch.save({**content, "state_dict": weights}, file)
    with pytest.raises(CheckpointError, match=r"values that are not numbers, in network\.head\.bias"):
        load_network(file)


def test_what_is_wrong_beside_the_network_is_found_too(tmp_path):
    file, module = tmp_path / "x.ckpt", make_module()
    module.save(file)
    content = torch.load(file, weights_only=True)
    ratio = content["state_dict"]["ratio"]
    for changes, message in (
        ({"more": torch.zeros(3)}, "more"),
        ({"ratio": ratio * torch.nan}, "not numbers, in ratio"),
        ({"ratio": ratio[:2]}, "ratio"),
        ({"ratio": 3}, "ratio"),
    ):
        torch.save({**content, "state_dict": {**content["state_dict"], **changes}}, file)
        with pytest.raises(CheckpointError, match=message):
            load_network(file)
    for option in ({"frozen": "x"}, {"cache": [3]}):
        values = {**content["hyper_parameters"], "backbone": {**SMALL, **option}}
        torch.save({**content, "hyper_parameters": values}, file)
        for load in (load_network, load_model):
            with pytest.raises(CheckpointError, match=next(iter(option))):
                load(file)


@pytest.mark.parametrize(
    "name", [name if name in ("cbm", "protopnet") else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_a_prediction_imports_nothing_of_a_training(name, tmp_path):
    """Nor torch's compiler, with sympy, which operations on tensors without memory may bring."""
    from PIL import Image

    MAKERS[name]().save(tmp_path / "x.ckpt")
    Image.new("RGB", (30, 20)).save(tmp_path / "x.png")
    code = (
        "import sys, torch; torch.zeros(2, device='meta'); before = set(sys.modules); "
        "from ibd.cli import main; assert main(sys.argv[1:]) == 0; "
        "slow = {'pytorch_lightning', 'torchmetrics', 'torchvision', 'matplotlib', 'torch._dynamo', 'sympy', 'wandb'}; "
        "print(sorted(slow & (set(sys.modules) - before)))"
    )
    command = [sys.executable, "-c", code, "predict", str(tmp_path / "x.ckpt"), str(tmp_path / "x.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert done.stdout.splitlines()[-1] == "[]"
    assert "%" in done.stdout
