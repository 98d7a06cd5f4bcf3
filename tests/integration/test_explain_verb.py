"""`ibd explain` through the command line, and explanations during training."""

import numpy as np
import pytest
from PIL import Image

from ibd.app.explain import choose
from tests.command import SMALL, TINY, fitted, ibd


@pytest.fixture(scope="module")
def run(tmp_path_factory, bird):
    """A run whose validation figures ask other methods, too; and an image."""
    place = tmp_path_factory.mktemp("explain")
    asked = ("logger.figures_every=1", "logger.explainers=[intrinsic,gradcam,lrp]")
    made = fitted(TINY, *SMALL, f"output={place}", "trainer.max_epochs=1", *asked)
    return made, bird


def test_explanations_of_fixed_images_during_training(run):
    assert (run[0] / "figures" / "explanations_epoch_000.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "target",
    [
        "predicted",
        "unit:0",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("wing::red_oval", "class:1", "0 - 1")),
    ],
)
def test_a_picture_and_a_table_of_costs(run, target, tmp_path):
    answer = ibd("explain", *run, f"target={target}", "explainers=gradcam,saliency", "--figure", tmp_path / "x.png")
    assert answer.code == 0, answer.err
    rows = {line.split()[0]: line.split()[1:3] for line in answer.out.splitlines() if line.startswith(("grad", "sal"))}
    assert rows == {"gradcam": ["1", "0"], "saliency": ["1", "1"]}
    assert (tmp_path / "x.png").stat().st_size > 5_000


def test_a_hidden_neuron(run, tmp_path):
    asked = ("target=neuron:backbone:3", "explainers=guided_backprop", "--figure", tmp_path / "x.png")
    answer = ibd("explain", *run, *asked)
    assert answer.code == 0, answer.err
    assert "channel 3 of 'backbone' where it is highest = " in answer.out


def test_by_default_what_the_model_says_is_first(run):
    answer = ibd("explain", *run)
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[2].startswith("intrinsic")
    assert (run[0] / "figures" / "explained_bird.png").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["target=²"], "no class and no concept is called '²'"),
        (["target=class:²"], "unknown class '²'"),
        (["target=class:nosuch"], "target: unknown class 'nosuch'. Known: marsh_wren, "),
        (["target=unit:wing::red_ovl"], "unknown unit 'wing::red_ovl'. Did you mean"),
        (["target=unit:99"], "no unit 99: there are 26, counted from 0"),
        (["target=neuron:backbone:3:1"], "neuron:LAYER:NUMBER or neuron:LAYER:NUMBER:ROW:COLUMN is needed, counted"),
        (["target=channel:backbon:0"], "no layer 'backbon' in"),
        (["target=0 - 99"], "no class 99: there are 6"),
        (["target=0 - nosuch"], "no class and no concept is called 'nosuch'"),
        (["target="], "no class and no concept is called ''"),
        (["target"], "'target': key=value is needed"),
        (["layer=backbone"], "explain: 'layer' is for concepts=N, which draws the N units that carried a class"),
        (["figur=x.png"], "explain: there is no option 'figur'. Known: target, explainers, concepts, layer, search"),
        (["concepts=0"], "explain: concepts: '0' given, a whole number from 1 is needed"),
        (["concepts=2", "explainers=lrp"], "explain: explainers and concepts are two pictures"),
        (["explainers=cam"], "'cam' needs a mean over positions and a linear layer after the map"),
        (["explainers=[gradcam,grandcam]"], "unknown explainer 'grandcam'"),
        (["explainers=tests.command:Answer"], "'tests.command:Answer' is no explainer: a subclass of"),
        (["explainers=ibd.explain.base:Explainer"], "is no explainer"),
        (["explainers=tests.unit.explain.test_bad_requests:NeedsMore"], "cannot be made without arguments: "),
        (["target=wing::red_ovl"], "no class and no concept is called 'wing::red_ovl'. Did you mean"),
        (["target=99"], "no class 99: there are 6, counted from 0"),
        (["explainers=lrp,gradcam,lrp"], "explainers: 'lrp' is given twice"),
        (["explainers=grandcam"], "unknown explainer 'grandcam'. Did you mean"),
        (["explainers="], "explainers: at least one is needed"),
        (["methods=gradcam"], "explain: there is no option 'methods'"),
    ],
)
def test_mistakes(run, changes, message):
    assert message in ibd("explain", *run, *changes).mistake


def test_a_list_as_in_a_configuration(run):
    assert [each.name for each in choose(" gradcam, saliency,")] == ["gradcam", "saliency"]
    answer = ibd("explain", *run, "explainers=[gradcam, saliency]")
    assert answer.code == 0, answer.err
    assert [line.split()[0] for line in answer.out.splitlines()][2:4] == ["gradcam", "saliency"]


def test_images_that_are_none(run, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    Image.fromarray(np.full((9, 7), np.nan, np.float32)).save(tmp_path / "nan.tiff")
    messages = {
        "none.png": "there is no such file",
        "text.png": "it is not an image, or of a format that Pillow does not know",
        "empty.png": "the file is empty",
        "nan.tiff": "its values go from nan to nan",
    }
    for name, message in messages.items():
        mistake = ibd("explain", run[0], tmp_path / name, "explainers=gradcam").mistake
        assert mistake.startswith(f"{tmp_path / name}: cannot be read: {message}")
    for place in (tmp_path / "empty.png" / "x.png", tmp_path / "x.nosuch"):
        assert "cannot write" in ibd("explain", *run, "explainers=gradcam", "--figure", place).mistake
    assert "no run" in ibd("explain", tmp_path / "nosuch", run[1]).mistake
