"""The one direction of imports, held by reading the code, and what an import may cost."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ibd"
GROUND = ("types", "errors", "printing", "drawing", "registry", "techniques", "config", "distributed", "lock", "io")
ORDER = [*GROUND, "data", "backbones", "metrics", "explain", "models", "comparison", "training", "app", "cli"]
RANK = {room: max(0, i - len(GROUND) + 1) for i, room in enumerate(ORDER)}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in FILES}


def room_of(module):
    """Return the room of ``ibd.config.schema`` (config) or ``ibd.models.cbm.network`` (models)."""
    part = (*module.split("."), "")[1]
    room = {"__main__": "cli"}.get(part, part)
    return "io" if room.startswith("io_") else room


def imports(path, source=None):
    """Yield (line, module) for every import in a file from this package, inside functions too."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    tree = ast.parse(source if source is not None else path.read_text(encoding="utf-8"))
    if path.name == "io.py":  # it says what it returns, which is defined to its right and found by its name
        tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and node.test.id == "TYPE_CHECKING")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *filter(None, [node.module])])
            whole = [f"{module}.{alias.name}" for alias in node.names]
            found = [name if module == "ibd" or name in MODULES else module for name in whole]
        else:
            continue
        yield from ((node.lineno, name) for name in found if name == "ibd" or name.startswith("ibd."))


def violations(path, source=None):
    here = room_of(module_of(path))
    where = path.relative_to(ROOT)
    if here not in RANK:
        yield f"{where}: '{here}' is no room of the package"
        return
    for line, module in imports(path, source):
        there = room_of(module)
        if module == "ibd.__version__":  # the package's own constant, to the left of everything
            continue
        if there not in RANK:
            yield f"{where}:{line}: imports {module}, which belongs to no room (import from the module that defines it)"
        elif RANK[there] > RANK[here]:
            yield f"{where}:{line}: {here} imports {module}, to its right"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_a_room_imports_only_from_rooms_to_its_left(path):
    assert not list(violations(path))


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("types.py", "import ibd.data.base", "ibd/types.py:1: types imports ibd.data.base, to its right"),
        (
            "config/schema.py",
            "from ibd.cli import main",
            "schema.py:1: config imports ibd.cli, to its right",
        ),
        (
            "data/base.py",
            "def f():\n    from ibd.models import x",
            "ibd/data/base.py:2: data imports ibd.models, to its",
        ),
        (
            "explain/base.py",
            "from ..models import x",
            "base.py:1: explain imports ibd.models, to its right",
        ),
        ("models/cbm/__init__.py", "from ... import cli", "__init__.py:1: models imports ibd.cli, to its right"),
        ("metrics/base.py", "from ibd.models.base import x", "metrics imports ibd.models.base, to its right"),
        ("cli.py", "from ibd import fit", "ibd/cli.py:1: imports ibd.fit, which belongs to no room"),
        ("utils.py", "", "ibd/utils.py: 'utils' is no room of the package"),
    ],
)
def test_the_rule_notices(file, source, expected):
    found = list(violations(PACKAGE / file, source))
    assert len(found) == 1
    assert expected in found[0]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("models/cbm/network.py", "from ibd.models.base import x\nfrom .parts import y\nfrom ibd.explain import base"),
        ("config/loading.py", "from ibd.config.schema import x\nfrom ibd.io import y"),
        ("comparison/runner.py", "import torch\nfrom ibd.models import base\nfrom ibd.explain import base"),
        ("__main__.py", "from ibd.cli import main"),
    ],
)
def test_the_rule_allows(file, source):
    assert not list(violations(PACKAGE / file, source))


def circle_in(arrows):
    """Return what is left of a graph, name -> names it needs, when all that needs nothing left is taken out."""
    while free := {name for name, needed in arrows.items() if not needed & set(arrows)}:
        arrows = {name: needed for name, needed in arrows.items() if name not in free}
    return arrows


def test_the_first_rooms_do_not_import_each_other_in_a_circle():
    arrows = {room: set() for room in GROUND}
    for path in FILES:
        here = room_of(module_of(path))
        if here in arrows:
            arrows[here] |= {room_of(module) for _, module in imports(path)} & set(GROUND) - {here}
    assert circle_in(arrows) == {}


def test_no_files_import_each_other_in_a_circle_for_their_types_either():
    arrows = {module_of(path): {module for _, module in imports(path)} - {module_of(path)} for path in FILES}
    assert circle_in(arrows) == {}
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == {"a": {"b"}, "b": {"c"}, "c": {"b"}}


def test_importing_the_package_and_its_configuration_does_not_import_torch():
    code = "import sys, ibd, ibd.errors, ibd.registry, ibd.config; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_no_file_is_longer_than_400_lines():
    files = [path for folder in ("ibd", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > 400} == {}
