"""What mkdocs calls: it is given the pages that do not lie in docs/, and the links of all pages as it needs them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from website import ROOT, api, metrics, places

log = logging.getLogger("mkdocs.website")  # `mkdocs build --strict` counts its warnings


def on_files(files: Any, config: Any) -> Any:
    """Add the pages around docs/, those of files that pages link to, and the reference."""
    for source, place in places.pages().items():
        if not source.startswith("docs/"):
            files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    for file in places.other_files():
        if not (ROOT / file).is_file():
            log.warning("a page links to %s, which is no file of the repository", file)
        elif file.endswith(".ipynb"):
            files.append(File.generated(config, file, abs_src_path=str(ROOT / file)))
        else:
            files.append(File.generated(config, f"files/{file}.md", content=places.as_page(file)))
    for place, text in api.pages().items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links between files of the repository into links between pages."""
    pages = places.pages()
    sources = {place: source for source, place in pages.items()}
    source = sources.get(Path(page.file.src_uri).as_posix())
    if source == "README.md":
        page.meta["hide"] = ["navigation"]  # a list of one
    if metrics.MARK in markdown:
        markdown = markdown.replace(metrics.MARK, metrics.table())
    return markdown if source is None else places.indented(places.relinked(markdown, source, pages))
