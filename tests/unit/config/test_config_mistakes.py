import sys
from pathlib import Path

import pytest
import yaml
from config_stand_ins import CBM, message, write
from omegaconf import OmegaConf

from ibd import registry
from ibd.config import describe, load_config


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.concept_wieght=2", "Key 'concept_wieght' not in 'ConceptBottleneck'. Did you mean: 'concept_weight'?"),
        ("model.concept_weight=big", "Value 'big' of type 'str' could not be converted to Float"),
        ("model.concept_weight=null", "null given, 'float' is needed"),
        ("model.concept_weight=[1]", "Value '[1]' of type 'list' given, 'float' is needed"),
        ("model.regime=joined", "Invalid value 'joined', expected one of ['independent', 'sequential', 'joint']"),
        ("model.spec=1", "Key 'spec' not in 'ConceptBottleneck'."),
        ("model.backbone.widht=2", "Key 'widht' not in 'ResNet'. Did you mean: 'weights'?"),
        ("model.backbone.name=resnet50", "unknown backbone 'resnet50'. Did you mean one of: 'resnet34', 'resnet18'?"),
        ("model.name=protopnet", "unknown model 'protopnet'. Known: cbm, many."),
        ("model.name=nowhere:Net", "'nowhere:Net': there is no module 'nowhere'; is its folder on PYTHONPATH?"),
        ("model.name=3", "Value '3' of type 'int' is no name. Known: cbm, many."),
        ("model=null", "null given, a block with options is needed"),
        ("optimizer=adam", "Value 'adam' of type 'str' given, a block with options is needed"),
        ("trainer=null", "null given, a block with options is needed"),
        ("early_stopping=true", "Value 'True' of type 'bool' given, a block with options is needed"),
        ("trainer.lr=fast", "Value 'fast' of type 'str' could not be converted to Float"),
        ("seed=1.5", "Value '1.5' of type 'float' could not be converted to Integer"),
        ("name=on", "Value 'True' of type 'bool' given, 'str' is needed"),
        ("optimiser.lr=1", "Key 'optimiser' not in 'Config'. Did you mean: 'optimizer'?"),
        ("data.seed=${sed}", "Interpolation key 'sed' not found"),
        ("data.seed=${data.name}", "While dereferencing interpolation '${data.name}': Value 'folder' of type 'str' co"),
        ("data.name=${sed}", "Interpolation key 'sed' not found"),
        ("data.root.a=1", "'a': 1}' of type 'dict' given, 'Path' is needed"),
    ],
)
def test_a_mistake_in_an_override_or_in_a_file(override, expected):
    key, _, value = override.partition("=")
    shown = message(load_config, CBM, override)
    if key in ("model.name", "model.backbone.name", "data.root.a", "optimiser.lr"):
        assert f"override '{override}': " in shown
        assert expected in shown
    else:
        path = "model" if key == "model.name" else key
        assert shown.startswith(f"override '{override}': {path}: {expected}")
        values = {}
        inner = values
        *parents, last = key.split(".")
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = yaml.safe_load(value)
        write("top.yaml", yaml.safe_dump({"base": CBM, **values}))
        assert message(load_config, "top.yaml").startswith(f"top.yaml: {path}: {expected}")


