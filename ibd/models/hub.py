"""Models in folders and repositories as the Hugging Face Hub has them, by its own mixin (extra ``hub``).

``config.json`` holds what a checkpoint says of a model, as plain values, and ``model.safetensors`` its weights: nothing
that could run code. What is loaded is looked up as in a checkpoint (`ibd.io.rebuild`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ibd.errors import CheckpointError

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_CARD = """---
{{ card_data }}
---

An image classifier whose decisions rest on units that a person can name, made with `ibd`.

```python
from ibd.models.lightning import InterpretableModule

model = InterpretableModule.from_pretrained("owner/name")  # or a folder with these files
print(model.predict("image.png"))
```
"""


class HubModel(
    ModelHubMixin,
    library_name="ibd",
    tags=["interpretability"],
    pipeline_tag="image-classification",
    model_card_template=_CARD,
):
    """A model while it goes to, or comes from, a folder or a repository.

    Args:
        values: what a checkpoint says of it, as plain values.
        weights: its state dict.
        path: file that the weights were read from.
    """

    def __init__(self, values: dict[str, Any], weights: Mapping[str, Tensor], path: Path | None = None) -> None:
        self.values, self.weights, self.path = values, weights, path

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write the model into a folder that exists (the mixin calls this, and adds a model card)."""
        # Cloned, as safetensors takes no two names for one tensor.
        weights = {name: value.detach().cpu().clone().contiguous() for name, value in self.weights.items()}
        (save_directory / CONFIG).write_text(json.dumps(self.values, indent=1), encoding="utf-8")
        save_file(weights, save_directory / WEIGHTS, {"format": "pt"})

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **download: Any) -> HubModel:
        """Return the model of a folder or repository (the mixin calls this).

        Raises:
            CheckpointError: it is damaged, or none.
        """
        config, weights = (_file(model_id, name, download) for name in (CONFIG, WEIGHTS))
        try:
            state = load_file(weights)
        except SafetensorError as error:
            raise CheckpointError(f"'{model_id}' is not a readable model: {_line(error)}") from None
        return cls(json.loads(config.read_text(encoding="utf-8")), state, weights)


def _file(model_id: str, name: str, download: dict[str, Any]) -> Path:
    """Return a file of a folder, or of a repository, which is fetched."""
    if Path(model_id).is_dir():
        return Path(model_id) / name
    return Path(hf_hub_download(model_id, name, **download))


def read(name: str | Path, **options: Any) -> tuple[Path, dict[str, Any]]:
    """Return the file with the weights of a model in a folder or repository, and what a checkpoint of it would hold.

    Args:
        name: a folder, or ``owner/name`` on the Hub.
        options: further options of the mixin: ``revision``, ``token``, ``cache_dir``, ``local_files_only``, ...

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    here = Path(name).is_dir()
    for part in (CONFIG, WEIGHTS):
        if here and not (Path(name) / part).is_file():
            raise CheckpointError(f"'{name}' was not written by save_pretrained: it has no {part}")
    try:
        model = HubModel.from_pretrained(name, **options)
    except (OSError, ValueError, AttributeError) as error:  # of the Hub, of names and networks, of JSON that is no dict
        what = "is not a readable model" if here else "is no folder, and the Hub does not give it"
        raise CheckpointError(f"'{name}' {what}: {_line(error)}") from error
    assert model.path is not None
    return model.path, {**model.values, "state_dict": model.weights}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
