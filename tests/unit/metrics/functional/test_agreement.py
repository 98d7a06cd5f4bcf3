"""Agreement of explanations and of metrics: definitions, torchmetrics' SSIM, what is undefined."""

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from ibd.errors import ConfigError
from ibd.metrics.functional import agreement
from ibd.metrics.functional.ranks import top_k_mask

NAN = torch.nan


def maps(several=3, size=(24, 17), seed=0):
    g = torch.Generator().manual_seed(seed)
    base = torch.randn(4, 1, *size, generator=g)
    return base + torch.randn(4, several, *size, generator=g).mul(2).round()


def scaled(a):
    low, high = a.amin((1, 2), keepdim=True), a.amax((1, 2), keepdim=True)
    return ((a - low) / (high - low)).unsqueeze(1)


def test_ssim_is_that_of_torchmetrics():
    several = maps().double()
    a, b = several[:, 0], several[:, 1]
    options = {"data_range": 1.0, "reduction": "none", "return_full_image": True}
    _, image = structural_similarity_index_measure(scaled(a), scaled(b), **options)
    inside = image[:, 0, 5:-5, 5:-5]  # theirs continues beyond the border by reflection
    torch.testing.assert_close(agreement.ssim(a, b), inside.mean((1, 2)), rtol=0, atol=1e-9)


def test_ssim_of_what_is_scaled_small_or_flat():
    several = maps().double()
    a, b = several[:, 0], several[:, 1]
    torch.testing.assert_close(agreement.ssim(3 * a - 7, b), agreement.ssim(a, b))
    torch.testing.assert_close(agreement.ssim(a, a), torch.ones(4, dtype=torch.float64))
    small = a[:, :4, :6], b[:, :4, :6]  # a window of even sides would not lie around a pixel
    torch.testing.assert_close(agreement.ssim(*small), agreement.ssim(*(m.flip(1, 2) for m in small)))
    assert len(agreement._windowed(small[0].unsqueeze(1))[0, 0]) == 2
    assert agreement.ssim(a[:, :2, :2], b[:, :2, :2]).isfinite().all()
    assert agreement.ssim(torch.zeros_like(a), a).isnan().all()


def test_matrices_are_those_of_pairs():
    several = maps()
    for matrix, pair in (
        (agreement.spearman_matrix, agreement.map_spearman),
        (agreement.ssim_matrix, agreement.ssim),
        (agreement.top_k_iou_matrix, agreement.top_k_iou),
    ):
        found = matrix(several)
        assert found.shape == (4, 3, 3)
        for i in range(3):
            torch.testing.assert_close(found[:, i, i], torch.ones(4, dtype=torch.float64))
            for j in range(3):
                if i != j:
                    torch.testing.assert_close(found[:, i, j], pair(several[:, i], several[:, j]), rtol=0, atol=1e-12)
        torch.testing.assert_close(matrix(several[1:2])[0], found[1], rtol=0, atol=1e-14)


def test_top_k():
    a, b = maps(2).unbind(1)
    k = round(0.25 * a[0].numel())
    shared = (top_k_mask(a, k) * top_k_mask(b, k)).sum((1, 2))
    torch.testing.assert_close(agreement.top_k_iou(a, b, 0.25), shared / (2 * k - shared))
    torch.testing.assert_close(agreement.top_k_iou(a, b, torch.full((4,), k)), shared / (2 * k - shared))
    flat = agreement.top_k_iou(torch.zeros_like(a), b, 0.25)
    torch.testing.assert_close(flat, torch.full((4,), 0.25 / 1.75, dtype=torch.float64))  # chance
    assert agreement.top_k_iou(a, b, torch.tensor([0, 1, 1, 1])).isnan().tolist() == [True, False, False, False]
    with pytest.raises(ConfigError, match="share of the pixels"):
        agreement.top_k_iou(a, b, 1.5)


def test_maps_of_two_sizes_meet_at_the_smaller_one():
    a = maps(1, (12, 8))[:, 0]
    large = a.repeat_interleave(3, 1).repeat_interleave(2, 2)
    torch.testing.assert_close(agreement.map_spearman(large, a), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(agreement.ssim(a, large), torch.ones(4, dtype=torch.float64))
    with pytest.raises(ConfigError, match="explainers"):
        agreement.spearman_matrix(a)


def test_nan_and_constant_maps():
    several = maps()
    several[0, 0, 0, 0], several[1, 1] = NAN, 2.0
    for matrix in (agreement.spearman_matrix, agreement.ssim_matrix):
        found = matrix(several)
        assert found[0, 0].isnan().all()
        assert found[1, 1].isnan().all()
        assert found[2:].isfinite().all()
