"""Finds attention and layer normalisation that an exporter has written out as single operators.

Torch's exporters scale query and key of attention, each by the square root of the scale:
(a q)(a k)^T, a mask, softmax, times v. In torch it is one operator and in a runtime one kernel, so
the products are put together again. Attention that the network's author wrote out, with another
scaling, stays as it is, as in the torch importer. Layer normalisation is an operator of its own
only since operator set 17; before, it is (x - mean) / sqrt(mean of squares + epsilon).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mjoa_gym.importers.onnx_steps import Program, Step
from mjoa_gym.importers.onnx_tensors import Tensor

_BETWEEN = ("Add", "And", "Cast", "Dropout", "Identity", "Mul", "Reshape", "Transpose", "Where")
_VIEWS = ("Identity", "Reshape", "Transpose", "Unsqueeze")
_LONGEST = 8  # operators between a product and the softmax


@dataclass(frozen=True)
class Pattern:
    """Steps that are one operator; nothing but the last one's output is read outside.

    Attributes:
        kind: "matmul" for attention, "norm" for layer normalisation.
        members: The steps in execution order.
    """

    kind: str
    members: tuple[Step, ...]


def patterns(program: Program, needed: set[Step]) -> dict[Step, Pattern]:
    """The patterns among the needed steps, each by its last step."""
    finder = _Finder(program, needed)
    found: dict[Step, Pattern] = {}
    for step in program.steps:
        if step in needed and step.call.op in ("Softmax", "Sub"):
            kind, look = (
                ("matmul", finder.attention)
                if step.call.op == "Softmax"
                else ("norm", finder.layer_norm)
            )
            members = look(step)
            if members:
                found[members[-1]] = Pattern(kind, members)
    return found


class _Finder:
    """Looks around in the graph of steps."""

    def __init__(self, program: Program, needed: set[Step]) -> None:
        self.maker = {tensor: step for step in needed for tensor in step.outputs}
        self.reads = Counter(program.outputs)
        self.readers: dict[Tensor, list[Step]] = {}
        for step in needed:
            self.reads.update(step.call.present())
            for tensor in dict.fromkeys(step.call.present()):
                self.readers.setdefault(tensor, []).append(step)

    def attention(self, softmax: Step) -> tuple[Step, ...]:
        above = self._scores(softmax.call.tensor(0), _LONGEST)
        below = self._weighted(softmax.outputs[0], _LONGEST)
        return (*above, softmax, *below) if above and below else ()

    def _scores(self, tensor: Tensor, left: int) -> tuple[Step, ...]:
        """The steps from the scaled product to a tensor that nothing else reads."""
        step = self.maker.get(tensor)
        if step is None or self.reads[tensor] != 1 or left == 0:
            return ()
        if step.call.op == "MatMul":
            scaled = all(self._is_scaled(step.call.tensor(i)) for i in range(2))
            return (step,) if scaled else ()
        if step.call.op in _BETWEEN:
            for source in step.call.present():
                above = self._scores(source, left - 1)
                if above:
                    return (*above, step)
        return ()

    def _weighted(self, tensor: Tensor, left: int) -> tuple[Step, ...]:
        """The steps from the softmax's result to its product with the values."""
        step = self._only_reader(tensor)
        if step is None or left == 0:
            return ()
        if step.call.op == "MatMul":
            values = step.call.tensor(1)
            return (step,) if step.call.given(0) is tensor and not values.constant else ()
        if step.call.op not in _BETWEEN:
            return ()
        below = self._weighted(step.outputs[0], left - 1)
        return (step, *below) if below else ()

    def _is_scaled(self, tensor: Tensor) -> bool:
        for _ in range(_LONGEST):
            step = self.maker.get(tensor)
            if step is None or tensor.constant:
                return False
            if step.call.op == "Mul":
                return any(t.constant and t.size == 1 for t in step.call.present())
            if step.call.op not in _VIEWS:
                return False
            tensor = step.call.tensor(0)
        return False

    def layer_norm(self, centred: Step) -> tuple[Step, ...]:
        mean = self._made_by(centred.call.given(1), "ReduceMean")
        difference = centred.outputs[0]
        if mean is None or mean.call.given(0) is not centred.call.given(0):
            return ()
        readers = self.readers.get(difference, [])
        if len(readers) != 2:
            return ()
        for divide in readers:
            if divide.call.op != "Div" or divide.call.given(0) is not difference:
                continue
            chain = self._upwards(divide.call.given(1), ("Sqrt", "Add", "ReduceMean"))
            square = self.maker.get(chain[-1].call.tensor(0)) if chain else None
            if square is None or square.call.op not in ("Pow", "Mul"):
                continue
            if set(readers) == {square, divide} and self._only_reader(square.outputs[0]):
                inner = (mean, centred, square, *reversed(chain), divide)
                return (*inner, *self._scale_and_shift(divide.outputs[0]))
        return ()

    def _upwards(self, tensor: Tensor | None, ops: tuple[str, ...]) -> list[Step]:
        """The makers of a tensor, its maker first, if they are these operators, else nothing."""
        chain: list[Step] = []
        for op in ops:
            step = self._made_by(tensor, op)
            if step is None:
                return []
            chain.append(step)
            tensor = next((t for t in step.call.present() if not t.constant), None)
        return chain

    def _made_by(self, tensor: Tensor | None, op: str) -> Step | None:
        """The maker of a tensor that is read once, if it is this operator."""
        step = None if tensor is None else self.maker.get(tensor)
        fits = step is not None and step.call.op == op and self.reads[step.outputs[0]] == 1
        return step if fits else None

    def _scale_and_shift(self, tensor: Tensor) -> list[Step]:
        steps: list[Step] = []
        for op in ("Mul", "Add"):
            step = self._only_reader(tensor)
            if step is None or step.call.op != op:
                break
            if not any(t.constant for t in step.call.present()):
                break
            steps.append(step)
            tensor = step.outputs[0]
        return steps

    def _only_reader(self, tensor: Tensor) -> Step | None:
        return (
            self.readers[tensor][0] if self.reads[tensor] == 1 and tensor in self.readers else None
        )
