"""Exports a module, and says in a sentence or two why one cannot be exported."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.fx import Node

from mjoa_gym.importers import torch_operators as ops


def export(module: nn.Module, example_inputs: Any) -> ExportedProgram:
    """The module as a graph of ATen operators, in inference mode and without in-place operators.

    Args:
        module: The network; its training flags are restored afterwards.
        example_inputs: A tensor, a tuple of positional or a dict of keyword inputs.

    Raises:
        ValueError: With the reason, if torch cannot export it.
    """
    arguments, keywords = as_arguments(example_inputs)
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own use of what it deprecates
            program = torch.export.export(module, arguments, keywords)
            # Without decompositions this only removes in-place operators and aliases.
            return program.run_decompositions({})
    except Exception as error:
        raise ValueError(_reason(module, error)) from error
    finally:
        for part in training:
            part.training = True


def as_arguments(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments from a tensor, a tuple or list, or a dict.

    Raises:
        ValueError: If it is none of these or holds no tensor.
    """
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


def check_sizes(program: ExportedProgram) -> None:
    """Refuses a program in which a tensor's size depends on data.

    Raises:
        ValueError: Naming the first such operator.
    """
    for node in program.graph.nodes:
        for tensor in ops.tensors(ops.value_of(node)):
            if not all(isinstance(side, int) for side in tensor.shape):
                raise ValueError(
                    f"module: the size of what {node.target} makes depends on the input's values"
                    " (boolean indexing, nonzero, unique, ...), so its bytes are not known;"
                    " profile the part before or after it"
                )


def results_of(program: ExportedProgram) -> list[Any]:
    """What the module returns, flat: nodes, or plain values; changed buffers are not among it."""
    (flat,) = next(node for node in program.graph.nodes if node.op == "output").args
    pairs = zip(flat, program.graph_signature.output_specs, strict=True)
    return [value for value, spec in pairs if spec.kind == OutputKind.USER_OUTPUT]


def ancestors(nodes: Iterable[Node]) -> set[Node]:
    """These nodes and all that they depend on."""
    stack = list(nodes)
    found = set(stack)
    while stack:
        for source in stack.pop().all_input_nodes:
            if source not in found:
                found.add(source)
                stack.append(source)
    return found


def _reason(module: nn.Module, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    name = type(error).__name__
    return f"module: torch.export cannot trace {type(module).__name__} ({name}: {first[:300]})"
