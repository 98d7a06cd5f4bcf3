"""Runs and checkpoints that a stranger has made: nothing that they name is imported, called or read."""

import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from ibd.config import load_config, save_config
from ibd.errors import CheckpointError
from ibd.io import build_data, load_model
from ibd.training.runner import build_model
from tests.command import QUIET, ibd

CONFIG = {
    "name": "made",
    "model": {"name": "cbm", "backbone": {"name": "small_cnn", "width": 2, "depth": 3}},
    "data": {"name": "toybirds", "preset": "tiny", "train_size": 6, "val_size": 6, "test_size": 6},
    "logger": {"mode": "disabled"},
}
EVIL = "open('owned', 'w').close()\n\n\nclass Evil:\n    pass\n"
MINE = "from ibd.models.cbm.lightning import ConceptBottleneck\n\n\nclass Mine(ConceptBottleneck):\n    pass\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run as a training leaves it, without the training."""
    run = tmp_path_factory.mktemp("made") / "run"
    settings = load_config(CONFIG)
    model = build_model(settings, build_data(settings.data))
    model.save(run / "checkpoints" / "best.ckpt")
    content = torch.load(run / "checkpoints" / "best.ckpt")
    content |= {"epoch": 0, "global_step": 1, "loops": {}, "optimizer_states": []}
    for which in ("best", "last"):
        torch.save(content, run / "checkpoints" / f"{which}.ckpt")
    save_config(settings, run / "config.yaml")
    return run


@pytest.fixture
def run(made, tmp_path):
    """A copy of it, an image, and a module in the current folder that leaves a file where it is imported."""
    (tmp_path / "evil.py").write_text(EVIL)
    (tmp_path / "mine.py").write_text(MINE)
    Image.new("RGB", (32, 32)).save("bird.png")
    return Path(shutil.copytree(made, tmp_path / "run"))


def rewrite(run, change):
    """Change what a run's checkpoints hold."""
    for which in ("best", "last"):
        path = run / "checkpoints" / f"{which}.ckpt"
        content = torch.load(path)
        change(content)
        torch.save(content, path)


def in_model(name):
    return lambda run: rewrite(run, lambda content: content.update(ibd_model=name))


def in_backbone(name):
    return lambda run: rewrite(run, lambda content: content["hyper_parameters"]["backbone"].update(name=name))


def in_config(old, new):
    def change(run):
        text = (run / "config.yaml").read_text()
        assert old in text
        (run / "config.yaml").write_text(text.replace(old, new))

    return change


IN_CHECKPOINT = {
    "model": in_model("evil:Evil"),
    "backbone": in_backbone("evil:Evil"),
}
IN_CONFIG = {
    "data": in_config("name: toybirds", "name: evil:Evil"),
    "model": in_config("name: cbm", "name: evil:Evil"),
    "backbone": in_config("name: small_cnn", "name: evil:Evil"),
    "explainers": in_config("explainers: []", "explainers: ['evil:Evil']"),
}
READ_CHECKPOINT = {
    "test": ["test", "run"],
    "last": ["test", "run", "--which", "last"],
    "calibrate": ["calibrate", "run"],
    "predict": ["predict", "run", "bird.png"],
    "intervene": ["intervene", "run", "bird.png", "wing_color=red"],
    "curve": ["curve", "run"],
    "prototypes": ["prototypes", "run"],
    "axes": ["axes", "run"],
    "explain": ["explain", "run", "bird.png"],
    "compare": ["compare", "run"],
    "export": ["export", "run", "model.pt2"],
    "resume": ["fit", "resume=run"],
}
READ_CONFIG = {
    **{
        verb: READ_CHECKPOINT[verb]
        for verb in ("test", "calibrate", "curve", "prototypes", "axes", "compare", "resume")
    },
    "fit": ["fit", "run/config.yaml"],
    "config": ["config", "run/config.yaml"],
    "data": ["data", "run/config.yaml", "data.png"],
}


def refused(arguments):
    told = ibd(*arguments).mistake
    assert not Path("owned").exists()
    return told


@pytest.mark.parametrize("verb", READ_CHECKPOINT)
@pytest.mark.parametrize("place", IN_CHECKPOINT)
def test_a_class_that_a_checkpoint_names(run, verb, place):
    IN_CHECKPOINT[place](run)
    told = refused(READ_CHECKPOINT[verb])
    assert "'evil:Evil' is none of ibd's own classes and could run any code" in told
    assert "--trust (in Python: trust=True)" in told
    assert ".ckpt" in told


