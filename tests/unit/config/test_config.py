from pathlib import Path

import pytest
from config_stand_ins import CBM, Color, ConceptBottleneck, ResNet, Settings, message, write

from ibd.config import build, describe, load_config, save_config, to_plain
from ibd.config.schema import first_sentence


def test_all_defaults_are_filled_in():
    config = to_plain(load_config(CBM))
    settings = {"lr": 1e-3, "name": "adam", "betas": [0.9, 0.999]}
    assert config == {
        "name": "cbm",
        "seed": 3,
        "output": "runs",
        "model": {
            "name": "cbm",
            "backbone": {"name": "resnet18", "weights": None},
            "regime": "joint",
            "concept_weight": 1.0,
            "teacher": None,
        },
        "data": {"name": "folder", "root": "pictures", "batch_size": 64, "seed": 3},
        **dict.fromkeys(("optimizer", "trainer", "logger", "checkpoint"), settings),
        "early_stopping": None,
        "compile": False,
        "resume": None,
    }
    assert list(config)[:5] == ["name", "seed", "output", "model", "data"]


def test_overrides_and_interpolations_reach_across_files():
    config = load_config(CBM, "seed=7", "early_stopping.lr=2", "output=${name}_${model.backbone.name}")
    assert (config.data.seed, config.early_stopping.lr, config.output) == (7, 2.0, "cbm_resnet18")
    config.seed = 9
    assert config.data.seed == 9


def test_a_loaded_configuration_can_be_overridden_and_checks_assignments():
    config = load_config(load_config(CBM), "model.regime=sequential")
    assert config.model.regime == "sequential"
    with pytest.raises(ValueError, match="expected one of"):
        config.model.regime = "joined"


def test_a_mapping_is_a_configuration():
    config = load_config({"model": {"name": "cbm"}, "data": {"name": "folder", "root": "x"}}, "name=mine")
    assert (config.name, config.model.backbone.width) == ("mine", 8)
    wrong = {"model": {"name": "cbm", "x": 1}, "data": {"name": "folder", "root": "x"}}
    assert message(load_config, wrong).startswith("config: model.x: Key 'x' not in 'ConceptBottleneck'.")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.backbone=resnet34", {"name": "resnet34", "weights": None}),
        ("model.backbone.weights=IMAGENET", {"name": "resnet18", "weights": "IMAGENET"}),
        ("model.backbone={name: resnet34, weights: X}", {"name": "resnet34", "weights": "X"}),
        ("model.backbone=small_cnn", {"name": "small_cnn", "width": 8, "dropout": None}),
        ("model.backbone=${oc.env:NETWORK,resnet34}", {"name": "resnet34", "weights": None}),
    ],
)
def test_blocks_inside_a_block(override, expected):
    assert to_plain(load_config(CBM, override).model.backbone) == expected


def test_part_of_the_default_block_can_be_changed():
    write("c.yaml", "base: configs/base.yaml\nmodel: {name: cbm, backbone: {width: 4}}")
    assert load_config("c.yaml").model.backbone == {"name": "small_cnn", "width": 4, "dropout": None}
    assert load_config("c.yaml", "model.teacher=resnet34").model.teacher.name == "resnet34"


def test_several_bases_nest_and_the_later_wins():
    write("a.yaml", "name: a\noutput: a\nseed: 1")
    write("b.yaml", "base: sub/c.yaml\nseed: 2")
    write("sub/c.yaml", "base: ../configs/cbm.yaml\noutput: c\nseed: 5")
    write("d.yaml", "base: [a.yaml, b.yaml]\nmodel: {concept_weight: 0.5}")
    config = load_config("d.yaml")
    assert (config.name, config.output, config.seed, config.model.concept_weight) == ("a", "c", 2, 0.5)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("numbers=[1,2.5]", [1.0, 2.5]),
        ("numbers=[1,x]", "model.numbers[1]: Value 'x' of type 'str' could not be converted to Float"),
        ("numbers=3", "model.numbers: Value '3' of type 'int' given, 'list[float]' is needed"),
        ("size=[3,4]", (3, 4)),
        ("size=[3]", "model.size: Value '[3]' of type 'list' given, 'tuple[int, int]' is needed"),
        ("size=[a,b]", "model.size: Value '['a', 'b']' of type 'list' given, 'tuple[int, int]' is needed"),
        ("names=[a,b]", ("a", "b")),
        ("words=[a,b]", ["a", "b"]),
        ("words=ab", "model.words: Value 'ab' of type 'str' given"),
        ("table={b: 2}", {"b": 2}),
        ("table.b=2", {"b": 2}),
        ("table.b=x", "model.table.b: Value 'x' of type 'str' could not be converted to Integer"),
        ("either=[1,2]", [1, 2]),
        ("either=3", 3),
        ("either=1.5", "model.either: Value '1.5' of type 'float' given, 'int | list[int] | str' is needed"),
        ("flag=true", True),
        ("flag=yes", True),
        ("flag=2", "model.flag: Invalid value '2', expected one of [True, False]"),
        ("flag_or_word=warn", "warn"),
        ("flag_or_word=wran", "model.flag_or_word: Invalid value 'wran', expected one of [True, False, 'warn']"),
        ("text=5", "5"),
        ("text=1.10", "model.text: Value '1.1' of type 'float' given, 'str' is needed"),
        ("text=", "model.text: null given, 'str' is needed"),
        ("maybe=", None),
        ("path=there", "there"),
        ("color=BLUE", Color.BLUE),
        ("color=GREEN", "model.color: Invalid value 'GREEN', expected one of [RED, BLUE]"),
        ("anything={a: [1]}", {"a": [1]}),
        ("odd=[1,1]", [1, 1]),
        ("unknown=3", 3),
        ("function=f", "f"),
        ("rate=1e-3", 1e-3),
        ("implicit=3", 3),
        ("implicit=", None),
    ],
)
def test_annotations(override, expected):
    override = f"model.{override}"
    if isinstance(expected, str) and expected.startswith("model."):
        assert message(load_config, "configs/many.yaml", override).startswith(f"override '{override}': {expected}")
    else:
        config = load_config("configs/many.yaml", override)
        made = build("models", config.model)
        value = getattr(made, override.split("=")[0].split(".")[1])
        assert value == expected
        assert type(value) is type(expected)
        save_config(config, "saved.yaml")
        assert to_plain(load_config("saved.yaml")) == to_plain(config)


