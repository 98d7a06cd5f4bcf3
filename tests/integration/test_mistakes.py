"""What a user can do wrong: exit code 2, one line that says what is wrong and what would be right, no traceback."""

import re
import shutil
import time

import numpy as np
import pytest
import torch

import ibd as package
from ibd.errors import DataError
from tests.command import ROOT, SMALL, TINY, ibd, ibd_process

FIT = ("fit", TINY, *SMALL, "trainer.max_epochs=1")
CONFIG = ("config", TINY)

LONG = "a" * 300
"""Longer than the name of a file may be, on most systems."""

COMMANDS = {
    "verb": (["fitt"], "unknown verb 'fitt'. Did you mean 'fit'?"),
    "option": (["list", "--modles"], "unrecognized arguments: --modles"),
    "choice on the command line": (["list", "modles"], "choose from 'configs', 'techniques', 'models'"),
    "no config": (["fit"], "which config? For example: ibd fit toybirds/tiny"),
    "two configs": (["fit", "a.yaml", "b.yaml"], "one config file at a time, not 2: a.yaml, b.yaml"),
    "config file": (["fit", ROOT / "configs/toybirds/cbn.yaml"], "cbn.yaml'. Did you mean 'cbm.yaml'?"),
    "no key": ([*CONFIG, "5"], "override '5': write key=value"),
    "key": ([*CONFIG, "trainer.max_epoch=1"], "Key 'max_epoch' not in 'Trainer'. Did you mean one of: 'max_epochs'"),
    "block": ([*CONFIG, "optimiser.lr=1"], "Key 'optimiser' not in 'Config'. Did you mean: 'optimizer'?"),
    "model": ([*CONFIG, "model.name=cbmm"], "model.name: unknown model 'cbmm'. Did you mean one of: 'cbm', 'scbm'?"),
    "backbone": ([*CONFIG, "model.backbone=resnet-18"], "unknown backbone 'resnet-18'. Did you mean one of: "),
    "type": ([*CONFIG, "trainer.max_epochs=many"], "Value 'many' of type 'str' could not be converted to Integer"),
    "choice": ([*CONFIG, "model.regime=joined"], "expected one of ['independent', 'sequential', 'joint']"),
    "precision": ([*CONFIG, "trainer.precision=12"], "trainer.precision: Invalid value '12', expected one of [64,"),
    "nested": ([*CONFIG, f"data.seed={'[' * 2000}{']' * 2000}"], "override 'data.seed=...': lists or blocks are"),
    "name is a path": ([*CONFIG, "name=../../x"], "override 'name=../../x': name: '../../x' is a path, the"),
    "absolute name": ([*CONFIG, "name=/tmp/x"], "name: '/tmp/x' is a path, the name of one folder"),
    "name of Windows": ([*CONFIG, "name=a\\b"], "is a path, the name of one folder is needed"),
    "name of dots": ([*CONFIG, "name=.."], "name: '..' is no name; a run is written to OUTPUT/NAME/TIME"),
    "blank name": ([*CONFIG, "name=' '"], "name: ' ' is no name"),
    "quoted empty name": ([*CONFIG, "name=''"], "name: '' is no name"),
    "no value": ([*CONFIG, "name="], "override 'name=': name: null given, 'str' is needed"),
    "two lines": ([*CONFIG, 'name="a\\nb"'], "has invisible characters"),
    "NUL": ([*CONFIG, 'name="a\\0b"'], "has invisible characters"),
    "long name": ([*CONFIG, f"name={'a' * 201}"], "is longer than 200 bytes"),
    "data set": (["data", "toybird", "x.png"], "unknown dataset 'toybird'. Did you mean 'toybirds'?"),
    "data option": (["data", "toybirds", "x.png", "presett=hans"], "not in 'ToyBirds'. Did you mean: 'preset'?"),
    "data root": (["data", "folder", "x.png"], "data.root: missing, 'ConceptFolder' needs it"),
    "picture format": (["data", "toybirds", "x.doc", "preset=tiny", "train_size=8"], "cannot write 'x.doc': Format"),
    "demo folder": (["demo", "/dev/null/x"], "cannot write to '/dev/null/x'"),
    "long config": (["fit", LONG], "': File name too long"),
    "long weights": ([*FIT, f"model.backbone.weights={LONG}"], "has no published weights"),
    "long run": (["test", LONG], "': File name too long"),
    "long list": (["compare", "no-run", f"metrics={LONG}"], "no run 'no-run'"),
    "demo key": (["demo", "x", "trainer.epochs=2"], "Key 'epochs' not in 'Trainer'"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), COMMANDS.values(), ids=COMMANDS)
