"""A network as a list of operators with the shapes of all tensors."""

from __future__ import annotations

from dataclasses import dataclass

from mjoa_gym.profiles.onnx_call import Call
from mjoa_gym.profiles.onnx_tensors import Tensor


@dataclass(frozen=True, eq=False)
class Step:
    """One executed operator: what it is given and the tensors it makes."""

    call: Call
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Program:
    """A network as steps in execution order."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    steps: tuple[Step, ...]
