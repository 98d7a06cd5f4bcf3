"""What a calibration changes of a prediction, and what it must leave alone; and how it is kept."""

import dataclasses
import json

import pytest
import torch
from torch import nn

import ibd
from ibd.errors import CheckpointError, ConfigError, UnsupportedError
from ibd.io import CALIBRATION_KEY, load_model
from ibd.models.baseline.lightning import Baseline
from ibd.models.calibration.calibration import Abstention, Calibration, checksum
from ibd.models.calibration.conformal import SetRule
from ibd.models.calibration.scaling import Scaling
from ibd.models.loading import load_network
from ibd.models.prediction import Prediction
from tests.model_makers import (
    SMALL,
    SPEC,
    TensorData,
    make_filters,
    make_module,
    make_pipnet,
    make_prototypes,
    make_whitening,
)
from tests.unit.models.test_prediction import by_hand, text

IMAGES = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
HALF = Scaling("temperature", (0.5,), (), 10)
SETS = SetRule("lac", 0.8, (0.7,), 12)
WARY = Abstention(0.75, 0.95, 0.9, 100, 40, 40)
MAKERS = {
    "baseline": lambda: Baseline(SPEC, SMALL).eval(),
    "cbm": make_module,
    "cbm of logits": lambda: make_module(bottleneck="logits", softmax_groups=["wing"]),
    "protopnet": make_prototypes,
    "pipnet": lambda: make_pipnet().eval(),
    "concept_whitening": make_whitening,
    "interpretable_cnn": make_filters,
}


def calibration(**changes):
    return Calibration(**{"split": "val", "apart": True, "weights": 0, "classes": HALF, **changes})


def hand(**changes):
    """The prediction by hand: logits 0.62 and 2.13 of cow and bee, concepts 0.75, 0.25, 0.5 and 0.88."""
    return dataclasses.replace(by_hand(), calibration=calibration(concepts=HALF, **changes))


def test_probabilities_are_those_of_the_scaled_scores():
    before, after = by_hand(), hand()
    torch.testing.assert_close(after.probabilities, (before.logits / 2).softmax(1))
    torch.testing.assert_close(after.unit_values, (torch.tensor([[0.75, 0.25, 0.5, 0.88]]).logit() / 2).sigmoid())
    assert after.probabilities.dtype == before.probabilities.dtype
    assert after.classes == before.classes


def test_what_the_classes_are_made_of_stays_as_it_was_trained():
    before, after = by_hand(), hand()
    assert torch.equal(after.logits, before.logits)
    assert torch.equal(after.contributions, before.contributions)
    edits = {"wing::blue": 1, "flies": 0.5}
    assert torch.equal(after.intervene(edits).logits, before.intervene(edits).logits)


def test_what_was_set_is_read_as_it_was_set():
    values = hand().intervene({"wing::blue": 1, "flies": 0.9}).unit_values[0]
    half = (torch.tensor(0.5).logit() / 2).sigmoid()
    torch.testing.assert_close(values, torch.tensor([0.0, 1.0, float(half), 0.9]), rtol=0, atol=1e-6)


def test_a_vector_may_name_another_class_and_everything_follows():
    turned = Scaling("vector", (1.0, 1.0), (3.0, 0.0), 10)
    found = hand(classes=turned, sets=SETS)
    assert found.classes == ["cow"]
    assert found.labels.tolist() == [found.probabilities.argmax(1).item()]
    assert str(found).startswith("a.png: cow 81.6 %, bee 18.4 %\n  at coverage 80 %: cow\n")
    assert "adds to the logit of cow" in str(found)


def test_table():
    assert hand(sets=SETS, abstention=WARY).table(top=1) == text("""
        a.png: abstains (bee 68.0 %, cow 32.0 %)
          at coverage 80 %: cow, bee
          concept     value   adds to the logit of bee
          wing::red    0.63     +1.50  ████████████████████
          3 others              +0.38
          bias                  +0.25
          = logit               +2.13
          calibrated probabilities of classes (temperature 2) and concepts (temperature 2); the logit is made of the values as trained
          sets (lac) hold the true class for 80 % or more of images like the 12 that chose them
          abstains below 75.0 %: answers for images like the 100 that chose it are right in 95 % or more, with certainty 90 %
    """)  # noqa: E501


def test_nothing_is_promised_of_corrected_images():
    table = hand(sets=SETS, abstention=WARY).intervene({"flies": 1}).table()
    assert "of corrected ones it promises nothing" in table
    assert "hold the true class" not in table
    assert "with certainty" not in table


def test_sets_need_a_calibration():
    for prediction in (by_hand(), hand()):
        with pytest.raises(UnsupportedError, match="ibd calibrate RUN coverage"):
            _ = prediction.class_sets


