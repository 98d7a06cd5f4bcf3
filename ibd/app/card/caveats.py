"""What the figures of a card themselves warn of: few images, by-passed concepts, groups that differ."""

from __future__ import annotations

from collections.abc import Iterator

from ibd.app.card.blocks import Block, Words
from ibd.app.card.pieces import chance_of, changes_of, number, probability, spread
from ibd.app.card.reading import CardRun, Kept
from ibd.app.edited_run import EDITED
from ibd.training.display import accuracy_reach
from ibd.training.record import RECORD

_WIDE = 0.1
"""Half a width of an interval of the accuracy above which it is said that test images are few."""
_FEW = 30
"""Images of a class or group below which its figure says little."""
_RARE = 10
"""Images with a concept, or without it, below which its AUROC says little."""
_UNEQUAL = 0.05
"""The p-value below which groups are said to differ."""


def caveats(run: CardRun) -> list[Block]:
    """Return what is to be kept in mind, each from a file; a sentence each."""
    found: list[Block] = [*_training(run)]
    if run.edited:
        found.append(Words("The model was edited by hand after its training; see Training.", EDITED))
    for split, kept in run.tested.items():
        if not kept.stale:
            found += _of_test(split, kept)
    if run.repeated is None:
        found.append(Words("All figures are of one training: another one may differ by more than their intervals."))
    return found


def _training(run: CardRun) -> Iterator[Block]:
    images = run.record.get("images")
    val = sum(images["val"].values()) if isinstance(images, dict) and images.get("val") else 0
    if val and (reach := accuracy_reach(val)) > _WIDE:
        text = f"The checkpoint was chosen by {val} validation images, an accuracy of which has an interval of up to"
        yield Words(f"{text} +-{100 * reach:.0f} points: partly by chance.", RECORD)


def _of_test(split: str, kept: Kept) -> Iterator[Block]:
    source, plain = f"{kept.source}/summary.json", kept.plain
    if changes := changes_of(kept):
        yield Words(
            f"The test of {split} images is of images changed by {changes}, not of those of the config.", source
        )
    own = plain.get("accuracy") or {}
    if own.get("low") is not None and (own["high"] - own["low"]) / 2 > _WIDE:
        yield Words(
            f"The accuracy of {number(plain.get('images'))} {split} images is known to {spread(own)} only.", source
        )
    few = [
        row["class"]
        for row in kept.tables.get("classes", [])
        if row.get("images", "").isdigit() and int(row["images"]) < _FEW
    ]
    if few:
        yield Words(f"Fewer than {_FEW} {split} images each are of: {_list(few)}.", f"{kept.source}/classes.csv")
    rare = [row.get("concept", "") for row in kept.tables.get("concepts", []) if _rare(row)]
    if rare:
        text = f"Fewer than {_RARE} {split} images have, or fewer than {_RARE} lack, each of: {_list(rare)}"
        yield Words(f"{text}; their AUROC says little, and is part of the mean.", f"{kept.source}/concepts.csv")
    without = ((plain.get("metrics") or {}).get("accuracy_without_named") or {}).get("value")
    chance = chance_of(kept)
    if without is not None and chance is not None and own.get("value") is not None and without > chance + 0.05:
        text = f"Without the named units the accuracy is still {number(without)} (chance {number(chance)})"
        yield Words(f"{text}: classes are told by what has no name, too.", source)
    for column, group in (plain.get("groups") or {}).items():
        if group.get("p_value") is not None and group["p_value"] < _UNEQUAL and group.get("groups"):
            worst = group["groups"][0]
            differ = f"By {column} the accuracies differ (p = {probability(group['p_value'])})"
            yield Words(f"{differ}; the worst is {worst['group']}, {spread(worst['accuracy'])}.", source)


def _rare(row: dict[str, str]) -> bool:
    """Return whether a concept was there, or was not, in hardly an image of a test; never of a quantity."""
    counts = [row.get(key, "") for key in ("yes", "no")]
    return bool(row.get("auroc")) and all(map(str.isdigit, counts)) and min(map(int, counts)) < _RARE


def _list(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
