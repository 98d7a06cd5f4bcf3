"""The pages of the reference, written from the public names of the packages; the code is read and not imported.

A name that moves to another module, or a new one, is found here by itself.
"""

from __future__ import annotations

import ast
from pathlib import Path

from website import ROOT

PACKAGES = ("ibd", "ibd.data", "ibd.explain", "ibd.metrics")
RETURNED = ("Run", "Prediction", "Calibration", "InterventionCurve", "AxisReport", "Report")
DERIVED = ("InterpretableNetwork", "InterpretableModule", "Backbone", "Output", "Units", "Block")
EXTENDING = """# What calls return, and what yours derive from

These classes are not imported by name: calls return them, and [a model, a backbone or an explainer of your
own](../contributing.md) derives from them. Explainers and sources of images derive from
[`Explainer`][ibd.explain.Explainer] and [`ImageDataModule`][ibd.data.ImageDataModule].

## Returned

{returned}

## To derive from

{derived}
"""


def pages(root: Path = ROOT) -> dict[str, str]:
    """Return the pages of the reference: path in the site -> text."""
    made = {f"api/{package.rpartition('.')[2]}.md": page(package, root) for package in PACKAGES}
    defined = definitions(root)
    returned, derived = (
        "\n".join(_entry(f"{defined[name]}.{name}", 3) for name in names) for names in (RETURNED, DERIVED)
    )
    return made | {"api/extending.md": EXTENDING.format(returned=returned, derived=derived)}


def page(package: str, root: Path = ROOT) -> str:
    """Return the page of a package: what it is for, then its public names by the modules that define them."""
    head = f"# {package}\n\n{_docstring(_init(package, root))}\n"
    groups = public_names(package, root)
    if package == "ibd":
        names = sorted(
            (name for group in groups.values() for name in group), key=lambda name: (name[0].isupper(), name)
        )
        return "\n".join([head, *(_entry(f"ibd.{name}", 2) for name in names)])
    return "\n".join([head, *(_group(package, module, names, root) for module, names in groups.items())])


def _group(package: str, module: str, names: list[str], root: Path) -> str:
    title = module.removeprefix(f"{package}.").removeprefix("ibd.")
    said = _docstring(_file(module, root)).partition("\n\n")[0]
    return "\n".join([f"## {title}\n\n{said}\n", *(_entry(f"{package}.{name}", 3) for name in names)])


def _entry(path: str, level: int) -> str:
    return f"::: {path}\n    options:\n      heading_level: {level}\n"


def public_names(package: str, root: Path = ROOT) -> dict[str, list[str]]:
    """Return the public names of a package by the modules that it imports them from."""
    body = ast.parse(_init(package, root).read_text(encoding="utf-8")).body
    body += [inner for node in body for inner in _for_types(node)]
    listed = {name for node in body for name in _strings_of(node, "__all__")}
    by_module: dict[str, list[str]] = {}
    for node in body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ibd."):
            names = [alias.name for alias in node.names if alias.name in listed or alias.asname == alias.name]
            if names:
                by_module.setdefault(str(node.module), []).extend(names)
    return by_module


def _for_types(node: ast.stmt) -> list[ast.stmt]:
    """Return what stands under ``if TYPE_CHECKING:``."""
    held = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return node.body if held else []  # type: ignore[attr-defined]


def _strings_of(node: ast.stmt, name: str) -> set[str]:
    """Return the strings in what is assigned to a name."""
    if not isinstance(node, ast.Assign) or not any(isinstance(to, ast.Name) and to.id == name for to in node.targets):
        return set()
    return {part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant) and type(part.value) is str}


def definitions(root: Path = ROOT) -> dict[str, str]:
    """Return the module that defines each class of the package; of two of one name, the first."""
    module_of: dict[str, str] = {}
    for path in sorted((root / "ibd").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                module_of.setdefault(node.name, module)
    return module_of


def _init(package: str, root: Path) -> Path:
    return root.joinpath(*package.split("."), "__init__.py")


def _file(module: str, root: Path) -> Path:
    return path if (path := root.joinpath(*module.split(".")).with_suffix(".py")).exists() else _init(module, root)


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
