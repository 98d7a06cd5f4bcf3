"""The ``ibd`` command. Every verb is a typed function; heavy imports happen inside of it.

Exit codes: 0; 2 for the user's mistake, with one line on stderr; 1 for ours; 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ibd import registry
from ibd.app.arguments import in_order, parser
from ibd.app.streams import silenced, speaking
from ibd.app.terminal import newest, options, writing
from ibd.app.verbs import VERBS as OTHERS
from ibd.config.files import find_config, shipped_names
from ibd.errors import ConfigError, IbdError, did_you_mean, disk_trouble
from ibd.printing import shown
from ibd.techniques import TECHNIQUES

if TYPE_CHECKING:
    from ibd.data.base import Split


def fit(arguments: list[str]) -> int:
    """Train: CONFIG [key=value ...] [resume=RUN]. The run lands in runs/NAME/TIME."""
    from ibd.config import load_config

    files = [a for a in arguments if "=" not in a]
    overrides = [a for a in arguments if "=" in a and not a.startswith("resume=")]
    resume = [a.removeprefix("resume=") for a in arguments if a.startswith("resume=")]
    if len(resume) > 1:
        raise ConfigError(f"one run to resume at a time, not {len(resume)}: {', '.join(resume)}")
    if len(files) > 1:
        raise ConfigError(f"one config file at a time, not {len(files)}: {', '.join(files)}")
    if not files and not resume:
        raise ConfigError("which config? For example: ibd fit toybirds/tiny (`ibd list configs` names all)")
    if files:
        with silenced("ibd.config"):  # the training says it
            load_config(files[0], *overrides)  # tells of most mistakes before Lightning is imported
    from pytorch_lightning.utilities import rank_zero_only

    from ibd.training.display import headline
    from ibd.training.hints import command
    from ibd.training.runner import fit as run_fit

    run = run_fit(files[0] if files else None, *overrides, resume=newest(resume[0]) if resume else None)
    if rank_zero_only.rank != 0:  # type: ignore[attr-defined]
        return 0
    _say(f"{'interrupted' if run.interrupted else 'done'}: {run.folder}")
    figures = "  ".join(f"{name} {value:.4f}" for name, value in headline(run.metrics, run.monitor).items())
    _say(f"{run.checkpoint.stem} epoch {run.epoch}: {figures}")
    if run.interrupted:
        _say(f"usable as it is, with the finished epochs; to continue: {command('fit', run.folder)}")
    else:
        _say(f"next: {command('test', run.folder)}")
    return 130 if run.interrupted else 0


def calibrate(run: str, changes: list[str], which: str) -> None:
    """Choose how sure a model may be called, on its validation images: RUN [method=...] [coverage=...] [accuracy=...].

    Predictions then have calibrated probabilities and sets of classes, and abstain below a threshold; `ibd test` says
    what that is worth. method=none coverage=null takes a calibration away.
    """
    from ibd.app.calibrate import show_calibration

    for line in show_calibration(newest(run), changes, which):
        _say(line)


def curve(run: str, changes: list[str], policies: str, trials: int, split: str, out: str | None, seed: int) -> None:
    """Accuracy as concept groups are corrected, by policy: a table, a figure and a CSV.

    noise=0.1 is a person who errs at this rate, unknown=0.1 one who does not know; noise.GROUP=0.1 is the rate of one
    group, noise=FILE.yaml a file with them.
    """
    from ibd.app.curve import show_curve

    chosen = [p for p in policies.split(",") if p]
    if not chosen:
        raise ConfigError("--policies: at least one is needed")
    which: Split = "val" if split == "val" else "test"
    _say(show_curve(newest(run), changes, chosen, trials, which, Path(out) if out else None, seed))


def covariance(
    run: str,
    changes: list[str],
    split: str,
    method: str,
    kind: str,
    rank: int | None,
    placement: str,
    precision: float,
    seed: int,
    out: str | None,
) -> None:
    """Let the concepts of a trained bottleneck depend on each other: a new run, in which a correction moves others."""
    from ibd.app.covariance import add_covariance

    chosen = {"split": split, "method": method, "covariance": kind, "rank": rank, "placement": placement}
    fitting: dict[str, Any] = {**chosen, "precision_weight": precision, "seed": seed}
    for line in add_covariance(newest(run), changes, Path(out) if out else None, **fitting):
        _say(shown(line))


def prototypes(run: str, changes: list[str], images: int, top: int, pages: int, split: str, out: str | None) -> None:
    """Say what the prototypes of a run are worth, and draw them: figures, pictures, their sources, a table of rows."""
    from ibd.app.pictures import show_prototypes
    from ibd.data.base import SPLITS

    chosen = next(name for name in SPLITS if name == split)
    for line in show_prototypes(newest(run), changes, chosen, images, top, pages, Path(out) if out else None):
        _say(shown(line))


def axes(
    run: str, changes: list[str], baseline: str | None, images: int, top: int, pages: int, split: str, out: str | None
) -> None:
    """Say how well the axes of a whitened network stand for concepts, and draw them: figures, pictures, tables."""
    from ibd.app.axes import show_axes
    from ibd.data.base import SPLITS

    chosen = next(name for name in SPLITS if name == split)
    without = None if baseline is None else newest(baseline)
    for line in show_axes(newest(run), changes, without, chosen, images, top, pages, Path(out) if out else None):
        _say(shown(line))


def explain(run: str, image: str, changes: list[str], figure: str | None) -> None:
    """Ask a model, and post-hoc methods, where it looked, and draw that: RUN IMAGE [target=...] [explainers=a,b].

    RUN may be package.module:make_model of any network, with model.preprocess=imagenet or the like.
    """
    from ibd.app.explain import show_explanations
    from ibd.app.foreign import is_place

    for line in show_explanations(run if is_place(run) else newest(run), image, changes, figure):
        _say(shown(line))


def compare(runs: list[str], out: str | None) -> None:
    """Measure what explanations are worth, of one or several models, and write a report: RUN RUN ... [key=value].

    RUN is a run folder or a checkpoint, all runs on the same data; or package.module:make_model of any network, with
    data=FOLDER and model.preprocess=imagenet (or unit, or model.mean=[r,g,b] model.std=[r,g,b]).
    """
    from ibd.app.compare import compare_runs
    from ibd.app.foreign import is_place

    changes = [text for text in runs if "=" in text and not os.path.exists(text)]  # noqa: PTH110  # long ones, too
    given = [text if is_place(text) else newest(text) for text in runs if text not in changes]
    for line in compare_runs(given, changes, out):
        _say(line)


def config(file: str, changes: list[str]) -> None:
    """Print a config as it resolves, with a sentence on every option."""
    from ibd.config import describe

    _say(describe(file, *changes))


def data(source: str, picture: str, changes: list[str]) -> None:
    """Draw what the data is: images of SOURCE (a config file, or the name of a data set) with what is known of them."""
    from ibd.io import build_data, load_data

    if source.endswith((".yaml", ".yml")) or find_config(Path(source)).exists():
        module = load_data(source, *changes)
    else:
        module = build_data({"name": source, **options(changes)})
    with writing(Path(picture)):
        module.save_overview(picture)
    _say(f"picture: {picture}")


def init(folder: str, config: str | None) -> None:
    """Look at a folder of your images, and write a config for it and a table of concepts to fill in."""
    from ibd.app.init import begin

    for line in begin(Path(folder), None if config is None else Path(config)):
        _say(line)


def list_names(kind: str | None) -> None:
    """List what a config can name, the configs that come with ibd, and what else can be done."""
    if kind in (None, "configs"):
        _say("configs:\n  " + "\n  ".join(shipped_names()))
    if kind in (None, "techniques"):
        _say("techniques:")
        for technique in TECHNIQUES:
            _say(
                f"  {technique.name:<30}{technique.command or technique.place.replace(':', '.')}\n    {technique.says}"
            )
    if kind in ("configs", "techniques"):
        return
    for listed in [kind] if kind else registry.REGISTRY:
        others = [f"{beginning}NAME" for beginning in registry.FAMILIES.get(listed, {})]
        _say(f"{listed}:\n  " + "\n  ".join([*registry.names(listed), *others] or ["(none yet)"]))
    if kind in (None, "metrics"):
        from ibd.comparison.groups import GROUPS

        _say("metrics of ibd compare, by group:")
        for group in GROUPS.values():
            _say(f"  {group.name}" + ("" if group.by_default else " (only if it is named, or with `all`)"))
            _say("\n".join(f"    {metric.name:<26}{metric.described}" for metric in group.metrics))


def demo(folder: str, changes: list[str]) -> None:
    """Train a plain CNN and a concept bottleneck on the built-in birds, intervene, compare explanations, and report."""
    from ibd.app.demo import run_demo

    if "=" in folder:  # no folder is named, the first change stands in its place
        folder, changes = "demo", [folder, *changes]
    with registry.trusting():  # it reads no other runs than those it trains
        run_demo(Path(folder), *changes)


def _of_lines(verb: Callable[..., Iterable[str]]) -> Callable[..., None]:
    """Return a verb that prints the lines of one in a file of its own."""

    @wraps(verb)
    def say(**given: object) -> None:
        for line in verb(**given):
            _say(shown(line))

    return say


VERBS: dict[str, Callable[..., int | None]] = {
    "fit": fit,
    "calibrate": calibrate,
    "curve": curve,
    "covariance": covariance,
    "prototypes": prototypes,
    "axes": axes,
    "explain": explain,
    **{other.name: _of_lines(other.run) for other in OTHERS},
    "compare": compare,
    "init": init,
    "config": config,
    "data": data,
    "list": list_names,
    "demo": demo,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    show, formatted = warnings.showwarning, warnings.formatwarning
    warnings.showwarning = partial(_show_warning, show)
    try:
        with speaking():
            return _run(given)
    except IbdError as error:
        _say(f"ibd: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        _say(f"ibd: interrupted{f': {_one_line(stop)}' if str(stop) else ''}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `ibd list | head`
        return 0
    except (OSError, RuntimeError) as error:
        if (reason := disk_trouble(error)) is None:
            raise
        _say(f"ibd: cannot read or write {reason}", file=sys.stderr)
        return 2
    finally:
        warnings.showwarning, warnings.formatwarning = show, formatted


def _run(given: list[str]) -> int:
    if given and not given[0].startswith("-") and given[0] not in VERBS:
        raise ConfigError(f"unknown verb '{given[0]}'.{did_you_mean(given[0], VERBS)}")
    if "" in given:
        raise ConfigError("an argument is empty: is a variable of the shell not set?")
    reader = parser(VERBS)
    given_options = vars(reader.parse_args(in_order(reader, given)))
    name = given_options.pop("verb")
    if name is None:
        reader.print_help()
        return 0
    with registry.trusting(given_options.pop("trust", False)):
        return VERBS[name](**given_options) or 0


def _show_warning(show: Callable[..., None], *given: object, **options: object) -> None:
    """Show a warning as a line for the user, whatever Lightning has set for all since it was imported."""
    warnings.formatwarning = _warning
    show(*given, **options)


def _warning(message: Warning | str, category: type[Warning], *where: object, **more: object) -> str:
    """Return the text of a warning, without the file and line that gave it, which tell a user nothing."""
    return shown(f"warning: {str(message).strip()}\n", keep="\n\t")


def _say(text: str, file: TextIO | None = None) -> None:
    """Print lines; what names in them hold that a terminal would obey is shown as a code."""
    print(shown(text, keep="\n\t"), file=file)


def _one_line(error: BaseException) -> str:
    return shown(" ".join(str(error).split()))


if __name__ == "__main__":
    sys.exit(main())
