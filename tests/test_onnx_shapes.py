"""Shapes, types and small values against the results in ONNX's own conformance tests."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx")
from onnx import helper, numpy_helper  # noqa: E402

from mjoa_gym.profiles.onnx_order import op_of  # noqa: E402
from mjoa_gym.profiles.onnx_shapes import RULES  # noqa: E402
from mjoa_gym.profiles.onnx_walk import Walk  # noqa: E402

# These are given inputs on which the shape depends and which are no shapes: floats, data.
DATA_DEPENDENT = ("Range", "NonZero")
TRAINING = ("training_mode", "bernoulli_double")


def conformance_cases():
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return collect_testcases(None)


def open_shapes(case, arrays):
    """The case's model with nothing declared; all but the first input, and int64, are stored."""
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    stored = 0
    for index, (info, array) in enumerate(zip(model.graph.input, arrays, strict=True)):
        if index or array.dtype == np.int64:
            model.graph.initializer.append(numpy_helper.from_array(array, info.name))
            stored += 1
    if stored == len(model.graph.input):
        model.graph.input.append(helper.make_tensor_value_info("unused", 1, [1]))
    return model


def is_covered(case):
    ops = {op_of(node) for node in case.model.graph.node}
    known = ops <= {*RULES, "Constant"} and not ops.intersection(DATA_DEPENDENT)
    windows = "window" in case.name or "affine_grid" in case.name  # expanded: data-dependent Range
    given, expected = case.data_sets[0]
    tensors = all(isinstance(a, np.ndarray) or np.isscalar(a) for a in (*given, *expected))
    return known and tensors and not windows and not any(t in case.name for t in TRAINING)


def test_conformance_of_shapes_types_and_values():
    checked, values, wrong = 0, 0, []
    for case in filter(is_covered, conformance_cases()):
        given, expected = case.data_sets[0]
        arrays = [np.asarray(array) for array in given]
        program = Walk(open_shapes(case, arrays), Path(), None).run()
        for tensor, result in zip(program.outputs, expected, strict=False):
            result = np.asarray(result)
            number = helper.np_dtype_to_tensor_dtype(result.dtype)
            checked += 1
            if (tensor.shape, tensor.dtype) != (
                result.shape,
                onnx.TensorProto.DataType.Name(number).lower(),
            ):
                wrong.append((case.name, tensor.shape, tensor.dtype, result.shape, result.dtype))
            elif tensor.value is not None:
                values += 1
                if not np.allclose(tensor.value.astype(float), result.astype(float)):
                    wrong.append((case.name, tensor.value, result))
    assert wrong == []
    assert checked > 1000
    assert values > 50
