"""Strangers' architectures: which explainers answer, by what proof, and which refuse.

    python -m benchmarks.architectures [torchvision|timm|NAME ...]

Random weights (also where they begin at 0), with the statistics of a batch of noise, in float64. For each of them:

- *place*: the map that the CAM family, patches and layer attribution read. A corner of the image is changed; that
  quarter of the map changes most. All four corners: the axes are where they were taken to be, tokens
  lie on their patches, and what is no patch is left out.
- *gradient*: gradient times input against automatic differentiation without ibd, the relative difference; integrated
  gradients and SmoothGrad are means of it.
- *lrp*: relevance on the pixels, and what biases took of it, over the score: 1 by right. The surrogate that relevance
  runs through is compared with the model in every call, and refused where it differs.
- *rollout*, *relus*: whether attention rollout, and guided backpropagation, answer or refuse.

Occlusion, RISE, LIME and the like only ask a model for its scores and hold for all.
"""

from __future__ import annotations

import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ibd.errors import IbdError
from ibd.explain import LRP, AttentionRollout, GradientTimesInput, GuidedBackprop, Target
from ibd.explain.base import Call, undisturbed
from ibd.explain.layers import LayerCut

TORCHVISION = """
    alexnet vgg11 vgg11_bn vgg16 googlenet inception_v3 squeezenet1_0 squeezenet1_1 densenet121 densenet169 resnet18
    resnet34 resnet50 resnext50_32x4d wide_resnet50_2 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large mnasnet0_5
    shufflenet_v2_x0_5 efficientnet_b0 efficientnet_b1 efficientnet_v2_s regnet_x_400mf regnet_y_400mf convnext_tiny
    vit_b_16 vit_b_32 swin_t swin_v2_t maxvit_t
""".split()  # noqa: SIM905
TIMM = """
    resnet18 resnet26d resnetv2_50 seresnet33ts skresnet18 ecaresnet26t resnest14d res2net50_26w_4s regnety_002
    tf_efficientnet_lite0 mobilenetv4_conv_small fbnetc_100 ghostnet_050 hardcorenas_a lcnet_035 dla34 ese_vovnet19b_dw
    cspresnet50 hrnet_w18_small convnext_atto convnextv2_atto edgenext_xx_small repvgg_a0 mobileone_s0 nf_resnet26
    poolformer_s12 mixer_s32_224 resmlp_12_224 vit_tiny_patch16_224 deit_tiny_distilled_patch16_224
    vit_small_patch14_reg4_dinov2 cait_xxs24_224 xcit_nano_12_p16_224 swin_tiny_patch4_window7_224 pvt_v2_b0 levit_128s
    mobilevit_xxs efficientformer_l1 mvitv2_tiny eva02_tiny_patch14_224 hiera_tiny_224 vit_tiny_r_s16_p8_224
""".split()  # noqa: SIM905
_SECONDS = 240
_FIXED = {"maxvit_t": 224, "inception_v3": 160, "efficientformer_l1": 224}
_COARSE = ("resnet34", "mobile", "mnasnet", "efficientnet", "regnety", "regnet_y", "fbnet", "hardcore", "lcnet")
"""Networks whose cells see far: their map should have more than 3 x 3 of them."""


