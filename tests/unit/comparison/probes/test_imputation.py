"""What fills the holes: against the exact solution of the linear system."""

import pytest
import torch

from ibd.comparison.probes.imputation import linear_imputation, pull_push


def holes(kind, share, count=3, size=24):
    generator = torch.Generator().manual_seed(3)
    values = torch.rand(count, 1, *([size, size] if kind == "pixels" else [4, 4]), generator=generator)
    values = torch.nn.functional.interpolate(values, size=(size, size), mode="bicubic")[:, 0]
    limit = values.flatten(1).quantile(share, dim=1).view(-1, 1, 1)
    return values > limit


def exact(image, known):
    """Solve the system of Rong et al. for one (C, H, W) image, by plain loops and a dense solver."""
    _, height, width = image.shape
    places = [tuple(each) for each in (~known).nonzero().tolist()]
    number = {place: i for i, place in enumerate(places)}
    matrix = torch.zeros(len(places), len(places), dtype=torch.float64)
    right = torch.zeros(len(places), len(image), dtype=torch.float64)
    for (y, x), i in number.items():
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                near = (y + down, x + across)
                if (down, across) == (0, 0) or not (0 <= near[0] < height and 0 <= near[1] < width):
                    continue
                weight = 1 / 12 if down and across else 1 / 6
                matrix[i, i] += weight
                if near in number:
                    matrix[i, number[near]] -= weight
                else:
                    right[i] += weight * image[:, near[0], near[1]].double()
    filled = image.double().clone()
    filled[:, ~known] = torch.linalg.solve(matrix, right).t()
    return filled


@pytest.mark.parametrize("kind", ["pixels", "blobs"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_linear_imputation_solves_the_system(kind, share):
    image = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    known = holes(kind, share)
    wanted = torch.stack([exact(one, mask) for one, mask in zip(image, known, strict=True)])
    found = linear_imputation(image, known)
    assert float((found - wanted).abs().max()) < 0.01 * float(image.std())
    precise = linear_imputation(image.double(), known, tolerance=1e-12)
    torch.testing.assert_close(precise, wanted, rtol=0, atol=1e-9)
    single = torch.cat([linear_imputation(image[i : i + 1], known[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(single, found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fill", [pull_push, linear_imputation])
def test_what_is_known_stays_and_what_is_smooth_is_continued(fill):
    image = torch.rand(2, 3, 9, 13)
    known = torch.rand(2, 9, 13) > 0.4
    filled = fill(image, known)
    assert torch.equal(filled.movedim(1, 3)[known], image.movedim(1, 3)[known])
    assert float(filled.min()) >= float(image.min()) - 1e-3
    assert float(filled.max()) <= float(image.max()) + 1e-3
    gray = torch.full((2, 3, 9, 13), 0.3)
    torch.testing.assert_close(fill(gray, known), gray)


@pytest.mark.parametrize("fill", [pull_push, linear_imputation])
def test_all_or_nothing_known(fill):
    image = torch.rand(2, 3, 8, 8)
    known = torch.stack([torch.ones(8, 8), torch.zeros(8, 8)]).bool()
    filled = fill(image, known)
    assert torch.equal(filled[0], image[0])
    torch.testing.assert_close(filled[1], image[1].mean((1, 2), keepdim=True).expand(3, 8, 8))
