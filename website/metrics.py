"""The table of metrics in docs/comparison.md, read from their records in ibd/comparison/groups, not imported."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from website import ROOT

MARK = "<!-- the site has a table of all metrics here: website/metrics.py -->"
GROUPS = Path("ibd/comparison/groups")
_HEAD = "| name | column | group | definition | range | better | source | needs |\n|---|---|---|---|---|---|---|---|"
_FIELDS = ("name", "title", "definition", "range", "higher_is_better", "source", "needs")


def table(root: Path = ROOT) -> str:
    """Return the table as markdown: a row for every metric, in the order of the groups."""
    constants = _constants(_tree(root, "record"))
    rows = [
        _row(record, group)
        for module in _order(root)
        for group, records in [_records(_tree(root, module), constants)]
        for record in records
    ]
    return "\n".join([_HEAD, *rows])


def _row(record: dict[str, Any], group: str) -> str:
    low, high = record["range"]
    ends = f"{low:g} to {high:g}"
    better = {True: "higher", False: "lower", None: "-"}[record["higher_is_better"]]
    needs = ", ".join(f"`{need}`" for need in sorted(record["needs"].split()))
    cells = [f"`{record['name']}`", record["title"], f"`{group}`", record["definition"], ends, better]
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in [*cells, record["source"], needs]) + " |"


def _records(tree: ast.Module, known: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """Return the name of a file's group, and the records of its metrics."""
    names = known | _constants(tree)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    group = next(call for call in calls if call.func.id == "Group")  # type: ignore[attr-defined]
    metrics = [call for call in calls if _called(call) == "Metric"]
    metrics.sort(key=lambda call: call.lineno)
    return str(_value(group.args[0], names)), [_record(call, names) for call in metrics]


def _record(call: ast.Call, names: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a metric that the table shows; they may be given by place or by name."""
    given = dict(zip(_FIELDS, call.args, strict=False)) | {str(word.arg): word.value for word in call.keywords}
    return {field: _value(given[field], names) for field in _FIELDS}


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _order(root: Path) -> list[str]:
    """Return the modules of the groups in the order of a report."""
    tree = _tree(root, "__init__")
    modules = {
        alias.name: str(node.module).rpartition(".")[2]
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    listed = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "_ALL"
    )
    assert isinstance(listed, ast.Tuple)
    return [modules[elt.id] for elt in listed.elts if isinstance(elt, ast.Name)]


def _constants(tree: ast.Module) -> dict[str, Any]:
    """Return what a module assigns of plain values: texts, numbers, and tuples of them."""
    values: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            try:
                value = _value(node.value, values)
            except ValueError:
                continue
            target = node.targets[0]
            if isinstance(target, ast.Tuple):
                named = zip(target.elts, value, strict=True)
                values |= {name.id: part for name, part in named if isinstance(name, ast.Name)}
            elif isinstance(target, ast.Name):
                values[target.id] = value
    return values


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Tuple):
        return tuple(_value(elt, names) for elt in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, names)
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.Call) and _called(node) == "float" and isinstance(node.args[0], ast.Constant):
        return float(str(node.args[0].value))
    raise ValueError(f"line {node.lineno}: a plain value is needed, not {ast.unparse(node)}")


def _tree(root: Path, module: str) -> ast.Module:
    return ast.parse((root / GROUPS / f"{module}.py").read_text(encoding="utf-8"))
