import pytest
import torch

from tests.command import QUIET, TINY, fitted


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """Work in a folder of its own, without W&B and with one thread, so that sums have one order."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A concept bottleneck that has learnt something, as configs/toybirds/tiny.yaml trains it."""
    return fitted(
        TINY,
        *QUIET,
        f"output={tmp_path_factory.mktemp('runs')}",
        "data.test_size=60",
        "trainer.max_epochs=5",
        "logger.figures_every=5",
    )


@pytest.fixture(scope="session")
def baseline(tmp_path_factory):
    """A plain CNN that has learnt next to nothing."""
    config = tmp_path_factory.mktemp("config") / "baseline.yaml"
    config.write_text(
        "name: plain\n"
        "model: {name: baseline, backbone: {name: small_cnn, width: 8, depth: 3}}\n"
        "data: {name: toybirds, preset: tiny, train_size: 64, val_size: 33, test_size: 33, batch_size: 32}\n"
        "trainer: {max_epochs: 1}\n"
    )
    return fitted(config, *QUIET, f"output={tmp_path_factory.mktemp('runs')}", "logger.figures_every=0")


@pytest.fixture(scope="session")
def bird(trained, tmp_path_factory):
    """An image file of the size of the training images."""
    from torchvision.utils import save_image

    from ibd.io import load_run

    path = tmp_path_factory.mktemp("images") / "bird.png"
    save_image(load_run(trained)[1].dataset("test")[3].image, path)
    return path
