"""What a table of figures is of, kept beside it: weights, split, date. So a reader can tell whether it still holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ibd import __version__
from ibd.models.calibration.calibration import checksum
from ibd.models.trained import TrainedModel


def save_origin(table: Path, model: TrainedModel, split: str, changes: Sequence[str] = ()) -> None:
    """Write what a table is of into the JSON file of its name.

    Args:
        table: path of the table.
        model: model that it was measured on.
        split: split of the images.
        changes: changes to the data or the question, as on the command line.
    """
    said = {
        "split": split,
        "weights": checksum(model.network),
        "changes": list(changes),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "ibd": __version__,
    }
    table.with_suffix(".json").write_text(json.dumps(said, indent=1), encoding="utf-8")
