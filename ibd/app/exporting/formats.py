"""The two kinds of files that a program is written as, and running what was written."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from ibd.app.exporting.programs import Program
from ibd.app.exporting.quiet import quiet
from ibd.errors import ConfigError, UnsupportedError

NAMES = "ibd.json"
"""What the names are called inside of a file: an extra file of a .pt2, a metadata property of a .onnx."""
OPSET = 18
"""The version of ONNX's operators that is written: the one that PyTorch translates to, and every runtime has."""
_MOST_BYTES = 2_000_000_000
"""More than fits into one ONNX file."""

Run = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
"""Inputs by name, of which a program takes what it reads -> its outputs by name."""


def pt2_bytes(program: Program, described: Mapping[str, Any]) -> bytes:
    """Return the file that ``torch.export.load`` reads."""
    content = io.BytesIO()
    for graph in program.exported.graph_module.modules():
        for node in graph.graph.nodes if isinstance(graph, fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # lines of files of this machine
    with quiet():
        torch.export.save(program.exported, content, extra_files={NAMES: json.dumps(described, indent=1)})
    return content.getvalue()


def run_pt2(content: bytes, program: Program) -> Run:
    """Return what runs the content of a .pt2 file, by PyTorch alone."""
    with quiet():
        module = torch.export.load(io.BytesIO(content)).module()

    def run(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        made = module(*(given[name] for name in program.inputs))
        return dict(zip(program.outputs, made, strict=True))

    return run


def require_onnx() -> None:
    """Check that the packages that write and run ONNX files are installed.

    Raises:
        UnsupportedError: one is not.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UnsupportedError(f'a .onnx file needs {error.name}: pip install "ibd[onnx]"') from None


def onnx_bytes(program: Program, described: Mapping[str, Any], opset: int, family: str) -> bytes:
    """Return the ONNX file of a program, by ``torch.onnx.export(dynamo=True)``, with its weights within.

    Args:
        program: program to write.
        described: what goes into the metadata property ``ibd.json``.
        opset: version of the operators.
        family: what the model is called in a message.

    Raises:
        ConfigError: PyTorch cannot write this version.
        UnsupportedError: there is no ONNX for an operator, or the weights are too large for one file.
    """
    model = _translated(program, opset, family)
    found = max(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    if found != opset:
        raise ConfigError(
            f"--opset: {opset} given, which PyTorch {torch.__version__} cannot write this model in: it wrote {found}; "
            f"leave --opset out for {OPSET}"
        )
    for value in (*model.graph.input, *model.graph.output):
        first = value.type.tensor_type.shape.dim
        if first and first[0].dim_param:
            first[0].dim_param = "batch"
    _forget_places(model.graph)
    model.producer_name, model.doc_string = (
        "ibd",
        f"{family}: {', '.join(program.inputs)} -> {', '.join(program.outputs)}",
    )
    entry = model.metadata_props.add()
    entry.key, entry.value = NAMES, json.dumps(described)
    if model.ByteSize() > _MOST_BYTES:
        raise UnsupportedError(
            f"this model takes {model.ByteSize() / 1e9:.1f} GB, and one ONNX file holds 2: write a .pt2 file"
        )
    content: bytes = model.SerializeToString()
    return content


def _translated(program: Program, opset: int, family: str) -> Any:
    """Return a program as an ``onnx.ModelProto``.

    Raises:
        UnsupportedError: there is no ONNX for it.
    """
    try:
        with quiet():
            exported = program.exported.run_decompositions(_decompositions())
            written: Any = torch.onnx.export(
                exported,
                dynamo=True,
                input_names=list(program.inputs),
                output_names=list(program.outputs),
                opset_version=opset,
                external_data=False,
                verbose=False,
            )
            return written.model_proto
    except Exception as error:  # whatever it makes of the code of a stranger's model
        raise UnsupportedError(
            f"{family}: {program.name}: ONNX has no {_cause(error)}, in PyTorch {torch.__version__}; a later one may"
        ) from error


def run_onnx(content: bytes, program: Program) -> Run:
    """Return what runs the content of an ONNX file, by onnxruntime on the CPU.

    Raises:
        UnsupportedError: it does not take the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has a dozen, without a common parent
        reason = " ".join(str(error).split())[:200]
        raise UnsupportedError(
            f"{program.name}: onnxruntime {onnxruntime.__version__} runs no such file: {reason}"
        ) from error

    def run(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        made = session.run(list(program.outputs), {name: given[name].numpy() for name in program.inputs})
        return {name: torch.from_numpy(value) for name, value in zip(program.outputs, made, strict=True)}

    return run


def _decompositions() -> dict[Any, Callable[..., Any]]:
    """Return operators of ATen that PyTorch has no ONNX for, in terms of others."""

    def kthvalue(values: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
        found = (part.narrow(dim, k - 1, 1) for part in values.topk(k, dim, largest=False))
        value, where = (part if keepdim else part.squeeze(dim) for part in found)
        return value, where

    def sort(values: Tensor, *, stable: bool | None, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
        values, places = values.topk(
            values.shape[dim], dim, largest=descending
        )  # of equal ones the first: so says ONNX
        return values, places

    table = torch.export.default_decompositions()
    table[torch.ops.aten.kthvalue.default] = kthvalue
    table[torch.ops.aten.sort.stable] = sort
    return dict(table)


def _forget_places(graph: Any) -> None:
    """Take out which lines of which files of this machine each node is from."""
    for node in graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _forget_places(attribute.g)
    for value in (*graph.value_info, *graph.input, *graph.output, *graph.initializer):
        value.ClearField("metadata_props")
        value.ClearField("doc_string")
    graph.ClearField("metadata_props")


def _cause(error: BaseException) -> str:
    """Return in a few words what an exporter stumbled over: the operator, where it names one."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = " ".join(str(error).split())
    named = said.split("OpOverload(op='")
    if len(named) > 1:
        return f"operator {named[1].split(chr(39))[0]}"
    return f"form of it ({said[:160] or type(error).__name__})"
