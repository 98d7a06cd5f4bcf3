"""`ibd card` of a run that was trained, tested and corrected: nothing of it is stale, and the numbers are those."""

import json
import shutil

import pytest

from tests.command import ibd


@pytest.mark.slow
def test_a_card_of_a_run(trained, tmp_path):
    run = tmp_path / "toybirds" / "1"
    shutil.copytree(trained, run)
    assert ibd("curve", run, "--trials", "1").code == 0
    assert ibd("test", run, "by=tail,tail+wing").code == 0
    answer = ibd("card", run)
    assert answer.code == 0, answer.err
    text = (run / "card.md").read_text(encoding="utf-8")
    assert "stale" not in answer.out.lower()
    assert "tale, not used:" not in text
    figures = json.loads((run / "test.json").read_text())
    assert f"| accuracy, test images | {figures['test/accuracy']:.3f} " in text
    assert f"| mean AUROC of concepts, test images | {figures['test/concept_auroc']:.3f} |" in text
    assert "| expected_change |" not in text  # a name is a text of Markdown
    assert "| expected\\_change |" in text
    assert "By tail\\+wing" in text or "By tail+wing" in text
    ibd("calibrate", run)
    stale = ibd("card", run)  # its probabilities are others now; the curve is of the same weights
    assert stale.out.count("stale, not used: The test of test images") >= 1
    assert "intervention_curve" not in stale.out
