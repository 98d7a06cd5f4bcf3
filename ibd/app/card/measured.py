"""What a card says of how well a model predicts: by class, concept and group, how surely, corrected by hand."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator

from ibd.app.card.blocks import Absent, Block, Facts, Grid, Picture, Stale, Words
from ibd.app.card.pieces import changes_of, cut, number, probability, spread
from ibd.app.card.reading import CardRun, Kept, Rows
from ibd.metrics.functional.shares import share_interval

_WITHOUT = {
    "accuracy_without_named": "accuracy without the named units",
    "accuracy_named_alone": "accuracy with the named units alone",
    "accuracy_rounded": "accuracy with concepts rounded to yes and no",
}
"""Metrics of a test that say what by-passes the units with a name -> what each is."""
_COUNTED = ("images", "yes", "no")
"""Columns of whole numbers."""
_OF_INTERVAL = ("accuracy", "balanced_accuracy", "auroc")
_NAMES = {
    "auroc": "mean AUROC of classes",
    "concept_auroc": "mean AUROC of concepts",
    "concept_accuracy": "mean accuracy of concepts",
    "ece": "calibration error",
    "ece_calibrated": "calibration error after calibration",
    "nll": "negative log-likelihood",
    "nll_calibrated": "negative log-likelihood after calibration",
    "concept_ece": "calibration error of concepts",
    "concept_ece_calibrated": "calibration error of concepts after calibration",
    "set_coverage": "share with the true class in its set",
    "set_size": "mean number of classes in the set",
    "kept_share": "share that is answered",
    "kept_accuracy": "accuracy of the answers",
}
"""Metric of a test -> what a card calls it, where that is not its name with blanks."""
_AS_TRAINED = ("loss", "class_loss", "concept_loss", "concept_accuracy", "ece", "nll", "concept_ece")
"""Metrics that a test gives of the probabilities as trained, also where the model is calibrated."""


def tests(run: CardRun, say: Callable[[str, Kept], list[Block]]) -> list[Block]:
    """Return what is said of each test; where one is stale or there is none, that.

    Args:
        run: the run.
        say: says it of a split and its test.
    """
    command = f"ibd test {run.given}"
    if not run.tested:
        return [Absent("Not measured.", command)]
    blocks: list[Block] = []
    for split, kept in run.tested.items():
        if kept.stale:
            blocks.append(Stale(f"The test of {split} images", kept.source, kept.stale, command))
        else:
            blocks += [*changed(split, kept), *say(split, kept)]
    return blocks


def changed(split: str, kept: Kept) -> list[Block]:
    """Return that a test was of other data than the config's, where it was: its figures are of that alone."""
    changes = changes_of(kept)
    if not changes:
        return []
    return [Words(f"These {split} images are changed ones, by {changes}.", f"{kept.source}/summary.json")]


def accuracy(run: CardRun) -> list[Block]:
    """Return the figures of all images of a split."""

    def say(split: str, kept: Kept) -> list[Block]:
        plain = kept.plain
        rows = [(f"{_called(name, plain)}, {split} images", _either(plain.get(name))) for name in _OF_INTERVAL]
        rows += [(f"{what}, {split} images", spread(value)) for what, value in _others(kept)]
        if plain.get("silent"):
            rows.append(("images without a prediction", number(plain["silent"])))
        if plain.get("abstains") and _answers_as_now(run, kept):
            rows.append(("images on which it abstains", number(plain["abstains"])))
        blocks: list[Block] = [Facts(rows, f"{kept.source}/summary.json")]
        return [*blocks, *_picture(run, kept, "confusion.png", "The confusion matrix")]

    return tests(run, say)


def _answers_as_now(run: CardRun, kept: Kept) -> bool:
    """Return whether the threshold of confidence is still the one that a test was made with."""
    now = None if run.thresholds is None or run.thresholds.stale else run.thresholds.plain.get("confidence")
    least = now.get("value") if isinstance(now, dict) else None
    return bool((kept.plain.get("about") or {}).get("confidence") == least)


def _either(value: object) -> str:
    return spread(value) if isinstance(value, dict) else number(value)


