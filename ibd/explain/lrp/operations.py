"""Which operations of torch are what to relevance, by name. What is in no table is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ibd.explain.calls import Function, Keywords, name_of

CONVOLUTIONS = {f"conv{count}d" for count in (1, 2, 3)}
TRANSPOSED = {f"conv_transpose{count}d" for count in (1, 2, 3)}
MATMULS = {"matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "einsum", "tensordot", "dot"}

ADDITIONS = {"add", "add_", "__add__", "__radd__", "__iadd__", "sub", "sub_", "__sub__", "__rsub__", "__isub__", "rsub"}
ADDITIONS |= {"subtract", "subtract_"}
PRODUCTS = {"mul", "mul_", "__mul__", "__rmul__", "__imul__", "multiply", "multiply_"}
QUOTIENTS = {"div", "div_", "__div__", "__truediv__", "__itruediv__", "divide", "divide_", "true_divide"}

VIEWS = {
    *(
        "view",
        "reshape",
        "view_as",
        "reshape_as",
        "flatten",
        "unflatten",
        "squeeze",
        "unsqueeze",
        "expand",
        "expand_as",
    ),
    *("permute", "transpose", "t", "T", "mT", "H", "movedim", "moveaxis", "swapaxes", "swapdims", "contiguous"),
    *("clone", "to", "float", "double", "half", "bfloat16", "type", "type_as", "repeat", "repeat_interleave", "tile"),
    *(
        "__getitem__",
        "select",
        "narrow",
        "chunk",
        "split",
        "split_with_sizes",
        "tensor_split",
        "unbind",
        "index_select",
    ),
    *("gather", "take_along_dim", "flip", "roll", "broadcast_to", "broadcast_tensors", "atleast_2d", "requires_grad_"),
    *("dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
    *("feature_dropout", "feature_dropout_", "alpha_dropout_", "feature_alpha_dropout_"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "unfold", "cuda", "cpu"),
    "positive",
}
"""Moves values, changes none: what is known of a tensor stays known."""
POOLS = {
    *(
        "mean",
        "sum",
        "cat",
        "concat",
        "concatenate",
        "stack",
        "hstack",
        "vstack",
        "fold",
        "amax",
        "max",
        "topk",
        "sort",
    ),
    *("maximum", "pad"),
    *(f"{kind}_pool{count}d" for kind in ("max", "avg", "adaptive_max", "adaptive_avg") for count in (1, 2, 3)),
}
"""Sums, means and choices: autograd shares out relevance in proportion, or to the winner; signs stay."""
HOMOGENEOUS = {
    "leaky_relu",
    "leaky_relu_",
    "prelu",
    "rrelu",
    "rrelu_",
    "neg",
    "negative",
    "__neg__",
    "amin",
    "min",
    "minimum",
}
HOMOGENEOUS |= {"interpolate", "upsample", "where", "index_copy", "scatter", "masked_fill", "masked_fill_"}
"""Piecewise linear without a constant: autograd is right; signs may change."""
RELUS = {"relu", "relu_"}
SELECTIONS = {
    *("cat", "concat", "concatenate", "stack", "hstack", "vstack", "where", "masked_fill", "masked_fill_", "pad")
}
SELECTIONS |= {"index_copy", "scatter"}
"""Places values beside constants: what the constants are is a bias."""

ACTIVATIONS = {
    *("gelu", "silu", "hardswish", "mish", "elu", "celu", "selu", "tanh", "softsign", "tanhshrink", "hardshrink"),
    *("softshrink", "relu6", "sigmoid", "hardsigmoid", "softplus", "log_sigmoid", "hardtanh", "clamp", "clip"),
    *("clamp_min", "clamp_max", "softmax", "threshold", "_threshold"),
}
ACTIVATIONS |= {f"{name}_" for name in ACTIVATIONS}
"""Acts on each value by itself; a softmax is taken for one, too."""
GATES = {"sigmoid", "sigmoid_", "hardsigmoid", "hardsigmoid_", "softmax"}
"""Says how much of something else there is to be: in a product, a constant."""
NONNEGATIVE = {*RELUS, *GATES, "softplus", "relu6"}

DRAWN = {"dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "rrelu"}
"""Multiplies each value by a number that may be drawn, see `draws`; it is drawn once, and counts as a constant."""
REPLACED = {"alpha_dropout", "feature_alpha_dropout"}
"""May replace values by others that are drawn."""
RANDOM = {"bernoulli", "multinomial", "normal", "poisson", "gumbel_softmax", "binomial", "fractional_max_pool2d"}
RANDOM |= {
    f"{name}_" for name in ("bernoulli", "normal", "uniform", "exponential", "geometric", "log_normal", "cauchy")
}
RANDOM |= {"fractional_max_pool3d", "random_", "rand_like", "randn_like", "randint_like"}
"""Draws random numbers; what they depend on has no relevance."""

NORMS = {"layer_norm", "group_norm", "instance_norm", "normalize", "rms_norm"}
"""Divides by a size of its own input: that size is a constant."""

COMPARISONS = {"gt", "ge", "lt", "le", "__gt__", "__ge__", "__lt__", "__le__", "greater", "greater_equal"}
CONSTANTS = {
    *(
        "zeros_like",
        "ones_like",
        "empty_like",
        "full_like",
        "rand_like",
        "randn_like",
        "randint_like",
        "detach",
        "data",
    ),
    *("new_zeros", "new_ones", "new_empty", "new_full", "new_tensor", "size", "dim", "numel", "item", "tolist"),
    *("argmax", "argmin", "argsort", "eq", "ne", "__eq__", "__ne__", "isnan", "isfinite", "isinf", "sign", "heaviside"),
    *("is_floating_point", "is_contiguous", "stride", "data_ptr", "get_device", "element_size", "is_inference"),
}
"""Does not depend on values in a way that could carry relevance, or says that it shall not."""

OF_CARRIED = {
    *ADDITIONS, *PRODUCTS, *QUOTIENTS, *ACTIVATIONS, *RELUS, "neg", "__neg__", "log", "exp", "log1p", "expm1",
    "masked_fill", *("sqrt", "rsqrt", "reciprocal", "square", "pow", "__pow__", "abs", "log2", "log10"),
}  # fmt: skip
"""Functions of one value each, which what is carried stays through; see `Node.carried`."""

ALONE = {"add", "sub", "rsub", "mul", "div", "__getitem__", "select", "unsqueeze", "cat", "stack", "to", "contiguous"}
ALONE |= {
    "__add__",
    "__radd__",
    "__sub__",
    "__rsub__",
    "__mul__",
    "__rmul__",
    "__truediv__",
    "clone",
    "float",
    "double",
}
ALONE |= {"add_", "sub_", "mul_", "div_", "__iadd__", "__isub__", "__imul__", "__itruediv__", "concat", "index_select"}
ALONE |= {
    "subtract",
    "multiply",
    "divide",
    "half",
    "bfloat16",
    "type",
    "narrow",
    "chunk",
    "split",
    "unbind",
    "batch_norm",
}
"""What may be done to pixels, each by itself, before the first layer."""
RESHAPES = {"view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "clone"}
"""Leaves the values in their order."""


def draws(name: str, args: Sequence[object], kwargs: Mapping[str, object]) -> bool:
    """Return whether an operation draws random numbers: dropout and its like only in training, or so they are told."""
    bare = name.rstrip("_")
    if bare not in DRAWN | REPLACED:
        return False
    position = 3 if bare == "rrelu" else 2
    default = args[position] if len(args) > position else bare not in REPLACED | {"rrelu"}
    return bool(kwargs.get("training", kwargs.get("train", default)))


def in_place(name: str, kwargs: Mapping[str, object]) -> bool:
    """Return whether an operation writes its result over its first argument."""
    inplace_operator = name.startswith("__i") and name not in ("__iter__", "__invert__", "__index__")
    return bool(kwargs.get("inplace")) or inplace_operator or (name.endswith("_") and not name.endswith("__"))


def out_of_place(function: Function, kwargs: Keywords) -> tuple[Function, Keywords]:
    """Return the operation that makes a new tensor of what one in place writes."""
    name = name_of(function)
    if kwargs.get("inplace"):
        kwargs = {**kwargs, "inplace": False}
    if name.startswith("__i") and name.endswith("__") and name not in ("__invert__", "__index__"):
        return getattr(torch.Tensor, f"__{name[3:]}"), kwargs
    if name.endswith("_") and not name.endswith("__"):
        bare = name[:-1]
        return getattr(torch.Tensor, bare, None) or getattr(torch.nn.functional, bare), kwargs
    return function, kwargs