def test_slices_joins_and_moves_keep_it():
    module = make_module()
    module.calibration = calibration(sets=SetRule("aps", 0.8, (0.7,), 12, randomized=True), abstention=WARY)
    whole = module.predict(IMAGES)
    again = whole[:2].join(whole[2:]).to(torch.float64)
    assert torch.equal(again.class_sets, whole.class_sets)
    assert torch.equal(again.abstains, whole.abstains)
    assert torch.equal(whole[3].class_sets[0], whole.class_sets[3])
    assert torch.equal(whole.intervene({"flies": 1}).draws, whole.draws)
    module.calibration = None
    with pytest.raises(ConfigError, match="before and after a calibration cannot be joined"):
        whole.join(module.predict(IMAGES))


def test_a_network_that_abstains_by_itself_still_does():
    module = make_pipnet().eval()
    nn.init.zeros_(module.network.head.weight)  # no evidence for any class
    module.calibration = calibration(abstention=dataclasses.replace(WARY, threshold=0.0))
    found = module.predict(IMAGES)
    assert bool(found.abstains.all())
    assert found.table(2).splitlines()[0] == "image 2: abstains"  # of which no class is more likely than another


def test_a_rule_of_the_networks_own_is_calibrated_from_its_probabilities():
    module = make_pipnet().eval()
    plain = module.predict(IMAGES).probabilities
    module.calibration = calibration()
    torch.testing.assert_close(module.predict(IMAGES).probabilities, plain.sqrt() / plain.sqrt().sum(1, keepdim=True))


@pytest.mark.parametrize("name", MAKERS)
def test_it_is_kept_with_every_family(name, tmp_path):
    module = MAKERS[name]()
    images = torch.rand(12, 3, *module.spec.image_size, generator=torch.Generator().manual_seed(1))
    data = TensorData(spec=module.spec)
    found = ibd.calibrate(module, data=data, coverage=0.8, accuracy=0.2, certainty=None, score="raps")
    assert (found.concepts is not None) == name.startswith("cbm")
    said = str(module.predict(images))
    assert said != str(dataclasses.replace(module.predict(images), calibration=None))
    module.save(tmp_path / "x.ckpt")
    assert torch.load(tmp_path / "x.ckpt", weights_only=True)[CALIBRATION_KEY] == found.to_dict()
    for read in (load_model, load_network):
        model = read(tmp_path / "x.ckpt")
        assert model.calibration == found
        assert str(model.predict(images)) == said
    assert type(module).load_from_checkpoint(tmp_path / "x.ckpt").calibration == found


def test_it_goes_to_the_hub_and_back(tmp_path):
    pytest.importorskip("huggingface_hub")
    pytest.importorskip("safetensors")
    module = make_module()
    ibd.calibrate(module, data=TensorData(), coverage=0.8)
    module.save_pretrained(tmp_path)
    assert ibd.ConceptBottleneck.from_pretrained(tmp_path).calibration == module.calibration


def test_of_other_weights_it_is_left_out(tmp_path, caplog):
    module = make_module()
    ibd.calibrate(module, data=TensorData(), coverage=0.8)
    with torch.no_grad():
        module.network.head.bias[0] += 1e-3
    module.save(tmp_path / "x.ckpt")
    for read in (load_model, load_network):
        caplog.clear()
        assert read(tmp_path / "x.ckpt").calibration is None
        assert "calibration is of other weights" in caplog.text


def test_a_checksum_is_that_of_values_and_not_of_their_layout():
    module = make_module()
    before = checksum(module.network)
    assert checksum(module.network.to(memory_format=torch.channels_last)) == before
    module.network.low[0] = 7.0
    assert checksum(module.network) != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plain: plain["classes"].update(scale=[0.5, 0.5]), "classes: .* is not 1 or 3 finite numbers"),
        (lambda plain: plain["classes"].update(scale=[-0.5]), "not above 0"),
        (lambda plain: plain["classes"].update(scale=["x"]), "finite numbers"),
        (lambda plain: plain["sets"].update(thresholds=[float("nan")]), "finite numbers"),
        (lambda plain: plain["sets"].update(score="os.system"), "no score"),
        (lambda plain: plain["sets"].update(extra=1), "extra"),
        (lambda plain: plain.pop("concepts"), "concepts"),
        (lambda plain: plain.update(abstention=3), "damaged"),
    ],
)
def test_what_a_stranger_wrote_is_looked_at(change, message):
    plain = json.loads(json.dumps(calibration(concepts=HALF, sets=SETS, abstention=WARY).to_dict()))
    assert Calibration.from_dict(plain, 3, 6) == calibration(concepts=HALF, sets=SETS, abstention=WARY)
    change(plain)
    with pytest.raises(CheckpointError, match=message):
        Calibration.from_dict(plain, 3, 6)


def test_without_a_calibration_nothing_has_changed():
    module = make_module()
    found = module.predict(IMAGES)
    assert isinstance(found, Prediction)
    assert torch.equal(found.probabilities, module.network.class_probabilities(found.logits))
    assert torch.equal(found.labels, found.logits.argmax(1))
    assert not found.abstains.any()
