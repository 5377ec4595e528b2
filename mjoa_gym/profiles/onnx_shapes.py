"""Shapes and small values of the outputs of ONNX operators, computed by onnx itself.

Exporters compute shapes inside the graph (Shape, Gather, Concat, Reshape). All dimensions are
numbers here, so onnx's reference implementation computes these few numbers along the way.
Operators that onnx does not know are in `onnx_contrib`. This module handles operators for which
onnx differs from runtimes, and forms of the first operator sets.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import NodeProto, TypeProto, defs, helper, numpy_helper
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError, infer_node_outputs

from mjoa_gym.profiles.graph import names
from mjoa_gym.profiles.onnx_contrib import as_written, known, standard
from mjoa_gym.profiles.onnx_costs import CONVOLUTIONS, ELEMENTWISE, GATES, NORMS, WINDOWS
from mjoa_gym.profiles.onnx_program import Shape, Step, Tensor, TensorType
from mjoa_gym.profiles.onnx_tensors import MAX_VALUE_ELEMENTS, has_values, is_left_out

_LARGEST_SETTING = 2**10  # elements; larger values determine no shape
_FIRST_WITH_SHAPES = 6  # first operator set with shape inference
_RESHAPES = names("Flatten Reshape Squeeze Transpose Unsqueeze")
_COMPUTED = names("""Abs Add And Cast CastLike Ceil Clip Compress Concat ConstantOfShape CumSum
Div Equal Expand Flatten Floor Gather GatherElements GatherND Greater GreaterOrEqual Identity Less
LessOrEqual Max Min Mod Mul Neg NonZero Not Or Pow Range ReduceMax ReduceMin ReduceProd ReduceSum
Reshape Round ScatterElements ScatterND Shape Sign Size Slice Split Sqrt Squeeze Sub Sum Tile
Transpose Unsqueeze Where Xor""")


def modern(op: str, given: dict[str, ir.Attr], inputs: list[Tensor | None]) -> None:
    """Convert forms of operator sets 1 to 4, and of careless writers, to onnx's; in place."""
    if op == "Reshape" and "shape" in given:
        shape = np.array(given.pop("shape").value, np.int64)
        inputs.append(Tensor(shape.shape, ir.DataType.INT64, shape, True))
    elif op == "Pad" and "paddings" in given:
        given["pads"] = ir.AttrInt64s("pads", given.pop("paddings").value)
    elif op == "Concat":
        given.setdefault("axis", ir.AttrInt64("axis", 1))
    elif op == "Cast" and isinstance(given["to"].value, str):
        given["to"] = ir.AttrInt64("to", ir.DataType[given["to"].value.upper()])
    elif op in GATES:
        given.setdefault("output_sequence", ir.AttrInt64("output_sequence", 1))
    elif op == "Range":  # runtimes also accept lists of one element
        for n, tensor in enumerate(inputs):
            if tensor and tensor.value is not None and tensor.shape == (1,):
                inputs[n] = replace(tensor, shape=(), value=tensor.value.reshape(()))


def types_of(step: Step, n_outputs: int) -> list[TensorType | None]:
    """Return shape and type of each output, or None if they are not known."""
    plain = standard(step)
    rule = known(plain)
    types = [*(rule[0] if rule else _inferred(plain, n_outputs)), *[None] * n_outputs][:n_outputs]
    if plain.op in ELEMENTWISE or plain.op in NORMS:
        first = plain.tensor(0)
        types = [found or (first.shape, first.dtype) for found in types]
    if types[0] is not None:
        shape, dtype = types[0]
        shape = _scaled(step) or shape
        _check(plain, shape)
        types[0] = as_written(step, (shape, dtype))
    return types


def values_of(step: Step, types: list[TensorType | None]) -> list[NDArray[Any] | None]:
    """Return the values of a constant operator's outputs, or None if they are not followed.

    Unknown types in `types` are filled in.
    """
    large = types[0] is not None and math.prod(types[0][0]) > MAX_VALUE_ELEMENTS
    results = [] if step.op not in _COMPUTED or large else _computed(step, len(types))
    found: list[NDArray[Any] | None] = []
    for n, result in enumerate(results[: len(types)]):
        value = np.asarray(result)
        shape, dtype = types[n] or (value.shape, ir.DataType.from_numpy(value.dtype))
        types[n] = shape, dtype
        fits = value.shape == shape and has_values(dtype)
        found.append(value.astype(dtype.numpy()) if fits else None)
    return found


def _computed(step: Step, n_outputs: int) -> Sequence[Any]:
    if step.op in ("Shape", "Size"):
        shape = step.tensor(0).shape
        cut = shape[step.integer("start") : step.integer("end", len(shape))]
        return [np.array(cut if step.op == "Shape" else step.tensor(0).size, np.int64)]
    attributes = {}
    for attribute in _own(step, _schema("", step.op, _version(step, ""))):
        attributes[attribute.name] = attribute.value
        if attribute.type == ir.AttributeType.TENSOR:
            if is_left_out(attribute.value):
                return []
            attributes[attribute.name] = ir.serde.serialize_tensor(attribute.value)
    if any(tensor.value is None for tensor in step.present()):
        return []
    from onnx.reference.ops import load_op  # a slow import

    arrays = [None if tensor is None else tensor.value for tensor in step.inputs]
    operator = load_op("", step.op, _version(step, ""))
    try:
        with np.errstate(all="ignore"):
            result = operator.eval(*arrays, n_outputs=n_outputs, **attributes)
    except Exception:  # the value may not be needed
        return []
    return result if isinstance(result, tuple) else [result]