def main(asked: Sequence[str]) -> None:
    """Print a table of the architectures that are asked for."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(
        "| architecture | pixels | map | place | gradient | lrp | rollout | relus |\n|---|---|---|---|---|---|---|---|"
    )
    for library, names, make in (("torchvision", TORCHVISION, from_torchvision), ("timm", TIMM, from_timm)):
        chosen = names if not asked or library in asked else [name for name in names if name in asked]
        for name in chosen:
            started = time.monotonic()
            try:
                with limit(_SECONDS):
                    print(row(f"{library} {name}", *make(name)), flush=True)
            except Exception as error:  # whatever a stranger's network raises: the table goes on
                print(f"| {library} {name} | failed: {type(error).__name__}: {short(str(error))} |", flush=True)
            print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)


def from_torchvision(name: str) -> tuple[nn.Module, int]:
    """Return a network and the side of the images it takes."""
    import torchvision

    size = _FIXED.get(name, _side(name))
    options = {"image_size": size} if name.startswith("vit") else {}
    if name in ("googlenet", "inception_v3"):
        options = {"init_weights": False, "aux_logits": False}
    return torchvision.models.get_model(name, weights=None, num_classes=7, **options), size


def from_timm(name: str) -> tuple[nn.Module, int]:
    """Return a network and the side of the images it takes."""
    import timm

    probe = timm.get_pretrained_cfg(name)
    fixed = bool(probe is not None and probe.fixed_input_size)
    size = probe.input_size[-1] if fixed and probe is not None else _FIXED.get(name, _side(name))
    if "dinov2" in name:
        size = 98
    options = {"img_size": size} if "dinov2" in name else {}
    return timm.create_model(name, pretrained=False, num_classes=7, **options), size


def _side(name: str) -> int:
    return 192 if any(part in name for part in _COARSE) else 96


def row(name: str, net: nn.Module, size: int) -> str:
    """Return the row of a network."""
    torch.manual_seed(0)
    with torch.no_grad():
        net.train()
        for module in net.modules():
            if isinstance(module, nn.Dropout | nn.Dropout2d):
                module.eval()
        for parameter in net.parameters():
            if not bool(parameter.any()):  # a head, or a branch, that begins as nothing would hide what lies behind it
                nn.init.normal_(parameter, 1.0 if parameter.dim() == 1 else 0.0, 0.1)
        net(torch.rand(4, 3, size, size))
    net = net.eval().double()
    image = torch.rand(1, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        target = int(net(image).argmax())  # a score that is not cut off, as behind a last ReLU
    described, place = told(lambda: places(net, image, target))
    cells = [described, place]
    cells += [told(lambda ask=ask: (ask(net, image, target), ""))[0] for ask in (gradient, lrp)]
    asked = (AttentionRollout(), GuidedBackprop())
    cells += [told(lambda explainer=explainer: (answers(explainer, net, image, target), ""))[0] for explainer in asked]
    return f"| {name} | {size} | {' | '.join(cells)} |"


def told(ask: Callable[[], tuple[str, str]]) -> tuple[str, str]:
    """Return what was found, or that and why it was refused."""
    try:
        return ask()
    except IbdError as error:
        return f"refused: {short(str(error))}", "refused"


def places(net: nn.Module, image: Tensor, target: int) -> tuple[str, str]:
    """Return the map's name and size, and for how many corners of the image that quarter of the map changes most."""
    with undisturbed(net):
        call = Call(net, Target.cls(target))
        cut = LayerCut(call, image, None)
        before = cut.value.detach()
        height, width = before.shape[2:]
        right, side = 0, image.shape[-1]
        for down in (0, 1):
            for across in (0, 1):
                changed, part = image.clone(), side // 4
                top, left = down * (side - part), across * (side - part)
                changed[..., top : top + part, left : left + part] = torch.rand(
                    1, 3, part, part, dtype=image.dtype, generator=torch.Generator().manual_seed(1)
                )
                after = LayerCut(call, changed, None).value.detach()
                change = (after - before).square().sum(1)[0]
                quarters = [
                    float(
                        change[d * (height - height // 2) :, a * (width - width // 2) :][
                            : height // 2, : width // 2
                        ].sum()
                    )
                    for d in (0, 1)
                    for a in (0, 1)
                ]
                right += int(max(range(4), key=quarters.__getitem__) == 2 * down + across)
    return f"{cut.described} {height} x {width}", f"{right} of 4"


def gradient(net: nn.Module, image: Tensor, target: int) -> str:
    """Return the relative difference of gradient times input from that by automatic differentiation alone."""
    x = image.clone().requires_grad_()
    (plain,) = torch.autograd.grad(net(x)[:, target].sum(), x)
    asked = GradientTimesInput()(net, image, target).map
    assert asked is not None
    own = (plain * x.detach()).sum(1)
    return f"{float((asked - own).abs().max() / own.abs().max()):.0e}"


def lrp(net: nn.Module, image: Tensor, target: int) -> str:
    """Return the conservation of relevance."""
    return f"{float(LRP()(net, image, target).extra['conservation'][0]):.4f}"


def answers(explainer: AttentionRollout | GuidedBackprop, net: nn.Module, image: Tensor, target: int) -> str:
    """Return that it answers with a finite map."""
    heat = explainer(net, image, target).map
    return "answers" if heat is not None and bool(heat.isfinite().all()) else "**not finite**"


def short(text: str) -> str:
    """Return the beginning of a text that fits a table."""
    line = " ".join(text.split()).replace("|", "/")
    return line if len(line) <= 70 else f"{line[:67]}..."


@contextmanager
def limit(seconds: int):  # noqa: ANN201
    """Raise a TimeoutError after some seconds."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    main(sys.argv[1:])