def test_command(arguments, message):
    assert message in ibd(*arguments).mistake


SETTINGS = {
    "accelerator": ("trainer.accelerator=gpuu", "trainer: You selected an invalid accelerator name: "),
    "no GPU": ("trainer.accelerator=gpu", "trainer: No supported gpu backend found!"),
    "devices": ("trainer.devices=0", "trainer: `Trainer(devices=0)` value is not a valid input"),
    "strategy": ("trainer.strategy=dpp", "trainer: You selected an invalid strategy name: `strategy='dpp'`"),
    "spawn": ("trainer.strategy=ddp_spawn", "'ddp_spawn' counts images twice on the CPU; 'ddp' does not"),
    "epochs": ("trainer.max_epochs=0", "trainer.max_epochs: 0 given, more than 0 is needed"),
    "accumulate": ("trainer.accumulate_grad_batches=0", "accumulate_grad_batches: 0 given, at least 1 is needed"),
    "fast_dev_run": ("trainer.fast_dev_run=true", "it leaves no model behind; to try out a config: trainer."),
    "no checkpoint": ("trainer.enable_checkpointing=false", "trainer: Trainer was configured with `enable_"),
    "interval": ("trainer.val_check_interval=999", "trainer: `val_check_interval` (999) must be less than or equal to"),
    "seed": ("seed=-1", "seed: -1 given, 0 to 4294967295 is needed"),
    "rate": ("optimizer.lr=0", "optimizer.lr: 0.0 given, more than 0 is needed"),
    "rate nan": ("optimizer.lr=nan", "optimizer.lr: nan given, a number is needed"),
    "clip nan": ("trainer.gradient_clip_val=.nan", "trainer.gradient_clip_val: nan given, a number is needed"),
    "clip inf": ("trainer.gradient_clip_val=.inf", "trainer.gradient_clip_val: inf given, more than 0 is needed"),
    "least epochs": ("trainer.min_epochs=2", "trainer.min_epochs: 2 given, at most 1, trainer.max_epochs, is possible"),
    "explainer twice": ("logger.explainers=[lrp,lrp]", "logger.explainers: 'lrp' is given twice"),
    "decay": ("optimizer.weight_decay=-1", "optimizer.weight_decay: -1.0 given, at least 0 is needed"),
    "momentum": ("optimizer.momentum=1", "optimizer.momentum: 1.0 given, from 0 to less than 1 is needed"),
    "warmup": ("optimizer.warmup=1", "optimizer.warmup: 1.0 given, a share between 0 and 1 is needed"),
    "gamma": ("optimizer.gamma=0", "optimizer.gamma: 0.0 given, more than 0 is needed"),
    "step": ("optimizer.step_epochs=0", "optimizer.step_epochs: 0 given, at least 1 is needed"),
    "batch size": ("data.batch_size=0", "data.batch_size: 0 given, at least 1 is needed"),
    "workers": ("data.num_workers=-1", "data.num_workers: -1 given, at least 0 is needed"),
    "every": ("checkpoint.every_n_epochs=0", "checkpoint.every_n_epochs: 0 given, at least 1 is needed"),
    "mode": ("checkpoint.monitor=val/loss", "checkpoint.mode: 'min' or 'max' is needed beside checkpoint."),
    "patience": ("early_stopping.patience=-1", "early_stopping.patience: -1 given, at least 0 is needed"),
    "figures": ("logger.figures_every=-1", "logger.figures_every: -1 given, at least 0 is needed"),
    "weights name": ("model.backbone.weights=IMAGENET1K_V1", "SmallCNN has no published weights 'IMAGENET1K_V1'"),
    "weights file": ("model.backbone.weights=gone.pth", "weights: there is no file 'gone.pth'"),
    "weights content": (f"model.backbone.weights={TINY}", "is not a readable PyTorch file"),
    "init_from": ("model.backbone.init_from=runs/gone", "no run 'runs/gone'."),
    "softmax group": ("model.softmax_groups=[food]", "'food' is not an exclusive group of this data. Did you mean 'fo"),
    "output": ("output=/dev/null/x", "output: cannot write to '/dev/null/x"),
    "resume": ("resume=gone", "no run 'gone'."),
    "resume no run": (f"resume={ROOT / 'configs'}", "is not a run folder: it holds neither config.yaml nor"),
    "resume a file": (f"resume={TINY}", "tiny.yaml' cannot be resumed: there is no config.yaml in"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), SETTINGS.values(), ids=SETTINGS)
