"""`ibd explain` through the command line, and explanations during training."""

import pytest

from tests.command import SMALL, TINY, fitted, ibd


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose validation figures ask other methods, too; and an image."""
    place = tmp_path_factory.mktemp("explain")
    asked = ("logger.figures_every=1", "logger.explainers=[intrinsic,gradcam,lrp]")
    made = fitted(TINY, *SMALL, f"output={place}", "trainer.max_epochs=1", *asked)
    assert ibd("data", "toybirds", place / "bird.png").code == 0
    return made, place / "bird.png"


def test_explanations_of_fixed_images_during_training(run):
    assert (run[0] / "figures" / "explanations_epoch_000.png").stat().st_size > 10_000


@pytest.mark.parametrize("target", ["predicted", "wing::red_oval", "unit:0", "class:1", "0 - 1"])
def test_a_picture_and_a_table_of_costs(run, target, tmp_path):
    answer = ibd("explain", *run, f"target={target}", "explainers=gradcam,saliency", "--figure", tmp_path / "x.png")
    assert answer.code == 0, answer.err
    rows = {line.split()[0]: line.split()[1:3] for line in answer.out.splitlines() if line.startswith(("grad", "sal"))}
    assert rows == {"gradcam": ["1", "0"], "saliency": ["1", "1"]}
    assert (tmp_path / "x.png").stat().st_size > 5_000


def test_by_default_what_the_model_says_is_first(run):
    answer = ibd("explain", *run)
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[2].startswith("intrinsic")
    assert (run[0] / "figures" / "explained_bird.png").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["target=wing::red_ovl"], "no class and no concept is called 'wing::red_ovl'. Did you mean"),
        (["target=99"], "no class 99: there are 6, counted from 0"),
        (["explainers=grandcam"], "unknown explainer 'grandcam'. Did you mean"),
        (["explainers="], "explainers: at least one is needed"),
        (["methods=gradcam"], "explain: there is no option 'methods'"),
    ],
)
def test_mistakes(run, changes, message):
    assert message in ibd("explain", *run, *changes).mistake
