"""The copy of a model that metrics ask: same predictions, bounded memory, counted passes."""

import pytest
import torch
from torch import nn

from ibd.comparison.probes.memory import LiveBytes, peak_bytes
from ibd.comparison.probes.network import Predictor
from ibd.errors import ConfigError, DataError
from tests.explainer_makers import MODELS, images, make
from tests.model_state import check_untouched, snapshot
from tests.unit.comparison.probes.makers import Convolutions, random_images, random_linear


@pytest.mark.parametrize("name", MODELS)
def test_the_copy_says_the_same_and_the_model_is_left_alone(name):
    model, image = make(name), images(4)
    before = snapshot(model)
    with torch.inference_mode():
        predictor = Predictor(model, image)
        found = predictor.logits(image)
    check_untouched(model, before)
    with torch.no_grad():
        wanted = model.eval()(image)
    wanted = wanted["logits"] if isinstance(wanted, dict) else wanted[0] if isinstance(wanted, tuple) else wanted
    torch.testing.assert_close(found, getattr(wanted, "logits", wanted), rtol=1e-4, atol=1e-5)
    assert predictor.form.startswith("folded") == (name not in ("functional", "dict", "tuple", "vit"))
    assert predictor.forwards == 4
    assert predictor.seconds > 0


def test_normalizations_are_folded_exactly():
    model, image = Convolutions().double(), random_images(2, 9)
    predictor = Predictor(model, image)
    assert predictor.form == "folded, channels last"
    assert not [each for each in predictor.network.modules() if isinstance(each, nn.BatchNorm2d)]
    torch.testing.assert_close(predictor.logits(image), model(image), rtol=1e-12, atol=1e-12)


class Reused(Convolutions):
    """Its convolution feeds two, so nothing can be folded into it."""

    def forward(self, image):
        x = self.first(image)
        return self.head((self.norm(x) + x).relu().mean((2, 3)))


class Layout(Convolutions):
    """Reads what depends on the memory layout, as no model should."""

    def forward(self, image):
        return super().forward(image) * (1 + image.is_contiguous(memory_format=torch.channels_last))


def test_what_cannot_be_folded_or_laid_out_is_not():
    image = random_images(2, 9)
    reused = Predictor(Reused().double(), image)
    assert reused.form == "channels last"
    layout = Predictor(Layout().double(), image)
    assert (layout.form, layout.difference) == ("as it is", 0.0)
    torch.testing.assert_close(layout.logits(image), Layout().double()(image))


def test_centered_logits_and_probabilities_of_the_closed_form():
    model, image = random_linear(), random_images(4)
    predictor, first = Predictor(model, image), torch.zeros(4, dtype=torch.int64)
    score = (image * model.weights).flatten(1).sum(1).detach()  # of the first class; the other has 0
    torch.testing.assert_close(predictor.centered(image, first), score / 2, rtol=0, atol=1e-12)
    torch.testing.assert_close(predictor.centered(image, 1 - first), -score / 2, rtol=0, atol=1e-12)
    torch.testing.assert_close(predictor.probabilities(image, first), score.sigmoid(), rtol=0, atol=1e-12)


def test_a_networks_own_probabilities_are_taken():
    model, image = make("pipnet").eval(), images(3)
    predictor = Predictor(model, image)
    classes = predictor.predicted(image)
    with torch.no_grad():
        own = model.network.class_probabilities(model(image).logits).gather(1, classes.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(predictor.probabilities(image, classes).float(), own)


def test_adding_a_constant_to_all_logits_changes_nothing():
    class Added(Convolutions):
        def forward(self, image):
            return super().forward(image) + 17

    image, classes = random_images(3, 9), torch.tensor([0, 1, 2])
    plain, added = (Predictor(kind().double(), image) for kind in (Convolutions, Added))
    torch.testing.assert_close(plain.centered(image, classes), added.centered(image, classes), rtol=0, atol=1e-10)


def test_the_memory_of_a_pass_is_what_lives_at_a_time():
    x = torch.zeros(1000)
    assert peak_bytes(lambda: (x + 1) * 2 - 3) == 8000  # a result, and what it is made of
    assert peak_bytes(lambda: [x + 1 for _ in range(5)]) == 20000
    assert peak_bytes(lambda: x.view(10, 100).t()) == 0
    assert peak_bytes(lambda: x.clone().view(10, 100).relu_()) == 4000


def test_batches_stay_within_the_memory():
    model, image = Convolutions(width=32), random_images(40, 32, dtype=torch.float32)
    limit = 4 * 2**20
    predictor = Predictor(model, image, memory=limit)
    assert 1 < predictor.batch_size(image) < 20
    with LiveBytes() as live:
        whole = predictor.made(lambda some: image[some], 40, image)
    assert limit / 4 < live.peak <= limit
    torch.testing.assert_close(whole, Predictor(model, image).logits(image))
    assert Predictor(model, image, memory=1).batch_size(image) == 1


def test_mistakes():
    with pytest.raises(ConfigError, match="memory: 0 bytes given"):
        Predictor(random_linear(), random_images(), memory=0)
    with pytest.raises(DataError, match="at least one image"):
        Predictor(random_linear(), random_images()[:0])