def test_setting(change, message, tmp_path):
    assert message in ibd(*FIT, change).mistake
    if change != "trainer.val_check_interval=999":  # which depends on the number of images
        assert not list(tmp_path.iterdir())  # no empty run is left behind


def test_logits_cannot_be_independent():
    message = ibd(*FIT, "model.regime=independent", "model.bottleneck=logits").mistake
    assert message.startswith("model.bottleneck: 'logits' does not go with model.regime 'independent'")


def test_unreachable_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub.urlopen", lambda *_, **__: (_ for _ in ()).throw(OSError("no route to host")))
    answer = ibd(*FIT, "model.backbone=resnet18", "model.backbone.weights=IMAGENET1K_V1")
    announced = '^Downloading: "[^"]+" to [^\n]+\n'  # some releases of torch say it at once
    message = answer._replace(err=re.sub(announced, "", answer.err)).mistake
    assert "(no route to host)" in message
    assert message.startswith("weights: cannot get ResNet18_Weights.IMAGENET1K_V1 (")
    assert "fetch https://download.pytorch.org/models/resnet18-f37072fd.pth on a machine with network" in message
    assert message.endswith("or start from random weights with `weights: null`")


def test_online_without_an_account(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    message = ibd(*FIT, "logger.mode=online").mistake
    assert message == "logger.mode: 'online' needs a W&B account: run `wandb login`, or take 'auto' or 'offline'"


@pytest.mark.parametrize("key", ["checkpoint", "early_stopping"])
def test_a_metric_that_nothing_logs_is_found_before_the_first_epoch(key):
    answer = ibd(*FIT, f"{key}.monitor=val/acc", f"{key}.mode=max")
    assert answer.late_mistake == f"{key}.monitor: no metric is called 'val/acc'. Did you mean 'val/accuracy'?"
    assert "epoch 1" not in answer.err


def test_a_training_metric_that_nothing_logs():
    answer = ibd(*FIT, "checkpoint.monitor=train/los", "checkpoint.mode=min")
    assert answer.late_mistake.startswith("checkpoint.monitor: no metric is called 'train/los'. Did you mean ")


def test_a_misspelt_verb_in_a_process_of_its_own(tmp_path):
    """The exit code of the shell, one line and nothing else on the screen, at once."""
    started = time.monotonic()
    answer = ibd_process("fitt", cwd=tmp_path)
    assert answer.mistake == "unknown verb 'fitt'. Did you mean 'fit'?"
    assert answer.out == ""
    assert time.monotonic() - started < 3  # torch is not imported for that


@pytest.mark.slow
def test_a_mistake_in_a_process_of_its_own(tmp_path):
    (tmp_path / "mine.yaml").write_text("model: {name: cbm, concept_wieght: 2, backbone: small_cnn}\ndata: toybirds\n")
    answer = ibd_process("fit", "mine.yaml", cwd=tmp_path)
    assert answer.mistake == (
        "mine.yaml: model.concept_wieght: Key 'concept_wieght' not in 'ConceptBottleneck'. "
        "Did you mean: 'concept_weight'?"
    )
    assert answer.out == ""


# Runs and checkpoints


def _broken(kind, path):
    content, whole = torch.load(path), path.read_bytes()
    kept = {name: value for name, value in content["state_dict"].items() if name != "network.head.bias"}
    return {
        "empty": b"",
        "no zip": b"a text, not a checkpoint",
        "truncated": whole[: len(whole) // 2],
        "without the end": whole[:-100],
        "objects": torch.nn.Linear(2, 2),
        "foreign dict": {"epoch": 3},
        "Lightning's": {"state_dict": {"weight": torch.zeros(3)}, "epoch": 1},
        "no hyper-parameters": {**content, "hyper_parameters": {}},
        "a class that is gone": {**content, "ibd_model": "gone:Gone"},
        "a weight missing": {**content, "state_dict": kept},
    }[kind]


BROKEN = {
    "empty": "is not a readable checkpoint: it is empty",
    "no zip": "is not a readable checkpoint: it is not a PyTorch file",
    "truncated": "is not a readable checkpoint: it is cut short",
    "without the end": "is not a readable checkpoint: it is cut short",
    "objects": "is not a readable checkpoint: it holds Python objects, which could run any code",
    "foreign dict": "is not a checkpoint of a run: it has no 'state_dict'",
    "Lightning's": "was not written by ibd: it does not say which model it holds",
    "no hyper-parameters": "(model.backbone.name: missing. Known: small_cnn, ",
    "a class that is gone": "'gone:Gone' is none of ibd's own classes and could run any code",
    "a weight missing": 'Missing key(s) in state_dict: "network.head.bias"',
}


@pytest.mark.parametrize(("kind", "message"), BROKEN.items(), ids=BROKEN)
def test_checkpoint(kind, message, trained, bird, tmp_path):
    content = _broken(kind, trained / "checkpoints" / "best.ckpt")
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    shutil.copy(trained / "config.yaml", run)
    for name in ("best.ckpt", "last.ckpt"):
        if isinstance(content, bytes):
            (run / "checkpoints" / name).write_bytes(content)
        else:
            torch.save(content, run / "checkpoints" / name)
    for arguments in (["predict", run / "checkpoints" / "best.ckpt", bird], ["test", run], ["curve", run]):
        told = ibd(*arguments).mistake
        assert told.startswith(f"'{run / 'checkpoints' / 'best.ckpt'}'")
        assert message in told
    told = ibd("fit", f"resume={run}").mistake
    assert told.startswith(f"'{run / 'checkpoints'}/")
    assert message in told or "was not written by a training of ibd" in told


def test_cut_anywhere_it_is_one_line(trained, bird, tmp_path):
    """A copy that broke off, or a disk that made zeros of a part, in many places."""
    whole = (trained / "checkpoints" / "best.ckpt").read_bytes()
    broken = tmp_path / "broken.ckpt"
    for part in np.linspace(0, len(whole) - 1, 12).astype(int):
        broken.write_bytes(whole[:part])
        assert "broken.ckpt' is not a readable checkpoint" in ibd("predict", broken, bird).mistake
        broken.write_bytes(whole[:part] + bytes(min(64, len(whole) - part)) + whole[part + 64 :])
        answer = ibd("predict", broken, bird)
        assert answer.code == 0 or "broken.ckpt' " in answer.mistake  # zeros within a weight are weights, too


@pytest.mark.parametrize("verb", ["test", "curve", "predict", "intervene"])
def test_missing_run(verb, trained):
    rest = {"predict": ["x.png"], "intervene": ["x.png", "a=1"]}.get(verb, [])
    given = f"{trained.parent}x"
    assert ibd(verb, given, *rest).mistake == f"no run '{given}'. Did you mean '{trained.parent}'?"


def test_run_without_a_checkpoint(trained, tmp_path):
    shutil.copy(trained / "config.yaml", tmp_path)
    assert ibd("test", tmp_path).mistake.endswith("has no checkpoint yet: it stopped before its first epoch had ended")
    assert "has no checkpoint yet" in ibd("fit", f"resume={tmp_path}").mistake


def test_run_whose_data_has_changed(trained):
    message = ibd("test", trained, "data.preset=small").mistake
    assert message == f"'{trained}' was trained on other classes or concepts than the data now has"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("model.regime=sequential", "model.regime is 'joint'"),
        ("data.batch_size=16", "data.batch_size is 32"),
        ("optimizer.lr=0.1", "optimizer.lr is 0.01"),
        ("seed=1", "seed is 0"),
        ("trainer.devices=2", "trainer.devices is 1"),
    ],
)
def test_resume_with_other_settings(change, told, trained):
    message = ibd("fit", f"resume={trained}", change).mistake
    assert message.startswith(f"resume: {told} in '{trained}', but ")
    assert f"model.backbone.init_from={trained}" in message


