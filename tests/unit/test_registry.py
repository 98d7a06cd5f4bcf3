import sys
import types

import pytest
import torch

from ibd import registry
from ibd.errors import ConfigError


@pytest.fixture
def own(monkeypatch):
    """A module of the user's own with one class in it."""
    module = types.ModuleType("own_module")
    module.Net = type("Net", (torch.nn.Module,), {})
    module.number = 3
    monkeypatch.setitem(sys.modules, "own_module", module)
    return module


def message(function, *args):
    with pytest.raises(ConfigError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_names_are_listed_by_kind():
    assert {"baseline", "cbm"} <= set(registry.names("models"))
    assert {"small_cnn", "cifar_resnet", "resnet18", "convnext_base"} <= set(registry.names("backbones"))
    assert {"toybirds", "folder", "cub"} <= set(registry.names("datasets"))
    assert message(registry.names, "model") == "unknown kind 'model'. Did you mean 'models'?"


def test_every_entry_is_a_module_and_a_class():
    places = [place for table in registry.REGISTRY.values() for place in table.values()]
    for place in [*places, *registry.SETTINGS.values()]:
        module, colon, name = place.partition(":")
        assert colon
        assert all(part.isidentifier() for part in [*module.split("."), name])


def test_a_registered_name_becomes_its_class(monkeypatch, own):
    monkeypatch.setitem(registry.REGISTRY["models"], "protopnet", "own_module:Net")
    assert registry.resolve("models", "protopnet") is own.Net
    near = "unknown model 'baselin'. Did you mean 'baseline'?"
    assert message(registry.resolve, "models", "baselin") == near


def test_a_name_far_from_all_gets_the_list():
    assert (
        message(registry.resolve, "datasets", "xyz") == "unknown dataset 'xyz'. Known: toybirds, folder, cub, pasted."
    )


def test_a_class_of_the_users_own(own):
    assert registry.locate("backbones", "own_module:Net") == "own_module:Net"
    assert registry.resolve("backbones", "own_module:Net") is own.Net


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("own_module:Nett", "module 'own_module' has no class 'Nett'. Did you mean 'Net'?"),
        ("own_module:number", "module 'own_module' has no class 'number'. Known: Net."),
        ("nowhere:Net", "'nowhere:Net': there is no module 'nowhere'; is its folder on PYTHONPATH?"),
        ("nowhere.at.all:Net", "'nowhere.at.all:Net': there is no module 'nowhere.at.all'; is its folder on"),
        ("json.nowhere:Net", "'json.nowhere:Net': there is no module 'json.nowhere'; is its folder on PYTHONPATH?"),
        ("json.decoder.nowhere:Net", "there is no module 'json.decoder.nowhere'"),
        (":Net", "':Net': there is no module ''"),
        (".own:Net", "'.own:Net': there is no module '.own'"),
        ("own_module:Net", "'own_module:Net' is no model: a subclass of ibd.models.lightning.InterpretableModule is"),
        ("ibd.models.lightning:InterpretableModule", "is no model: it lacks losses"),
        ("own_module.Net", "A class of your own is written package.module:Class."),
    ],
)
def test_what_is_wrong_with_a_class_of_the_users_own(own, name, expected):
    assert expected in message(registry.resolve, "models", name)


def test_an_error_inside_the_users_module_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("import a_package_that_is_missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.locate("models", "broken_module:Net") == "broken_module:Net"
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_missing"):
        registry.resolve("models", "broken_module:Net")
