"""Names for classes: what a configuration calls ``cbm`` is ``ibd.models.cbm.lightning:ConceptBottleneck``.

Only strings live here, so that looking a name up imports nothing, and no room depends on the rooms to its right.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from ibd.errors import ConfigError, IbdError, UntrustedError, did_you_mean, told

_TORCHVISION = """
    resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d wide_resnet50_2
    vgg11 vgg13 vgg16 vgg19 vgg11_bn vgg13_bn vgg16_bn vgg19_bn
    densenet121 densenet161 densenet169 densenet201
    mobilenet_v3_small mobilenet_v3_large
    efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_v2_s
    convnext_tiny convnext_small convnext_base
""".split()  # noqa: SIM905  # thirty lines as a list

_BCOS = ("bcos_resnet18", "bcos_resnet34", "bcos_resnet50", "bcos_densenet121")

REGISTRY: dict[str, dict[str, str]] = {
    "models": {
        "baseline": "ibd.models.baseline.lightning:Baseline",
        "cbm": "ibd.models.cbm.lightning:ConceptBottleneck",
        "cem": "ibd.models.cem.lightning:ConceptEmbedding",
        "posthoc_cbm": "ibd.models.posthoc_cbm.lightning:PosthocBottleneck",
        "scbm": "ibd.models.scbm.lightning:StochasticConceptBottleneck",
        "protopnet": "ibd.models.protopnet.lightning:ProtoPNet",
        "pipnet": "ibd.models.pipnet.lightning:PIPNet",
        "concept_whitening": "ibd.models.concept_whitening.lightning:ConceptWhitening",
        "interpretable_cnn": "ibd.models.interpretable_cnn.lightning:InterpretableCNN",
    },
    "backbones": {
        "small_cnn": "ibd.backbones.small:SmallCNN",
        "cifar_resnet": "ibd.backbones.small:CifarResNet",
        "small_vit": "ibd.backbones.small_vit:SmallViT",
        **dict.fromkeys(("bagnet9", "bagnet17", "bagnet33"), "ibd.backbones.bagnet:BagNet"),
        **dict.fromkeys(_TORCHVISION, "ibd.backbones.torchvision:TorchvisionBackbone"),
        "bcos_small_cnn": "ibd.backbones.bcos.networks:BcosSmallCNN",
        "bcos_cifar_resnet": "ibd.backbones.bcos.networks:BcosCifarResNet",
        **dict.fromkeys(_BCOS, "ibd.backbones.bcos.networks:BcosTorchvisionBackbone"),
    },
    "datasets": {
        "toybirds": "ibd.data.toybirds.datamodule:ToyBirds",
        "folder": "ibd.data.folder:ConceptFolder",
        "cub": "ibd.data.cub:CUB",
        "pasted": "ibd.data.pasted.datamodule:PastedScenes",
    },
    "explainers": {
        "intrinsic": "ibd.explain.intrinsic:Intrinsic",
        "unit_relevance": "ibd.explain.unit_relevance:UnitRelevance",
        "saliency": "ibd.explain.gradients:Saliency",
        "gradient_input": "ibd.explain.gradients:GradientTimesInput",
        "sensitivity": "ibd.explain.gradients:Sensitivity",
        "integrated_gradients": "ibd.explain.gradients:IntegratedGradients",
        "smoothgrad": "ibd.explain.smoothgrad:SmoothGrad",
        "guided_backprop": "ibd.explain.relu_modes:GuidedBackprop",
        "deconvnet": "ibd.explain.relu_modes:Deconvnet",
        "cam": "ibd.explain.cam:CAM",
        "gradcam": "ibd.explain.cam:GradCAM",
        "hirescam": "ibd.explain.cam:HiResCAM",
        "gradcam++": "ibd.explain.cam:GradCAMPlusPlus",
        "xgradcam": "ibd.explain.cam:XGradCAM",
        "layercam": "ibd.explain.cam:LayerCAM",
        "eigencam": "ibd.explain.cam:EigenCAM",
        "ablationcam": "ibd.explain.cam:AblationCAM",
        "scorecam": "ibd.explain.cam:ScoreCAM",
        "attention_rollout": "ibd.explain.attention_maps:AttentionRollout",
        "attention_gradient": "ibd.explain.attention_maps:AttentionGradient",
        "lrp": "ibd.explain.lrp.explainer:LRP",
        "occlusion": "ibd.explain.perturbation:Occlusion",
        "rise": "ibd.explain.perturbation:Rise",
        "meaningful_perturbation": "ibd.explain.learned_masks:MeaningfulPerturbation",
        "extremal_perturbation": "ibd.explain.learned_masks:ExtremalPerturbation",
        "lime": "ibd.explain.surrogates:Lime",
        "kernel_shap": "ibd.explain.surrogates:KernelShap",
    },
    "metrics": {
        "concept_accuracy": "ibd.metrics.concepts:ConceptAccuracy",
        "concept_auroc": "ibd.metrics.concepts:ConceptAUROC",
        "quantity_r2": "ibd.metrics.quantities:QuantityR2",
        "quantity_mae": "ibd.metrics.quantities:QuantityMAE",
        "axis_purity": "ibd.metrics.axes:AxisPurity",
        "axis_correlation": "ibd.metrics.whitening:AxisCorrelation",
        "concept_separation": "ibd.metrics.whitening:ConceptSeparation",
        "prototype_consistency": "ibd.metrics.prototypes:PrototypeConsistency",
        "prototype_stability": "ibd.metrics.prototypes:PrototypeStability",
        "prototype_purity": "ibd.metrics.purity:PrototypePurity",
        "prototype_pointing_game": "ibd.metrics.prototypes:PointingGame",
        "prototype_energy_pointing_game": "ibd.metrics.prototypes:EnergyPointingGame",
        "filter_location_instability": "ibd.metrics.filters:LocationInstability",
        "filter_part_interpretability": "ibd.metrics.filters:PartInterpretability",
        "explanation_size": "ibd.metrics.compactness:ExplanationSize",
    },
}
"""kind -> name -> "module:Class"; a class written for one of these kinds needs a line here and nothing else."""

FAMILIES: dict[str, dict[str, str]] = {
    "backbones": {"timm/": "ibd.backbones.timm:TimmBackbone", "foreign/": "ibd.backbones.foreign:ForeignBackbone"}
}
"""kind -> beginning of a name -> "module:Class" for names that are another package's to say, or the user's own."""

BASES: dict[str, str] = {
    "models": "ibd.models.lightning:InterpretableModule",
    "backbones": "torch.nn:Module",
    "datasets": "ibd.data.base:ImageDataModule",
    "explainers": "ibd.explain.base:Explainer",
    "metrics": "torchmetrics:Metric",
}
"""kind -> what a class of the user's own must be a subclass of."""