# Images and interventions


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "folder", "truncated"])
def test_image(kind, trained, bird, tmp_path):
    path, why = tmp_path / "x.png", {"missing": "there is no such file", "folder": "it is a folder"}.get(kind, "")
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        content = {"text": b"no image", "empty": b"", "truncated": bird.read_bytes()[:300]}[kind]
        path.write_bytes(content)
    for arguments in (["predict", trained, bird, path], ["intervene", trained, path, "beak::cone=1"]):
        message = ibd(*arguments).mistake
        assert message.startswith(f"{path}: cannot be read: {why}")
        assert len(message) > len(f"{path}: cannot be read: ")


EDITS = {
    "misspelt": (["beak::con=1"], "unknown concept 'beak::con'. Did you mean one of: 'beak::cone'"),
    "only a value": (["cone=1"], "unknown concept 'cone'. Did you mean 'beak::cone'?"),
    "group": (["beek=cone"], "'beek=cone': a number is needed, or a group and its member. Did you mean 'beak'?"),
    "member": (["beak=con"], "unknown concept 'beak::con'. Did you mean one of: 'beak::cone'"),
    "text": (["beak::cone=yes"], "'beak::cone=yes': a number is needed"),
    "too large": (["beak::cone=2"], "concept 'beak::cone' is set to 2"),
    "negative": (["beak::cone=-0.5"], "concept 'beak::cone' is set to -0.5"),
    "nan": (["beak::cone=nan"], "set to nan: a finite number is needed"),
    "exclusive": (["beak::cone=1", "beak::hook=1"], "exclude each other"),
    "exclusive group": (["beak=cone", "beak::hook=1"], "exclude each other"),
    "twice": (["beak::cone=1", "beak::cone=0"], "'beak::cone' is given twice"),
    "twice, by group": (["beak=cone", "beak::cone=0"], "concept 'beak::cone' is given twice"),
    "no value": (["beak::cone"], "'beak::cone': name=value is needed, such as wing_color::red=1"),
    "empty value": (["beak::cone="], "'beak::cone=': name=value is needed"),
    "none": ([], "the following arguments are required: NAME=VALUE"),
}


