"""A run and a report written by hand, whose every number is known."""

import csv
import hashlib
import json

import torch

from ibd.models.calibration.calibration import checksum_of
from ibd.models.thresholds import number_of

EVIL = '<img src="http://stranger.example/x.png" onerror="alert(1)">'
"""A class of this name must be a text wherever it stands."""
CLASSES = ["ant", EVIL]


def write_json(path, plain):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain), encoding="utf-8")


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def interval(value, low, high, n=40):
    return {"value": value, "low": low, "high": high, "n": n}


def make_card_run(folder):
    """Write a run: checkpoint, config and record, and nothing that was measured; return the checksum of its weights."""
    weights = {"head.weight": torch.arange(6.0).reshape(2, 3), "head.bias": torch.ones(2)}
    content = {
        "state_dict": {f"network.{name}": value for name, value in weights.items()},
        "hyper_parameters": {"spec": {"class_names": CLASSES, "concept_names": ["leg::six"], "image_size": [32, 48]}},
        "epoch": 4,
        "global_step": 50,
    }
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(content, folder / "checkpoints" / "best.ckpt")
    (folder / "config.yaml").write_text(
        "name: insects\nseed: 7\nmodel: {name: cbm, regime: joint, backbone: {name: small_cnn, width: 8}}\n"
        "data: {name: folder, root: insects}\noptimizer: {name: adamw, lr: 0.01}\n"
    )
    session = {"started": "2026-11-30T01:00:00+00:00", "seconds": 12.5, "first_epoch": 1, "epochs": 5}
    session |= {"device": "cpu (x86_64)", "processes": 1, "precision": "32-true", "versions": {"ibd": "0.0.7"}}
    images = {"train": {"ant": 31, EVIL: 17}, "val": {"ant": 11, EVIL: 9}}
    write_json(folder / "training.json", {"images": images, "sessions": [session]})
    return checksum_of(weights)


def digest_of(folder):
    return hashlib.sha256((folder / "checkpoints" / "best.ckpt").read_bytes()).hexdigest()


def add_test(
    folder, digest=None, calibrated=False, metrics=None, changes=(), abstains=0, confidence=None, thresholds=()
):
    """Write what a test of the run has come to."""
    metrics = {"accuracy_without_named": {"value": 0.8125}, "concept_auroc": {"value": 0.9375}} | (metrics or {})
    groups = [
        {"group": EVIL, "images": 13, "accuracy": interval(0.5385, 0.29, 0.77), "surplus": interval(0.2, 0.1, 0.3)}
        | {"ece": 0.21, "p_below": 0.01},
        {"group": "day", "images": 27, "accuracy": interval(0.9259, 0.77, 0.98), "surplus": interval(0, -0.1, 0.1)}
        | {"ece": 0.05, "p_below": 1.0},
    ]
    found = {"p_value": 0.0042, "spread": 38.7, "unknown": 0, "groups": groups}
    summary = {"split": "test", "images": 40, "classes": 2, "concepts": 1, "calibrated": calibrated}
    summary |= {"accuracy": interval(0.8, 0.652, 0.895), "balanced_accuracy": 0.775, "auroc": 0.912}
    summary |= {
        "silent": 0,
        "abstains": abstains,
        "calibration": {"classes": {"error": 0.1234, "count": 40, "bins": 15}},
    }
    summary |= {"worst": {"classes": [{"class": EVIL, "recall": interval(0.6, 0.36, 0.8)}]}, "metrics": metrics}
    summary |= {"thresholds": list(thresholds)}
    summary |= {"groups": {"light": found, "light+site": {**found, "p_value": 0.5}}}
    about = {"date": "2026-11-30T02:00:00+00:00", "ibd": "0.0.8", "checkpoint": "best.ckpt"}
    about |= {"changes": list(changes), "confidence": confidence}
    write_json(
        folder / "tested/test/summary.json", summary | {"about": about | {"sha256": digest or digest_of(folder)}}
    )
    rows = [
        {"class": name, "images": images, "recall": recall, "recall_low": recall - 0.2, "recall_high": recall + 0.1}
        for name, images, recall in (("ant", 25, 0.88), (EVIL, 15, 0.6667))
    ]
    write_csv(folder / "tested/test/classes.csv", rows)
    concept = {"concept": "leg::six", "known": 40, "yes": 21, "no": 19, "accuracy": 0.95, "accuracy_low": 0.83}
    write_csv(folder / "tested/test/concepts.csv", [concept | {"accuracy_high": 0.99, "constant": 0.525, "auroc": 1}])


