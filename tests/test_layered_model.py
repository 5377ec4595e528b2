"""Networks that are executed layer by layer do what the module does, with the DNN's bytes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pytest

from mjoa_gym.dnn import DNN
from mjoa_gym.layers import INPUT

torch = pytest.importorskip("torch", reason="needs torch")
nn = torch.nn

from mjoa_gym.execution.layered_model import LayeredModel, TensorSpec  # noqa: E402
from tests import torch_networks as networks  # noqa: E402

torch.set_num_threads(1)


@lru_cache
def network(name: str) -> tuple[Any, Any, LayeredModel]:
    """A module, inputs for it, and its layers."""
    module, example = networks.build(name)
    return module, example, LayeredModel.from_torch(module, example, name=name)


def densely(bundle):
    """As tensors arrive from another machine: of the same values, contiguous, elsewhere."""
    return tuple(tensor.contiguous().clone() for tensor in bundle)


def run_all(model: LayeredModel, example: Any, sent=lambda bundle: bundle):
    bundles = {INPUT: sent(model.inputs(example))}
    for layer in range(model.dnn.n_layers):
        read = {p: bundles[p] for p in model.dnn.predecessors[layer]}
        bundles[layer] = sent(model.run(layer, read, model.needed_parameters(layer)))
    sinks = {int(layer): bundles[int(layer)] for layer in model.dnn.is_sink.nonzero()[0]}
    return bundles, model.outputs(sinks)


def flat(value: Any) -> list[Any]:
    return torch.utils._pytree.tree_leaves(value)


@pytest.mark.parametrize("name", networks.NAMES)
def test_layer_by_layer_equals_the_module(name: str) -> None:
    module, example, model = network(name)
    arguments, keywords = ((), example) if isinstance(example, Mapping) else (example, {})
    with torch.no_grad():
        expected = module.eval()(*arguments, **keywords)
    for sent in (lambda bundle: bundle, densely):
        bundles, result = run_all(model, example, sent)
        assert torch.utils._pytree.tree_structure(result) == torch.utils._pytree.tree_structure(
            expected
        )
        for got, wanted in zip(flat(result), flat(expected), strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)
        for tensor, bundle in bundles.items():
            size = sum(part.numel() * part.element_size() for part in bundle)
            dnn = model.dnn
            assert size == (dnn.input_bytes if tensor == INPUT else dnn.output_bytes[tensor])
            assert tuple(map(TensorSpec.of, bundle)) == model.bundle_specs(tensor)


@pytest.mark.parametrize("name", networks.NAMES)
def test_parameters_are_those_that_the_profile_charges(name: str) -> None:
    module, example, model = network(name)
    dnn = DNN.from_torch(module, example, name=name)
    assert model.dnn == dnn
    charged = [name for layer in range(dnn.n_layers) for name in model.parameter_names(layer)]
    assert len(set(charged)) == len(charged)
    for layer in range(dnn.n_layers):
        values = model.parameters(layer)
        assert tuple(values) == model.parameter_names(layer)
        size = sum(value.numel() * value.element_size() for value in values.values())
        assert size == dnn.parameter_bytes[layer]
        assert set(model.parameter_names(layer)) <= set(model.needs(layer)) <= set(charged)


@pytest.mark.parametrize("name", ["plain", "googlenet_like", "transformer", "lstm"])
def test_equals_bit_for_bit_where_no_fused_kernel_runs_the_module(name: str) -> None:
    module, example, model = network(name)
    with torch.no_grad():
        expected = module.eval()(*example)
    _, result = run_all(model, example)
    assert all(torch.equal(a, b) for a, b in zip(flat(result), flat(expected), strict=True))


def test_a_tied_matrix_is_charged_once_and_needed_twice() -> None:
    _module, _example, model = network("shared_weights")
    layers, name = range(model.dnn.n_layers), "embed.weight"
    users = [layer for layer in layers if name in model.needs(layer)]
    payers = [layer for layer in layers if name in model.parameter_names(layer)]
    assert len(users) == 2
    assert payers == users[-1:]


def test_parameters_can_come_from_elsewhere() -> None:
    module, example, sender = network("resnet_like")
    receiver = LayeredModel.from_torch(module, example, keep_parameters=False)
    assert all(
        value.is_meta
        for layer in range(receiver.dnn.n_layers)
        for value in receiver.parameters(layer).values()
    )
    bundles = {INPUT: receiver.inputs(example)}
    for layer in range(receiver.dnn.n_layers):
        values = sender.needed_parameters(layer)
        bundles[layer] = receiver.run(layer, bundles, {k: v.clone() for k, v in values.items()})
    with torch.no_grad():
        torch.testing.assert_close(receiver.outputs(bundles), module.eval()(*example))


def test_other_parameters_give_another_result() -> None:
    _module, example, model = network("plain")
    bundles = {INPUT: model.inputs(example)}
    zeros = {name: torch.zeros_like(value) for name, value in model.needed_parameters(0).items()}
    assert not torch.equal(
        model.run(0, bundles, zeros)[0], model.run(0, bundles, model.parameters(0))[0]
    )


def test_buffers_are_constants_of_the_program() -> None:
    module, _example, model = network("resnet_like")
    kept = [value for name, value in module.named_buffers() if "running" in name]
    known = list(model.constants().values())
    assert all(any(torch.equal(value, other) for other in known) for value in kept)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda example: (example[0][:, :2],), "example_inputs: got"),
        (lambda example: (example[0].double(),), "float64"),
        (lambda example: example * 2, "example_inputs: got"),
        (lambda example: {"y": example[0]}, "example_inputs: got"),
        (lambda example: 3, "a tensor, a tuple of positional inputs or"),
    ],
)
def test_other_inputs_are_refused(wrong, message: str) -> None:
    _module, example, model = network("plain")
    with pytest.raises(ValueError, match=message):
        model.inputs(wrong(example))


def test_a_bundle_of_another_length_is_refused() -> None:
    _module, example, model = network("plain")
    with pytest.raises(ValueError, match="bundle: got 2 tensors; 1 are needed"):
        model.run(0, {INPUT: example * 2}, model.needed_parameters(0))


def test_a_module_that_keeps_state_is_refused() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    with pytest.raises(ValueError, match="changes its buffer 'calls'"):
        LayeredModel.from_torch(Counts(), torch.zeros(1, 3))
