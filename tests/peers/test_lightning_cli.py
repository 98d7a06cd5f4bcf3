"""LightningCLI (jsonargparse, extra `peers`): our modules and data as its classes, linked by the data's description."""

import pytest
import torch

import ibd
from ibd.data import ToyBirds
from tests.model_makers import SMALL

pytest.importorskip("jsonargparse")

BIRDS = {"train_size": 16, "val_size": 8, "test_size": 8, "image_size": 32}


def cli(folder, *arguments):
    from pytorch_lightning.cli import LightningCLI

    class Cli(LightningCLI):
        def add_arguments_to_parser(self, parser):
            parser.link_arguments("data.spec", "model.spec", apply_on="instantiate")

    options = {"accelerator": "cpu", "max_epochs": 1, "logger": "false", "use_distributed_sampler": "false"}
    trainer = [f"--trainer.{name}={value}" for name, value in options.items()]
    data = [f"--data.{name}={value}" for name, value in BIRDS.items()]
    return Cli(
        ibd.ConceptBottleneck, ToyBirds, args=[*arguments, *trainer, *data, f"--trainer.default_root_dir={folder}"]
    )


@pytest.mark.filterwarnings("ignore")
def test_a_training_and_what_it_leaves(tmp_path):
    made = cli(
        tmp_path, "fit", f"--model.backbone={SMALL}", "--model.concept_weight=0.5", "--model.optimizer={'lr': 0.1}"
    )
    module, file = made.model, made.trainer.checkpoint_callback.best_model_path
    assert module.concept_weight == 0.5
    assert module.spec == made.datamodule.spec
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = module.eval()(image).logits
    for found in (ibd.load_model(file), ibd.ConceptBottleneck.load_from_checkpoint(file).eval()):
        assert found.concept_weight == 0.5
        torch.testing.assert_close(found(image).logits, expected)
