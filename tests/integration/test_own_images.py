"""`ibd init`, the configs that come with the package, and an installed wheel: what a newcomer does first."""

import os
import shutil
import subprocess
import sys
import sysconfig

import pytest

from ibd import __version__
from ibd.app.arguments import in_order, parser
from ibd.cli import VERBS
from ibd.config import load_config
from ibd.config.files import find_config, shipped, shipped_names
from tests.command import QUIET, ROOT, SMALL, ibd, rows
from tests.data_makers import make_concept_folder


def test_init_writes_what_can_be_trained(tmp_path):
    root = make_concept_folder(tmp_path / "birds & co", train=4, val=2)
    (root / "concepts.csv").unlink()
    answer = ibd("init", root)
    assert answer.code == 0, answer.err
    assert "train: 12 images of 3 classes" in answer.out
    assert answer.out.splitlines()[-1].endswith("ibd fit 'birds & co.yaml'")
    table = (root / "concepts.csv").read_text()
    assert table.splitlines() == ["class,color,has_stripes,length [mm]", "cat,,,", "dog,,,", "owl,,,"]
    quick = (*QUIET, "trainer.max_epochs=1", "logger.figures_every=0", "data.num_workers=0")
    assert "concept" in ibd("fit", "birds & co.yaml", *quick).mistake  # none of which is known yet
    (root / "concepts.csv").write_text(table.replace("cat,,,", "cat,red,0,12.5").replace("dog,,,", "dog,blue,1,40"))
    fitted = ibd("fit", "birds & co.yaml", *quick)
    assert fitted.code == 0, fitted.err
    assert len(rows(fitted.run)) == 1
    assert fitted.run.parent.name == "birds & co"
    answer = ibd("init", root, "--config", "again.yaml")
    assert "concepts: 1 true or false; color (blue, red); length in mm" in answer.out


def test_init_leaves_alone_what_is_there(tmp_path):
    root = make_concept_folder(tmp_path / "mine")
    before = (root / "concepts.csv").read_bytes()
    assert ibd("init", root, "--config", "here.yaml").code == 0
    assert (root / "concepts.csv").read_bytes() == before
    again = ibd("init", root, "--config", "here.yaml").mistake
    assert again == "'here.yaml' already exists: name another with --config"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "there is no such folder"),
        (lambda root: root.mkdir(), "there is no folder 'train'"),
        (lambda root: (root / "train" / "cat").mkdir(parents=True), "there is no image in it"),
    ],
)
def test_init_says_what_is_wrong_with_the_folder(make, message, tmp_path):
    make(tmp_path / "mine")
    assert message in ibd("init", tmp_path / "mine").mistake
    assert not (tmp_path / "mine.yaml").exists()


@pytest.mark.parametrize("name", ["toybirds/tiny", "toybirds/tiny.yaml", "configs/toybirds/tiny.yaml"])
def test_configs_of_the_package_are_found_from_anywhere(name):
    assert ibd("config", name).out.splitlines()[0].startswith("name: toybirds-tiny ")


def test_a_config_of_the_users_own_comes_first(tmp_path):
    (tmp_path / "toybirds").mkdir()
    (tmp_path / "toybirds" / "tiny.yaml").write_text("base: toybirds/cbm\nname: mine\n")
    assert ibd("config", "toybirds/tiny.yaml").out.startswith("name: mine ")
    assert find_config(tmp_path / "tiny.yaml") == tmp_path / "tiny.yaml"


def test_what_there_is_is_listed():
    assert set(shipped_names()) >= {"toybirds/tiny", "folder/cbm", "cub/protopnet"}
    assert "  toybirds/tiny\n" in ibd("list", "configs").out
    assert "toybirds/tiny" in ibd("fit", "toybirds/tinny").mistake
    assert ibd("--version").out == f"ibd {__version__}\n"
    assert "  ibd fit toybirds/tiny\n" in ibd("fit", "--help").out


def test_init_of_a_folder_of_traps(tmp_path):
    root = make_concept_folder(tmp_path / "${oc.env:HOME} \x1b[31m", train=2)
    assert ibd("init", root, "--config", "x.yaml").code == 0
    assert load_config(tmp_path / "x.yaml").data.root == str(root)
    os.mkfifo(root / "train" / "cat" / "0.png")
    assert "is a pipe or a device, an image is needed" in ibd("init", root, "--config", "y.yaml").mistake


def test_a_base_is_looked_for_beside_its_file_and_in_the_package_alone(tmp_path):
    (tmp_path / "there.yaml").write_text("base: toybirds/tiny\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "mine.yaml").write_text("base: there.yaml\n")
    message = ibd("config", "deep/mine.yaml").mistake
    assert message.startswith("deep/mine.yaml: base: no config file 'deep/there.yaml'.")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["test", "RUN", "--which=last", "data.x=1"], ["test", "RUN", "data.x=1", "--which=last"]),
        (["test", "RUN", "--which", "last", "--data.x=1"], ["test", "RUN", "data.x=1", "--which", "last"]),
        (["predict", "R", "--x=y.png"], ["predict", "R", "--x=y.png"]),
        (["predict", "R", "--top", "3", "--", "-a.png"], ["predict", "R", "--top", "3", "--", "-a.png"]),
        ([], []),
    ],
)
def test_the_order_of_the_arguments(given, expected):
    assert in_order(parser(VERBS), given) == expected


@pytest.mark.slow
def test_changes_may_be_written_as_options():
    """As sweeps of W&B do; what is an option of the verb stays one."""
    answer = ibd("fit", "toybirds/tiny", *(f"--{change}" for change in SMALL), "--trainer.max_epochs=1")
    assert answer.code == 0, answer.err
    assert len(rows(answer.run)) == 1
    assert ibd("test", answer.run, "--which=last", "--data.test_size=33").code == 0
    assert "Did you mean one of: 'max_epochs'" in ibd("fit", "toybirds/tiny", "--trainer.max_epoch=1").mistake


@pytest.mark.slow
def test_a_wheel_runs_the_demo_in_an_empty_folder(tmp_path):
    """It carries the configs. The environment is empty but for the packages that the wheel needs: those of this one."""
    left_out = shutil.ignore_patterns(".*", "build", "dist", "runs", "demo")
    source = shutil.copytree(ROOT, tmp_path / "source", ignore=left_out)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", tmp_path, source], check=True, cwd=tmp_path, timeout=300)
    (wheel,) = tmp_path.glob("ibd-*.whl")
    made = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", made], check=True)
    (site,) = made.glob("lib/python*/site-packages")
    given = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"WANDB_MODE": "disabled"}
    install = [sys.executable, "-m", "pip", "--python", made / "bin" / "python", "install", "--quiet", "--no-deps"]
    subprocess.run([*install, wheel], check=True, env=given)
    (site / "needed.pth").write_text(sysconfig.get_path("purelib"))  # .pth files there, of an editable ibd, do nothing
    empty = tmp_path / "empty"
    empty.mkdir()

    def run(*command):
        process = subprocess.run([made / "bin" / "ibd", *command], env=given, cwd=empty, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
        return process.stdout

    small = ("trainer.max_epochs=1", "data.train_size=64", "data.val_size=40", "data.test_size=40")
    assert run("config", "folder/cbm").splitlines()[0].startswith("name: folder-cbm ")
    assert "done: runs/toybirds-tiny/" in run("fit", "toybirds/tiny", *small)
    run("demo", "shown", "data.preset=tiny", *small)
    assert (empty / "shown" / "report" / "index.html").is_file()
    assert {path.name for path in (site / "ibd" / "configs").iterdir()} == {path.name for path in shipped().iterdir()}
