"""Directions: what they read from features, and the file that keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ibd.errors import ConfigError, DataError, IbdError, UnsupportedError
from ibd.explain.directions import Directions
from ibd.explain.nonnegative import nonnegative_codes


def _directions(reading: str = "linear", **more: Any) -> Directions:
    vectors = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    offsets = torch.tensor([0.0, -1.0]) if reading != "nonnegative" else torch.zeros(2)
    values: dict[str, Any] = {
        "layer": "features.3",
        "vectors": vectors,
        "offsets": offsets,
        "names": ("red", "eye"),
        "method": "cav",
        "reading": reading,
    }
    return Directions(**{**values, **more})


def test_reads_by_hand() -> None:
    features = torch.tensor([[3.0, 1.0, 9.0], [-1.0, 0.0, 9.0], [1.0, 3.0, 9.0]])
    assert _directions().read(features).tolist() == [[3, 1], [-1, -1], [1, 5]]
    assert _directions("relu").read(features).tolist() == [[3, 1], [0, 0], [1, 5]]
    assert _directions("topk", details={"active": 1}).read(features).tolist() == [[3, 0], [0, 0], [0, 5]]
    assert torch.allclose(
        _directions("nonnegative").read(features), torch.tensor([[3, 0.5], [0, 0], [1, 1.5]]), atol=1e-5
    )


@pytest.mark.parametrize("reading", ["linear", "relu", "topk", "nonnegative"])
def test_map_is_read_at_each_place(reading: str) -> None:
    found = _directions(reading, details={"active": 1})
    maps = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    read = found.read(maps)
    assert read.shape == (2, 2, 4, 5)
    assert torch.allclose(read[1, :, 2, 3], found.read(maps[1:, :, 2, 3])[0], atol=1e-5)


def test_nonnegative_codes_are_those_of_scipy() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    generator = torch.Generator().manual_seed(1)
    rows, parts = torch.rand(12, 9, generator=generator), torch.rand(5, 9, generator=generator)
    codes = nonnegative_codes(rows.double(), parts.double())
    for row, code in zip(rows.double().numpy(), codes, strict=True):
        peer = optimize.nnls(parts.double().numpy().T, row)[0]
        assert np.allclose(code.numpy(), peer, atol=1e-4)


def test_gradient_of_nonnegative_codes_is_that_of_the_solution() -> None:
    generator = torch.Generator().manual_seed(2)
    rows = torch.rand(4, 6, generator=generator, dtype=torch.float64)
    parts = torch.rand(3, 6, generator=generator, dtype=torch.float64)
    given = rows.clone().requires_grad_()
    codes = nonnegative_codes(given, parts)
    (gradient,) = torch.autograd.grad(codes.sum(), given)
    for place in [(0, 0), (2, 4)]:
        moved = torch.zeros_like(rows)
        moved[place] = 1e-4
        change = (nonnegative_codes(rows + moved, parts) - nonnegative_codes(rows - moved, parts)).sum() / 2e-4
        assert float(gradient[place]) == pytest.approx(float(change), abs=1e-2)


def test_autocast_changes_nothing() -> None:
    maps = 100 * torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    plain = _directions().read(maps)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(_directions().read(maps), plain)


def test_writes_what_was_read() -> None:
    found = _directions("nonnegative", center=torch.tensor([0.0, 0.0, 9.0]))
    rows = torch.tensor([[3.0, 1.0, 0.0]])
    assert torch.allclose(found.write(found.read(rows)), torch.tensor([[3.0, 1.0, 9.0]]), atol=1e-5)
    with pytest.raises(UnsupportedError, match="do not add up to"):
        _directions().write(torch.ones(1, 2))


def test_file_holds_all_of_it(tmp_path: Path) -> None:
    more = {"details": {"active": 1, "seeds": [0, 1]}, "parts": torch.ones(2, 3), "center": torch.ones(3)}
    found = _directions("topk", **more)
    again = Directions.load(found.save(tmp_path / "deep" / "directions.npz"))
    for name in ("vectors", "offsets", "parts", "center"):
        assert torch.equal(getattr(again, name), getattr(found, name))
    for name in ("layer", "names", "method", "reading", "details"):
        assert getattr(again, name) == getattr(found, name)
    assert Directions.load(_directions().save(tmp_path / "plain.npz")).parts is None


def test_file_runs_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", words=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "new.npz", words=np.array(json.dumps({"format": 99})))
    np.savez(tmp_path / "wrong.npz", words=np.array(json.dumps({"format": 1, "names": ["a"], "__class__": "b"})))
    for name in ("bad", "text", "new", "wrong", "none"):
        with pytest.raises(DataError) as caught:
            Directions.load(tmp_path / f"{name}.npz")
        assert f"{name}.npz" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reading": "reul"}, "reading: 'reul' is not one of linear, relu, topk, nonnegative. Did you mean 'relu'?"),
        ({"names": ("red",)}, "1 names given for 2 directions"),
        ({"names": ("red", "red")}, "the name 'red' is given twice"),
        ({"offsets": torch.zeros(3)}, r"offsets: \(2,\) numbers are needed, not \(3,\)"),
        ({"vectors": torch.full((2, 3), torch.nan)}, "vectors holds values that are not finite"),
        ({"reading": "topk"}, "active: None given"),
        ({"reading": "nonnegative", "offsets": torch.ones(2)}, "a 'nonnegative' reading has none"),
    ],
)
def test_bad_directions_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        _directions(**changes)
    assert "\n" not in str(caught.value)


def test_features_of_another_layer_are_refused() -> None:
    with pytest.raises(IbdError, match=r"\(N, 3\) of layer 'features.3' are needed, not \(2, 4\)"):
        _directions().read(torch.ones(2, 4))