def add_curve(folder, weights):
    rows = [
        {"policy": "random", "groups_corrected": count, "accuracy": accuracy}
        for count, accuracy in ((0, 0.8), (1, 0.975))
    ]
    write_csv(folder / "figures/intervention_curve.csv", rows)
    origin = {"split": "test", "weights": weights, "changes": ["noise=0.1"], "date": "2026-11-30T02:00:00+00:00"}
    write_json(folder / "figures/intervention_curve.json", origin)


def add_teaching(folder, weights):
    steps = [
        (3, "answer", False, True), (3, "done", True, True), (5, "done", False, False), (9, "answer", False, True)
    ]  # fmt: skip  # image 9 is not finished
    rows = [
        {"image": image, "event": event, "right_before": str(before).lower(), "right_after": str(after).lower()}
        for image, event, before, after in steps
    ]
    write_csv(folder / "teaching/2026-11-30_03-00-00.csv", rows)
    write_json(folder / "teaching/2026-11-30_03-00-00.json", {"split": "test", "weights": weights})


def add_calibration(folder, weights, of_thresholds=None):
    """Let the checkpoint say that it was calibrated, and set a threshold; of this calibration, or of another number."""
    path = folder / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    rule = {"threshold": 0.625, "accuracy": 0.95, "certainty": 0.9, "images": 20, "kept": 16, "right": 15}
    scale = {"method": "temperature", "images": 20}
    content["ibd_calibration"] = {"split": "val", "apart": True, "weights": weights, "classes": scale, "concepts": None}
    content["ibd_calibration"] |= {"sets": None, "abstention": rule}
    torch.save(content, path)
    one = {"value": 0.71, "images": 20, "true": 9, "called": 8, "right": 7, "wanted": 0.85}
    one |= {"precision": 0.875, "precision_low": 0.529, "precision_high": 0.978}
    thresholds = {
        "split": "val",
        "weights": weights,
        "calibration": number_of(content["ibd_calibration"]) if of_thresholds is None else of_thresholds,
        "confidence": None,
        "concepts": {"leg::six": one},
    }
    write_json(folder / "thresholds.json", {"best.ckpt": thresholds})


def make_report(folder, run, digest=""):
    """Write the summary of a comparison of the run with one other."""
    scores = {"intrinsic": (0.198, 0.065, 0.33), "lrp": (0.618, 0.515, 0.72), "noise": (0.01, -0.1, 0.12)}
    scores = {name: dict(zip(("mean", "low", "high"), three, strict=True)) for name, three in scores.items()}
    verdict = {"family": "cbm", "metric": "part_spearman", "other": "lrp", "kind": "posthoc", "outcome": "worse"}
    verdict |= {"sentence": "Its own map ranks parts less well than LRP."}
    passed = {"cascade_top_down": False, "other_target": True}
    sanity = {"passed": passed, "values": {"cascade_top_down": 0.34, "other_target": -0.03}, "band": 0.5}
    plain = {
        "images": 40,
        "models": [
            {"name": "cbm", "family": "cbm", "run": str(run), "checkpoint": digest[:16]},
            {"name": "baseline", "family": "baseline", "run": "elsewhere/baseline/1", "checkpoint": "f" * 16},
        ],
        "explainers": [
            {"name": "intrinsic", "kind": "intrinsic"}, {"name": "lrp", "kind": "posthoc"},
            {"name": "noise", "kind": "reference"},
        ],
        "metrics": {"part_spearman": {"title": "Part Spearman", "higher_is_better": True, "definition": "Order."}},
        "main_metrics": ["part_spearman"],
        "scores": {"cbm": {name: {"part_spearman": one} for name, one in scores.items()}},
        "verdicts": [verdict, {**verdict, "family": "baseline", "sentence": "Of another model."}],
        "sanity": {"cbm": {"intrinsic": sanity}},
        "self_consistency": {"cbm": {"leakage_gap": 0.0125, "units": 26.0, "locality": None}},
        "skipped": [{"model": "baseline", "explainer": "x", "metric": None, "why": "of another model"}],
    }  # fmt: skip
    write_json(folder / "summary.json", plain)
