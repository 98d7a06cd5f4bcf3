"""Memory that is not enough is one line, wherever PyTorch finds it."""

import pytest
import torch

from ibd.errors import lacks_memory
from ibd.models.cbm.lightning import ConceptBottleneck
from ibd.models.cbm.network import ConceptBottleneckNetwork
from tests.command import SMALL, TINY, ibd


def no_memory(*given, **options):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nSee the manual")


@pytest.mark.parametrize("sizes", [(10**12, 100), (10**18, 100)])
def test_what_torch_says(sizes):
    with pytest.raises(RuntimeError) as caught:
        torch.empty(sizes)
    assert lacks_memory(caught.value)
    assert not lacks_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_where_the_model_is_made(monkeypatch, tmp_path):
    monkeypatch.setattr(ConceptBottleneckNetwork, "__init__", no_memory)
    answer = ibd("fit", TINY, *SMALL, "model.hidden_units=3000", f"output={tmp_path / 'runs'}")
    assert answer.mistake == "the model does not fit into memory; its largest option is model.hidden_units, 3000 given"
    assert not (tmp_path / "runs").exists()


def no_memory_for_python(*given, **options):
    raise MemoryError("no more of it")


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (no_memory, "CUDA out of memory. Tried to allocate 9 GiB."),
        pytest.param(no_memory_for_python, "no more of it", marks=pytest.mark.slow),
    ],
)
def test_amid_the_training(step, reason, monkeypatch, tmp_path):
    monkeypatch.setattr(ConceptBottleneck, "training_step", step)
    assert ibd("fit", TINY, *SMALL, f"output={tmp_path}", "data.batch_size=32").late_mistake == (
        f"memory ran out at epoch 1, step 1 ({reason}): data.batch_size is 32, use a smaller one or smaller images"
    )