def _others(kept: Kept) -> Iterator[tuple[str, dict[str, object]]]:
    for key, value in (kept.plain.get("metrics") or {}).items():
        if key not in (*_OF_INTERVAL, *_WITHOUT) and isinstance(value, dict):
            yield _called(key, kept.plain), value


def _called(metric: str, plain: dict[str, object]) -> str:
    """Return what a metric of a test is called; of a calibrated model, whether it is of probabilities as trained."""
    trained = plain.get("calibrated") and metric in _AS_TRAINED
    return _NAMES.get(metric, metric.replace("_", " ")) + " before calibration" * bool(trained)


def _picture(run: CardRun, kept: Kept, name: str, caption: str) -> list[Block]:
    path = run.folder / kept.source / name
    return [Picture(str(path), caption, f"{kept.source}/{name}")] if path.is_file() else []


def classes(run: CardRun) -> list[Block]:
    """Return the figures of each class."""
    columns = {"images": "images", "recall": "recall", "precision": "precision", "auroc": "AUROC"}

    def say(split: str, kept: Kept) -> list[Block]:
        grid = _grid(kept, "classes", "class", columns | {"most_often_taken_for": "most often taken for"}, split)
        return [grid] if grid else []

    return tests(run, say)


def concepts(run: CardRun) -> list[Block]:
    """Return how well each concept is predicted."""
    if not run.spec.get("concept_names"):
        return [Words("The data has no labelled concepts.")]
    columns = {"yes": "present", "no": "absent", "accuracy": "accuracy", "constant": "accuracy of a constant"}
    columns |= {"auroc": "AUROC", "ece": "calibration error", "error": "mean error", "unit": "unit"}

    def say(split: str, kept: Kept) -> list[Block]:
        grid = _grid(kept, "concepts", "concept", columns, split)
        return [grid] if grid else [Words("The model predicts no concept of the data, or none is known.", kept.source)]

    return tests(run, say)


def _grid(kept: Kept, table: str, first: str, columns: dict[str, str], split: str) -> Grid | None:
    """Return a table of a test; columns that are empty throughout are left out."""
    rows = kept.tables.get(table)
    if not rows:
        return None
    known = {key: title for key, title in columns.items() if any(row.get(key) for row in rows)}
    texts = [[row.get(first, ""), *(_cell(row, key) for key in known)] for row in rows]
    kept_rows, title = cut(texts, f"By {first}, {split} images")
    return Grid(title, [first, *known.values()], kept_rows, f"{kept.source}/{table}.csv")


def _cell(row: dict[str, str], key: str) -> str:
    ends = {"value": row.get(key), "low": row.get(f"{key}_low"), "high": row.get(f"{key}_high")}
    if ends["low"]:
        return spread({name: float(value) if value else None for name, value in ends.items()})
    return number(row.get(key) if key in _COUNTED else _float(row.get(key)))


def _float(text: str | None) -> float | str | None:
    """Return a cell as the number that it is, also where it was written without decimals."""
    try:
        return float(text) if text else None
    except ValueError:
        return text


def calibration(run: CardRun) -> list[Block]:
    """Return whether stated probabilities come true, and what was calibrated."""

    def say(split: str, kept: Kept) -> list[Block]:
        found = kept.plain.get("calibration") or {}
        rows = [
            (f"expected calibration error, {what}, {split} images", number(one["error"])) for what, one in found.items()
        ]
        blocks: list[Block] = [Facts(rows, f"{kept.source}/summary.json")] if rows else []
        bins = [row for row in kept.tables.get("calibration", []) if row.get("count") not in ("", "0")]
        if bins:
            texts = [[row["kind"], f"{number(row['from'])} to {number(row['to'])}", row["count"]] for row in bins]
            texts = [
                [*text, number(row["stated"]), _cell(row, "came_true")] for text, row in zip(texts, bins, strict=True)
            ]
            columns = ["of", "stated probability", "predictions", "stated on average", "came true"]
            blocks.append(Grid(f"Stated and true, {split} images", columns, texts, f"{kept.source}/calibration.csv"))
        return [*blocks, *_picture(run, kept, "calibration.png", "Stated probabilities, and how often they came true")]

    return [*tests(run, say), *_chosen(run)]


