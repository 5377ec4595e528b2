"""A small network for the testbed's tests that needs no export: matrices on a branching graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mjoa_gym import DNN
from mjoa_gym.execution.layered_model import TensorSpec
from mjoa_gym.testbed.program import LayeredProgram

WIDTH = 64
Bundle = tuple[Tensor, ...]


class ToyNetwork:
    """Layer l computes tanh(W_l x sum of its inputs); layers without parameters only the sum."""

    def __init__(
        self,
        predecessors: Sequence[Sequence[int]],
        parameterless: Sequence[int] = (),
        width: int = WIDTH,
        seed: int = 0,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.width = width
        self.weights = {
            f"layer{n}.weight": torch.randn(width, width, generator=generator) / width**0.5
            for n in range(len(predecessors))
            if n not in parameterless
        }
        self.offset = torch.randn(width, generator=generator)  # a buffer
        n = len(predecessors)
        size = 4.0 * width * width
        self.dnn = DNN(
            name="toy",
            flops=np.ones(n),
            parameter_bytes=[0.0 if layer in parameterless else size for layer in range(n)],
            output_bytes=np.full(n, 4.0 * width),
            predecessors=predecessors,
            input_bytes=4.0 * width,
        )

    def parameter_names(self, layer: int) -> list[str]:
        return [name for name in self.weights if name == f"layer{layer}.weight"]

    needs = parameter_names

    def parameters(self, layer: int) -> dict[str, Tensor]:
        return {name: self.weights[name] for name in self.parameter_names(layer)}

    needed_parameters = parameters

    def bundle_specs(self, tensor: int) -> list[TensorSpec]:
        return [TensorSpec((1, self.width), torch.float32)]

    def constants(self) -> dict[str, Tensor]:
        return {"offset": self.offset}

    def description(self) -> str:
        return "tanh"

    def inputs(self, *example: Tensor) -> Bundle:
        return example

    def run(
        self, layer: int, bundles: Mapping[int, Bundle], parameters: Mapping[str, Tensor]
    ) -> Bundle:
        total = self.offset + sum(bundles[p][0] for p in self.dnn.predecessors[layer])
        for weight in parameters.values():
            total = torch.tanh(total @ weight)
        return (total,)

    def outputs(self, bundles: Mapping[int, Bundle]) -> list[Tensor]:
        return [bundles[int(sink)][0] for sink in np.flatnonzero(self.dnn.is_sink)]

    def expected(self, value: Tensor) -> list[Tensor]:
        bundles: dict[int, Bundle] = {-1: (value,)}
        for layer in range(self.dnn.n_layers):
            bundles[layer] = self.run(layer, bundles, self.parameters(layer))
        return self.outputs(bundles)


DIAMOND = ([-1], [0], [0], [1, 2], [3, -1], [4], [5, 2])


def diamond(**arguments: int) -> ToyNetwork:
    """Seven layers with branches, layer 3 without parameters."""
    return ToyNetwork(DIAMOND, parameterless=[3], **arguments)


def toy_program(network: ToyNetwork | None = None) -> LayeredProgram:
    return LayeredProgram(diamond() if network is None else network)