@pytest.mark.parametrize(
    ("place", "verb"),
    [
        pytest.param(place, verb, marks=[] if place == "data" or verb in ("test", "resume") else [pytest.mark.slow])
        for place in IN_CONFIG
        for verb in READ_CONFIG
    ],
)
def test_a_class_that_the_config_of_a_run_names(run, verb, place):
    IN_CONFIG[place](run)
    assert "'evil:Evil' is none of ibd's own classes and could run any code" in refused(READ_CONFIG[verb])


@pytest.mark.parametrize("trust", [[], ["--trust"]])
@pytest.mark.parametrize("name", ["subprocess:Popen", "evil:Evil"])
def test_what_is_no_model_is_never_called(run, name, trust):
    def change(content):
        content.update(ibd_model=name, hyper_parameters={"args": ["touch", "owned"]})

    rewrite(run, change)
    told = ibd("predict", "run", "bird.png", *trust).mistake
    assert ("is no model: a subclass of ibd.models.lightning.InterpretableModule" in told) == bool(trust)
    assert Path("owned").exists() == (bool(trust) and name == "evil:Evil")  # imported, as the user said


@pytest.mark.parametrize("verb", [["fit", "own.yaml"], ["data", "own.yaml", "data.png"], ["config", "own.yaml"]])
def test_what_is_no_data_set_is_not_called_from_a_config_of_ones_own_either(run, verb):
    Path("own.yaml").write_text(str(CONFIG | {"data": {"name": "subprocess:Popen", "args": ["touch", "owned"]}}))
    assert "is no dataset: a subclass of ibd.data.base.ImageDataModule is needed" in refused(verb)


def test_a_class_of_ones_own_is_loaded_where_the_user_says_so(run):
    in_model("mine:Mine")(run)
    assert "'mine:Mine' is none of ibd's own classes" in ibd("predict", "run", "bird.png").mistake
    answer = ibd("predict", "run", "bird.png", "--trust")
    assert answer.code == 0, answer.err
    assert type(load_model(run, trust=True)).__name__ == "Mine"
    with pytest.raises(CheckpointError, match="trust=True"):
        load_model(run)


def test_a_module_in_the_current_folder_hides_none_that_is_needed(run):
    """As in an unpacked archive, from within which a verb is run."""
    Path("captum.py").write_text(EVIL)
    assert ibd("predict", "run", "bird.png").code == 0
    ibd("explain", "run", "bird.png", "explainers=lime")
    assert not Path("owned").exists()


@pytest.mark.slow
def test_ones_own_model_is_trained_without_a_word_and_read_with_one(run):
    changes = ["model.name=mine:Mine", "trainer.max_epochs=1", "output=runs", *QUIET]
    Path("own.yaml").write_text(str(CONFIG))
    answer = ibd("fit", "own.yaml", *changes)
    folder = answer.run
    told = next(line for line in answer.out.splitlines() if line.startswith("next: ibd "))
    assert ibd(*told.split()[2:]).code == 0
    assert "--trust" in ibd("test", folder).mistake
    assert "--trust" in ibd("fit", f"resume={folder}", "trainer.max_epochs=2").mistake
    assert ibd("test", folder, "--trust").code == 0
    assert ibd("fit", f"resume={folder}", "trainer.max_epochs=2", "--trust").code == 0


# Secrets

REFERENCES = {
    "environment": ("name: made", "name: ${oc.env:SECRET}", "refers to something else: '${oc.env:SECRET}'"),
    "hidden": ("name: made", 'name: "\\x24{oc.env:SECRET}"', "refers to something else"),
    "key": ("output: runs", "output: runs\n'${oc.env:SECRET}': 1", "refers to something else"),
    "base": ("output: runs", "output: runs\nbase: ../secret.txt", "is based on another file (base)"),
    "alias": ("output: runs", "output: &a runs\nname: *a", "repeats some of them by an alias"),
}


