"""What is done once after a training can be done twice: after a kill, or when a finished run is resumed."""

import torch

from ibd.training.finishing import finish
from tests.model_makers import TensorData, make_whitening


def test_concept_whitening_is_finished_from_what_was_trained(tmp_path):
    """Statistics that are summed up around those of the training would be others the second time."""
    data = TensorData(sizes=(16, 8, 8))
    folder = tmp_path / "checkpoints"
    made = make_whitening()
    made.save(folder / "best.ckpt")
    content = torch.load(folder / "best.ckpt", weights_only=True) | {"global_step": 4}
    torch.save(content, folder / "best.ckpt")
    torch.save(content | {"global_step": 8}, folder / "last.ckpt")
    states = []
    for _ in range(2):
        finish(tmp_path, data, torch.device("cpu"))
        states.append([torch.load(folder / f"{name}.ckpt", weights_only=True) for name in ("best", "last")])
    for first, second in zip(*states, strict=True):
        for key in ("state_dict", "ibd_unfinished"):
            torch.testing.assert_close(first[key], second[key], rtol=0, atol=0, equal_nan=True)
        before = {name: content["state_dict"][name] for name in second["ibd_unfinished"]}
        torch.testing.assert_close(second["ibd_unfinished"], before, rtol=0, atol=0, equal_nan=True)
        assert "network.low" in before
