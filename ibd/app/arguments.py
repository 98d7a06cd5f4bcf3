"""What the verbs of the command line take."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from ibd import __version__
from ibd.app.terminal import count
from ibd.app.verbs import VERBS as OTHERS
from ibd.errors import ConfigError
from ibd.registry import REGISTRY

EXAMPLES: dict[str, list[str]] = {
    "fit": [
        "ibd fit toybirds/tiny",
        "ibd fit toybirds/cbm model.regime=sequential trainer.max_epochs=20 seed=1",
        "ibd fit mine.yaml data.root=DATA trainer.devices=2",
        "ibd fit resume=runs/toybirds-cbm",
    ],
    "calibrate": [
        "ibd calibrate runs/toybirds-cbm",
        "ibd calibrate runs/mine method=vector coverage=0.95 score=aps accuracy=0.98",
        "ibd calibrate runs/mine data.root=FRESH split=train fit_share=0.3",
    ],
    "curve": [
        "ibd curve runs/toybirds-cbm",
        "ibd curve runs/mine --policies random,uncertainty --split val",
        "ibd curve runs/toybirds-cbm noise=0.1 unknown.tail=0.3",
    ],
    "covariance": ["ibd covariance runs/toybirds-cbm", "ibd covariance runs/mine --split train --rank 5"],
    "prototypes": ["ibd prototypes runs/toybirds-protopnet --images 8 --pages 0"],
    "axes": ["ibd axes runs/toybirds-concept_whitening --baseline runs/toybirds-baseline"],
    "explain": [
        "ibd explain runs/toybirds-cbm bird.png",
        "ibd explain runs/toybirds-cbm bird.png target=wing::red_oval explainers=gradcam,lrp",
        'ibd explain runs/mine image.jpg target="robin - jay" explainers=all --figure why.png',
        "ibd explain runs/mine image.jpg target=neuron:backbone.layer3:17 explainers=guided_backprop,deconvnet",
        "ibd explain torchvision.models:resnet18 cat.jpg model.preprocess=imagenet explainers=gradcam,lrp",
    ],
    "compare": [
        "ibd compare mymodels:make_resnet data=photographs model.preprocess=imagenet",
        "ibd compare runs/toybirds-cbm runs/toybirds-baseline",
        "ibd compare runs/*/* explainers=intrinsic,lrp metrics=parts,pixels images=48 --out report",
    ],
    "init": ["ibd init photographs", "ibd init photographs --config configs/mine.yaml"],
    "config": ["ibd config toybirds/cbm", "ibd config mine.yaml model.regime=independent"],
    "data": ["ibd data toybirds birds.png preset=hans", "ibd data mine.yaml images.png"],
    "list": ["ibd list", "ibd list configs"],
    "demo": ["ibd demo", "ibd demo elsewhere trainer.max_epochs=2"],
}
"""Verb -> commands as they are typed; those of a verb with a file of its own stand there."""


class Parser(argparse.ArgumentParser):
    """argparse with our one-line errors."""

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{message} (see `{self.prog} --help`)")

    def options_of(self, verb: str) -> dict[str, argparse.Action]:
        """Return the options, with their dashes, that a verb knows."""
        groups = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        parsers: dict[str, argparse.ArgumentParser] = groups[0].choices if groups else {}
        return parsers[verb]._option_string_actions if verb in parsers else {}


_CHANGING = frozenset(
    {"fit", "calibrate", "curve", "covariance", "prototypes", "axes", "explain", "compare", "config", "data"}
    | {"demo"}
    | {verb.name for verb in OTHERS if verb.changing}
)
"""The verbs that take changes."""


def in_order(reader: Parser, given: Sequence[str]) -> list[str]:
    """Return the arguments as argparse takes them: the verb, what has no dashes, then the verb's options.

    ``--key=value`` that is none of these is a change, ``key=value``: sweeps of W&B and habits of argparse write it so.
    """
    verb = given[0] if given else ""
    known = reader.options_of(verb)
    plain: list[str] = []
    options: list[str] = []
    words = iter(given)
    for word in words:
        if word == "--":  # what follows are no options
            return [*plain, *options, word, *words]
        name, equals, _ = word.partition("=")
        if name in known:
            options.append(word)
            if not equals and known[name].nargs is None:  # its value is the next word
                options += [value for value in [next(words, None)] if value is not None]
        else:
            plain.append(word[2:] if equals and word.startswith("--") and verb in _CHANGING else word)
    return plain + options


def parser(functions: Mapping[str, Callable[..., object]]) -> Parser:
    """Return what reads the command line.

    Args:
        functions: verb -> what it calls, whose first line is the verb's help.
    """
    whole = Parser(
        prog="ibd",
        description="Interpretable-by-design image models.",
        epilog="`ibd VERB --help` has examples.",
        allow_abbrev=False,
    )
    whole.add_argument("--version", action="version", version=f"ibd {__version__}")
    verbs = _Verbs(whole, functions)
    _add_training(verbs)
    _add_explaining(verbs)
    _add_rest(verbs)
    for name in _LOADING:
        p = verbs.parsers.choices[name]
        p.add_argument("--trust", action="store_true", help="let a run name classes of your own")
    return whole


class _Verbs:
    """The verbs of the command line, as they are added."""

    def __init__(self, whole: Parser, functions: Mapping[str, Callable[..., object]]) -> None:
        self.parsers = whole.add_subparsers(dest="verb", metavar="VERB")
        self.functions = functions

    def verb(self, name: str) -> Parser:
        """Add a verb."""
        text = (self.functions[name].__doc__ or "").strip()
        examples = {**EXAMPLES, **{verb.name: verb.examples for verb in OTHERS}}
        return self.parsers.add_parser(
            name,
            help=text.partition("\n")[0],
            description=text,
            epilog="examples:\n" + "\n".join(f"  {example}" for example in examples[name]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def of_a_run(self, name: str) -> Parser:
        """Add a verb that takes a run, and changes to its data."""
        p = self.verb(name)
        p.add_argument("run", metavar="RUN", help="a run folder or a checkpoint")
        p.add_argument("changes", nargs="*", metavar="key=value", help="changes to the run's data: data.root=...")
        return p

    def drawn(self, p: Parser, what: str) -> None:
        """Add the options of pictures to a verb."""
        p.add_argument("--pages", type=count, default=3, help=f"pictures of ten {what} each; 0 for all")
        p.add_argument("--split", choices=["train", "val", "test"], default="test")
        p.add_argument("--out", metavar="FOLDER", help=f"where to write; default RUN/figures/{what}")


def _add_training(verbs: _Verbs) -> None:
    """Add what trains a model and asks it."""
    p = verbs.verb("fit")
    p.add_argument("arguments", nargs="*", metavar="CONFIG key=value", help="a YAML file, changes to it, resume=RUN")
    p = verbs.verb("calibrate")
    p.add_argument("run", metavar="RUN", help="a run folder or a checkpoint")
    p.add_argument(
        "changes",
        nargs="*",
        metavar="key=value",
        help="method=temperature|vector coverage=0.9 score=lac|aps|raps accuracy=0.95 certainty=0.9 ...; data.root=...",
    )
    p.add_argument("--which", choices=["best", "last"], default="best", help="which checkpoint")
    p = verbs.of_a_run("curve")
    p.add_argument("--policies", default="random,uncertainty,expected_change,learned", help="by commas")
    p.add_argument("--trials", type=int, default=5, help="random orders to average over")
    p.add_argument("--split", choices=["val", "test"], default="test")
    p.add_argument("--out", metavar="FOLDER", help="where to write; default RUN/figures")
    p.add_argument("--seed", type=count, default=0, help="of random orders, and of a person's errors")
    p = verbs.of_a_run("covariance")
    p.add_argument("--split", choices=["train", "val"], default="val", help="the images to fit on")
    p.add_argument("--method", choices=["likelihood", "empirical"], default="likelihood", help="how to fit")
    p.add_argument("--kind", choices=["global", "amortized"], default="global", help="for all images, or of each")
    p.add_argument("--rank", type=int, help="columns that concepts share; default full rank")
    p.add_argument("--placement", choices=["posterior", "confidence", "percentile"], default="posterior")
    p.add_argument("--precision", type=float, default=1.0, help="weight of the penalty on the precision")
    p.add_argument("--seed", type=count, default=0, help="of the samples")
    p.add_argument("--out", metavar="FOLDER", help="the new run; default NAME-scbm beside that of RUN")


def _add_explaining(verbs: _Verbs) -> None:
    """Add what looks into models and compares them."""
    p = verbs.of_a_run("prototypes")
    p.add_argument("--images", type=count, default=4, help="images to draw what their prediction rests on")
    p.add_argument("--top", type=count, default=5, help="prototypes of each image; 0 for all")
    verbs.drawn(p, "prototypes")
    p = verbs.of_a_run("axes")
    p.add_argument("--baseline", metavar="RUN", help="the same network without whitening, to compare with")
    p.add_argument("--images", type=count, default=4, help="images to draw maps of")
    p.add_argument("--top", type=count, default=8, help="images that activate each axis most; 0 for none")
    verbs.drawn(p, "axes")
    p = verbs.verb("explain")
    p.add_argument("run", metavar="RUN")
    p.add_argument("image", metavar="IMAGE")
    p.add_argument(
        "changes",
        nargs="*",
        metavar="key=value",
        help="target=CLASS, UNIT, channel:LAYER:NUMBER or neuron:LAYER:NUMBER[:ROW:COLUMN], explainers=a,b or all, "
        "degrees=10",
    )
    p.add_argument("--figure", metavar="PNG", help="where to draw; default RUN/figures/explained_IMAGE.png")
    for other in OTHERS:
        other.arguments(verbs.verb(other.name))
    p = verbs.verb("compare")
    p.add_argument(
        "runs", nargs="+", metavar="RUN key=value", help="runs; explainers=a,b metrics=a,b images=64 config=FILE"
    )
    p.add_argument("--out", metavar="FOLDER", help="where to write, and where to continue from; default comparison")


def _add_rest(verbs: _Verbs) -> None:
    """Add what prepares and lists."""
    p = verbs.verb("init")
    p.add_argument("folder", metavar="DATA", help="train/CLASS/*.jpg, and val/ and test/ if they exist")
    p.add_argument("--config", metavar="YAML", help="the config to write; default NAME.yaml here, after the folder")
    p = verbs.verb("config")
    p.add_argument("file", metavar="CONFIG")
    p.add_argument("changes", nargs="*", metavar="key=value")
    p = verbs.verb("data")
    p.add_argument("source", metavar="SOURCE", help="a config file, or the name of a data set with built-in defaults")
    p.add_argument("picture", metavar="PNG")
    p.add_argument("changes", nargs="*", metavar="key=value", help="options of the data set, such as preset=hans")
    p = verbs.verb("list")
    p.add_argument("kind", nargs="?", choices=["configs", "techniques", *REGISTRY])
    p = verbs.verb("demo")
    p.add_argument("folder", nargs="?", default="demo", metavar="FOLDER")
    p.add_argument("changes", nargs="*", metavar="key=value", help="changes to both configs")


_LOADING = (
    *("fit", "calibrate", "curve", "covariance", "prototypes", "axes", "explain"),
    *("compare", "config", "data"),
    *(verb.name for verb in OTHERS if verb.loading),
)
"""The verbs that read a run, or a config that may be that of one."""
