"""The layer that takes the place of a batch normalization."""

from __future__ import annotations

import logging
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.backbones.precision import autocasting, full_precision
from ibd.distributed import world_size
from ibd.errors import ConfigError
from ibd.models.concept_whitening.whitening import Whitening, rotate_root, whiten_rotate, whitening_root
from ibd.models.random_values import Normal, random_rotation

_log = logging.getLogger(__name__)


class _State:
    """What a tensor is at a moment. Keeps the tensor, so that no other one takes its place in memory."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.place = tensor, tensor.data_ptr()
        self.version = None if tensor.is_inference() else tensor._version

    def __eq__(self, other: object) -> bool:
        """Return whether nothing has changed; never so for tensors made in inference mode, which count no changes."""
        if not isinstance(other, _State) or self.version is None:
            return False
        return self.tensor is other.tensor and (self.place, self.version) == (other.place, other.version)

    __hash__ = None  # type: ignore[assignment]


class ConceptWhiteningLayer(nn.Module):
    """Center, whiten by ZCA, rotate: (B, D, h, w) -> (B, D, h, w), in float32 or better also under autocast.

    Training takes the statistics of the batch, over all processes; evaluation takes the running mean and covariance,
    from which the whitening matrix is derived (an average of the matrices themselves would not whiten). Both are
    differentiable.

    Args:
        channels: number of channels D.
        concepts: K, the number of axes with a meaning, the first ones.
        settings: settings of the whitening.

    Attributes:
        running_mean: (D,) running mean of the channels.
        running_covariance: (G, C, C), of each group, not shrunk.
        batches: number of batches that the running statistics have seen.
        rotation: (D, D), orthogonal; its rows are the axes in the whitened space.
        pull: (K, D), the running gradient of the alignment by the concepts' rows of the rotation.

    Raises:
        ConfigError: more concepts than channels, or groups that do not divide the channels.
    """

    running_mean: Tensor
    running_covariance: Tensor
    batches: Tensor
    rotation: Tensor
    pull: Tensor

    def __init__(self, channels: int, concepts: int, settings: Whitening | None = None) -> None:
        super().__init__()
        self.settings = settings or Whitening()
        groups = self.settings.groups
        if channels % groups:
            raise ConfigError(f"model.whitening.groups: {groups} do not divide the {channels} channels of a layer")
        if concepts > channels:
            raise ConfigError(
                f"a layer with {channels} channels has no axes for {concepts} concepts: name fewer in model.concepts, "
                "or wider layers in model.layers"
            )
        self.channels, self.concepts = channels, concepts
        size = channels // groups
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_covariance", _identity(size).expand(groups, -1, -1).clone())
        self.register_buffer("batches", torch.tensor(0))
        self.register_buffer("rotation", _identity(channels))
        self.register_buffer("pull", torch.zeros(concepts, channels))
        self._derived: tuple[Any, Tensor, Tensor] | None = None
        self._warned = False

    def forward(self, x: Tensor) -> Tensor:
        """Return the axes' maps of (B, D, h, w) features.

        In the dtype of x, but in float32 under autocast, whose next operation chooses its own.
        """
        given = None if autocasting(x) else x.dtype
        with full_precision(x):
            return self._whiten(x.to(torch.promote_types(x.dtype, self.rotation.dtype))).to(given)

    def _whiten(self, x: Tensor) -> Tensor:
        if not self.training:
            weight, bias = self.affine()
            return _affine(x, weight.to(x.dtype), bias.to(x.dtype))
        self._warn_of_few_positions(x)
        z, mean, covariance = whiten_rotate(x, self.rotation.to(x.dtype), self.settings)
        self._track(mean, covariance)
        return z

    def _apply(self, fn: object, recurse: bool = True) -> Self:
        """Move the buffers, but leave them in float32 where everything else goes to half precision."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in self._buffers.items():
            if buffer is not None and buffer.dtype in (torch.float16, torch.bfloat16):
                original = before[name]
                assert original is not None
                self._buffers[name] = original.to(buffer.device)
        return self

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return what the layer is in evaluation: ``z = weight x + bias`` at every position, (D, D) and (D,).

        Worked out again only when the statistics or the rotation have changed; constants.
        """
        buffers = self.running_mean, self.running_covariance, self.rotation
        state = [_State(buffer) for buffer in buffers]
        if self._derived is None or self._derived[0] != state:
            with torch.inference_mode(False), torch.no_grad():
                root = whitening_root(self.running_covariance, self.settings)
                weight = rotate_root(self.rotation, root.inverse)
                derived = state, weight, -(weight @ self.running_mean)
            if weight.is_meta:  # shapes alone: not worth keeping
                return derived[1], derived[2]
            self._derived = derived
        return self._derived[1], self._derived[2]

    @torch.no_grad()
    def _track(self, mean: Tensor, covariance: Tensor) -> None:
        """Move the running statistics towards those of a batch; the first batch replaces them."""
        weight = torch.where(self.batches == 0, 1.0, self.settings.momentum).to(self.running_mean.dtype)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_covariance.lerp_(covariance.to(self.running_covariance.dtype), weight)
        self.batches += 1

    def _warn_of_few_positions(self, x: Tensor) -> None:
        positions, size = x.numel() // self.channels * world_size(), self.channels // self.settings.groups
        if positions < size and not self._warned:
            self._warned = True
            _log.warning(
                "whitening: a batch has %d positions for %d channels: their covariance lacks full rank, and shrinkage "
                "determines the rest. Use larger batches or images, model.whitening.groups, or "
                "a larger model.whitening.shrinkage",
                positions,
                size,
            )

    def randomized(self, name: str, old: Tensor, normal: Normal) -> Tensor | None:
        """Return a random rotation, or the covariance with random axes, for a network that forgets what it learned."""
        if name == "rotation":
            return random_rotation(len(old), normal)
        if name == "running_covariance":
            values = torch.linalg.eigvalsh(old.double()).clamp(min=0)
            axes = torch.stack([random_rotation(old.shape[1], normal) for _ in old])
            return axes @ torch.diag_embed(values) @ axes.transpose(1, 2)
        return None

    def extra_repr(self) -> str:
        """Say how large it is."""
        return f"{self.channels}, concepts={self.concepts}, groups={self.settings.groups}"


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``weight x + bias`` at every position of (B, D, h, w), by what is fast in the memory layout of x.

    With a gradient always as a convolution: the backward of a product would be in bfloat16 under autocast.
    """
    graph = x.requires_grad and torch.is_grad_enabled()
    if graph or x.is_contiguous(memory_format=torch.channels_last):
        return F.conv2d(x, weight[:, :, None, None], bias)
    product = weight.expand(len(x), -1, -1) @ x.flatten(2)  # the convolution takes 1.3 to 4 times as long on a CPU
    return product.add_(bias.unsqueeze(1)).view(x.shape)


def _identity(size: int) -> Tensor:
    """Return (size, size): ``torch.eye``, for which torch would import its compiler where there is no memory."""
    return torch.zeros(size, size).fill_diagonal_(1)
