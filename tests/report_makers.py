"""A comparison as it could have been measured: made up, but with every kind of thing that a report has to show."""

import functools

import numpy as np
import torch
from torch.nn import functional as F

from ibd.comparison.report import Report
from ibd.comparison.results import (
    Comparison,
    CostInfo,
    Curve,
    ExplainerInfo,
    ModelFigures,
    ModelInfo,
    PlacedImages,
    Sanity,
    SelfConsistency,
    ShownImage,
    ShownModel,
    ShownUnit,
    Skipped,
)
from ibd.data.toybirds import ToyBirds
from ibd.models.sliders import value_sliders

NASTY = '<b>Wren</b> & "Sons" </script><script>alert(1)</script> $x$'
PARTS = ["beak", "eye", "foot", "tail", "wing"]
MODELS = [
    ModelInfo("cbm", "cbm", "runs/cbm/0", 0, 0.975, "concept", "small CNN, 64 px"),
    ModelInfo("cbm 2", "cbm", "runs/cbm/1", 1, 0.969, "concept", "small CNN, 64 px"),
    ModelInfo("protopnet <i>", "protopnet", "runs/protopnet/0", 0, 0.958, "prototype", "small CNN, 64 px"),
    ModelInfo("protopnet 2", "protopnet", "runs/protopnet/1", 1, 0.961, "prototype", "small CNN, 64 px"),
]
# How good each explainer is made, from 0 (noise) to 1 (oracle).
QUALITY = {
    "intrinsic": 0.36, "gradcam": 0.24, "lrp": 0.55, "smoothgrad": 0.41, "integrated_gradients": 0.37,
    "occlusion": 0.6, "noise": 0.0, "constant": 0.0, "center": 0.08, "edges": 0.1, "absolute_image": 0.06,
    "other_image": 0.04, "oracle": 0.95,
}  # fmt: skip
KINDS = dict.fromkeys(QUALITY, "posthoc") | {"intrinsic": "intrinsic", "oracle": "oracle"}
KINDS |= dict.fromkeys(["noise", "constant", "center", "edges", "absolute_image", "other_image"], "reference")
# (worst, best, spread) of each metric.
METRICS = {
    "deletion": (0.0, -5.0, 1.2), "insertion": (-1.0, 4.5, 1.2), "abpc": (0.0, 3.6, 1.0),
    "unit_ablation": (0.0, 0.7, 0.2), "part_spearman": (0.0, 1.0, 0.45), "part_top": (0.2, 1.0, 0.3),
    "part_removal": (1.0, -4.0, 1.1), "mass_accuracy": (0.06, 0.8, 0.1), "rank_accuracy": (0.06, 0.85, 0.12),
    "pointing_game": (0.06, 1.0, 0.4), "roc_auc": (0.5, 0.97, 0.08), "local_lipschitz": (9.0, 1.0, 1.5),
    "sparseness": (0.42, 0.8, 0.05), "complexity": (8.1, 6.2, 0.2), "own_metric": (0.0, 1.0, 0.1),
}  # fmt: skip


@functools.cache
def small_report():
    """Of a made comparison, with its views: for tests that only read it."""
    return Report(make_comparison(images=12, shown=0))


