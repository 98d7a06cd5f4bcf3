"""Our LRP against zennit 0.5 with its canonizers (extra `peers`), where these know the network."""

import pytest
import torch
from torchvision import models

from ibd.explain.lrp import LRP
from tests.lrp_makers import perturb

pytest.importorskip("zennit")
canonizers = pytest.importorskip("zennit.torchvision")
composites = pytest.importorskip("zennit.composites")
attribution = pytest.importorskip("zennit.attribution")

BOX = {"low": -6.0, "high": 6.0}
THEIRS = {
    "epsilon_plus": lambda canonizer: composites.EpsilonPlus(canonizers=[canonizer]),
    "epsilon_gamma_box": lambda canonizer: composites.EpsilonGammaBox(canonizers=[canonizer], **BOX),
    "epsilon_alpha2_beta1": lambda canonizer: composites.EpsilonAlpha2Beta1(canonizers=[canonizer]),
}


@pytest.mark.parametrize("composite", THEIRS)
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg16_bn"])
def test_same_maps(name, composite):
    """To what their absolute stabilizer of 1e-6 makes: measured 7e-5, 1.6e-4 and 2.3e-4."""
    torch.manual_seed(0)
    model = perturb(models.get_model(name, weights=None, num_classes=10)).double()
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours = LRP(composite, **BOX)(model, image, 3)
    canonizer = canonizers.VGGCanonizer() if name.startswith("vgg") else canonizers.ResNetCanonizer()
    chosen = torch.eye(10, dtype=torch.float64)[[3, 3]] * ours.value.unsqueeze(1)
    with attribution.Gradient(model, THEIRS[composite](canonizer)) as attributor:
        _, theirs = attributor(image, chosen)
    theirs = theirs.sum(1)
    assert float((ours.map - theirs).norm() / theirs.norm()) < 1e-3
