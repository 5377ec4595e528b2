"""Finds operators that an exporter decomposed: attention, normalisation, rotation.

Torch's exporters scale query and key of attention, each by the square root of the scale:
(a q)(a k)^T, a mask, softmax, times v. In torch it is one operator and in a runtime one kernel, so
the products are combined again. Attention that the network's author decomposed, with another
scaling, does not change, as in the torch importer. Layer normalisation is an operator only since
operator set 17; before, it is (x - mean) / sqrt(mean of squares + epsilon). A rotation (torch's
roll) joins the two parts of a tensor in the other order.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from mjoa_gym.profiles.onnx_program import Program, Step, Tensor

_BETWEEN = ("Add", "And", "Cast", "Dropout", "Identity", "Mul", "Reshape", "Transpose", "Where")
_VIEWS = ("Identity", "Reshape", "Transpose", "Unsqueeze")
_LONGEST = 8  # operators between a product and the softmax


class Pattern(NamedTuple):
    """Steps that form one operator; only the last step's output is read outside.

    The kind is "matmul" for attention, "norm" for layer normalisation, "roll" for a rotation.
    """

    kind: str
    members: tuple[Step, ...]


def patterns(program: Program, needed: set[Step]) -> dict[Step, Pattern]:
    """Return the patterns among the needed steps, by their last steps."""
    finder = _Finder(program, needed)
    found: dict[Step, Pattern] = {}
    taken: set[Step] = set()
    for step in program.steps:
        look = finder.looks.get(step.op) if step in needed else None
        members = look[1](step) if look else ()
        if look and members and taken.isdisjoint(members):
            found[members[-1]] = Pattern(look[0], members)
            taken.update(members)
    return found


class _Finder:
    """Searches the graph of steps."""

    def __init__(self, program: Program, needed: set[Step]) -> None:
        self.maker = {tensor: step for step in needed for tensor in step.outputs}
        self.reads = Counter(program.outputs)
        self.readers: dict[Tensor, list[Step]] = {}
        for step in needed:
            self.reads.update(step.present())
            for tensor in dict.fromkeys(step.present()):
                self.readers.setdefault(tensor, []).append(step)
        self.looks = {
            "Softmax": ("matmul", self.attention),
            "Sub": ("norm", self.layer_norm),
            "Concat": ("roll", self.rotation),
        }

    def attention(self, softmax: Step) -> tuple[Step, ...]:
        above = self._scores(softmax.tensor(0), _LONGEST)
        guard = self._guard(softmax.outputs[0])
        below = self._weighted((guard or (softmax,))[-1].outputs[0], _LONGEST)
        return (*above, softmax, *guard, *below) if above and below else ()

    def _guard(self, tensor: Tensor) -> tuple[Step, ...]:
        """Return the steps where(isnan(tensor), 0, tensor), for rows without any key."""
        readers = self.readers.get(tensor, [])
        if self.reads[tensor] != 2 or {step.op for step in readers} != {"IsNaN", "Where"}:
            return ()
        test, choice = sorted(readers, key=lambda step: step.op)
        return (test, choice) if self._only_reader(test.outputs[0]) is choice else ()

    def _scores(self, tensor: Tensor, left: int) -> tuple[Step, ...]:
        """Return the steps from the scaled product to a tensor that has no other readers."""
        step = self.maker.get(tensor)
        if step is None or self.reads[tensor] != 1 or left == 0:
            return ()
        if step.op == "MatMul":
            query, key = step.tensor(0), step.tensor(1)
            scaled = self._is_scaled(query) and self._is_scaled(key)
            return (step,) if scaled or self._is_turned_key(key) else ()
        if step.op in _BETWEEN:
            for source in step.present():
                above = self._scores(source, left - 1)
                if above:
                    return (*above, step)
        return ()

    def _weighted(self, tensor: Tensor, left: int) -> tuple[Step, ...]:
        """Return the steps from the softmax's result to its product with the values."""
        step = self._only_reader(tensor)
        if step is None or left == 0:
            return ()
        if step.op == "MatMul":
            values = step.tensor(1)
            return (step,) if step.given(0) is tensor and not values.constant else ()
        if step.op not in _BETWEEN:
            return ()
        below = self._weighted(step.outputs[0], left - 1)
        return (step, *below) if below else ()

    def _is_scaled(self, tensor: Tensor) -> bool:
        for _ in range(_LONGEST):
            step = self.maker.get(tensor)
            if step is None or tensor.constant:
                return False
            if step.op == "Mul":
                return any(t.constant and t.size == 1 for t in step.present())
            if step.op not in _VIEWS:
                return False
            tensor = step.tensor(0)
        return False

    def _is_turned_key(self, tensor: Tensor) -> bool:
        """Return whether heads were merged, matrices transposed and heads split.

        This remains of a scaling by 1.
        """
        for op in ("Reshape", "Transpose", "Reshape"):
            step = self.maker.get(tensor)
            if step is None or step.op != op or tensor.constant:
                return False
            if op == "Transpose" and len(tensor.shape) != 3:
                return False
            tensor = step.tensor(0)
        return True

    def layer_norm(self, centred: Step) -> tuple[Step, ...]:
        mean, difference = self._made_by(centred.given(1), "ReduceMean"), centred.outputs[0]
        readers = self.readers.get(difference, [])
        divide = next((step for step in readers if step.op == "Div"), None)
        if mean is None or mean.given(0) is not centred.given(0) or divide is None:
            return ()
        chain = self._upwards(divide.given(1), ("Sqrt", "Add", "ReduceMean"))
        square = self.maker.get(chain[-1].tensor(0)) if chain else None
        if square is None or square.op not in ("Pow", "Mul") or divide.given(0) is not difference:
            return ()
        if len(readers) != 2 or square not in readers or not self._only_reader(square.outputs[0]):
            return ()
        scale_and_shift = self._scale_and_shift(divide.outputs[0])
        return (mean, centred, square, *reversed(chain), divide, *scale_and_shift)

    def rotation(self, join: Step) -> tuple[Step, ...]:
        parts = [part for tensor in join.inputs if (part := self._made_by(tensor, "Slice"))]
        if len(parts) != 2 or len(join.inputs) != 2:
            return ()
        first, second = (part.tensor(0) for part in parts)
        whole = first is second and first.shape == join.outputs[0].shape
        return (*parts, join) if whole else ()

    def _upwards(self, tensor: Tensor | None, ops: tuple[str, ...]) -> list[Step]:
        """Return the makers of a tensor, its own first, if they are these operators, else []."""
        chain: list[Step] = []
        for op in ops:
            step = self._made_by(tensor, op)
            if step is None:
                return []
            chain.append(step)
            tensor = next((t for t in step.present() if not t.constant), None)
        return chain

    def _made_by(self, tensor: Tensor | None, op: str) -> Step | None:
        """Return the maker of a tensor that is read once, if it is this operator, else None."""
        step = None if tensor is None else self.maker.get(tensor)
        return step if step and step.op == op and self.reads[step.outputs[0]] == 1 else None

    def _scale_and_shift(self, tensor: Tensor) -> list[Step]:
        steps: list[Step] = []
        for op in ("Mul", "Add"):
            step = self._only_reader(tensor)
            if step is None or step.op != op or not any(t.constant for t in step.present()):
                break
            steps.append(step)
            tensor = step.outputs[0]
        return steps

    def _only_reader(self, tensor: Tensor) -> Step | None:
        readers = self.readers.get(tensor)
        return readers[0] if readers and self.reads[tensor] == 1 else None
