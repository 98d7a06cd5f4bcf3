import importlib
import time

import pytest
import torch

import benchmarks
from benchmarks import cbm_step, intervention
from benchmarks.__main__ import main, write
from benchmarks.timing import Row, Times, side_by_side


def test_a_benchmark_measures_and_is_written_down(tmp_path, monkeypatch, capsys):
    def cheap(repetitions):
        return intervention.measure(repetitions, images=4, classes=3, chosen=("uncertainty",))

    monkeypatch.setattr(importlib.import_module("benchmarks.memory_layout"), "measure", cheap)
    results, threads = tmp_path / "results.md", torch.get_num_threads()
    main(["memory_layout", "--repetitions", "1", "--output", str(results)])
    assert torch.get_num_threads() == threads
    shown = capsys.readouterr().out
    assert "4 images, 112 concepts, 28 groups, 3 classes" in shown
    assert "python -m benchmarks memory_layout --repetitions 1" in shown
    assert shown.strip() in results.read_text()


def test_the_cbm_step_trains_and_fills_its_metrics():
    rows = cbm_step.measure(1, ("small_cnn",))
    assert [row.bar for row in rows] == ["<= 1.02"] * 2
    assert all(row.cpu > 0 and row.wall > 0 for row in rows)


def test_an_unknown_benchmark_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["cbm"])
    assert "unknown benchmark 'cbm': there are cbm_step, toybirds" in capsys.readouterr().err


def test_every_benchmark_has_a_measure():
    for name in benchmarks.BENCHMARKS:
        assert callable(importlib.import_module(f"benchmarks.{name}").measure)


def test_sections_are_replaced_and_kept_in_order(tmp_path):
    results = tmp_path / "results.md"
    for name, text in (("toybirds", "old"), ("memory_layout", "kept"), ("cbm_step", "first"), ("toybirds", "new")):
        write(results, name, f"## {name}\n\n{text}\n")
    sections = results.read_text().split("## ")[1:]
    assert [section.split() for section in sections] == [
        ["cbm_step", "first"],
        ["toybirds", "new"],
        ["memory_layout", "kept"],
    ]


def test_ratios_are_medians_over_rounds_and_bars_are_judged_by_cpu_time():
    ours, plain = Times([2.0, 9.0, 4.0], [1.0, 1.0, 1.0]), Times([2.0, 3.0, 2.0], [2.0, 2.0, 2.0])
    assert ours.ratio(plain) == (2.0, 0.5)
    assert ours.times(2, plus=(1.0, 0.0)).cpu == [5.0, 19.0, 9.0]
    assert [Row("", "", "", 2.0, 0.5, bar).verdict for bar in ("<= 1.02", ">= 2", "")] == ["no", "yes", ""]


def test_candidates_take_turns():
    order = []
    times = side_by_side({"a": lambda: order.append("a"), "b": lambda: time.sleep(0.002)}, 3, warm_up=2)
    assert len(order) == 5
    assert [len(times[name].cpu) for name in "ab"] == [3, 3]
    assert min(times["b"].wall) >= 0.002
