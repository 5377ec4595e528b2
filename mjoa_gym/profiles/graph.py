"""A network as a graph of operators with costs and bytes, whatever framework it came from.

Importers make an `OperatorGraph`; `mjoa_gym.profiles.fuse` turns it into a DNN.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

HEAVY_KINDS = ("conv", "depthwise_conv", "linear", "matmul")
LIGHT_KINDS = ("pool", "elementwise", "norm", "embedding")


class UnknownOperatorWarning(UserWarning):
    """Some operators have no known cost and count as zero FLOPs; the message lists them."""


class Cost(NamedTuple):
    """What an operator costs: multiply-accumulates, or FLOPs if there are none.

    The kind is one of `HEAVY_KINDS` or `LIGHT_KINDS`, or "other" if the cost is unknown.
    """

    kind: str
    macs: int = 0
    light_flops: int = 0


@dataclass(frozen=True)
class Operator:
    """One operator that does work; views and input-independent operators are not among these.

    Attributes:
        name: Path of the module that runs it, with the operator's name where that is not a leaf.
        kind: Layer kind, of its `Cost`.
        macs: Multiply-accumulates.
        light_flops: FLOPs of an operator without multiply-accumulates, else 0.
        parameter_bytes: Parameters charged to this operator.
        parameters: The same, as a number of elements.
        output_bytes: What its readers need of its output, each part once.
        cheap: Whether it may be fused into a neighbour.
        grows: Whether its output has more bytes than its inputs together.
        inputs: Indices of the operators it reads, `INPUT` for the network's input; ascending.
    """

    name: str
    kind: str
    macs: int
    light_flops: int
    parameter_bytes: int
    parameters: int
    output_bytes: int
    cheap: bool
    grows: bool
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class OperatorGraph:
    """A network's operators in execution order, and the bytes of its inputs.

    Attributes:
        operators: In an order in which they can be executed.
        input_bytes: Bytes of all inputs together, which count as the network's one input tensor.
        input_text: The inputs' shapes and types, for people.
    """

    operators: tuple[Operator, ...]
    input_bytes: int
    input_text: str

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole network."""
        return sum(operator.macs for operator in self.operators)

    @property
    def parameters(self) -> int:
        """Distinct parameters that the network uses, as a number of elements."""
        return sum(operator.parameters for operator in self.operators)


def warn_of_unknown(operators: Iterable[str], stacklevel: int = 2) -> None:
    """Warn, once for all of them, of operators that were counted as zero FLOPs."""
    names = sorted(set(operators))
    if names:
        warnings.warn(
            f"counted as zero FLOPs, since their cost is not known: {', '.join(names)}",
            UnknownOperatorWarning,
            stacklevel=stacklevel + 1,
        )
