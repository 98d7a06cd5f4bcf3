"""A card as Markdown, and as one HTML file that needs no other."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from ibd.app.card.blocks import Absent, Block, ByHand, Facts, Grid, Links, Picture, Section, Stale, Words
from ibd.comparison.report.environment import page_environment

_NUMBER = re.compile(r"[-+]?[\d.]+( \[.*\])?|\[.*\]")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~])")


def as_html(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Return a card as HTML: names are escaped, pictures are within.

    Args:
        title: what the card is of.
        lead: sentence below the title.
        sections: the card.
    """
    environment = page_environment(
        "ibd.app.card", kind=lambda block: type(block).__name__, picture=_data, numeric=numeric_columns
    )
    style = files("ibd.app.card").joinpath("templates", "style.css").read_text(encoding="utf-8")
    template = environment.get_template("card.html.j2")
    return template.render(style=style, title=title, lead=lead, sections=sections)


def _data(path: str) -> str:
    return "data:image/png;base64," + base64.b64encode(Path(path).read_bytes()).decode("ascii")


def numeric_columns(grid: Grid) -> list[bool]:
    """Return which columns of a table hold numbers, with intervals or without: those stand to the right."""
    found = []
    for column in range(len(grid.columns)):
        cells = [row[column] for row in grid.rows if row[column] != "-"]
        found.append(column > 0 and bool(cells) and all(_NUMBER.fullmatch(cell) for cell in cells))
    return found


def as_markdown(title: str, lead: str, sections: Sequence[Section], folder: Path) -> str:
    """Return a card as Markdown.

    Args:
        title: what the card is of.
        lead: sentence below the title.
        sections: the card.
        folder: folder that it is written to, from which pictures are found.
    """
    lines = [f"# {plain(title)}", "", plain(lead), ""]
    for section in sections:
        lines += _section(section, 2, folder)
    return "\n".join(lines).rstrip() + "\n"


def _section(section: Section, level: int, folder: Path) -> Iterator[str]:
    yield f'<a id="{section.key}"></a>'
    yield ""
    yield f"{'#' * level} {plain(section.title)}"
    yield ""
    for block in section.blocks:
        yield from _block(block, folder)
        yield ""
    for part in section.parts:
        yield from _section(part, level + 1, folder)


def _block(block: Block, folder: Path) -> Iterator[str]:
    match block:
        case Facts():
            yield from _table(("", ""), block.rows)
            yield from _from(block.source)
        case Grid():
            yield f"**{plain(block.title)}**"
            yield ""
            yield from _table(block.columns, block.rows)
            yield from _from(block.source)
        case Words():
            yield plain(block.text) + (f" (from {code(block.source)})" if block.source else "")
        case Picture():
            yield f"![{plain(block.caption)}]({quote(os.path.relpath(block.file, folder))})"
            yield from _from(block.source)
        case Absent():
            yield f"*Not measured:* {plain(block.what)} {code(block.command)} measures it."
        case Stale():
            why = f"{plain(block.what)} ({code(block.source)}) is {plain(block.why)}"
            yield f"*Stale, not used:* {why}. {code(block.command)} measures it anew."
        case ByHand():
            yield (
                block.text or f"*To be filled in by a person:* {plain(block.prompt)}. (`card.yaml`: {code(block.key)})"
            )
        case Links():
            yield "In this card: " + ", ".join(f"[{plain(title)}](#{key})" for key, title in block.sections) + "."


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(plain(column) or ' ' for column in columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(plain(cell) for cell in row)} |"


def _from(source: str) -> Iterator[str]:
    if source:
        yield ""
        yield f"<sub>from {code(source)}</sub>"


def plain(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split())).replace("&", "&amp;")


def code(text: str) -> str:
    """Return a text as code, whatever backticks it has, on one line."""
    flat = " ".join(text.split()).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", flat)), default=0)
    fence, space = "`" * (longest + 1), " " if "`" in flat else ""
    return f"{fence}{space}{flat}{space}{fence}"
