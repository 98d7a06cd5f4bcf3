"""``ibd.compare``: explanations of several models by several methods, measured against truth and against each other."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ibd import registry
from ibd.comparison import case_measures, measuring
from ibd.comparison.answers import Answers, explain_all, with_metric_seconds
from ibd.comparison.asked import Asked, Case
from ibd.comparison.cells import Cells
from ibd.comparison.methods import ORACLE, OTHER, UNITS, Method, choose_methods
from ibd.comparison.nulls import NULLS, null_maps, other_image
from ibd.comparison.paintings import add_paintings
from ibd.comparison.plan import Plan, expanded, make_plan
from ibd.comparison.questions import Questions, choose_questions
from ibd.comparison.report import Report
from ibd.comparison.results import Comparison, CostInfo, Skipped
from ibd.comparison.settings import describe
from ibd.comparison.showing import shown_images
from ibd.comparison.subjects import Subject, accuracy, load_subjects
from ibd.comparison.tagged_images import add_shortcut
from ibd.data.base import Split
from ibd.errors import ConfigError, UnsupportedError, check_range
from ibd.lock import locked
from ibd.types import RunLike

_log = logging.getLogger(__name__)

Answered = Mapping[str, Answers]
Truth = tuple[Tensor, Tensor]


def compare(
    runs: Sequence[RunLike],
    explainers: Sequence[str | Mapping[str, Any]] | None = None,
    metrics: Sequence[str] | None = None,
    images: int = 64,
    split: Split = "test",
    seed: int = 0,
    probe_images: int = 8,
    shown: int = 24,
    output: str | Path | None = None,
    overrides: Sequence[str] = (),
    progress: bool = True,
    device: str = "auto",
    trust: bool = False,
) -> Report:
    """Measure what explanations are worth, and return a report.

    All models are asked about the same images; what is explained, and measured, is the logit of the class that a model
    predicts less the mean logit of all classes. Every table has rows of nulls (noise, a centre prior, edges, ...) and,
    where images can be drawn anew, of an oracle.

    Args:
        runs: run folders, checkpoints, or what ``ibd.fit`` returned; all on the same data. Several of one family count
            as its seeds.
        explainers: registered names, or dicts of a name and options, with a ``label`` where one comes twice; None takes
            `ibd.comparison.methods.DEFAULT`.
        metrics: names of metrics, or of groups of them (`ibd.comparison.plan.GROUPS`); None takes all that the data
            allows but the slow ones, "all" takes these too.
        images: how many, as many of each class as can be.
        split: which images.
        seed: of the choice of images and of all random numbers.
        probe_images: how many of them are explained again and again, for robustness and sanity.
        shown: how many of them the report may draw.
        output: folder for the report; finished pieces are kept in it, so that a comparison that was killed goes on.
            None keeps nothing.
        overrides: ``data.key=value`` changes to the data of the runs.
        progress: whether to show bars.
        device: where the models are asked: "auto" is the first CUDA device where there is one, else the CPU.
        trust: as of ``ibd.load_model``, for all runs.

    Returns:
        A report; ``report.save(folder)`` writes it. With `output` it is written there already.

    Raises:
        ConfigError: runs on different data, an unknown explainer or metric, a metric that the data does not allow.
        CheckpointError: a run that cannot be read.
        DataError: there are no images.
    """
    if isinstance(runs, str | Path):
        raise ConfigError(f"compare: runs: '{runs}' given, a list of runs is needed")
    check_range("compare: images", images, least=1)
    check_range("compare: probe_images", probe_images, least=1)
    check_range("compare: shown", shown, least=0)
    check_range("compare: seed", seed, least=0)
    if split not in ("train", "val", "test"):
        raise ConfigError(f"compare: split: '{split}' is not one of train, val, test")
    with registry.trusting(trust), locked(output, "a comparison", "compare"):
        report = _compare(
            runs, explainers, metrics, images, split, seed, probe_images, shown, output, overrides, progress, device
        )
        if output is not None:
            report.save(output)
    return report


def _compare(
    runs: Sequence[Any],
    explainers: Sequence[str | Mapping[str, Any]] | None,
    metrics: Sequence[str] | None,
    images: int,
    split: Split,
    seed: int,
    probe_images: int,
    shown: int,
    output: str | Path | None,
    overrides: Sequence[str],
    progress: bool,
    device: str,
) -> Report:
    """Measure, and return the report, which is not written yet."""
    methods = choose_methods(explainers, oracle=True)
    expanded(metrics)  # a mistake in what is asked for is found before a model is read
    subjects = load_subjects(runs, split, overrides, device)
    data = subjects[0].data
    questions = choose_questions(data, split, images, seed)
    plan = make_plan(metrics, questions, bool(data.spec.concept_names))
    if not questions.scenes:
        methods = [method for method in methods if method.name != ORACLE]
    cells = Cells(None if output is None else Path(output) / "cells")
    found = Comparison(
        settings=describe(data, questions, seed, probe_images),
        class_names=list(data.spec.class_names),
        part_names=questions.part_names,
        models=[],
        explainers=[method.info for method in methods],
        metrics=plan.metrics,
        image_ids=questions.ids,
        labels=questions.labels.numpy(),
        skipped=list(plan.skipped),
    )
    pieces = len(subjects) * (2 + len(methods) * (1 + len(plan.groups())))
    with tqdm(total=pieces, desc="comparing", disable=None if progress else True, dynamic_ncols=True) as bar:
        for subject in subjects:
            _compare_one(found, subject, questions, methods, plan, cells, bar, probe_images, seed, shown)
    _log.info("%d pieces computed, %d found", cells.computed, cells.found)
    return Report(found)


def _compare_one(
    found: Comparison,
    subject: Subject,
    questions: Questions,
    methods: Sequence[Method],
    plan: Plan,
    cells: Cells,
    bar: Any,
    probe_images: int,
    seed: int,
    shown: int,
) -> None:
    """Measure all methods on one model."""
    name = subject.info.name
    bar.set_postfix_str(name)
    key = {"kind": "accuracy", "model": subject.fingerprint, "data": questions.fingerprint, "split": subject.asked}
    right = cells.get(key, lambda: {"accuracy": np.array(accuracy(subject.module, subject.data, questions.split))})
    share, images, majority = right["accuracy"].tolist()
    found.models.append(replace(subject.info, accuracy=share, images=int(images), majority=majority))
    case = case_measures.make_case(subject, questions, cells, plan, probe_images, seed)
    bar.update()
    answers: dict[str, Answers] = {}
    for method in methods:
        bar.set_postfix_str(f"{name}, {method.name}")
        before = bar.n
        try:
            answers[method.name] = _answer(case, method, methods, answers)
        except UnsupportedError as error:
            found.skipped.append(Skipped(name, method.name, None, str(error)))
            bar.update(1 + len(plan.groups()))
            continue
        asked = Asked(case, method, answers[method.name], _validation(case, method, methods, answers))
        bar.update()
        found.costs[name, method.name] = _measure(found, asked, plan, bar)
        bar.update(before + 1 + len(plan.groups()) - bar.n)
    _agree(found, case, methods, answers)
    add_paintings(found, case, methods, answers, plan)
    bar.update()
    case_measures.add_honesty(found, case, plan)
    add_shortcut(found, case, methods)
    found.shown[:] = shown_images(found, case, methods, answers, shown)


def _answer(case: Case, method: Method, methods: Sequence[Method], answers: Mapping[str, Answers]) -> Answers:
    """Return a method's maps of all images, or what the model's own units contribute."""
    questions, count = case.questions, len(case.questions)
    free, nothing = CostInfo(0, 0, 0, 0), torch.full((count,), torch.nan, dtype=torch.float64)
    if method.explainer is not None:
        return explain_all(case.subject, method, questions, case.classes, case.cells)
    if method.name == UNITS:
        own = next(m.name for m in methods if m.info.kind == "intrinsic")
        if case.unit_parts is None or questions.masks is None:
            kind = case.subject.info.unit_kind
            raise UnsupportedError(f"the {kind}s of this model are not named after the parts of the images")
        if own not in answers or answers[own].units is None:
            raise UnsupportedError("the model's own contributions are not there")
        return Answers(None, answers[own].value, answers[own].units, answers[own].cost)
    if method.name == ORACLE:
        return Answers(case_measures.oracle_maps(case), nothing, None, free)
    if method.name in NULLS:
        return Answers(null_maps(method.name, questions.images, questions.ids, case.seed), nothing, None, free)
    first = next((each for each in answers.values() if each.maps is not None), None)
    if first is None or first.maps is None:
        raise UnsupportedError("there is no map of another image")
    if len(set(questions.labels.tolist())) < 2:
        raise UnsupportedError("there is no image of another class")
    return Answers(other_image(first.maps, questions.labels), nothing, None, free)


def _validation(case: Case, method: Method, methods: Sequence[Method], answers: Answered) -> Truth | None:
    """Return maps and truth masks of validation images, by which thresholds are chosen; None where there are none."""
    other = case.validation
    if other is None or other.truth is None or answers[method.name].maps is None:
        return None
    first = next(each for each in methods if each.name in answers and answers[each.name].maps is not None)
    wanted = [first, method] if method.name == OTHER else [method]
    found: dict[str, Answers] = {}
    try:
        for each in wanted:
            found[each.name] = _answer(other, each, methods, found)
    except UnsupportedError:
        return None
    maps = found[method.name].maps
    return None if maps is None else (maps, other.truth)


def _measure(found: Comparison, asked: Asked, plan: Plan, bar: Any) -> CostInfo:
    """Run the groups of metrics that apply; return the cost with the seconds that each took."""
    seconds: dict[str, float] = {}
    model, method = asked.case.subject.info.name, asked.method.name
    for group in plan.groups():
        measure = measuring.MEASURES.get(group)
        if measure is None:
            continue
        why = measuring.why_not(group, asked)
        if why is not None:
            found.skipped.append(Skipped(model, method, group, why)) if why else None
            continue
        bar.set_postfix_str(f"{model}, {method}, {group}")
        started = time.perf_counter()
        arrays = measuring.kept(group, asked)
        seconds[group] = float(arrays.pop("seconds", time.perf_counter() - started))
        if "unsupported" in arrays:
            found.skipped.append(Skipped(model, method, group, str(arrays["unsupported"])))
            continue
        measuring.add(found, asked, group, arrays, plan)
        bar.update()
    return with_metric_seconds(asked.answers.cost, seconds)


def _agree(found: Comparison, case: Case, methods: Sequence[Method], answers: Mapping[str, Answers]) -> None:
    """Add how alike the maps of a model's methods are, pair by pair, and each with the model's own."""
    if not any(name.startswith("agreement") for name in found.metrics):
        return
    model = case.subject.info.name
    with_maps = [
        m for m in methods if m.name in answers and answers[m.name].maps is not None and m.info.kind != "oracle"
    ]
    if len(with_maps) < 2:
        return
    maps = [each for m in with_maps if (each := answers[m.name].maps) is not None]
    names = [method.name for method in with_maps]
    found.agreement_names[model] = names
    own = next((i for i, method in enumerate(with_maps) if method.info.kind == "intrinsic"), None)
    for metric, matrix in case_measures.agreement(case, maps, names).items():
        if metric not in found.metrics:
            continue
        found.agreement[model, metric] = _mean(matrix)
        if own is not None:
            for i, name in enumerate(names):
                if i != own:
                    found.scores[model, name, metric] = matrix[:, own, i]


def _mean(matrix: Any) -> Any:
    """Return the mean over images of what is defined; NaN where nothing is."""
    known = ~np.isnan(matrix)
    count = known.sum(0)
    return np.where(count > 0, np.where(known, matrix, 0).sum(0) / np.maximum(count, 1), np.nan)
