"""What an ATen operator is: its kind, whether it computes anything, and what it costs.

Multiply-accumulates (MACs) are counted by PyTorch's own FLOP counter, which knows every matrix
product, convolution and attention. Everything else gets a modest count of this module's own:

* pointwise operators (additions, activations, casts): 1 FLOP per output element;
* batch normalisation: 2 per output element (scale and shift); layer, group and instance
  normalisation and softmax: 5 per output element;
* pooling and reductions: 1 per element read (window size x output elements, or the input's size
  where the window follows from the shapes);
* data movement (concatenation, padding, embedding look-up, nearest upsampling): 0.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node
from torch.utils._pytree import tree_map

from mjoa_gym.profiles import torch_names as names


def _per_row(*shapes: Any, out_shape: Any = None, **_: Any) -> int:
    """2 FLOPs for every element of the largest operand: a dot or matrix-vector product."""
    return 2 * max(math.prod(shape) for shape in shapes if isinstance(shape, torch.Size))


def _distances(first: Any, second: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return 2 * math.prod(out_shape) * int(first[-1])


def _trilinear(*arguments: Any, out_shape: Any = None, **_: Any) -> int:
    """2 FLOPs for every element of the product of three tensors, which is then summed."""
    shapes = []
    for shape, added in zip(arguments[:3], arguments[3:6], strict=True):
        sides = list(shape)
        for place in sorted(added):
            sides.insert(place, 1)
        shapes.append(sides)
    return 2 * math.prod(map(max, zip(*shapes, strict=True)))


_ATEN = torch.ops.aten
EXTRA_FLOPS: dict[Any, Any] = {
    **dict.fromkeys((_ATEN.mv, _ATEN.addmv, _ATEN.dot, _ATEN.vdot), _per_row),
    _ATEN._trilinear: _trilinear,
    **dict.fromkeys((_ATEN._cdist_forward, _ATEN._euclidean_dist), _distances),
}
"""FLOP formulas that `FlopCounterMode` lacks, for its `custom_mapping`."""


def op_name(node: Node) -> str:
    """The operator's name without namespace and overload, such as ``conv2d``."""
    if node.target is operator.getitem:
        return "getitem"
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return getattr(node.target, "__name__", str(node.target))
    return schema.name.split("::")[-1]


def is_view(node: Node) -> bool:
    """Whether the operator only renames or copies elements of its input (inference mode)."""
    if node.target is operator.getitem or op_name(node) in names.COPIES:
        return True
    return bool(getattr(node.target, "is_view", False))


def is_known(node: Node) -> bool:
    """Whether the FLOPs of an operator without multiply-accumulates are known."""
    target, name = node.target, op_name(node)
    if isinstance(target, torch._ops.OpOverload):
        if torch.Tag.pointwise in target.tags:
            return True
        if target.namespace != "aten":
            return False
    elif isinstance(target, torch._ops.OperatorBase):
        return False  # a higher-order operator, such as torch.cond
    return (
        name in names.REDUCTIONS | names.SCANS | names.MOVES | names.PER_ELEMENT
        or any(part in name for part in names.FAMILIES)
        or is_view(node)
    )


def tensors(value: Any) -> list[torch.Tensor]:
    """The tensors in a node's value, which may be one tensor or a sequence."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [t for item in value for t in tensors(item)]
    return []


def value_of(node: Node) -> Any:
    """The fake tensor (or tuple of them) that the node stands for."""
    return node.meta.get("val")


def items_read(node: Node) -> list[int] | None:
    """Of an operator with several outputs, the positions of the tensors that are read."""
    value = value_of(node)
    if not isinstance(value, (list, tuple)):
        return None
    read = {user.args[1] for user in node.users if user.target is operator.getitem}
    return [i for i, item in enumerate(value) if i in read and isinstance(item, torch.Tensor)]


def num_bytes(node: Node) -> int:
    """Bytes of the node's value; of several outputs, those that are read."""
    value, items = value_of(node), items_read(node)
    if items is not None:
        value = [value[item] for item in items]
    return sum(t.numel() * t.element_size() for t in tensors(value))


def num_elements(node: Node) -> int:
    """Elements of the node's first (or only) output."""
    found = tensors(value_of(node))
    return found[0].numel() if found else 0


def kind_of(node: Node, macs: int) -> str:
    """The layer kind of one operator; ``macs`` tells the heavy operators from the others."""
    name = op_name(node)
    if macs > 0:
        if "conv" in name:
            return "depthwise_conv" if _is_depthwise(node) else "conv"
        if name in names.MATRIX_VECTOR:
            shape = tensors(value_of(node))[0].shape
            return "linear" if math.prod(shape[:-1]) == 1 else "matmul"
        return "matmul"
    if not is_known(node):
        return "other"
    if name in names.REDUCTIONS or "pool" in name:
        return "pool"
    if "embedding" in name:
        return "embedding"
    if "norm" in name or "softmax" in name:
        return "norm"
    return "elementwise"


def is_cheap(node: Node, kind: str) -> bool:
    """Whether a runtime would run the operator as part of its neighbour's kernel."""
    return kind in ("elementwise", "norm") and op_name(node) not in names.NOT_FUSED


def light_flops(node: Node, kind: str) -> int:
    """FLOPs of an operator without multiply-accumulates, as counted in this module's docstring."""
    name = op_name(node)
    size = num_elements(node)
    if kind in ("embedding", "other") or name in names.MOVES:
        return 0
    if kind == "norm":
        return (2 if "batch_norm" in name else 5) * size
    if kind == "pool":
        window: Any = node.args[1] if len(node.args) > 1 else None
        if name in names.REDUCTIONS or "adaptive" in name or not isinstance(window, Sequence):
            return num_elements(node.all_input_nodes[0])
        dims = 2 if "2d" in name else 3 if "3d" in name else 1
        sides = tuple(window) * (dims if len(window) == 1 else 1)
        return math.prod(sides) * size
    return size


def count_macs(node: Node, counter: Any) -> int:
    """Multiply-accumulates of one operator, by running it on meta tensors.

    Args:
        node: The operator.
        counter: An entered ``torch.utils.flop_counter.FlopCounterMode``; it sees shapes only, so
            no arithmetic takes place. (On CPU tensors it would miss scaled-dot-product attention.)
    """
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or torch.Tag.pointwise in target.tags:
        return 0
    if is_view(node) or op_name(node) in names.MOVES:
        return 0

    def on_meta(argument: Any) -> Any:
        if isinstance(argument, torch.device):
            return torch.device("meta")
        if not isinstance(argument, Node):
            return argument
        return tree_map(_meta_like, value_of(argument))

    before = counter.get_total_flops()
    try:
        target(*_map(node.args, on_meta), **_map(node.kwargs, on_meta))
    except (RuntimeError, NotImplementedError):  # of another library, without shape rules
        return 0
    return (counter.get_total_flops() - before) // 2


def _map(arguments: Any, function: Any) -> Any:
    return tree_map(function, arguments, is_leaf=lambda item: isinstance(item, Node))


def _meta_like(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device="meta")


def _is_depthwise(node: Node) -> bool:
    weight = node.args[1]
    if not isinstance(weight, Node):
        return False
    groups = next((a for a in reversed(node.args) if isinstance(a, int)), 1)
    return groups > 1 and tensors(value_of(weight))[0].shape[1] == 1
