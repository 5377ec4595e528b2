"""Properties of ATen operators: the kind, whether it computes anything, and its cost.

PyTorch's own FLOP counter, which supports every matrix product, convolution and attention, counts
multiply-accumulates (MACs). This module counts all other operators approximately:

* pointwise operators (additions, activations, casts): 1 FLOP per output element;
* batch normalisation: 2 per output element (scale and shift); layer, group and instance
  normalisation and softmax: 5 per output element;
* pooling and reductions: 1 per element read (window size x output elements, or the input's size
  where the window follows from the shapes);
* data movement (concatenation, padding, embedding look-up, nearest upsampling): 0; bags of
  embeddings 1 per element read.

Control flow is one operator: `torch.cond` costs as much as its more expensive branch, and `map` and
`scan` cost as much as their body times the length of the sequence that they process.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from mjoa_gym.profiles.graph import Cost, names

COPIES = names("""clone contiguous alias detach _unsafe_view lift_fresh_copy copy dropout
feature_dropout alpha_dropout native_dropout unsafe_split unsafe_chunk broadcast_tensors""")
PRODUCTS = names("""_int_mm _scaled_mm _scaled_mm_v2 _weight_int8pack_mm _weight_int4pack_mm
_weight_int4pack_mm_for_cpu _weight_int4pack_mm_with_scales_and_zeros _dyn_quant_matmul_4bit
_mixed_dtypes_linear mkldnn_linear _grouped_mm grouped_mm grouped_mm_fallback _scaled_grouped_mm
_scaled_grouped_mm_v2""")
ATTENTION = names("""flex_attention _scaled_dot_product_flash_attention_for_cpu
_scaled_dot_product_fused_attention_overrideable""")
ATTENTION_OF_ROWS = names("""_flash_attention_forward _efficient_attention_forward
_flash_attn_forward""")
MATRIX_VECTOR = PRODUCTS | names("linear mm addmm _addmm_activation mv addmv matmul dot vdot")
REDUCTIONS = names("""mean sum amax amin max min argmax argmin std var prod any all norm
linalg_vector_norm logsumexp var_mean std_mean aminmax count_nonzero median nanmedian nanmean nansum
trace sort argsort topk msort kthvalue mode histc quantile nanquantile linalg_norm
linalg_matrix_norm _weight_norm""")
MOVES = names("""cat stack pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d
replication_pad1d replication_pad2d replication_pad3d upsample_nearest1d upsample_nearest2d
upsample_nearest3d index gather index_select take take_along_dim scatter scatter_add scatter_reduce
index_put index_add index_copy index_fill masked_scatter select_scatter slice_scatter
diagonal_scatter roll flip rot90 repeat tile repeat_interleave pixel_shuffle pixel_unshuffle
channel_shuffle im2col one_hot tril triu block_diag meshgrid full full_like zeros zeros_like ones
ones_like empty empty_like arange new_zeros new_ones new_full new_empty scalar_tensor
eye linspace diag diag_embed diagflat fliplr flipud fft_fftshift fft_ifftshift zero""")
PER_ELEMENT = names("""_to_copy to type_as where masked_fill bucketize searchsorted glu col2im
affine_grid_generator upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d
_upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler grid_sampler_2d grid_sampler_3d rand
randn rand_like randn_like randint bernoulli multinomial view_as_complex view_as_real complex polar
einsum cross diff rsub outer kron addr linalg_cross isin cumsum cumprod logcumsumexp cummax cummin
fill hardswish prelu log_sigmoid floor_divide __and__ __or__ __xor__ special_expit real imag conj
isclose absolute negative multiply subtract divide cosine_similarity pairwise_distance dist
fake_quantize_per_tensor_affine fake_quantize_per_channel_affine quantize_per_tensor dequantize""")
FAMILIES = names("batch_norm layer_norm group_norm instance_norm rms_norm softmax pool embedding")
"""Parts of names that identify the kind of an operator."""
NOT_FUSED = names("cat stack index gather cond map_impl scan")


def _per_row(*shapes: Any, out_shape: Any = None, **_: Any) -> int:
    """Count 2 FLOPs per element of the largest operand: a dot or matrix-vector product."""
    return 2 * max(math.prod(shape) for shape in shapes if isinstance(shape, torch.Size))


def _product(first: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """Count 2 FLOPs per output (once for a group) and column of the first operand."""
    return 2 * math.prod(out_shape[-len(first) :]) * first[-1]


def _attention(query: Any, key: Any, value: Any, *_: Any, side: int = -2, **__: Any) -> int:
    """Count both products of every query and key, masked or not; `side` is the keys' axis."""
    return 2 * math.prod(query[:-1]) * key[side] * (query[-1] + value[-1])


