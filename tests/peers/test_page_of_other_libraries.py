"""The Python of docs/other_libraries.md runs, with the libraries that it is about."""

import re
from pathlib import Path

import pytest
import torch

import ibd
from ibd.data import ToyBirds
from tests.model_makers import SMALL

for library in ("captum", "quantus", "huggingface_hub", "safetensors"):
    pytest.importorskip(library)

PAGE = Path(__file__).parents[2] / "docs" / "other_libraries.md"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_python_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ToyBirds(train_size=32, val_size=16, test_size=16, batch_size=8)
    torch.manual_seed(0)
    ibd.ConceptBottleneck(few.spec, SMALL).save("model.ckpt")
    monkeypatch.setattr(ibd.data, "ToyBirds", lambda: few)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    code = code.replace("runs/toybirds-cbm/TIME/checkpoints/best.ckpt", "model.ckpt")
    code = code.replace('model.push_to_hub("owner/name", private=True)', "")  # which would ask the network
    exec(code, {})
    assert {path.name for path in tmp_path.iterdir()} >= {"birds", "all.npz", "maps.png", "units.csv"}
