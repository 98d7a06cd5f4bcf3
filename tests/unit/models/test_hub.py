"""Models in folders as the Hugging Face Hub has them (extra ``hub``); no network is asked."""

import json
import sys

import pytest
import torch

import ibd
from ibd.errors import CheckpointError, UnsupportedError
from ibd.models.lightning import InterpretableModule
from tests.model_makers import (
    SMALL,
    SPEC,
    make_embedding,
    make_filters,
    make_module,
    make_pipnet,
    make_prototypes,
    make_whitening,
)

hub = pytest.importorskip("huggingface_hub")
safetensors = pytest.importorskip("safetensors.torch")


@pytest.fixture
def saved(tmp_path):
    """A model, and the folder that it was saved into."""
    module = make_module()
    module.save_pretrained(tmp_path / "model")
    return module, tmp_path / "model"


@pytest.mark.parametrize(
    "make", [make_module, make_embedding, make_whitening, make_pipnet, make_prototypes, make_filters]
)
def test_a_folder_holds_all_of_a_model(make, tmp_path):
    module = make().eval()
    module.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    found = type(module).from_pretrained(tmp_path)
    assert not found.training
    assert found.spec == module.spec
    image = torch.rand(2, 3, *module.spec.image_size, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(found(image).logits, module(image).logits)
    assert {n: v.dtype for n, v in found.state_dict().items()} == {n: v.dtype for n, v in module.state_dict().items()}


def test_what_lies_in_the_folder_is_plain(saved):
    module, folder = saved
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert values["ibd_model"] == "cbm"
    assert values["hyper_parameters"]["spec"]["class_names"] == list(SPEC.class_names)
    weights = safetensors.load_file(folder / "model.safetensors")
    assert set(weights) == set(module.state_dict())
    assert torch.equal(weights["network.head.weight"], module.network.head.weight)
    card = hub.ModelCard.load(folder / "README.md")
    assert card.data.library_name == "ibd"
    assert "from_pretrained" in card.text


def test_any_class_reads_what_is_one_of_it(saved):
    _, folder = saved
    assert isinstance(InterpretableModule.from_pretrained(folder), ibd.ConceptBottleneck)
    with pytest.raises(CheckpointError, match=r"holds a ConceptBottleneck, not a ProtoPNet$"):
        ibd.ProtoPNet.from_pretrained(folder)


def changed(folder, **values):
    file = folder / "config.json"
    content = {**json.loads(file.read_text(encoding="utf-8")), **values}
    file.write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_a_stranger_names_no_class(saved):
    """What is loaded is looked up among our own classes; those of others are found by those who trust them alone."""
    _, folder = saved
    with pytest.raises(CheckpointError, match="'os:path' is none of ibd's own classes and could run any code"):
        ibd.ConceptBottleneck.from_pretrained(changed(folder, ibd_model="os:path"))
    values = {"spec": SPEC.to_dict(), "backbone": {"name": "tests.model_makers:CountingBackbone"}}
    changed(folder, ibd_model="cbm", hyper_parameters=values)
    with pytest.raises(CheckpointError, match="could run any code"):
        ibd.ConceptBottleneck.from_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"does not fit this version of ibd .*state_dict"):  # found, and made
        ibd.ConceptBottleneck.from_pretrained(folder, trust=True)


def test_a_stranger_makes_no_larger_network_than_the_weights(saved):
    _, folder = saved
    values = {"spec": SPEC.to_dict(), "backbone": {**SMALL, "width": 512}}
    with pytest.raises(CheckpointError, match="describe a larger network than its weights"):
        ibd.ConceptBottleneck.from_pretrained(changed(folder, hyper_parameters=values))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "was not written by save_pretrained: it has no config.json"),
        ("config.json", "{", "is not a readable model: Expecting"),
        ("config.json", "[]", "is not a readable model: 'list' object"),
        ("config.json", "{}", "does not say which model it holds"),
        ("model.safetensors", None, r"it has no model\.safetensors"),
        ("model.safetensors", "no weights", "is not a readable model: "),
    ],
)
def test_folders_that_hold_no_model(saved, name, content, message):
    _, folder = saved
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=message) as caught:
        ibd.ConceptBottleneck.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_a_repository_that_is_not_here(tmp_path):
    for name in ("somebody/birds", str(tmp_path / "no" / "such" / "folder")):
        with pytest.raises(CheckpointError, match="is no folder, and the Hub does not give it: ") as caught:
            ibd.ConceptBottleneck.from_pretrained(name, local_files_only=True, cache_dir=tmp_path)
        assert "\n" not in str(caught.value)


def test_pushing_hands_the_same_files_to_the_hub(monkeypatch):
    """The client is a stand-in: what it is given is what would be uploaded."""
    module, given = make_module(), {}

    class Client:
        def __init__(self, **options): ...

        def create_repo(self, repo_id, **options):
            return hub.RepoUrl(f"https://huggingface.co/{repo_id}")

        def upload_folder(self, folder_path, **options):
            given.update({path.name: path.read_bytes() for path in folder_path.iterdir()}, **options)
            return "https://huggingface.co/somebody/birds/commit/1"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Client)
    assert module.push_to_hub("somebody/birds").endswith("/commit/1")
    assert given["repo_id"] == "somebody/birds"
    weights = safetensors.load(given["model.safetensors"])
    assert torch.equal(weights["network.head.weight"], module.network.head.weight)


def test_without_the_extra_it_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "ibd.models.hub", raising=False)
    monkeypatch.delattr("ibd.models.hub", raising=False)
    with pytest.raises(
        UnsupportedError, match=r"^the Hugging Face Hub needs huggingface_hub: pip install 'ibd\[hub\]'"
    ):
        make_module().save_pretrained(tmp_path)