SETTINGS: dict[str, str] = {
    "class_folder": "ibd.data.class_folder:ClassFolder",
    "foreign": "ibd.app.foreign:ForeignSettings",
    "optimizer": "ibd.models.optimizer:OptimizerSettings",
    "trainer": "pytorch_lightning:Trainer",
    "logger": "ibd.training.settings:LoggerSettings",
    "checkpoint": "ibd.training.settings:CheckpointSettings",
    "early_stopping": "ibd.training.settings:EarlyStoppingSettings",
    "warm": "ibd.models.protopnet.phases:Warm",
    "joint": "ibd.models.protopnet.phases:Joint",
    "push": "ibd.models.protopnet.phases:Push",
    "last_layer": "ibd.models.protopnet.phases:LastLayer",
    "prune": "ibd.models.protopnet.phases:Prune",
    "pretrain": "ibd.models.pipnet.phases:Pretrain",
    "train": "ibd.models.pipnet.phases:Train",
    "alignment": "ibd.models.concept_whitening.alignment:Alignment",
    "whitening": "ibd.models.concept_whitening.whitening:Whitening",
}
"""The blocks of a configuration that have one class each."""


COMMON: dict[str, str] = {"backbones": "ibd.backbones.freezing:Freezing"}
"""kind -> class whose options every block of that kind has beside those of its own class."""

_trusting: ContextVar[bool] = ContextVar("trusting", default=False)
_loading: ContextVar[bool] = ContextVar("loading", default=False)


@contextmanager
def trusting(trust: bool = True) -> Iterator[None]:
    """Let what is loaded meanwhile name classes that are none of ours, if `trust`: the user's word, ``--trust``."""
    token = _trusting.set(trust or _trusting.get())
    try:
        yield
    finally:
        _trusting.reset(token)


@contextmanager
def loading() -> Iterator[None]:
    """Say that names come from a run or checkpoint meanwhile: but for `trusting`, only registered ones are found."""
    token = _loading.set(True)
    try:
        yield
    finally:
        _loading.reset(token)


def trusted() -> bool:
    """Return whether the user has said that what is loaded may name any class."""
    return _trusting.get()


def names(kind: str) -> list[str]:
    """Return the registered names of a kind: "models", "backbones", "datasets", "explainers" or "metrics"."""
    if kind not in REGISTRY:
        raise ConfigError(f"unknown kind '{kind}'.{did_you_mean(kind, REGISTRY)}")
    return list(REGISTRY[kind])


def list_models() -> list[str]:
    """Return the names that ``model.name`` may be."""
    return names("models")


def list_backbones() -> list[str]:
    """Return the names that ``model.backbone.name`` may be, but for those of other packages: ``timm/NAME``."""
    return names("backbones")


def list_datasets() -> list[str]:
    """Return the names that ``data.name`` may be."""
    return names("datasets")


def list_explainers() -> list[str]:
    """Return the names that ``ibd.compare`` and ``ibd explain`` take."""
    return names("explainers")


def list_metrics() -> list[str]:
    """Return the names of the torchmetrics classes of ``ibd.metrics``."""
    return names("metrics")


