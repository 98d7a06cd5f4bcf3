"""The pages of the notebooks: their text and code, with what they print and draw.

Notebooks are kept without output, so that a change of one shows in its diff; whoever reads one wants to see what comes
out. `make notebooks` therefore runs them (minutes, and it needs PyTorch) and writes each as a page with its pictures
into docs/notebooks, which is committed: so the outputs are seen wherever the repository is read, and building the site
takes seconds. A test compares text and code of the pages with the notebooks.
"""

from __future__ import annotations

import ast
import contextlib
import html
import io
import json
import os
import posixpath
import pprint
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from website import ROOT
from website.places import LINK, file_of, outside_code

NOTEBOOKS = ROOT / "notebooks"
PAGES = ROOT / "docs" / "notebooks"
NOTE = "*[notebooks/{name}.ipynb](../../notebooks/{name}.ipynb) and what it prints; `make notebooks` wrote this page.*"

Cell = tuple[str, str]
"""The kind of a cell, ``markdown`` or ``code``, and its text."""


def cells(notebook: Path) -> list[Cell]:
    """Read a notebook; links of its text are those of the page that it becomes."""
    read = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    texts = [(cell["cell_type"], "".join(cell["source"])) for cell in read]
    return [(kind, text if kind == "code" else relinked(text)) for kind, text in texts]


def relinked(text: str) -> str:
    """Turn the links of a notebook into those of its page, and those to a notebook into links to its page."""

    def link(match: re.Match[str]) -> str:
        target, hash_sign, anchor = match[2].partition("#")
        if "://" in target or not target:
            return match[0]
        file = file_of("notebooks/x.ipynb", target)
        page = f"{Path(file).stem}.md" if file.endswith(".ipynb") else posixpath.relpath(file, "docs/notebooks")
        return f"{match[1]}({page}{hash_sign}{anchor})"

    return outside_code(text, lambda part: LINK.sub(link, part))


def write(notebook: Path, folder: Path = PAGES) -> Path:
    """Run a notebook and write its page, and its pictures beside it."""
    name = notebook.stem
    pictures = folder / name
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    page = folder / f"{name}.md"
    page.write_text(page_of(name, cells(notebook), pictures), encoding="utf-8")
    return page


def page_of(name: str, parts: list[Cell], pictures: Path) -> str:
    """Return the page of a notebook, which is run for that in a folder that is removed afterwards."""
    written, heading = [], name
    names: dict[str, Any] = {"__name__": "__main__"}
    with _somewhere_else() as folder:
        for number, (kind, text) in enumerate(parts):
            if kind == "markdown":
                heading = (re.findall(r"^#+ (.*)", text, re.MULTILINE) or [heading])[-1]
                written.append(text if number else _with_note(text, name))
                continue
            printed, drawn = run_cell(text, f"{name}[{number}]", names)
            written.append(f"```python\n{text}\n```")
            printed = re.sub(r" +$", "", printed.replace(folder, "..."), flags=re.MULTILINE).strip("\n")
            if printed:
                written.append(f"```text\n{printed}\n```")
            for index, picture in enumerate(drawn):
                file = pictures / f"{number}{chr(ord('a') + index)}.png"
                file.write_bytes(picture)
                written.append(f"![{heading}]({name}/{file.name})")
    return "\n\n".join(written) + "\n"


def _with_note(text: str, name: str) -> str:
    title, _, rest = text.partition("\n")
    return f"{title}\n\n{NOTE.format(name=name)}\n{rest}"


@contextlib.contextmanager
def _somewhere_else() -> Iterator[str]:
    """Run as from the folder of the notebooks; what they write goes into a folder of its own."""
    before, kept = Path.cwd(), tempfile.tempdir
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(NOTEBOOKS)
        tempfile.tempdir = folder
        try:
            yield folder
        finally:
            os.chdir(before)
            tempfile.tempdir = kept


def run_cell(source: str, where: str, names: dict[str, Any]) -> tuple[str, list[bytes]]:
    """Run a cell as a notebook does, and return what it printed and drew, the value of its last line included."""
    import matplotlib.pyplot as plt

    tree = ast.parse(source, where)
    last, value = tree.body[-1], None
    if isinstance(last, ast.Expr):
        tree.body.pop()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, where, "exec"), names)  # noqa: S102 - our own notebooks
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), where, "eval"), names)  # noqa: S307
    drawn = []
    for number in plt.get_fignums():
        plt.figure(number).savefig(buffer := io.BytesIO(), format="png", dpi=80)
        drawn.append(buffer.getvalue())
    plt.close("all")
    if value is not None and hasattr(value, "_repr_png_"):
        return printed.getvalue(), [*drawn, value._repr_png_()]
    return printed.getvalue() + ("" if value is None else said(value)), drawn


def said(value: Any) -> str:
    """Return the text that a notebook shows for a value."""
    shown = value._repr_html_() if hasattr(value, "_repr_html_") else ""
    if match := re.fullmatch(r"<pre[^>]*>(.*)</pre>", shown, re.DOTALL):
        return html.unescape(match[1])
    return pprint.pformat(value, width=110, sort_dicts=False)


def main(names: list[str]) -> None:
    """Write the pages of the named notebooks, or of all."""
    os.environ["MPLBACKEND"] = "Agg"
    for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
        if not names or notebook.stem in names:
            sys.stderr.write(f"{write(notebook).relative_to(ROOT)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
