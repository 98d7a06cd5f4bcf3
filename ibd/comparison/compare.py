"""``ibd.compare``: explanations of several models by several methods, measured against truth and against each other."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from tqdm.auto import tqdm

from ibd import registry
from ibd.comparison.cache import Cache
from ibd.comparison.contrast import find_contrast, missing_networks
from ibd.comparison.devices import chosen_device
from ibd.comparison.foreign import foreign_models, no_accounts
from ibd.comparison.images import choose_images, has_split
from ibd.comparison.methods import choose_methods
from ibd.comparison.models import ComparedModel, load_models, named
from ibd.comparison.one_model import OneModel, Work
from ibd.comparison.options import CompareOptions
from ibd.comparison.plan import expanded, make_plan
from ibd.comparison.report import Report
from ibd.comparison.results import Comparison
from ibd.comparison.settings import describe
from ibd.comparison.sources import Data, find_data
from ibd.data.base import Split
from ibd.errors import ConfigError
from ibd.lock import locked
from ibd.models.foreign import Preprocess
from ibd.types import RunLike

_log = logging.getLogger(__name__)


def compare(
    runs: Sequence[RunLike] = (),
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
    models: Mapping[str, Any] | None = None,
    data: Data = None,
    preprocess: Preprocess | None = None,
    label: int | str | None = None,
    contrast: RunLike | nn.Module | None = None,
) -> Report:
    """Measure what explanations are worth, and return a report.

    All models are asked about the same images; what is explained, and measured, is the logit of the class that a model
    predicts less the mean logit of all classes. Every table has rows of reference maps (noise, a center prior, edges,
    ...) and, where images can be drawn anew, of an oracle.

    Args:
        runs: run folders, checkpoints, or what ``ibd.fit`` returned; all on the same data. Several of one family count
            as its seeds.
        explainers: registered names, or dicts of a name and options, with a ``label`` where one comes twice; None takes
            `ibd.comparison.methods.DEFAULT`.
        metrics: names of metrics, or of groups of them (`ibd.comparison.plan.GROUPS`); None takes all that the data
            allows but the slow ones, "all" takes these too.
        images: number of images, as many of each class as can be.
        split: split that the images are taken from.
        seed: seed of the choice of images and of all random numbers.
        probe_images: number of images that are explained again and again, for robustness and sanity.
        shown: number of images of a model that the report may draw, up to a third of which it gets wrong.
        output: folder for the report; finished pieces are kept in it, so that a comparison that was killed goes on.
            None keeps nothing.
        overrides: ``data.key=value`` changes to the data of the runs.
        progress: whether to show bars.
        device: device for the models: "auto" is the first CUDA device where there is one, else the CPU.
        trust: trust in all runs, as of ``ibd.load_model``.
        models: name -> network: any ``nn.Module`` that classifies images, an ``ibd.ForeignModel`` where more is to be
            said of it, or a list of several trainings. They are asked what runs are asked; an account of their own they
            have not. Beside runs they are asked about the data of these.
        data: what `models` are asked about without runs: a folder of images, a config file, any data set of (image,
            label) or (image, label, masks), or a data module; see ``ibd.data.GivenImages``.
        preprocess: what is done to images in [0, 1] before an ``nn.Module``: "unit", nothing; "imagenet"; ``{"mean":
            ..., "std": ...}``; or a module. There is no default; it is tried on a few images, and the report says how
            many are right.
        label: which of several labels of an image is asked about, where the data has several.
        contrast: a run, or a network, that was trained on the other labels of ``PastedScenes``, for the metrics of the
            group "bim".

    Returns:
        A report; ``report.save(folder)`` writes it. With `output` it is written there already.

    Raises:
        ConfigError: runs on different data, an unknown explainer or metric, a metric that the data does not allow, a
            network that cannot be asked about the data.
        CheckpointError: a run that cannot be read.
        DataError: there are no images.
    """
    asked = CompareOptions(
        runs=runs,
        explainers=explainers,
        metrics=metrics,
        images=images,
        split=split,
        seed=seed,
        probe_images=probe_images,
        shown=shown,
        output=output,
        overrides=overrides,
        progress=progress,
        device=device,
        models=models,
        data=data,
        preprocess=preprocess,
        label=label,
        contrast=contrast,
    )
    asked.check()
    with registry.trusting(trust), locked(output, "a comparison", "compare"):
        _check_parts(output)
        report = _compare(asked)
        if output is not None:
            report.save(output)
    return report


def compare_part(part: str, trust: bool = False, **options: Any) -> str:
    """Measure a part of a comparison, and keep its finished pieces for the call of `compare` that makes the report.

    The parts may run at once, on any computers that see the same folder. A part is a share of the pairs of a model and
    an explainer; the call without a part then finds their pieces, and computes what is missing: its report is the one
    that it would have made alone.

    Args:
        part: ``i/n``: part i, counted from 0, of n.
        trust: trust in all runs, as of `compare`.
        options: options of `compare`, the same for all parts; `output` is needed.

    Returns:
        What was done, in a line.

    Raises:
        ConfigError: no such part, no output, and what `compare` raises.
    """
    share, shares = _share(part)
    asked = CompareOptions(**options)
    asked.check()
    if asked.output is None:
        raise ConfigError("compare: part: a folder for the finished pieces is needed, output=FOLDER")
    place = Path(asked.output) / _PARTS / f"{share}_of_{shares}"
    with registry.trusting(trust), locked(place, "this part of a comparison", "compare"):
        work, models, comparison = _prepared(asked, alone=False)
        pairs = [(model, method) for model in models for method in work.methods if method.explainer is not None]
        mine = pairs[share::shares]
        with _bar(asked, sum(1 for _ in mine) * (1 + len(work.plan.groups()))) as bar:
            for number, model in enumerate(models):
                methods = [method for other, method in mine if other is model]
                whole = number % shares == share
                if methods or whole:
                    OneModel(work, model, comparison, bar).measure_part(methods, whole)
    counts = f"{work.cache.computed} pieces computed, {work.cache.found} found"
    return f"part {share} of {shares}: {len(mine)} of {len(pairs)} explanations of models, {counts}"


_PARTS = "parts"


def _share(part: str) -> tuple[int, int]:
    """Return which part of how many a text means.

    Raises:
        ConfigError: it means none.
    """
    share, _, shares = part.partition("/")
    if not (share.isdecimal() and shares.isdecimal() and int(share) < int(shares)):
        raise ConfigError(f"compare: part: '{part}' given, i/n is needed: 0/2 and 1/2 are the two halves")
    return int(share), int(shares)


def _check_parts(output: str | Path | None) -> None:
    """Look for parts that are being measured now, whose half-written pieces would be removed.

    Raises:
        ConfigError: there is one.
    """
    if output is not None:
        for place in sorted((Path(output) / _PARTS).glob("*")):
            with locked(place, "a part of this comparison", "compare"):
                pass


def _prepared(asked: CompareOptions, alone: bool) -> tuple[Work, list[ComparedModel], Comparison]:
    """Return what there is to do, the models, and a comparison without results."""
    methods = choose_methods(asked.explainers, oracle=True)
    expanded(asked.metrics)  # a mistake in what is asked for is found before a model is read
    models = _models(asked)
    data = models[0].data
    chosen = choose_images(data, asked.split, asked.images, asked.seed)
    own = not all(model.foreign for model in models)
    contrast = find_contrast(asked, data)
    networks = missing_networks(data, contrast)
    plan = make_plan(asked.metrics, chosen, bool(data.spec.concept_names), own, has_split(data, "val"), networks)
    if not chosen.scenes:
        methods = [method for method in methods if method.info.kind != "oracle"]
    if not own:
        methods = [method for method in methods if method.info.kind != "intrinsic"]
    cache = Cache(None if asked.output is None else Path(asked.output) / "cache", alone)
    comparison = Comparison(
        settings=describe(data, chosen, asked.seed, asked.probe_images),
        class_names=list(data.spec.class_names),
        part_names=chosen.part_names,
        models=[],
        explainers=[method.info for method in methods],
        metrics=plan.metrics,
        image_ids=chosen.ids,
        labels=chosen.labels.numpy(),
        skipped=[*plan.skipped, *no_accounts(models)],
    )
    if contrast is not None:
        comparison.settings["contrast"] = contrast.info.run
    work = Work(chosen, methods, plan, cache, asked.probe_images, asked.seed, asked.shown, contrast)
    return work, models, comparison


def _bar(asked: CompareOptions, total: int) -> Any:
    """Return a bar of progress, unless none is wanted."""
    return tqdm(total=total, desc="comparing", disable=None if asked.progress else True, dynamic_ncols=True)


def _compare(asked: CompareOptions) -> Report:
    """Measure, and return the report, which is not written yet."""
    work, models, comparison = _prepared(asked, alone=True)
    with _bar(asked, len(models) * work.pieces) as bar:
        for model in models:
            OneModel(work, model, comparison, bar).measure()
    _log.info("%d pieces computed, %d found", work.cache.computed, work.cache.found)
    return Report(comparison)


def _models(asked: CompareOptions) -> list[ComparedModel]:
    """Return the models of runs, then those that are given as networks."""
    models = load_models(asked.runs, asked.split, asked.overrides, asked.device) if asked.runs else []
    if asked.models:
        data = models[0].data if models else find_data(asked.data, asked.overrides, asked.label)
        place = chosen_device(asked.device)
        models += foreign_models(asked.models, data, asked.split, asked.preprocess, place)
    return named(models)