def test_a_default_that_yaml_cannot_hold_stays_the_constructors():
    config = load_config("configs/many.yaml")
    assert "function" not in config.model
    assert build("models", config.model).function is len


def test_a_saved_configuration_gives_the_same_again():
    config = load_config(
        CBM, "seed=5", "output=1e-5x", "resume=runs/x", "model.backbone.weights='1e-5'", "logger.lr=1e-7"
    )
    save_config(config, "runs/x/config.yaml")
    again = load_config("runs/x/config.yaml")
    assert to_plain(again) == {**to_plain(config), "resume": None}
    assert (again.name, again.data.seed, again.model.backbone.weights) == ("cbm", 5, "1e-5")


def test_build_passes_blocks_as_plain_dicts():
    config = load_config(CBM)
    model = build("models", config.model, spec="a spec")
    assert isinstance(model, ConceptBottleneck)
    assert type(model.backbone) is dict
    assert (model.spec, model.backbone) == ("a spec", {"name": "resnet18", "weights": None})
    backbone = build("backbones", model.backbone)
    assert (type(backbone), backbone.name) == (ResNet, "resnet18")
    assert build("datasets", config.data).root == Path("pictures")
    assert build("optimizer", config.optimizer, lr=0.5) == Settings(lr=0.5)


def test_build_checks_a_plain_block():
    assert build("backbones", "small_cnn", channels_in=1).channels_in == 1
    assert build("backbones", {"name": "small_cnn", "width": 2}).width == 2
    wrong = {"name": "small_cnn", "widht": 2}
    assert message(build, "backbones", wrong) == "backbone.widht: Key 'widht' not in 'SmallCNN'. Did you mean: 'width'?"
    assert message(build, "backbones", {}) == "backbone.name: missing. Known: small_cnn, resnet18, resnet34."
    assert message(build, "datasets", "folder") == "data.root: missing, 'Folder' needs it ('Path')"
    negative = {"name": "cbm", "concept_weight": -1}
    assert message(build, "models", negative, spec=0).startswith("model.concept_weight: -1.0 given, at least 0")


def test_the_description_is_the_configuration_with_comments():
    text = describe(CBM, "seed=4")
    lines = text.splitlines()
    assert max(map(len, lines)) <= 120
    assert any(
        line.startswith("seed: 4 ") and line.endswith("# Seed of weights, shuffles and augmentation.") for line in lines
    )
    assert any(line.startswith("    name: resnet18 ") and line.endswith("# Residual.") for line in lines)
    assert any(line.startswith("  batch_size: 64") for line in lines)
    assert any(line.startswith("  seed: 4 ") and line.endswith("# Of the shuffle.") for line in lines)
    assert any(line.endswith("# One of three. One of independent, sequential, joint.") for line in lines)
    assert "  lr: 0.001                           # Step size." in lines
    at = lines.index("  concept_weight: 1.0")
    assert lines[at - 1].startswith("  # Weight of the concept loss") or lines[at - 2].startswith("  # Weight of the")
    assert "Second sentence" not in text
    assert to_plain(load_config(write("described.yaml", text))) == to_plain(load_config(CBM, "seed=4"))


def test_the_description_of_every_annotation_loads_again():
    text = describe("configs/many.yaml", "model.maybe='true'", "model.anything={a: [1.5, null, 'x: y']}")
    write("described.yaml", text)
    expected = load_config("configs/many.yaml", "model.maybe='true'", "model.anything={a: [1.5, null, 'x: y']}")
    assert to_plain(load_config("described.yaml")) == {**to_plain(expected), "name": "many"}


def test_a_class_for_several_names_is_told_which_even_if_name_is_excluded(monkeypatch):
    monkeypatch.setattr(ResNet, "config_excludes", ("name",), raising=False)
    assert build("backbones", load_config(CBM).model.backbone).name == "resnet18"


def test_the_first_sentence():
    text = "The network of He et al. Xu (2016). Its `depth`\n    is free.\n\n    More."
    assert first_sentence(text) == "The network of He et al. Xu (2016)."
    assert first_sentence(None) == ""
