"""``ibd discover``: the options on the command line, and what is said of the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ibd.app.discovery.discover import discover
from ibd.app.discovery.found import NAMES, Discovery
from ibd.app.discovery.options import DiscoverOptions
from ibd.config import plain_values
from ibd.config.sources import Sources, parse_override
from ibd.errors import ConfigError


def show_concepts(run: str, changes: Sequence[str], out: str) -> Iterator[str]:
    """Find concepts, write the page, and yield lines on it for a person.

    Args:
        run: RUN of the command line, a backbone's name, or ``package.module:make_model``.
        changes: ``key=value`` options, see `DiscoverOptions`; ``data=`` a folder or config file, ``data.key=value``.
        out: folder of the page.

    Raises:
        ConfigError: an option that there is not, or that cannot be; and what `ibd.discover` raises.
    """
    data, options = read_options(changes)
    found = discover(run, data, out, **options)
    yield from told(found)
    yield f"page:       {out}/index.html"
    yield f"names:      {out}/{NAMES} (write names into its second column, and run the same command again)"
    yield f"directions: {out}/directions.npz"


def read_options(changes: Sequence[str]) -> tuple[str | None, dict[str, object]]:
    """Return the data and the options that ``key=value`` strings mean.

    Raises:
        ConfigError: an unknown option, or a value that it cannot have.
    """
    for text in changes:
        if "=" not in text:
            raise ConfigError(f"discover: '{text}': key=value is needed")
    data = [text.removeprefix("data=") for text in changes if text.startswith("data=")]
    overrides = [text for text in changes if text.startswith("data.")]
    rest = [text for text in changes if not text.startswith(("data=", "data."))]
    layers = [
        parse_override(text.replace("class=", "classes=", 1) if text.startswith("class=") else text) for text in rest
    ]
    given = plain_values(
        DiscoverOptions, Sources("discover", [replace(layer, values=layer.values) for layer in layers])
    )
    return (data[-1] if data else None), {**given, "overrides": overrides}


def told(found: Discovery) -> Iterator[str]:
    """Yield what a person wants to know first."""
    for tried in found.tried:
        mark = " (chosen)" if tried is found.chosen and len(found.tried) > 1 else ""
        yield (
            f"{tried.k} concepts: found again {_text(tried.stability)}, explained {_text(tried.explained)} "
            f"({_text(tried.unseen)} of unseen images), {tried.active:.1f} active at a place{mark}"
        )
    names = found.directions.names
    for what, overlap in (("IoU", found.masks), ("AUROC", found.labels)):
        for name, concept, value, chance in overlap.best() if overlap else []:
            yield f"  {name}: {names[concept]}, {what} {value:.2f} (chance {chance:.2f})"


def _text(value: float) -> str:
    return "unknown" if value != value else f"{value:.2f}"
