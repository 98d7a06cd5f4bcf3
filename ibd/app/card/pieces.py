"""What a card says of a model, its training and its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ibd.app.card.blocks import Absent, Block, Facts, Grid, Words
from ibd.app.card.reading import CardRun, Kept, day
from ibd.app.edited_run import EDITED
from ibd.comparison.report.names import FAMILIES
from ibd.training.record import RECORD

_MOST = 60
"""Rows of a table, and names of a list, that a card has; its file has all."""
_SMALL = 0.0005
"""What three decimals would show as 0."""
CONFIG = "config.yaml"


def number(value: Any) -> str:
    """Return a value of a file as a card shows it: three decimals, "-" for what is not known.

    What is not quite 0 or 1 is not shown as that.
    """
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        try:
            return number(float(value) if not value.lstrip("-").isdigit() else int(value))
        except ValueError:
            return value
    if isinstance(value, int):
        return str(value)
    if 0 < abs(value) < _SMALL:
        return f"{value:.1e}"
    return "0.999" if 1 - _SMALL <= value < 1 else f"{value:.3f}"


def probability(value: Any) -> str:
    """Return a p-value with four decimals: 10 000 draws tell no more."""
    return "-" if value is None else f"{value:.4f}"


def spread(given: Mapping[str, Any] | None, value: str = "value") -> str:
    """Return a value with its interval, such as ``0.915 [0.868, 0.946]``."""
    if not given or given.get(value) is None:
        return "-"
    if given.get("low") is None or given.get("high") is None:
        return number(given[value])
    return f"{number(given[value])} [{number(given['low'])}, {number(given['high'])}]"


def changes_of(kept: Kept) -> str:
    """Return by what the images of a test differ from those of the config, such as ``data.tag_test=absent``; or ""."""
    about = kept.plain.get("about") or {}
    return ", ".join(map(str, about.get("changes") or ()))


def chance_of(kept: Kept) -> float | None:
    """Return the accuracy of a test without looking: that of its most frequent class, or of guessing."""
    classes, images = kept.plain.get("classes") or 0, kept.plain.get("images") or 0
    if not classes or not images:
        return None
    largest = max((int(row["images"]) for row in kept.tables.get("classes", []) if row.get("images")), default=0)
    return float(max(1 / classes, largest / images))


def cut(rows: Sequence[Sequence[str]], what: str) -> tuple[list[Sequence[str]], str]:
    """Return the rows that a card has room for, and what to say of the others."""
    if len(rows) <= _MOST:
        return list(rows), what
    return list(rows[:_MOST]), f"{what}, the first {_MOST} of {len(rows)}"


def _family(name: str) -> str:
    """Return a family by the word of the README and of reports, and by its name in configs."""
    return f"{FAMILIES[name]} ({name})" if name in FAMILIES else name


def identity(run: CardRun) -> list[Block]:
    """Return what the model is: name, family, weights."""
    blocks: list[Block] = []
    model = _block(run.config, "model")
    if run.config:
        rows = [("name", str(run.config.get("name", "-"))), ("family", _family(str(model.get("name", "-"))))]
        rows += [("backbone", _flat(_block(model, "backbone"))), ("seed", str(run.config.get("seed", "-")))]
        blocks.append(Facts([row for row in rows if row[1]], CONFIG))
    else:
        blocks.append(
            Words(f"There is no {CONFIG} beside the checkpoint: how the model was trained is not known here.")
        )
    values = sum(value.numel() for value in run.content["state_dict"].values())
    file = f"{run.checkpoint.parent.name}/{run.checkpoint.name}"
    facts = [("SHA-256", run.sha256), ("file last changed", day(run.checkpoint.stat().st_mtime))]
    if isinstance(epoch := run.content.get("epoch"), int):
        facts.append(("epoch", str(epoch + 1)))
    facts.append(("numbers in its weights and statistics", str(values)))
    return [*blocks, Facts(facts, file)]


def architecture(run: CardRun) -> list[Block]:
    """Return all options of the model and of its optimizer."""
    if not run.config:
        return []
    model = {key: value for key, value in _block(run.config, "model").items() if key not in ("name", "backbone")}
    rows = [(f"model.{key}", _plain(value)) for key, value in model.items() if value is not None]
    rows += [(f"optimizer.{key}", _plain(value)) for key, value in _block(run.config, "optimizer").items()]
    return [Facts(rows, CONFIG)]


def versions(run: CardRun) -> list[Block]:
    """Return the versions that the run was trained, and tested, with."""
    blocks: list[Block] = []
    if sessions := run.record.get("sessions"):
        said = dict(sessions[-1].get("versions", {}))
        blocks.append(Facts([(f"{name}, of the training", str(version)) for name, version in said.items()], RECORD))
    for kept in run.tested.values():
        about = kept.plain.get("about") or {}
        if not kept.stale:
            rows = [(f"{name}, of the test", str(about[name])) for name in ("ibd", "torch") if name in about]
            blocks.append(Facts(rows, f"{kept.source}/summary.json"))
    return blocks or [Words("The versions of the software are not recorded in this run.")]


def edits(run: CardRun) -> list[Block]:
    """Return what was done to the model by hand after its training, so that its config does not tell all of it."""
    if not run.edited:
        return []
    rows = [(key.replace("_", " "), _plain(value)) for key, value in run.edited.items()]
    said = "The model was edited by hand after its training; the options of the config are of the model it was made of."
    return [Words(said, EDITED), Facts(rows, EDITED)]


def training(run: CardRun) -> list[Block]:
    """Return how long, on what and for how many epochs the model was trained."""
    sessions = run.record.get("sessions")
    if not sessions:
        return [Words(f"How long the training took is not recorded: there is no {RECORD} in this run.")]
    rows = [
        [
            str(one.get("started", "-")),
            f"{one.get('first_epoch', '-')} to {one.get('epochs', '-')}",
            number(one.get("seconds")),
            str(one.get("device", "-")),
            str(one.get("processes", "-")),
            str(one.get("precision", "-")),
        ]
        for one in sessions
    ]
    columns = ["started (UTC)", "epochs", "seconds", "device", "processes", "precision"]
    first = int(sessions[0].get("first_epoch", 1))
    blocks: list[Block] = [Grid("Sessions of the training", columns, rows, RECORD)]
    if first > 1:
        blocks.append(Words(f"The session of the epochs before {first} was killed, and has left no record.", RECORD))
    return blocks


def training_data(run: CardRun) -> list[Block]:
    """Return what the model was trained on."""
    blocks = _data_config(run)
    images = run.record.get("images")
    if isinstance(images, Mapping):
        train, val = (images.get(split) or {} for split in ("train", "val"))
        total = [("training images", str(sum(train.values()))), ("validation images", str(sum(val.values())))]
        rows, title = cut([[name, str(train[name]), str(val.get(name, 0))] for name in train], "Images of each class")
        blocks += [Facts(total, RECORD), Grid(title, ["class", "training", "validation"], rows, RECORD)]
    else:
        blocks.append(Words(f"How many images it was trained on is not recorded: there is no {RECORD} in this run."))
    return [*blocks, *_vocabulary(run)]


def _data_config(run: CardRun) -> list[Block]:
    data = _block(run.config, "data")
    hidden = ("batch_size", "num_workers", "cache", "check_images")
    rows = [(f"data.{key}", _plain(value)) for key, value in data.items() if value is not None and key not in hidden]
    return [Facts(rows, CONFIG)] if rows else []


def _vocabulary(run: CardRun) -> list[Block]:
    """Return the names that the checkpoint has of classes and concepts."""
    spec, file = run.spec, f"{run.checkpoint.parent.name}/{run.checkpoint.name}"
    rows = []
    for key, what in (("class_names", "classes"), ("concept_names", "concepts"), ("part_names", "annotated parts")):
        names = [str(name) for name in spec.get(key) or ()]
        if names:
            more = f", ... ({len(names)} in all)" if len(names) > _MOST else f" ({len(names)})"
            rows.append((what, ", ".join(names[:_MOST]) + more))
    return [Facts(rows, file)] if rows else []


def preprocessing(run: CardRun) -> list[Block]:
    """Return how images are brought to the network."""
    size = run.spec.get("image_size")
    if not isinstance(size, list | tuple) or len(size) != 2:
        return []
    rows = [("size, height x width", f"{size[0]} x {size[1]} pixels"), ("resize", str(run.spec.get("resize", "-")))]
    rows.append(("values", "red, green and blue from 0 to 1; normalization is the network's first layer"))
    return [Facts(rows, f"{run.checkpoint.parent.name}/{run.checkpoint.name}")]


def evaluation_data(run: CardRun) -> list[Block]:
    """Return what the model was tested on."""
    blocks: list[Block] = []
    for split, kept in run.tested.items():
        if kept.stale:
            continue
        about = kept.plain.get("about") or {}
        rows = [("split", split), ("images", number(kept.plain.get("images"))), ("tested", str(about.get("date", "-")))]
        rows.append(("changes to the data of the training", changes_of(kept) or "none"))
        blocks.append(Facts(rows, f"{kept.source}/summary.json"))
    return blocks or [Absent("The model was not tested.", f"ibd test {run.given}")]


def _block(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = config.get(key)
    return found if isinstance(found, dict) else {"name": found} if isinstance(found, str) else {}


def _flat(block: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_plain(value)}" if key != "name" else str(value) for key, value in block.items() if value)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "-"
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