def locate(kind: str, name: str) -> str:
    """Return "module:Class" for a name, without importing it.

    Args:
        kind: "models", "backbones", "datasets", "explainers" or "metrics".
        name: a registered name, one of another package (``timm/NAME``), or ``package.module:Class`` for a class of the
            user's own.

    Raises:
        ConfigError: nothing goes by that name, or its module does not exist.
        UntrustedError: a run or checkpoint that is not trusted names a class that is none of ours.
    """
    known = names(kind)
    if name in known:
        return REGISTRY[kind][name]
    for beginning, place in FAMILIES.get(kind, {}).items():
        if name.startswith(beginning):
            if ":" in name:  # package.module:function
                check_own(name)
            return place
    module, colon, _ = name.partition(":")
    if not colon:
        own = " A class of your own is written package.module:Class." if "." in name else ""
        raise ConfigError(f"unknown {kind.removesuffix('s')} '{name}'.{did_you_mean(name, known)}{own}")
    check_own(name)
    _see_here(module, name)
    return name


def check_own(name: str) -> None:
    """Check that something of the user's own may be imported and called.

    Raises:
        UntrustedError: a run or checkpoint that is not trusted names it.
    """
    if _loading.get() and not _trusting.get():
        raise UntrustedError(
            f"'{name}' is none of ibd's own classes and could run any code; if you trust whoever made it, add --trust "
            "(in Python: trust=True)"
        )


def own_module(module: str) -> ModuleType:
    """Import a module of the user's own, from where it is installed or from the current folder.

    Raises:
        ConfigError: there is none. An error inside of it is not caught.
    """
    _see_here(module, module)
    return importlib.import_module(module)


def own_object(place: str, what: str) -> Any:
    """Return what ``package.module:NAME`` names, of the user's own code.

    Who writes its place on the command line wants its code to run. What a run or checkpoint names is not imported but
    for the user's word of trust.

    Args:
        place: its place.
        what: what it is for, with which a message begins.

    Raises:
        ConfigError: there is none, or its module cannot be imported.
        UntrustedError: a run or checkpoint that is not trusted names it.
    """
    module_name, colon, name = place.partition(":")
    if not colon or not module_name or not name:
        raise ConfigError(f"{what}: '{place}' given, package.module:NAME is needed")
    check_own(place)
    try:
        module = own_module(module_name)
    except IbdError:
        raise
    except Exception as error:  # whatever the code of a stranger does
        raise ConfigError(f"{what}: the module '{module_name}' cannot be imported: {told(error)}") from error
    if not hasattr(module, name):
        public = [text for text in vars(module) if not text.startswith("_")]
        raise ConfigError(f"{what}: module '{module_name}' has no '{name}'.{did_you_mean(name, public)}")
    return getattr(module, name)


def _see_here(module: str, name: str) -> None:
    """Let modules of the current folder be imported."""
    if str(Path.cwd()) not in sys.path and "" not in sys.path:  # only now: it could hide any package of the same name
        sys.path.insert(0, str(Path.cwd()))
    if not _exists(module):
        raise ConfigError(f"'{name}': there is no module '{module}'; is its folder on PYTHONPATH?")


def resolve(kind: str, name: str) -> type[Any]:
    """Import and return the class that goes by `name`; see `locate`.

    Raises:
        ConfigError: nothing goes by that name, or its module has no such class, or one of another kind.
    """
    return load_class(locate(kind, name), kind)


def name_of(kind: str, cls: type[Any]) -> str:
    """Return what a configuration calls a class: its registered name, or ``package.module:Class``."""
    location = f"{cls.__module__}:{cls.__qualname__}"
    return next((name for name, known in REGISTRY[kind].items() if known == location), location)


def load_class(location: str, kind: str | None = None) -> type[Any]:
    """Import the class at "module:Class".

    Args:
        location: place of the class, as `locate` returns it.
        kind: kind that it must be of, where it is none of ours: a subclass of that in `BASES`, with nothing abstract
            left.

    Raises:
        ConfigError: the module does not exist or has no such class, or it is of another kind. An error inside the
            module is not caught.
    """
    target = _import(location)
    if kind is None or kind not in BASES or location in REGISTRY[kind].values():
        return target
    wrong = f"'{location}' is no {kind.removesuffix('s')}"
    if not issubclass(target, _import(BASES[kind])):
        raise ConfigError(f"{wrong}: a subclass of {BASES[kind].replace(':', '.')} is needed")
    if inspect.isabstract(target):
        raise ConfigError(f"{wrong}: it lacks {', '.join(sorted(target.__abstractmethods__))}")
    return target


def _import(location: str) -> type[Any]:
    module_name, _, class_name = location.partition(":")
    if not _exists(module_name):
        raise ConfigError(f"'{location}': there is no module '{module_name}'")
    module = importlib.import_module(module_name)
    target = getattr(module, class_name, None)
    if not inspect.isclass(target):
        classes = [name for name, value in vars(module).items() if inspect.isclass(value)]
        raise ConfigError(f"module '{module_name}' has no class '{class_name}'.{did_you_mean(class_name, classes)}")
    return target


def _exists(module: str) -> bool:
    if module in sys.modules:
        return True
    if not all(part.isidentifier() for part in module.split(".")):
        return False
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError as error:  # of a parent package; anything that is missing inside it is not ours
        if error.name and f"{module}.".startswith(f"{error.name}."):
            return False
        raise
