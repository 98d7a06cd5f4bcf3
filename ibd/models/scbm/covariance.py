"""How the covariance of concept logits is stored, and predicted."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.errors import ConfigError, check_range

LEAST = 1e-3
"""The smallest standard deviation that a logit has beside what it shares with others."""


class Covariance(nn.Module):
    """A covariance of K concept logits, the same for all images, or predicted from their features.

    It is ``factor @ factor.mT``. Of full rank the factor is lower triangular (Cholesky); of rank r it is K x (r + K), r
    columns that concepts share, and a diagonal.

    Args:
        count: K.
        rank: r; None for full rank.
        channels: number of channels of the features; None for one covariance for all images.
    """

    def __init__(self, count: int, rank: int | None = None, channels: int | None = None) -> None:
        super().__init__()
        if rank is not None:
            check_range("model.rank", rank, least=1)
            if rank > count:
                raise ConfigError(f"model.rank: {rank} given, {count} at most is needed: that many concepts there are")
        self.count, self.rank = count, rank
        self.size = count * (count + 1) // 2 if rank is None else count * (rank + 1)
        self.values: nn.Linear | nn.Parameter
        if channels is None:
            self.values = nn.Parameter(torch.zeros(self.size))
        else:
            self.values = nn.Linear(channels, self.size)
            nn.init.normal_(self.values.weight, std=0.01 / channels**0.5)  # starts as the same for all images
            nn.init.zeros_(self.values.bias)
        if rank is not None:  # at 0, shared columns would have no gradient
            start = self.values if isinstance(self.values, nn.Parameter) else self.values.bias
            nn.init.normal_(start, std=0.1)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, P) numbers that the covariances of (B, D, h, w) features are made of, or (1, P) for all images."""
        if isinstance(self.values, nn.Parameter):
            return self.values.unsqueeze(0)
        pooled = features.to(self.values.weight.dtype).flatten(2).mean(2)
        return self.values(pooled)  # type: ignore[no-any-return]

    def factor(self, values: Tensor) -> Tensor:
        """Return the factors, (N, K, R), of (N, P) numbers."""
        if self.rank is None:
            rows, columns = torch.tril_indices(self.count, self.count, device=values.device)
            whole = values.new_zeros(values.shape[0], self.count, self.count)
            whole[:, rows, columns] = torch.where(rows == columns, F.softplus(values) + LEAST, values)
            return whole
        shared, own = torch.split(values, [self.count * self.rank, self.count], 1)
        return torch.cat([shared.reshape(-1, self.count, self.rank), torch.diag_embed(F.softplus(own) + LEAST)], 2)

    def set_matrix(self, matrix: Tensor) -> None:
        """Become a given covariance, (K, K); that of rank r the nearest of factor analysis by its largest eigenvalues.

        Args:
            matrix: positive definite, for all images.
        """
        assert isinstance(self.values, nn.Parameter)
        if self.rank is None:
            factor = torch.linalg.cholesky(matrix)
            rows, columns = torch.tril_indices(self.count, self.count, device=matrix.device)
            packed = factor[rows, columns]
            self.values.data.copy_(torch.where(rows == columns, _unsoftplus(packed - LEAST), packed))
            return
        powers, axes = torch.linalg.eigh(matrix)
        shared = axes[:, -self.rank :] * powers[-self.rank :].clamp(min=0).sqrt()
        own = (matrix.diagonal() - shared.square().sum(1)).clamp(min=LEAST**2).sqrt()
        self.values.data.copy_(torch.cat([shared.flatten(), _unsoftplus(own - LEAST)]))


def _unsoftplus(values: Tensor) -> Tensor:
    """Return what `softplus` makes these of; at least a millionth."""
    return torch.log(torch.expm1(values.clamp(min=1e-6)))
