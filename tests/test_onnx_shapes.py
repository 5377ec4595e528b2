"""Shapes, types and small values against the results in ONNX's own conformance tests."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx")
from onnx import helper, numpy_helper  # noqa: E402

from mjoa_gym.profiles.fuse import fuse  # noqa: E402
from mjoa_gym.profiles.onnx_file import read_structure  # noqa: E402
from mjoa_gym.profiles.onnx_model import parse  # noqa: E402
from mjoa_gym.profiles.onnx_trace import trace_program  # noqa: E402
from mjoa_gym.profiles.onnx_walk import walk  # noqa: E402

# Its own rule has both sides of the spectrum where the operator puts out one by default.
WRONG_IN_ONNX = ("test_stft", "test_stft_with_window")


@pytest.fixture
def cases(monkeypatch):
    """ONNX's cases, made without computing what pools put out and without reading its sources."""
    from onnx.backend.test.case import base
    from onnx.reference.ops import op_pool_common

    def zeros(padded, x_shape, kernel, strides, out_shape, *others, **more):
        return np.zeros((*x_shape[:2], *out_shape), padded.dtype)

    monkeypatch.setattr(op_pool_common, "pool", zeros)
    monkeypatch.setattr(base, "process_snippet", lambda *sources: ("", ""))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

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


def tensors(values):
    """The values as arrays, nothing if one of them is no tensor."""
    plain = all(isinstance(value, np.ndarray) or np.isscalar(value) for value in values)
    return [np.asarray(value) for value in values] if plain else []


def program_of(structure):
    """The program, None where the model is refused; whatever but a ValueError fails."""
    try:
        return walk(parse(structure), Path(), {})
    except ValueError:
        return None


def profiled(program):
    """Whether a program has a profile; whatever but a ValueError fails."""
    try:
        return bool(program and fuse(trace_program(program)[0]))
    except ValueError:
        return False


def test_conformance_of_shapes_types_and_values(cases):
    read, checked, values, wrong = 0, 0, 0, []
    for case in cases:
        given, expected = (tensors(part) for part in case.data_sets[0])
        made = open_shapes(case, given) if given else case.model
        program = program_of(made.SerializeToString())
        read += profiled(program)
        for tensor, result in zip(
            program.outputs if program and given else (), expected, strict=False
        ):
            dtype = helper.np_dtype_to_tensor_dtype(result.dtype)
            checked += 1
            if (tensor.shape, tensor.dtype.value) != (result.shape, dtype):
                wrong.append(
                    (case.name, tensor.shape, tensor.dtype.name, result.shape, result.dtype)
                )
            elif tensor.value is not None:
                values += 1
                if not np.allclose(tensor.value.astype(float), result.astype(float)):
                    wrong.append((case.name, tensor.value, result))
    assert [name for name, *_ in wrong] == list(WRONG_IN_ONNX), wrong
    assert len(cases) > 1800
    assert read > 1300
    assert checked > 1900
    assert values > 60


def test_models_that_come_with_onnx():
    from onnx.backend import test

    paths = sorted((Path(test.__file__).parent / "data").rglob("*.onnx"))
    read = [profiled(program_of(read_structure(path))) for path in paths]
    assert len(read) > 140
    assert sum(read) > 130