def make_comparison(images=48, shown=8, seed=0):
    """Return a comparison of 2 families x 2 seeds, 6 explainers, 6 reference maps and the oracle."""
    rng = np.random.default_rng(seed)
    data = ToyBirds("standard", test_size=max(shown, 2), num_classes=6)
    classes = [NASTY, *(f"class {i}" for i in range(1, 6))]
    labels = rng.integers(0, 6, images)
    dataset = data.dataset("test")
    labels[:shown] = dataset.labels[:shown].numpy()
    comparison = Comparison(
        settings={
            "data": "ToyBirds (standard)", "split": "test", "image_size": 64, "seed": 0,
            "explained": "the logit of the predicted class", "measured": "the log-odds of the predicted class",
            "versions": {"ibd": "0.1.0", "torch": "2.15.0"},
        },
        class_names=classes,
        part_names=PARTS,
        models=MODELS,
        explainers=[ExplainerInfo(name, kind) for name, kind in KINDS.items()],
        metrics=list(METRICS),
        image_ids=[f"toybirds/test/{i}" for i in range(images)],
        labels=labels,
    )  # fmt: skip
    for model in MODELS:
        _measure(comparison, model, rng, images)
    heads = {model.name: _head(rng, classes) for model in MODELS if model.family == "cbm"}
    comparison.shown.extend(_shown(dataset, i, classes, heads, rng) for i in range(shown))
    comparison.shown_models.update({model.name: _shown_model(comparison, model, heads) for model in MODELS})
    comparison.shortcut.update(
        {m.name: ModelFigures({"accuracy_absent": 0.88}, {"energy_on_tag": {"gradcam": 0.41}}) for m in MODELS[:2]}
    )
    comparison.placed["cbm"] = PlacedImages(
        "backbone", "tsne", rng.random((images, 2)), labels, 0.8, 0.9, 10, np.arange(3),
        rng.integers(0, 256, (3, 24, 24, 3), dtype=np.uint8),
    )  # fmt: skip
    comparison.skipped.extend(
        [
            Skipped("cbm", None, "unit_ablation", "needs units <named>"),
            Skipped("cbm 2", None, "unit_ablation", "needs units <named>"),
            Skipped(None, "lime", None, "captum is not installed"),
        ]
    )
    return comparison


def _measure(comparison, model, rng, images):
    shift = {"cbm": 0.0, "protopnet": -0.12}[model.family]
    difficulty = rng.normal(size=images)
    for name in QUALITY:
        quality = QUALITY[name] + (shift if name == "intrinsic" else 0.0) + 0.02 * rng.normal()
        for metric, (worst, best, spread) in METRICS.items():
            if metric == "unit_ablation" and (name != "intrinsic" or model.family == "cbm"):
                continue
            noise = 0.6 * difficulty + 0.8 * rng.normal(size=images)
            values = worst + (best - worst) * quality + spread * noise
            if metric == "part_spearman":
                values = values.clip(-1, 1)
                values[:2] = np.nan
                if name == "constant":
                    values[:] = np.nan
            comparison.scores[model.name, name, metric] = values
        x = np.linspace(0, 1, 17)
        for curve, sign in (("deletion", -1), ("insertion", 1), ("part_removal", -1)):
            bent = x ** (0.3 + 1.2 * (1 - quality))
            start = 4.0 if sign < 0 else -3.0
            values = start + sign * 7 * bent + 0.8 * rng.normal(size=(images, 1))
            values += 0.2 * rng.normal(size=(images, 17))
            comparison.curves[model.name, name, curve] = Curve(x, values, "fraction of pixels", "log-odds")
        seconds = {"occlusion": 0.31, "smoothgrad": 0.12}.get(name, 0.004)
        passes = {"occlusion": 65, "smoothgrad": 25, "noise": 0}.get(name, 1)
        comparison.costs[model.name, name] = CostInfo(passes, passes, 0, seconds, {"pixels": 12.3, "parts": 4.5})
        if KINDS[name] in ("intrinsic", "posthoc"):
            stages = ["head", "layer4", "layer3", "layer2", "layer1"]
            similarity = np.linspace(0.9, 0.1 if name != "gradcam" else 0.5, 5) + 0.03 * rng.normal(size=5)
            passed = {"cascade_top_down": name != "gradcam", "cascade_bottom_up": True, "other_target": True}
            passed |= {"other_input": model.seed == 0, "input_shift": None}
            values = {"cascade_top_down": float(similarity[-1]), "cascade_bottom_up": 0.08, "other_target": 0.2}
            values |= {"other_input": 0.15, "input_shift": float("nan")}
            ends = similarity - 0.05, similarity + 0.05
            comparison.sanity[model.name, name] = Sanity(stages, similarity, *ends, 0.18, passed, values)
    order = [name for name in QUALITY if name != "constant"]
    raw = np.corrcoef(rng.normal(size=(len(order), 9)) + 0.8 * rng.normal(size=9))
    comparison.agreement[model.name, "spearman"] = raw
    comparison.agreement_names[model.name] = order
    ablation = {
        line: Curve(
            np.arange(8.0),
            0.97 - fall * np.arange(8) + 0.1 * rng.normal(size=(images, 8)),
            "units silenced",
            "accuracy",
        )
        for line, fall in (("most relevant first", 0.11), ("random order", 0.05), ("least relevant first", 0.01))
    }
    figures = {"leakage_gap": 0.041, "unit_completeness": 1.2e-6, "interconcept_leakage": float("nan")}
    matrix = None
    if model.family == "cbm":
        figures |= {"locality": 0.57, "intervention_consistency": 0.71, "own <figure>": 3.0}
        matrix = 0.35 * np.eye(5) + rng.uniform(0.05, 0.45, (5, 5))
    columns = [f"{part}::shape" for part in PARTS]
    comparison.self_consistency[model.name] = SelfConsistency(figures, {}, matrix, PARTS, columns)
    comparison.own_curves[model.name, "unit_ablation"] = ablation