def _chosen(run: CardRun) -> list[Block]:
    """Return what a calibration has chosen."""
    found, file = run.calibration, f"{run.checkpoint.parent.name}/{run.checkpoint.name}"
    if found is None:
        return [Absent("Probabilities were not calibrated.", f"ibd calibrate {run.given}")]
    rows = [("calibrated on", f"{found.get('split')} images")]
    scales = {what: found[what] for what in ("classes", "concepts") if found.get(what)}
    rows += [
        (f"scale of {what}", f"{one.get('method')}, on {one.get('images')} images") for what, one in scales.items()
    ]
    if sets := found.get("sets"):
        rows.append(("sets of classes", f"coverage {sets.get('coverage')} wanted, on {sets.get('images')} images"))
    if rule := found.get("abstention"):
        said = f"below {number(rule.get('threshold'))}, for an accuracy of {rule.get('accuracy')}"
        rows.append(
            (
                "abstains",
                f"{said}: {rule.get('right')} of {rule.get('kept')} answers right, on {rule.get('images')} images",
            )
        )
    return [Facts(rows, file)]


def groups(run: CardRun, crossed: bool) -> list[Block]:
    """Return accuracy by group: of single columns, or of columns taken together.

    Args:
        run: the run.
        crossed: whether columns are taken together (intersectional), such as skin+sex.
    """
    command = f"ibd test {run.given} by={'COLUMN+COLUMN' if crossed else 'COLUMN'}"
    blocks: list[Block] = []
    for split, kept in run.tested.items():
        for column, found in (kept.plain.get("groups") or {}).items():
            if ("+" in column) == crossed and not kept.stale:
                blocks += [*changed(split, kept), *_groups(split, kept, column, found)]
    if blocks:
        return blocks
    stale = [kept for kept in run.tested.values() if kept.stale and kept.plain.get("groups")]
    if stale:
        return [Stale("The test by group", stale[0].source, stale[0].stale, command)]
    which = "columns taken together (intersectional results)" if crossed else "group"
    return [Absent(f"Accuracy by {which} was not measured.", command)]


def _groups(split: str, kept: Kept, column: str, found: dict[str, object]) -> list[Block]:
    given = found.get("groups")
    rows = [
        [str(one["group"]), number(one["images"]), spread(one["accuracy"]), spread(one["surplus"]), number(one["ece"])]
        for one in (given if isinstance(given, list) else [])
    ]
    columns = [column, "images", "accuracy", "confidence - accuracy", "calibration error"]
    source = f"{kept.source}/summary.json"
    shown, title = cut(rows, f"By {column}, {split} images, the worst first")
    words = f"Equal accuracies in all groups: p = {probability(found.get('p_value'))} (permutation test)."
    return [Grid(title, columns, shown, source), Words(words, source)]


def bypass(run: CardRun) -> list[Block]:
    """Return what a test says of the classes when units with a name are left out, or are all there is."""

    def say(split: str, kept: Kept) -> list[Block]:
        metrics = kept.plain.get("metrics") or {}
        rows = [(f"{what}, {split} images", spread(metrics[key])) for key, what in _WITHOUT.items() if key in metrics]
        if not rows:
            none = "There is nothing to by-pass: no unit has a name, or classes are sums over the units alone."
            return [Words(none, kept.source)]
        rows.insert(0, (f"accuracy, {split} images", _as_trained(kept)))
        return [Words(_BYPASS), Facts(rows, f"{kept.source}/summary.json")]

    return tests(run, say)


_BYPASS = (
    "Without the named units each concept has its mean over training images: what accuracy is left beyond chance comes "
    "from something that has no name. With the named units alone all else has its mean."
)


def _as_trained(kept: Kept) -> str:
    """Return the accuracy by the classes as trained, as those without some units are: a calibration may change them."""
    own, trained = kept.plain.get("accuracy") or {}, (kept.plain.get("metrics") or {}).get("accuracy")
    if trained is None or trained.get("value") is None or own.get("value") is None:
        return spread(own)
    same = abs(trained["value"] - own["value"]) < 1e-6  # the metric is of float32, and has no interval
    return spread(own) if same else f"{spread(trained)} (before calibration)"