def _inferred(step: Step, n_outputs: int) -> list[TensorType | None]:
    domain, _, name = step.op.rpartition(".")
    schema = _schema(domain, name, _version(step, domain))
    if schema is None:
        return []
    node = NodeProto(op_type=name, domain=domain)
    node.input.extend("" if tensor is None else f"i{n}" for n, tensor in enumerate(step.inputs))
    node.output.extend(f"o{n}" for n in range(n_outputs))
    node.attribute.extend(map(ir.serde.serialize_attribute, _own(step, schema)))
    types, settings = {}, {}
    for key, tensor in zip(node.input, step.inputs, strict=True):
        if tensor is not None:
            types[key] = helper.make_tensor_type_proto(tensor.dtype, tensor.shape)
            if tensor.value is not None and tensor.size <= _LARGEST_SETTING:
                settings[key] = numpy_helper.from_array(np.array(tensor.value))
    try:
        found = infer_node_outputs(schema, node, types, settings)
    except (InferenceError, ValidationError) as error:
        raise ValueError(re.sub(r"\[\w+\] ?|\(op_type:.*?\):? ?", "", str(error))) from error
    return [_type(found[key]) if key in found else None for key in node.output]


def _own(step: Step, schema: defs.OpSchema | None) -> list[ir.Attr]:
    """Return the attributes that exist in the operator's version; writers add others."""
    own = schema.attributes if schema else {}
    given = [attribute for name, attribute in step.attributes.items() if name in own]
    if step.opsets.get("", _FIRST_WITH_SHAPES) >= _FIRST_WITH_SHAPES:
        return given
    types = {name: attribute.type.name for name, attribute in own.items()}  # type: ignore[attr-defined]
    return [attribute for attribute in given if types[attribute.name] == attribute.type.name]


def _version(step: Step, domain: str) -> int:
    """Return the version of a domain's operators, but one with shapes for onnx's own domain."""
    version = step.opsets.get(domain, 1 if domain else defs.onnx_opset_version())
    return version if domain else max(version, _FIRST_WITH_SHAPES)


@cache
def _schema(domain: str, name: str, version: int) -> defs.OpSchema | None:
    """Return the operator in this version, else in the newest."""
    for newest in (version, 2**30):
        with contextlib.suppress(defs.SchemaError):
            schema = defs.get_schema(name, newest, domain)
            return None if schema.deprecated else schema
    return None


def _type(found: TypeProto) -> TensorType | None:
    sides, dtype = found.tensor_type.shape.dim, found.tensor_type.elem_type
    if not (found.tensor_type.HasField("shape") and dtype):
        return None
    known = all(side.HasField("dim_value") for side in sides)
    return (tuple(side.dim_value for side in sides), ir.DataType(dtype)) if known else None


def _scaled(step: Step) -> Shape | None:
    """Return the shape of a scaled tensor: runtimes multiply in float32, onnx in double."""
    if step.op not in ("Resize", "Upsample"):
        return None
    shape = list(step.tensor(0).shape)
    given = step.given(1 if step.op == "Upsample" or len(step.inputs) == 2 else 2)
    scales = step.setting("scales") if given is None else given.value
    if "height_scale" in step.attributes:  # operator set 1
        scales = [1.0, 1.0, step.setting("height_scale"), step.setting("width_scale")]
    if scales is None or not len(scales):
        return None
    for axis, scale in zip(step.setting("axes", range(len(shape))), scales, strict=True):
        shape[axis] = int(np.float32(shape[axis]) * np.float32(scale))
    return tuple(shape)


def _check(step: Step, shape: Shape) -> None:
    """Refuse invalid shapes that onnx accepts."""
    first = step.tensor(0).shape if step.inputs else ()
    if step.op in _RESHAPES and math.prod(shape) != math.prod(first):
        raise ValueError(f"shape {first} cannot become {shape}")
    if step.op in CONVOLUTIONS or step.op in GATES:
        weight, channels = step.tensor(1).shape, first[2 if step.op in GATES else 1]
        transposed = step.op == "ConvTranspose"
        groups = step.integer("group", 1) if step.op in CONVOLUTIONS and not transposed else 1
        inner = weight[2 if step.op in GATES else 0 if transposed else 1]
        if channels != inner * groups:
            raise ValueError(f"input {first} and weight {weight} do not go together")
    if (step.op in WINDOWS or step.op in CONVOLUTIONS) and 0 in shape and 0 not in first:
        raise ValueError(f"the window does not fit into {first}")
