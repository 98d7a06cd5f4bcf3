"""Writing the card of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ibd import __version__
from ibd.app.card import eu, layout
from ibd.app.card.blocks import Absent, Block, ByHand, Section, Stale, every_section
from ibd.app.card.glance import in_short
from ibd.app.card.reading import CardRun, read_run
from ibd.app.card.rendering import as_html, as_markdown
from ibd.app.card.texts import TEXTS, add_prompts, read_texts
from ibd.app.terminal import writing
from ibd.errors import ConfigError


def write_card(run: str, report: Path | None, with_eu: bool, out: Path | None) -> Iterator[str]:
    """Write ``card.md`` and ``card.html``, and where it is missing ``card.yaml``; yield lines for a person.

    Args:
        run: RUN of the command line.
        report: folder of a report of ``ibd compare`` with the run.
        with_eu: whether the headings of the EU AI Act follow.
        out: folder to write to; None takes the run's.

    Raises:
        CheckpointError: there is no run, or a file of it is damaged.
        ConfigError: no such report, or ``card.yaml`` is wrong.
    """
    read = read_run(run, report)
    every = layout.PROMPTS | eu.PROMPTS
    texts = read_texts(read.folder, every)
    sections = card_sections(read, texts, with_eu)
    folder = out or read.folder
    title, lead = f"Model card: {read.config.get('name', read.folder.name)}", _lead(read)
    pages = {"card.md": as_markdown(title, lead, sections, folder), "card.html": as_html(title, lead, sections)}
    for name, text in pages.items():
        with writing(folder / name):
            (folder / name).write_text(text, encoding="utf-8")
    for block in _blocks(sections):
        if isinstance(block, Stale):
            yield f"stale, not used: {block.what} ({block.source}) is {block.why}"
    blocks = list(_blocks(sections))
    missing = sum(isinstance(block, Absent) for block in blocks)
    empty = sum(isinstance(block, ByHand) and not block.text for block in blocks)
    yield f"not measured: {missing}; left for a person to write: {empty}"
    yield f"texts:   {_ask(read.folder, every if with_eu else layout.PROMPTS)}"
    yield from (f"written: {folder / name}" for name in pages)


def _ask(folder: Path, prompts: Mapping[str, str]) -> str:
    """Add what ``card.yaml`` does not ask for yet; return what is to be said of that."""
    try:
        added = add_prompts(folder, prompts)
    except ConfigError as error:  # a run that is read-only has a card all the same
        return str(error)
    return f"{folder / TEXTS}{' (new)' if added == len(prompts) else ''}"


def card_sections(read: CardRun, texts: dict[str, str], with_eu: bool) -> list[Section]:
    """Return the sections of a card."""
    sections = layout.mitchell(read, texts)
    if with_eu:
        sections += eu.eu_sections(texts, {part.key: part.title for part in every_section(sections)})
    return [in_short(read, sections), *sections]


def _blocks(sections: Sequence[Section]) -> Iterator[Block]:
    for section in every_section(sections):
        yield from section.blocks


def _lead(read: CardRun) -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%d")
    return (
        f"Written by ibd {__version__} on {now} from the files of {read.folder}. Nothing was measured for it: each "
        "number is taken from the file named with it; what is missing is said with the command that measures it."
    )
