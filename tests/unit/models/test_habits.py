"""What people do with any Lightning module, or with any network of torch, works with ours."""

import functools

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ibd
from ibd.errors import CheckpointError, DataError, UntrustedError
from ibd.models.lightning import UNFINISHED_KEY
from tests.model_makers import (
    LARGE,
    SPEC,
    TensorData,
    make_embedding,
    make_filters,
    make_module,
    make_pipnet,
    make_prototypes,
    make_whitening,
)

IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


def trainer(**options):
    return pl.Trainer(accelerator="cpu", devices=1, max_epochs=1, use_distributed_sampler=False, **QUIET, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A module that was trained, the checkpoint that Lightning wrote of it, and what it said of the validation."""
    file, fitting = tmp_path_factory.mktemp("trained") / "x.ckpt", trainer()
    module = make_module(imbalance="none").train()
    fitting.fit(module, datamodule=TensorData())
    fitting.save_checkpoint(file)
    return module.eval(), file, dict(fitting.callback_metrics)


def test_load_from_checkpoint(trained):
    module, file, _ = trained
    found = ibd.ConceptBottleneck.load_from_checkpoint(file, concept_weight=0.5)
    assert found.training  # as Lightning leaves it, to be trained on
    assert found.concept_weight == 0.5
    torch.testing.assert_close(found.eval()(IMAGES).logits, module(IMAGES).logits)  # in another memory layout


def test_a_checkpoint_that_was_finished_is_read_as_it_was_finished(trained, tmp_path):
    """What `finish` replaced lies in it, too, for a training that goes on, and for nothing else."""
    module, file, _ = trained
    content = torch.load(file, weights_only=True)
    content[UNFINISHED_KEY] = {"network.head.bias": torch.full_like(content["state_dict"]["network.head.bias"], 9.0)}
    torch.save(content, tmp_path / "finished.ckpt")
    found = ibd.ConceptBottleneck.load_from_checkpoint(tmp_path / "finished.ckpt")
    assert torch.equal(found.network.head.bias, module.network.head.bias)
    again = make_module(imbalance="none")
    trainer().validate(again, datamodule=TensorData(), ckpt_path=tmp_path / "finished.ckpt")
    assert torch.equal(again.network.head.bias, module.network.head.bias)
    fitting = trainer(limit_train_batches=0, limit_val_batches=0)
    fitting.fit(again, datamodule=TensorData(), ckpt_path=tmp_path / "finished.ckpt")
    assert bool((again.network.head.bias == 9.0).all())


def test_load_from_checkpoint_of_another_model_or_a_stranger(trained, tmp_path):
    _, file, _ = trained
    with pytest.raises(CheckpointError, match=r"^the checkpoint holds a 'cbm', not a 'baseline': ibd\.load_model"):
        ibd.Baseline.load_from_checkpoint(file)
    content = torch.load(file, weights_only=True)
    content["hyper_parameters"]["backbone"] = {"name": "tests.model_makers:CountingBackbone", "channels": 3}
    torch.save(content, tmp_path / "stranger.ckpt")
    with pytest.raises(UntrustedError, match="none of ibd's own classes"):
        ibd.ConceptBottleneck.load_from_checkpoint(tmp_path / "stranger.ckpt")
    with pytest.raises(RuntimeError, match="loading state_dict"):  # found and made, but its weights are others
        ibd.ConceptBottleneck.load_from_checkpoint(tmp_path / "stranger.ckpt", trust=True)


def test_validate_says_what_the_training_said(trained):
    module, file, logged = trained
    (found,) = trainer().validate(module, datamodule=TensorData())
    assert found == {name: pytest.approx(float(logged[name])) for name in found}
    assert "val/concept_auroc" in found
    (read,) = trainer().validate(ibd.load_model(file), datamodule=TensorData())
    assert read == pytest.approx(found)


@pytest.mark.parametrize(
    "make", [make_module, make_embedding, make_whitening, make_pipnet, make_prototypes, make_filters]
)
def test_predict_of_a_trainer(make):
    module = make()
    data = TensorData((4, 4, 30), LARGE if module.spec.image_size == (32, 32) else SPEC)
    parts = trainer().predict(module, datamodule=data)
    together = functools.reduce(lambda one, other: one.join(other), parts)
    expected = module.predict(data.splits["test"][0])
    torch.testing.assert_close(together.logits, expected.logits)
    torch.testing.assert_close(together.units.maps, expected.units.maps)
    assert together.names[:2] == ["image 0", "image 1"]
    assert len(together) == 30
    edited = parts[0].intervene({0: 1.0})  # outside of the inference mode that it was made in
    torch.testing.assert_close(edited.logits, expected[: len(edited)].intervene({0: 1.0}).logits)


def test_predict_of_a_loader_that_is_not_ours():
    module, dataset = make_module(), TensorDataset(IMAGES, torch.arange(4))
    (found,) = trainer().predict(module, DataLoader(dataset, batch_size=4))
    torch.testing.assert_close(found.logits, module.predict(IMAGES).logits)
    (found,) = trainer().predict(module, DataLoader(IMAGES, batch_size=4))
    torch.testing.assert_close(found.logits, module.predict(IMAGES).logits)
    with pytest.raises(DataError, match=r"\[0, 1\] is needed, not normalized"):
        trainer().predict(module, DataLoader(IMAGES - 0.5, batch_size=4))
    with pytest.raises(DataError, match="a batch to predict is images, or begins with them, and no dict"):
        module.predict_step({"image": IMAGES})


def test_predict_leaves_out_what_fills_up_the_share_of_a_process():
    module = make_module()
    batch = next(iter(TensorData().val_dataloader()))
    batch.index[-3:] = -1
    assert len(module.predict_step(batch)) == len(batch) - 3


@pytest.mark.parametrize(
    "make",
    [
        make_module,
        make_embedding,
        make_pipnet,
        make_filters,
        *(pytest.param(m, marks=pytest.mark.slow) for m in (make_whitening, make_prototypes)),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_compiled_network_is_the_same_network(make):
    module = make().eval()
    image = torch.rand(2, 3, *module.spec.image_size, generator=torch.Generator().manual_seed(1))
    torch._dynamo.reset()
    whole = make is not make_whitening  # its backbone is cut in two in the first pass of each mode, outside of a graph
    compiled = torch.compile(module.network, backend="aot_eager", fullgraph=whole)
    with torch.no_grad():
        found, expected = compiled(image), module.network(image)
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.units.maps, expected.units.maps)


def test_plain_logits_are_the_network_itself():
    module = make_module()
    plain = module.logits
    assert isinstance(plain, nn.Module)
    assert torch.equal(plain(IMAGES), module(IMAGES).logits)
    assert plain.network is module.network
    assert not plain.training
    assert set(module.state_dict()) == set(make_module().state_dict())  # it is no part of the module