def test_a_mistake_in_a_base_is_found_there():
    write("top.yaml", "base: configs/wrong.yaml\nmodel: {regime: joint}")
    write("configs/wrong.yaml", "base: cbm.yaml\nmodel: {concept_weight: big}")
    assert message(load_config, "top.yaml", "seed=2").startswith(
        "configs/wrong.yaml: model.concept_weight: Value 'big'"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: {name: folder, root: x}", "model.name: missing. Known: cbm, many."),
        ("model: {concept_weight: 1}\ndata: {name: folder, root: x}", "model.name: missing. Known: cbm, many."),
        ("model: cbm\ndata: folder", "data.root: missing, 'Folder' needs it ('Path')"),
        ("model: cbm\ndata:\n  name: folder\n  root: ???", "data.root: missing, 'Folder' needs it ('Path')"),
        ("model:\n  name: cbm\n  regime: ???\ndata: folder", "model.regime: missing, 'ConceptBottleneck' needs it"),
        ("", "model.name: missing."),
        ("- 1", "this is a list, but keys with values are needed"),
        ("just words", "just words: Key 'just words' not in 'Config'."),
        ("resume: runs/x", "resume: belongs on the command line, as resume=RUN"),
        ("base: 3", "base: Value '3' is neither a path nor a list of paths"),
        ("base: configs/bsae.yaml", "base: no config file 'configs/bsae.yaml'. Did you mean 'base.yaml'?"),
        ("base: configs", "base: 'configs' is a folder, a YAML file is needed"),
        ("base: top.yaml", "base: 'top.yaml' is itself based on this file"),
        ("base: again.yaml", "'top.yaml' is itself based on this file"),
        ("1: 2", "1: Key '1' not in 'Config'."),
        ("output: ${name", "output: "),
    ],
)
def test_a_mistake_in_a_file(text, expected):
    write("again.yaml", "base: top.yaml")
    shown = message(load_config, write("top.yaml", text))
    assert shown.startswith("again.yaml: base:" if "again" in text else f"top.yaml: {expected}")
    assert expected in shown


@pytest.mark.parametrize("text", ["a: 1\nb: [1\nc: 2\n", "a: 1\nb: 1\na: 2\n", "a: 1\nb: 2\n\tc: 3\n"])
def test_bad_yaml_names_the_line(text):
    shown = message(load_config, write("top.yaml", text))
    assert shown.startswith("top.yaml:3: no valid YAML: ")


def test_files_that_are_not_there():
    assert message(load_config, "configs/cmb.yaml") == "no config file 'configs/cmb.yaml'. Did you mean 'cbm.yaml'?"
    assert message(load_config, "nowhere/x.yaml") == "no config file 'nowhere/x.yaml'."
    assert message(load_config, Path("configs")) == "'configs' is a folder, a YAML file is needed"
    Path("bytes.yaml").write_bytes(b"\xff\xfe\x00a")
    assert message(load_config, "bytes.yaml").startswith("bytes.yaml: ")


@pytest.mark.parametrize("override", ["seed", "=3", "", "seed=[1,", "seed=${x"])
def test_a_malformed_override(override):
    assert message(load_config, CBM, override).startswith(f"override '{override}': ")


def test_switching_the_class_checks_the_keys_that_remain():
    write("top.yaml", f"base: {CBM}\nmodel: {{concept_weight: 2}}")
    assert message(load_config, "top.yaml", "model.name=many").startswith(
        "configs/cbm.yaml: model.backbone: Key 'backb"
    )
    assert load_config("configs/many.yaml").model.flag is False


def test_names_are_checked_before_a_class_is_imported(monkeypatch):
    monkeypatch.setitem(registry.REGISTRY["models"], "cbm", "heavy_module:Class")
    monkeypatch.setitem(sys.modules, "heavy_module", None)  # importing it would raise ImportError
    assert "unknown dataset 'floder'" in message(load_config, CBM, "data.name=floder")
    assert "seed: Value 'x'" in message(load_config, CBM, "seed=x")
    assert "not in 'Config'" in message(load_config, CBM, "sed=1")


def test_a_class_that_its_module_does_not_have():
    shown = message(load_config, CBM, "model.name=config_stand_ins:Cbm")
    assert "model.name: module 'config_stand_ins' has no class 'Cbm'." in shown


def test_lightnings_trainer(monkeypatch):
    pytest.importorskip("pytorch_lightning")
    monkeypatch.setitem(registry.SETTINGS, "trainer", "pytorch_lightning:Trainer")
    config = load_config(CBM, "trainer.max_epochs=2", "trainer.precision=bf16-mixed", "trainer.devices=[0]")
    assert (config.trainer.max_epochs, config.trainer.precision) == (2, "bf16-mixed")
    assert OmegaConf.is_list(config.trainer.devices)
    shown = message(load_config, CBM, "trainer.max_epoch=2")
    assert (
        "trainer.max_epoch: Key 'max_epoch' not in 'Trainer'. Did you mean one of: 'max_epochs', 'min_epochs'" in shown
    )
    assert "'Trainer'" in message(load_config, CBM, "trainer.callbacks=[]")
    assert "expected one of" in message(load_config, CBM, "trainer.deterministic=wran")
    assert "  max_epochs: 2                       # Stop training once this number of epochs is reached." in describe(
        CBM, "trainer.max_epochs=2"
    )


