"""The site and what lies around the code: pages, their links, the picture of the rooms, notebooks, metadata."""

import re
import tomllib

import pytest
import yaml

import ibd
import ibd.data
import ibd.explain
import ibd.metrics
from ibd.comparison.groups import METRICS, group_of
from website import ROOT, api, metrics, notebooks, places, rooms

PLACES = places.pages()
REFERENCE = api.pages()
NAVIGATION = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]


def listed(node):
    if isinstance(node, str):
        return [node]
    return [page for each in (node.values() if isinstance(node, dict) else node) for page in listed(each)]


def test_every_page_is_in_the_navigation():
    assert sorted(listed(NAVIGATION)) == sorted([*PLACES.values(), *REFERENCE])


@pytest.mark.parametrize("package", [ibd, ibd.data, ibd.explain, ibd.metrics], ids=lambda package: package.__name__)
def test_the_reference_has_every_public_name(package):
    page = REFERENCE[f"api/{package.__name__.rpartition('.')[2]}.md"]
    named = re.findall(rf"^::: {package.__name__}\.(\w+)$", page, re.MULTILINE)
    assert sorted(named) == sorted({*package.__all__} - {"__version__"})


def test_what_is_returned_and_derived_from_is_found():
    assert {*api.RETURNED, *api.DERIVED} <= api.definitions().keys()


def test_the_picture_of_the_rooms_is_what_the_code_says(tmp_path):
    rooms.save(tmp_path / "rooms.svg")
    assert rooms.texts(tmp_path / "rooms.svg") == rooms.texts(), "`make rooms` draws docs/images/rooms.svg anew"


def test_the_picture_shows_every_import_between_rooms():
    marked = {text for text in rooms.texts() if " imports " in text}
    assert marked == {f"{here} imports {there}" for here, there in rooms.edges()}
    assert "training imports models" in marked


def test_a_way_through_no_room_is_an_error():
    with pytest.raises(ValueError, match="the way of x passes through what is no room: nowhere"):
        rooms._draw_way(None, ["cli"], 0, "x", "red", {"nowhere": "lost"})


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("README.md", "[d](docs/data.md)", "[d](data.md)"),
        ("README.md", "![p](docs/images/p.png)", "![p](images/p.png)"),
        ("docs/data.md", "[c](../configs/folder/cbm.yaml)", "[c](files/configs/folder/cbm.yaml.md)"),
        ("docs/data.md", "[m](../ibd/models/cbm/README.md#results)", "[m](models/cbm.md#results)"),
        ("ibd/models/cbm/README.md", "[i](../../../docs/interventions.md)", "[i](../interventions.md)"),
        ("docs/models.md", "[n](../notebooks/prototypes.ipynb)", "[n](notebooks/prototypes.md)"),
        ("docs/notebooks/prototypes.md", "[n](../../notebooks/prototypes.ipynb)", "[n](prototypes.ipynb)"),
        ("README.md", "[![p](docs/p.png)](docs/data.md)", "[![p](p.png)](data.md)"),
        ("README.md", "[out](https://x.org) [in](#start)", "[out](https://x.org) [in](#start)"),
        ("README.md", "```\n[d](docs/data.md)\n```", "```\n[d](docs/data.md)\n```"),
    ],
)
def test_a_link_between_files_becomes_one_between_pages(source, text, expected):
    assert places.relinked(text, source, PLACES) == expected


def test_what_belongs_to_an_item_of_a_list_is_indented():
    text = "1. one\n   two\n\n   ```\n   - code\n   ```\n\n- a\n  b\nafter\n\n```\n1. x\n   y\n```\n   z"
    expected = "1. one\n    two\n\n    ```\n    - code\n    ```\n\n- a\n    b\nafter\n\n```\n1. x\n   y\n```\n   z"
    assert places.indented(text) == expected


@pytest.mark.parametrize("name", sorted(path.stem for path in notebooks.NOTEBOOKS.glob("*.ipynb")))
def test_the_page_of_a_notebook_has_its_text_and_code(name):
    page = (notebooks.PAGES / f"{name}.md").read_text(encoding="utf-8")
    place = 0
    for kind, text in notebooks.cells(notebooks.NOTEBOOKS / f"{name}.ipynb"):
        for part in [f"```python\n{text}\n```"] if kind == "code" else text.split("\n\n"):
            place = page.find(part.strip(), place)
            assert place >= 0, f"`make notebooks` writes docs/notebooks/{name}.md anew; it lacks\n{part}"
    assert "](" + name in page, "it shows pictures"
    assert "/tmp" not in page
    pictures = {path.name for path in (notebooks.PAGES / name).iterdir()}
    assert pictures == set(re.findall(rf"\]\({name}/(.*?)\)", page))


def test_a_cell_says_what_it_prints_and_the_value_of_its_last_line():
    class Drawn:
        def _repr_png_(self):
            return b"png"

    class Table:
        def _repr_html_(self):
            return '<pre style="x">a &lt; b</pre>'

    names = {"Drawn": Drawn, "Table": Table}
    assert notebooks.run_cell("x = 2\nprint(x)\n{'x': x}", "cell", names) == ("2\n{'x': 2}", [])
    assert notebooks.run_cell("Drawn()", "cell", names) == ("", [b"png"])
    assert notebooks.run_cell("Table()", "cell", names) == ("a < b", [])
    assert notebooks.run_cell("y = x", "cell", names) == ("", [])
    text, drawn = notebooks.run_cell("import matplotlib.pyplot as plt\nfigure = plt.figure()", "cell", names)
    assert (text, drawn[0][1:4]) == ("", b"PNG")


def test_all_say_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert ibd.__version__ == project["version"] == citation["version"]
    assert citation["authors"] == project["authors"]
    assert citation["license"] == project["license"]
    assert {"cff-version", "message", "title"} <= citation.keys()


@pytest.mark.parametrize("name", ["bug", "wish"])
def test_a_form_for_issues_can_be_read(name):
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    identifiers = [each["id"] for each in form["body"] if each["type"] != "markdown"]
    assert len(identifiers) == len(set(identifiers)) > 0


def test_the_table_of_metrics_has_a_row_for_every_record():
    rows = [row.split(" | ") for row in metrics.table().splitlines()[2:]]
    assert [row[0].strip("| `") for row in rows] == list(METRICS)
    for row, metric in zip(rows, METRICS.values(), strict=True):
        assert row[3] == metric.definition
        assert row[2] == f"`{group_of(metric.name).name}`"
        assert row[4] == "{:g} to {:g}".format(*metric.range)
        assert row[6] == metric.source
    assert metrics.MARK in (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