@pytest.mark.parametrize("verb", ["test", "resume", "compare", "fit", "config", "data"])
@pytest.mark.parametrize("kind", REFERENCES)
def test_the_config_of_a_run_reads_nothing_else(run, kind, verb, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    Path("secret.txt").write_text("hunter2")
    old, new, message = REFERENCES[kind]
    in_config(old, new)(run)
    told = refused(READ_CONFIG[verb])
    assert message in told
    assert told.startswith("run/config.yaml: the config of a run is saved with all its values")
    assert "hunter2" not in told + (run / "config.yaml").read_text()


# Values


@pytest.mark.parametrize("verb", ["test", "predict", "explain", "compare", "export", "resume"])
@pytest.mark.parametrize("value", [torch.nan, pytest.param(torch.inf, marks=pytest.mark.slow)])
def test_weights_that_are_not_numbers(run, verb, value):
    rewrite(run, lambda content: content["state_dict"]["network.head.weight"][0].fill_(value))
    told = ibd(*READ_CHECKPOINT[verb]).mistake
    assert "holds values that are not numbers, in network.head.weight: its training has failed" in told


def _set(*keys):
    *path, last, value = keys

    def change(content):
        for key in path:
            content = content[key]
        content[last] = value

    return change


HP, BACKBONE, SPEC = ("hyper_parameters",), ("hyper_parameters", "backbone"), ("hyper_parameters", "spec")
HOSTILE = {
    "model": (_set("ibd_model", ["cbm"]), "is damaged: its 'ibd_model' is a list"),
    "arguments": (_set("hyper_parameters", [1]), "is damaged: its 'hyper_parameters' is a list"),
    "epoch": (_set("epoch", "one"), "is damaged: its 'epoch' is a str"),
    "weights": (_set("state_dict", "ratio", [1.0]), "does not fit this version of ibd"),
    "backbone": (_set(*HP, "backbone", 3), "a block with options is needed"),
    "literal": (_set(*HP, "bottleneck", "soft"), "model.bottleneck: Invalid value 'soft'"),
    "type": (_set(*HP, "head_epochs", "x"), "model.head_epochs: Value 'x' of type 'str'"),
    "width": (_set(*BACKBONE, "width", 10**8), "at most 10^9 are allowed"),
    "hidden": (lambda c: c["hyper_parameters"].update(head="mlp", hidden_units=10**7), "a larger network than"),
    "file": (_set(*BACKBONE, "init_from", "/etc"), "its backbone.init_from asks for other weights than its own"),
    "names": (_set(*SPEC, "class_names", [1, 2]), "spec.class_names: a list of names is needed"),
    "pixels": (_set(*SPEC, "image_size", [10**9, 1]), "spec.image_size: [1000000000, 1] given"),
    "groups": (_set(*SPEC, "concept_groups", {"a": [99]}), "spec.concept_groups: lists of numbers of the"),
    "resize": (_set(*SPEC, "resize", "x"), "spec.resize: 'x' is not one of squash, crop, pad"),
    "shape": (_set("state_dict", "ratio", torch.zeros(1).expand(2**40)), "size mismatch for ratio"),
    "no values": (_set("state_dict", "ratio", torch.eye(2).to_sparse()), "does not fit this version of ibd"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_checkpoint_of_other_types_and_sizes(run, kind):
    change, message = HOSTILE[kind]
    rewrite(run, change)
    for verb in ("predict", "resume"):
        told = ibd(*READ_CHECKPOINT[verb]).mistake
        assert message in told
        assert told.startswith("'run/checkpoints/")


@pytest.mark.parametrize(
    "key", ["loops", *(pytest.param(key, marks=pytest.mark.slow) for key in ("optimizer_states", "lr_schedulers"))]
)
def test_a_state_of_the_training_that_does_not_fit(run, key):
    value = {} if key == "loops" else [{}]
    rewrite(run, lambda content: content.update({"pytorch-lightning_version": "2.6.0", "callbacks": {}, key: value}))
    told = ibd("fit", "resume=run", "trainer.max_epochs=2", *QUIET).late_mistake
    assert told.startswith("'run/checkpoints/last.ckpt' cannot be resumed: its training does not fit (")


def test_a_checkpoint_without_its_step(run):
    rewrite(run, lambda content: content.pop("global_step"))
    assert (
        "cannot be resumed: it was not written by a training of ibd (no 'global_step')"
        in ibd("fit", "resume=run").mistake
    )


def test_a_compressed_checkpoint(run):
    """A few kilobytes of which become gigabytes."""
    path = run / "checkpoints" / "best.ckpt"
    with zipfile.ZipFile(path) as stored, zipfile.ZipFile("small", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    shutil.move("small", path)
    assert "is not a readable checkpoint: it is compressed" in ibd("predict", "run", "bird.png").mistake