def test_options_of_another_backbone_are_left_out_and_named(caplog):
    """A backbone over one with options of its own: from a file as from the command line."""
    write("deep.yaml", f"base: {CBM}\nmodel: {{backbone: {{name: small_cnn, width: 4, depth: 3, weights: w.pth}}}}")
    write("top.yaml", "base: deep.yaml\nmodel: {backbone: {name: resnet18, width: null, depth: null}}")
    drop = ("model.backbone=resnet18", "model.backbone.width=null", "model.backbone.depth=null")
    for config in (load_config("top.yaml"), load_config("deep.yaml", *drop)):
        assert "width" not in config.model.backbone
    assert not caplog.messages
    for override in ("model.backbone.name=resnet18", "model.backbone=resnet18"):  # said each time
        caplog.clear()
        config = load_config("deep.yaml", override)
        assert caplog.messages == [
            f"model.backbone.{key} is left out: 'ResNet' has no such option" for key in ("width", "depth")
        ]
        assert config.model.backbone.weights == "w.pth"  # which it has
    shown = message(load_config, "deep.yaml", "model.backbone.name=resnet18", "model.backbone.widht=2")
    assert "Key 'widht' not in 'ResNet'" in shown
    shown = message(load_config, "deep.yaml", "model.backbone.name=resnet18", "model.backbone.width=2")
    assert "Key 'width' not in 'ResNet'" in shown  # said over the name, or beside it


@pytest.mark.parametrize("key", ["wieghts", "width"])
def test_an_override_that_does_not_fit_is_a_mistake_in_any_order(key):
    """What the user says himself is meant for the network that he names, before the name or after it."""
    write("deep.yaml", f"base: {CBM}\nmodel: {{backbone: {{name: small_cnn, width: 4}}}}")
    overrides = (f"model.backbone.{key}=2", "model.backbone.name=resnet34")
    for order in (overrides, overrides[::-1]):
        assert f"model.backbone.{key}: Key '{key}' not in 'ResNet'" in message(load_config, "deep.yaml", *order)


@pytest.mark.parametrize("name", ["model=many", "model.name=many"])
def test_a_bare_name_over_a_block_drops_nothing_in_silence(name, monkeypatch):
    """It is the block's name, from the command line as from a file: what the new class has too stays."""
    write("deep.yaml", f"base: {CBM}\nmodel: {{concept_weight: 0.5, backbone: null}}\nseed: 3")
    shown = message(load_config, "deep.yaml", name)
    assert "model.concept_weight: Key 'concept_weight' not in 'Many'. It belongs to another model.name" in shown
    write("files.yaml", "name: x\nmodel: cbm\ndata: {name: folder, batch_size: 3, seed: 5}")
    monkeypatch.setitem(registry.REGISTRY["datasets"], "source", "config_stand_ins:Source")
    config = load_config("files.yaml", "data=source")
    assert (config.data.name, config.data.batch_size, config.data.seed) == ("source", 3, 5)


def test_a_bare_name_that_there_is_not_is_where_it_was_written():
    write("deep.yaml", f"base: {CBM}\nmodel: {{concept_weight: 0.5}}")
    for override in ("model=cmb", "data=foldr", "model.backbone=resnet81"):
        assert message(load_config, "deep.yaml", override).startswith(f"override '{override}': ")


def test_options_of_another_class_are_named_and_can_be_dropped():
    write("deep.yaml", f"base: {CBM}\nmodel: {{concept_weight: 0.5, head: mlp}}")
    shown = message(load_config, "deep.yaml", "model.name=many")
    assert shown.endswith(
        "It belongs to another model.name, over which this one was set; drop it with model.backbone=null "
        "model.concept_weight=null model.head=null"
    )
    drop = ("model.backbone=null", "model.concept_weight=null", "model.head=null")
    assert load_config("deep.yaml", "model.name=many", *drop).model.name == "many"
    assert "Key 'width' not in" in message(load_config, CBM, "model.backbone.width=null")  # there is none to drop
    assert "Key 'sed' not in" in message(load_config, CBM, "sed=null")