def interventions(run: CardRun) -> list[Block]:
    """Return the curves of accuracy by the number of groups of concepts corrected."""
    if not run.correctable:
        return [Words("The model has no labelled concepts to correct.")]
    command, blocks = f"ibd curve {run.given}", list[Block]()
    for name, kept in run.curves.items():
        split = str(kept.plain.get("split") or ("val" if name.endswith("_val") else "test or val"))
        if kept.stale:
            blocks.append(Stale("An intervention curve", kept.source, kept.stale, command))
            continue
        rows = kept.tables["curve"]
        blocks.append(_curve(rows, f"Accuracy by groups of concepts corrected, {split} images", kept.source))
        if changes := kept.plain.get("changes"):
            blocks.append(Words(f"Measured with {', '.join(map(str, changes))}.", kept.source.replace(".csv", ".json")))
        picture = (run.folder / kept.source).with_suffix(".png")
        if picture.is_file():
            source = kept.source.replace(".csv", ".png")
            blocks.append(Picture(str(picture), "Accuracy by the number of groups corrected", source))
    if not any(isinstance(block, Grid) for block in blocks):
        blocks.append(Absent("No intervention curve of this checkpoint was measured.", command))
    return blocks


def _curve(rows: Rows, title: str, source: str) -> Grid:
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    counts = list(dict.fromkeys(row["groups_corrected"] for row in rows))
    value = {(row["policy"], row["groups_corrected"]): row["accuracy"] for row in rows}
    texts = [[policy, *(number(value.get((policy, count))) for count in counts)] for policy in policies]
    return Grid(title, ["groups corrected", *counts], texts, source)


def teaching(run: CardRun) -> list[Block]:
    """Return what corrections by a person came to, session by session."""
    if not run.correctable:
        return [Words("The model has no labelled concepts to correct.")]
    command, blocks = f"ibd serve {run.given}", list[Block]()
    for kept in run.teaching:
        if kept.stale:
            blocks.append(Stale("A session of corrections by a person", kept.source, kept.stale, command))
            continue
        images: dict[str, Rows] = {}
        for row in kept.tables["steps"]:
            images.setdefault(row["image"], []).append(row)
        done = [steps for steps in images.values() if steps[-1]["event"] == "done"]
        before, after = (
            share_interval(sum(steps[place][key] == "true" for steps in done), len(done))
            for place, key in ((0, "right_before"), (-1, "right_after"))
        )
        rows = [("images corrected", str(len(done))), ("split", str(kept.plain.get("split", "-")))]
        rows += [
            (f"accuracy {when}", spread(vars(one), "mean")) for when, one in (("before", before), ("after", after))
        ]
        blocks.append(Facts(rows, kept.source))
    return blocks or [Absent("No person has corrected images of it in the teaching mode.", command)]


def repeated(run: CardRun) -> list[Block]:
    """Return the figures over all trainings of the command that this is one of."""
    kept = run.repeated
    if kept is None:
        return [
            Absent(
                "This is one training; how much another would differ was not measured.", "ibd repeat CONFIG --seeds 5"
            )
        ]
    if kept.stale:
        return [
            Stale(
                "Figures over several trainings",
                kept.source,
                kept.stale,
                shlex.join(["ibd", "repeat", f"resume={run.folder.parent}"]),
            )
        ]
    figures = kept.plain.get("figures") or {}
    rows = [[name, number(one["mean"]), number(one["sd"]), _ends(one)] for name, one in figures.items()]
    shown, title = cut(rows, f"Figures over {len(kept.plain.get('runs') or ())} trainings")
    grid = Grid(title, ["figure", "mean", "standard deviation", "95 % interval"], shown, kept.source)
    return [grid, Words(f"{str(kept.plain.get('holds', '')).capitalize()}.", kept.source)]


def _ends(one: dict[str, object]) -> str:
    return "-" if one.get("low") is None else f"[{number(one['low'])}, {number(one['high'])}]"
