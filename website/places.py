"""Which file of the repository becomes which page, and how a link between files becomes a link between pages.

Every page has one source, which is read in the repository as well: a link in it is the path of a file.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from website import ROOT

FENCED = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?\[(?:[^\[\]]|!?\[[^\[\]]*\](?:\([^()]*\))?)*\])\(([^()\s]+)\)")
AROUND = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/results.md": "benchmarks.md",
}


def pages(root: Path = ROOT) -> dict[str, str]:
    """Return which page each file becomes: its path in the repository -> its path in the site."""
    inside = {f"docs/{page}": page for page in _names(root / "docs", "*.md")}
    families = {f"ibd/models/{page}": f"models/{Path(page).parent}.md" for page in _names(root / "ibd/models", "*.md")}
    return inside | {page: place for page, place in AROUND.items() if (root / page).exists()} | families


def _names(folder: Path, pattern: str) -> Iterator[str]:
    yield from sorted(path.relative_to(folder).as_posix() for path in folder.rglob(pattern))


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Apply a change to what stands between the blocks of code of a page."""
    changed, end = [], 0
    for block in FENCED.finditer(text):
        changed += [change(text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*changed, change(text[end:])])


def links(text: str) -> list[str]:
    """Return the targets of a page's links to other files of the repository."""
    return [match[2] for match in _of_files(FENCED.sub("", text))]


def _of_files(text: str) -> Iterator[re.Match[str]]:
    for match in LINK.finditer(text):
        for inner in LINK.finditer(match[1][1:-1].removeprefix("[")):
            if _is_file(inner[2]):
                yield inner
        if _is_file(match[2]):
            yield match


def _is_file(target: str) -> bool:
    return not target.startswith("#") and not re.match(r"[a-z][a-z0-9+.-]*:", target)


def file_of(source: str, target: str) -> str:
    """Return the path in the repository of what a link in a file points to, without the anchor."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target.partition("#")[0]))


def place_of(file: str, source: str, places: dict[str, str]) -> str:
    """Return where in the site a file is that a page links to."""
    if file.endswith(".ipynb"):  # the page with what the notebook prints; from that page, the notebook itself
        page = f"docs/notebooks/{PurePosixPath(file).stem}.md"
        return places[page] if page in places and page != source else file
    if file in places:
        return places[file]
    if file.startswith("docs/"):
        return file.removeprefix("docs/")
    return f"files/{file}.md"


def relinked(text: str, source: str, places: dict[str, str]) -> str:
    """Return the text of a file with its links as the site needs them."""
    folder = posixpath.dirname(places[source]) or "."

    def link(match: re.Match[str]) -> str:
        shown = LINK.sub(link, match[1]) if "](" in match[1] else match[1]
        if not _is_file(match[2]):
            return f"{shown}({match[2]})"
        anchor = match[2].partition("#")[1] + match[2].partition("#")[2]
        there = place_of(file_of(source, match[2]), source, places)
        return f"{shown}({posixpath.relpath(there, folder)}{anchor})"

    return outside_code(text, lambda part: LINK.sub(link, part))


def indented(text: str) -> str:
    """Indent what belongs to an item of a list by four; in repositories the width of the item's mark is enough."""
    lines, width, fence = [], 0, ""
    for line in text.split("\n"):
        mark = re.match(r"(?:\d+\.|[-*]) +", line)
        if fence or line.startswith(("```", "~~~")):
            width, fence = 0, _still_open(line, fence)
        elif mark:
            width = mark.end()
        elif line.strip() and not line.startswith(" " * width):
            width = 0
        inside = width and not mark and line.startswith(" " * width)
        lines.append(" " * (4 - width) + line if inside and width < 4 else line)
    return "\n".join(lines)


def _still_open(line: str, fence: str) -> str:
    """Return the mark that ends the block of code that a line stands in, or nothing after that mark."""
    if not fence:
        return line[: len(line) - len(line.lstrip(line[0]))]
    return "" if line.rstrip() == fence else fence


def other_files(root: Path = ROOT) -> list[str]:
    """Return the files that pages link to and that are neither pages nor pictures: configs, code, notebooks."""
    places = pages(root)
    targets = {
        file_of(source, link) for source in places for link in links((root / source).read_text(encoding="utf-8"))
    }
    return sorted(file for file in targets if file not in places and not file.startswith("docs/"))


def as_page(file: str, root: Path = ROOT) -> str:
    """Return the page that shows a file of the repository as it is."""
    language = {".yaml": "yaml", ".py": "python", ".toml": "toml"}.get(Path(file).suffix, "text")
    text = (root / file).read_text(encoding="utf-8")
    return f"# {file}\n\n````{language}\n{text.rstrip()}\n````\n"
