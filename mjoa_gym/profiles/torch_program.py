"""Exports a module, and explains in a sentence or two why a module cannot be exported."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import logging
import re
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from mjoa_gym.profiles import torch_operators as ops

_CHATTY = (
    "torch.fx.experimental.symbolic_shapes",
    "torch._subclasses.fake_tensor",
    "torch.export._trace",
)
_PLAIN = (torch.Tensor, int, float, bool, complex, str, type(None), torch.dtype, torch.device)
_FAULTS = (
    (
        r"data-dependent|data dependent|\.item\(\)|numpy\(\)|unbacked|DynamicOutputShape",
        "what it does depends on the values of a tensor, which a fixed plan cannot",
        "use torch.where, torch.cond or a fixed bound there, or profile the parts around it",
    ),
    (
        r"Unsupported input type",
        "it takes something that is neither a tensor nor a number, text or None",
        "wrap it in a module whose forward() takes tensors only",
    ),
    (
        r"device",
        "a part of it does not run on the device of its parameters and inputs",
        "build it on the cpu, and let its forward() make tensors on the device of its inputs",
    ),
    (
        r"^AssertionError|required argument|positional argument|keyword argument|mat1 and mat2"
        r"|must match|reduction dim|Expected.*(input|dim)|shape|size of tensor|same dtype",
        "the example inputs do not fit its forward()",
        "give a tensor, a tuple of positional or a dict of keyword inputs that it accepts",
    ),
    (
        r"",
        "torch.export cannot follow it",
        "make torch.export.export(module, example_inputs) succeed, or profile parts of it",
    ),
)
"""Pattern of an error, its meaning and what to do; the first match counts."""


def export(module: nn.Module, example_inputs: Any) -> ExportedProgram:
    """Export the module to ATen operators, in inference mode and without in-place operators.

    Inputs are moved to the module's device. The module's training flags are restored afterwards.

    Raises:
        ValueError: If torch cannot export it; gives the reason.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"module={module!r}: a torch.nn.Module is needed")
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(
            "module: torch.export does not support a ScriptModule; pass the original module"
        )
    arguments, keywords = pytree.tree_map_only(
        torch.Tensor, lambda tensor: _beside(module, tensor), as_arguments(example_inputs)
    )
    left_out: set[str] = set()
    with _inference_mode(module), _quiet(), _plain_outputs(module, left_out):
        try:
            program = torch.export.export(module, arguments, keywords)
            # Without decompositions this only removes in-place operators and aliases.
            program = program.run_decompositions({})
        except Exception as error:  # torch raises any error that occurs while tracing
            refuse_empty(example_inputs, f" ({error})"[:200])
            raise ValueError(_reason(module, error)) from error
    if left_out:
        warnings.warn(
            f"outputs of type {', '.join(sorted(left_out))} are left out: torch does not know the "
            "tensors in them (torch.export.register_dataclass can tell it)",
            stacklevel=5,
        )
    return program


def as_arguments(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and keyword arguments from a tensor, a tuple or list, or a dict."""
    if isinstance(example_inputs, torch.Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, (tuple, list)):
        return tuple(example_inputs), {}
    raise ValueError(
        f"example_inputs={example_inputs!r}: allowed are a tensor, a tuple of positional inputs or"
        " a dict of keyword inputs"
    )


def refuse_empty(example_inputs: Any, remark: str = "") -> None:
    """Raise a ValueError if inputs have no elements, such as a batch of 0."""
    leaves, _ = pytree.tree_flatten_with_path(example_inputs)
    tensors = ((path, leaf) for path, leaf in leaves if isinstance(leaf, torch.Tensor))
    empty = [f"{pytree.keystr(k)} has shape {tuple(t.shape)}" for k, t in tensors if not t.numel()]
    if empty:
        rule = "is empty, every side must be at least 1"
        raise ValueError(f"example_inputs{', '.join(empty)}: {rule}{remark}")


def check_sizes(program: ExportedProgram) -> None:
    """Refuse a program in which a tensor's size depends on data, and name the operator."""
    graphs = [part for part in program.graph_module.modules() if isinstance(part, GraphModule)]
    for node in itertools.chain.from_iterable(part.graph.nodes for part in graphs):
        for tensor in ops.tensors(ops.value_of(node)):
            if not all(isinstance(side, int) for side in tensor.shape):
                raise ValueError(
                    f"module: the size of what {node.target} makes depends on the values of a "
                    "tensor (boolean indexing, nonzero, unique, ...), so its bytes are not known.\n"
                    "Profile the part before it, or use a fixed size there"
                )


def results_of(program: ExportedProgram) -> list[Any]:
    """Return the module's flat results: nodes, or plain values, without changed buffers."""
    (flat,) = next(node for node in program.graph.nodes if node.op == "output").args
    pairs = zip(flat, program.graph_signature.output_specs, strict=True)
    return [value for value, spec in pairs if spec.kind == OutputKind.USER_OUTPUT]


def ancestors(nodes: Iterable[Node], known: Container[Node] = ()) -> set[Node]:
    """Return these nodes and all that they depend on, without known nodes and their own needs."""
    stack, found = list(nodes), set[Node]()
    while stack:
        node = stack.pop()
        if node not in found and node not in known:
            found.add(node)
            stack.extend(node.all_input_nodes)
    return found


def _beside(module: nn.Module, tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor on the module's device, if it has one; an empty one for a meta tensor."""
    held = {part.device for part in itertools.chain(module.parameters(), module.buffers())}
    if len(held) != 1 or tensor.device in held:
        return tensor
    (device,) = held
    return torch.empty_like(tensor, device=device) if tensor.is_meta else tensor.to(device)


@contextlib.contextmanager
def _inference_mode(module: nn.Module) -> Iterator[None]:
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part in training:
            part.training = True


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from printing graphs, and from warning about its own internals."""
    loggers = [logger for logger in map(logging.getLogger, _CHATTY) if not logger.disabled]
    nowhere = io.StringIO()
    for logger in loggers:
        logger.disabled = True
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger in loggers:
            logger.disabled = False


@contextlib.contextmanager
def _plain_outputs(module: nn.Module, left_out: set[str]) -> Iterator[None]:
    """Replace outputs that torch cannot decompose by None, and record their types."""

    def plain(value: Any) -> Any:
        if isinstance(value, _PLAIN):
            return value
        left_out.add(type(value).__name__)
        return None

    original = module.forward

    @functools.wraps(original)
    def forward(*arguments: Any, **keywords: Any) -> Any:
        return pytree.tree_map(plain, original(*arguments, **keywords))

    own = "forward" in module.__dict__
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if own:
            module.__dict__["forward"] = original
        else:
            del module.__dict__["forward"]


def _reason(module: nn.Module, error: Exception) -> str:
    """Return one line with the reason, and one with what to do."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0] if lines else ''}"[:160]
    reason, advice = next(what for sign, *what in _FAULTS if re.search(sign, text))
    return f"module {type(module).__name__}: {reason} ({text}).\nWhat to do: {advice}"
