"""How well concepts that are numbers are predicted: torchmetrics' R2 and mean absolute error, where they are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.regression import MeanAbsoluteError, R2Score


class QuantityR2(R2Score):
    """Coefficient of determination of one column, at most 1, 0 for its mean; higher is better.

    NaN where fewer than two values are known.

    Args:
        column: number of the column.
        kwargs: options of torchmetrics.
    """

    def __init__(self, column: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.column = column

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add (B, K) predictions and targets, standardized so that sums of squares lose nothing; NaN is unknown."""
        super().update(*_known(predicted, target, self.column))

    def compute(self) -> Tensor:
        """Return the coefficient."""
        return super().compute() if self.total > 1 else self.residual.new_tensor(torch.nan)


class QuantityMAE(MeanAbsoluteError):  # noqa: N818  # a metric, and no exception
    """Mean absolute error of one column, in its unit; lower is better. NaN where nothing is known.

    Args:
        column: number of the column.
        kwargs: options of torchmetrics.
    """

    def __init__(self, column: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.column = column

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add (B, K) predictions and targets, NaN where unknown."""
        super().update(*_known(predicted, target, self.column))


def _known(predicted: Tensor, target: Tensor, column: int) -> tuple[Tensor, Tensor]:
    known = ~target[:, column].isnan()
    return predicted[known, column].float(), target[known, column].float()


def quantity_metrics(names: Mapping[int, str]) -> dict[str, MetricCollection]:
    """Return ``r2_NAME`` of standardized values, and ``mae_NAME`` of values in their units, as two collections.

    Args:
        names: column -> name of the quantity.
    """
    # With compute groups, metrics whose first batch happens to be alike, as where nothing is known, would become one.
    r2 = MetricCollection({f"r2_{name}": QuantityR2(column) for column, name in names.items()}, compute_groups=False)
    mae = MetricCollection({f"mae_{name}": QuantityMAE(column) for column, name in names.items()}, compute_groups=False)
    return {"r2": r2, "mae": mae} if names else {}