@pytest.mark.parametrize(("values", "message"), EDITS.values(), ids=EDITS)
def test_intervene(values, message, trained, bird):
    assert message in ibd("intervene", trained, bird, *values).mistake


def test_channel_of_a_baseline(baseline, bird):
    assert (
        "unknown channel 'channel 999'. Did you mean one of: 'channel "
        in ibd("intervene", baseline, bird, "channel 999=0").mistake
    )


TENSORS = {
    "size": (torch.rand(1, 3, 31, 32), "images are 31 x 32 pixels, the model was trained on 32 x 32"),
    "channels": (torch.rand(1, 1, 32, 32), "images have shape (1, 1, 32, 32): (B, 3, 32, 32) is needed"),
    "dimensions": (torch.rand(32, 32), "images have shape (32, 32): (B, 3, 32, 32) is needed"),
    "type": (torch.zeros(3, 32, 32, dtype=torch.uint8), "images are torch.uint8: float in [0, 1] is needed"),
    "range": (torch.full((3, 32, 32), 200.0), "image values range from 200 to 200: [0, 1] is needed, not normalized"),
    "nan": (torch.full((3, 32, 32), torch.nan), "image values range from nan to nan: [0, 1] is needed, not normalized"),
}  # fmt: skip


@pytest.mark.parametrize(("images", "message"), TENSORS.values(), ids=TENSORS)
def test_image_tensor(images, message, trained):
    with pytest.raises(DataError) as caught:
        package.load_model(trained).predict(images)
    assert str(caught.value).startswith(message)


CURVES = {
    "policy": (["--policies", "randon"], "unknown policy 'randon'. Did you mean 'random'?"),
    "policy twice": (["--policies", "random,learned,random"], "policies: 'random' is given twice"),
    "size": (["data.image_size=64"], "was trained on images of 32 x 32 pixels, the data's have 64 x 64"),
    "no policy": (["--policies", ","], "--policies: at least one is needed"),
    "trials": (["--trials", "0"], "trials: 0 given, at least 1 is needed"),
    "split": (["--split", "train"], "invalid choice: 'train' (choose from 'val', 'test')"),
    "folder": (["--out", TINY], f"'{TINY}' is not a folder"),
    "override": (["data.test_sise=3"], "Key 'test_sise' not in 'ToyBirds'. Did you mean: 'test_size'"),
}


@pytest.mark.parametrize(("arguments", "message"), CURVES.values(), ids=CURVES)
def test_curve(arguments, message, trained):
    assert message in ibd("curve", trained, *arguments).mistake


def test_curve_of_a_baseline(baseline):
    assert ibd("curve", baseline).mistake == "a Baseline has no concepts to correct; a ConceptBottleneck has"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--figure", "x.doc"], "cannot write 'x.doc': Format 'doc' is not supported"),
        (["--figure", "/dev/null/x.png"], "cannot write '/dev/null/x.png': '/dev/null' is not a folder"),
        (["--top", "-1"], "argument --top: -1 given, at least 0 is needed"),
        (["--top", "all"], "argument --top: invalid count value: 'all'"),
    ],
)
def test_predict(arguments, message, trained, bird):
    assert message in ibd("predict", trained, bird, *arguments).mistake


def test_a_trained_run_takes_changes_to_its_data_alone(trained):
    assert ibd("test", trained, "model.head=mlp").mistake.startswith("override 'model.head=mlp': a trained run takes")


def test_a_folder_of_all_runs(trained):
    message = ibd("test", trained.parents[1]).mistake
    assert message.startswith(f"'{trained.parents[1]}' holds runs of several names; which one? ")
    assert str(trained.parent) in message


def test_a_bar_can_be_switched_off():
    assert ibd(*FIT, "trainer.enable_progress_bar=false").code == 0