def _distances(first: Any, second: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return 2 * math.prod(out_shape) * int(first[-1])


def _trilinear(*arguments: Any, out_shape: Any = None, **_: Any) -> int:
    """Count 2 FLOPs per element of the product of three tensors, which is then summed."""
    shapes = []
    for shape, added in zip(arguments[:3], arguments[3:6], strict=True):
        sides = list(shape)
        for place in sorted(added):
            sides.insert(place, 1)
        shapes.append(sides)
    return 2 * math.prod(map(max, zip(*shapes, strict=True)))


_FORMULAS: dict[str, Any] = {
    **dict.fromkeys(("mv", "addmv", "dot", "vdot", "linalg_vecdot"), _per_row),
    **dict.fromkeys(PRODUCTS, _product),
    "addbmm": lambda _, first, second, **__: 2 * math.prod(first) * second[-1],
    "_addmm_activation": lambda _, first, second, **__: 2 * math.prod(first) * second[-1],
    **dict.fromkeys(ATTENTION, _attention),
    **dict.fromkeys(ATTENTION_OF_ROWS, partial(_attention, side=-3)),
    **dict.fromkeys(("_cdist_forward", "_euclidean_dist"), _distances),
    "_trilinear": _trilinear,
}
"""FLOPs by operator name, in any library, where `FlopCounterMode` has no formula."""
EXTRA_FLOPS: dict[Any, Any] = {
    getattr(torch.ops.aten, name): formula
    for name, formula in _FORMULAS.items()
    if hasattr(torch.ops.aten, name)
}
"""The same for operators that other operators consist of, for its `custom_mapping`."""


def op_name(node: Node) -> str:
    """Return the operator's name without namespace and overload, such as ``conv2d``."""
    if node.target is operator.getitem:
        return "getitem"
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return getattr(node.target, "__name__", str(node.target))
    return schema.name.split("::")[-1]


def is_view(node: Node) -> bool:
    """Return whether the operator only renames or copies elements of its input (inference mode)."""
    if node.target is operator.getitem or op_name(node) in COPIES:
        return True
    return bool(getattr(node.target, "is_view", False))


def is_known(node: Node) -> bool:
    """Return whether the FLOPs of an operator without multiply-accumulates are known."""
    target, name = node.target, op_name(node)
    if isinstance(target, torch._ops.OpOverload):
        if torch.Tag.pointwise in target.tags:
            return True
        if target.namespace != "aten":
            return False
    elif isinstance(target, torch._ops.OperatorBase):
        return False  # a higher-order operator, such as torch.cond
    named = name in REDUCTIONS | MOVES | PER_ELEMENT or any(part in name for part in FAMILIES)
    return named or is_view(node)


def tensors(value: Any) -> list[torch.Tensor]:
    """Return the tensors in a node's value, which may be one tensor or a sequence."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def value_of(node: Node) -> Any:
    """Return the fake tensor (or tuple of them) that the node stands for."""
    return node.meta.get("val")


def items_read(node: Node) -> list[int] | None:
    """Return the positions of the tensors that are read, for an operator with several outputs."""
    value = value_of(node)
    if not isinstance(value, (list, tuple)):
        return None
    read = {user.args[1] for user in node.users if user.target is operator.getitem}
    return [i for i, item in enumerate(value) if i in read and isinstance(item, torch.Tensor)]


def num_bytes(node: Node) -> int:
    """Return the bytes of the node's value; of several outputs, those that are read."""
    value, items = value_of(node), items_read(node)
    if items is not None:
        value = [value[item] for item in items]
    return sum(t.numel() * t.element_size() for t in tensors(value))


def num_elements(node: Node) -> int:
    """Return the number of elements of the node's first (or only) output."""
    found = tensors(value_of(node))
    return found[0].numel() if found else 0


def kind_of(node: Node, macs: int) -> str:
    """Return the layer kind of an operator; ``macs`` distinguishes heavy operators from others."""
    name = op_name(node)
    if macs > 0:
        if "conv" in name:
            return "depthwise_conv" if _is_depthwise(node) else "conv"
        if name in MATRIX_VECTOR:
            shape = tensors(value_of(node))[0].shape
            return "linear" if math.prod(shape[:-1]) == 1 else "matmul"
        return "matmul"
    if not is_known(node) and num_elements(node):
        return "other"
    if name in REDUCTIONS or "pool" in name:
        return "pool"
    if "embedding" in name:
        return "embedding"
    if "norm" in name or "softmax" in name:
        return "norm"
    return "elementwise"


def is_cheap(node: Node, kind: str) -> bool:
    """Return whether a runtime would run the operator as part of its neighbour's kernel."""
    return kind in ("elementwise", "norm") and op_name(node) not in NOT_FUSED


def light_flops(node: Node, kind: str) -> int:
    """Return the FLOPs of an operator without multiply-accumulates (see the module's docstring)."""
    name = op_name(node)
    size = num_elements(node)
    if "embedding_bag" in name:  # sums the rows that it looks up
        return num_elements(node.all_input_nodes[1]) * _shape_of(node)[-1]
    if kind in ("embedding", "other") or name in MOVES:
        return 0
    if kind == "norm":
        return (2 if "batch_norm" in name else 5) * size
    if kind == "pool":
        window: Any = node.args[1] if len(node.args) > 1 else None
        if name in REDUCTIONS or "adaptive" in name or not isinstance(window, Sequence):
            return num_elements(node.all_input_nodes[0])
        dims = 2 if "2d" in name else 3 if "3d" in name else 1
        sides = tuple(window) * (dims if len(window) == 1 else 1)
        return math.prod(sides) * size
    return size


def count_macs(node: Node, counter: Any) -> int:
    """Return the multiply-accumulates of one operator, by running it on meta tensors.

    The counter is an entered ``torch.utils.flop_counter.FlopCounterMode``. It sees only shapes, so
    no arithmetic takes place. (On CPU tensors it would miss scaled-dot-product attention.)
    """
    target: Any = node.target
    arguments: Any = node.args
    if op_name(node) in _FORMULAS:
        shapes = _map(arguments, _shape_of)
        return _FORMULAS[op_name(node)](*shapes, out_shape=_shape_of(node)) // 2
    if target is torch.ops.higher_order.out_dtype:  # another operator, with a wider result
        target, arguments = arguments[0], arguments[2:]
    if not isinstance(target, torch._ops.OpOverload) or torch.Tag.pointwise in target.tags:
        return 0
    if is_view(node) or op_name(node) in MOVES:
        return 0

    def on_meta(argument: Any) -> Any:
        if isinstance(argument, torch.device):
            return torch.device("meta")
        if not isinstance(argument, Node):
            return argument
        return tree_map_only(torch.Tensor, _meta_like, value_of(argument))

    before = counter.get_total_flops()
    try:
        target(*_map(arguments, on_meta), **_map(node.kwargs, on_meta))
    except Exception:  # an operator of another library, without shape rules
        return 0
    return (counter.get_total_flops() - before) // 2


def cost_of(node: Node, counter: Any, unknown: set[str]) -> Cost:
    """Return the cost of an operator, with the branches or the body that it executes.

    Operators whose cost is not known, this one or those inside it, are added to `unknown`.
    """
    name, graphs = op_name(node), _graphs_in(node)
    if graphs and name == "while_loop":
        raise ValueError(
            f"module: {node.target} repeats its body for as long as the values of a tensor say, so "
            "its cost is not known.\nUse a fixed number of steps, or profile the body alone"
        )
    if graphs and name in ("cond", "map_impl", "scan"):
        costs = [_cost_of_graph(graph, counter, unknown) for graph in graphs]
        kind, macs, light = max(costs, key=lambda cost: 2 * cost.macs or cost.light_flops)
        through: Any = node.args[-2]
        times = 1 if name == "cond" else _shape_of(through[0])[0]
        return Cost(kind, times * macs, 0 if macs else times * light)
    macs = count_macs(node, counter)
    kind = kind_of(node, macs)
    if kind == "other":
        unknown.add(str(node.target))
    return Cost(kind, macs, 0 if macs else light_flops(node, kind))


def _cost_of_graph(graph: GraphModule, counter: Any, unknown: set[str]) -> Cost:
    """Return the total cost of a branch's or body's operators; the costliest gives its kind."""
    nodes = [node for node in graph.graph.nodes if node.op == "call_function" and not is_view(node)]
    costs = [cost_of(node, counter, unknown) for node in nodes]
    dearest = max(costs, key=lambda cost: cost[1:], default=Cost("elementwise", 0, 0))
    return Cost(dearest.kind, sum(c.macs for c in costs), sum(c.light_flops for c in costs))


def _graphs_in(node: Node) -> list[GraphModule]:
    read = [str(source.target) for source in node.all_input_nodes if source.op == "get_attr"]
    parts = (operator.attrgetter(name)(node.graph.owning_module) for name in read)
    return [part for part in parts if isinstance(part, GraphModule)]


def _shape_of(argument: Any) -> Any:
    """Return the shape of a node's tensor, or of its first; other arguments do not change."""
    found = tensors(value_of(argument)) if isinstance(argument, Node) else ()
    return found[0].shape if found else argument


def _map(arguments: Any, function: Any) -> Any:
    return tree_map(function, arguments, is_leaf=lambda item: isinstance(item, Node))


def _meta_like(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")


def _is_depthwise(node: Node) -> bool:
    weight = node.args[1]
    if not isinstance(weight, Node):
        return False
    groups = next((a for a in reversed(node.args) if isinstance(a, int)), 1)
    return groups > 1 and tensors(value_of(weight))[0].shape[1] == 1