def _head(rng, classes):
    names = [f"{part}::{value}" for part in PARTS for value in ("red", "blue_oval", "<u>green</u>")]
    return names, torch.from_numpy(rng.normal(size=(len(classes), 15))), torch.from_numpy(rng.normal(size=len(classes)))


def _shown_model(comparison, model, heads):
    """Return what is drawn of a model: sliders of one with a linear head, else why there are none."""
    shown, classes = comparison.shown, comparison.class_names
    positions, groups = [image.position for image in shown], {}
    if model.name not in heads:
        even = np.full((len(shown), len(classes)), 1 / len(classes))
        return ShownModel(positions, classes, even, groups, None, "layers <follow> the units")
    names, weight, bias = heads[model.name]
    groups = {part: [name for name in names if name.startswith(part)] for part in PARTS}
    units = [{unit.name: unit.value for unit in image.units[model.name]} for image in shown]
    reads = torch.tensor([[values[name] for name in names] for values in units], dtype=torch.float64).view(
        -1, len(names)
    )
    places = {group: [names.index(name) for name in members] for group, members in groups.items()}
    sliders = value_sliders(names, classes, places, reads, weight, bias)
    return ShownModel(positions, classes, (reads @ weight.t() + bias).softmax(1).numpy(), groups, sliders)


def _shown(dataset, index, classes, heads, rng):
    sample = dataset.load(index)
    image, masks = sample.image.permute(1, 2, 0).numpy(), dataset.masks(index)
    weights = torch.from_numpy(rng.normal(size=5)).float()
    truth = (masks.float() * weights[:, None, None]).sum(0)
    maps, predicted, units = {}, {}, {}
    for model in MODELS:
        maps[model.name] = {
            name: _map(truth, quality, rng) for name, quality in QUALITY.items() if KINDS[name] != "reference"
        }
        predicted[model.name] = classes[int(dataset.labels[index])]
        if model.name in heads:
            names, weight, bias = heads[model.name]
            values = rng.uniform(size=15)
            explained = int((weight.numpy() @ values + bias.numpy()).argmax())
            predicted[model.name] = classes[explained]
            parts = values * weight[explained].numpy()
            units[model.name] = [
                ShownUnit(names[u], float(values[u]), float(parts[u])) for u in np.argsort(-abs(parts))
            ]
        else:
            y, x = rng.integers(0, 40, 2)
            patch = image[y : y + 24, x : x + 24]
            units[model.name] = [ShownUnit(f"prototype {k}", 4.0 - k, 3.0 - 1.2 * k, patch, patch) for k in range(6)]
    return ShownImage(index, image, classes[int(dataset.labels[index])], masks.numpy(), maps, predicted, units)


def _map(truth, quality, rng):
    noise = torch.from_numpy(rng.normal(size=(1, 1, 16, 16))).float()
    rough = F.interpolate(noise, size=truth.shape, mode="bilinear")[0, 0]
    return (quality * truth + (1 - quality) * 0.6 * rough).numpy()
