"""Layer times in ONNX Runtime, from its own profile of one session.

The module is exported to ONNX once and run as a whole with the usual optimisations: norms and
activations are folded into convolutions, but no optimisation mixes parts of two layers. Every
remaining node is attributed to the layer that makes its output; nodes that only rearrange data are
attributed to their reader's layer. A layer takes no time if all its operators were folded into
other layers.

Needs the extra `onnx`, onnxruntime and onnxscript; the export takes seconds.
"""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mjoa_gym.dnn import DNN
from mjoa_gym.profiles.fuse import as_columns, fuse
from mjoa_gym.profiles.torch_export import Trace, trace

_SCOPES = "pkg.torch.onnx.name_scopes"
_TIME = "_kernel_time"


def onnxruntime_layer_seconds(
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    name: str,
    repeats: int = 20,
    warm_up: int = 3,
    threads: int = 1,
    on_repeat: Callable[[], None] = lambda: None,
) -> tuple[DNN, NDArray[np.float64]]:
    """Return a module's profile and (L,) median seconds of its layers on this machine's CPU.

    The module is on the CPU, with weights. `threads` is the number of threads within an operator.
    The other arguments are as for `layer_seconds`.
    """
    traced = trace(module, inputs)
    layers = fuse(traced.graph)
    layer_of_operator = {op: n for n, layer in enumerate(layers) for op in layer.operators}
    with TemporaryDirectory() as folder:
        exported = Path(folder) / "model.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about features that the exporter itself uses
            program = torch.onnx.export(traced.program, inputs, dynamo=True, verbose=False)
            assert program is not None
            program.save(str(exported))
        times = _node_seconds(exported, inputs, repeats, warm_up, threads, on_repeat)
        made_in = _layers_of_values(_nodes(exported), traced, layer_of_operator)
        where = _layers_of_nodes(_nodes(exported.with_name("optimised.onnx")), made_in)
    seconds = np.zeros(len(layers))
    for node, time_s in times.items():
        seconds[where.get(node, 0)] += time_s
    return DNN(**as_columns(name, layers, traced.graph.input_bytes)), seconds


def _node_seconds(
    path: Path,
    inputs: tuple[torch.Tensor, ...],
    repeats: int,
    warm_up: int,
    threads: int,
    on_repeat: Callable[[], None],
) -> dict[str, float]:
    """Return median seconds of every node that ONNX Runtime executes, by name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path.with_name("optimised.onnx"))
    options.profile_file_prefix = str(path.with_name("profile"))
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {
        given.name: tensor.detach().numpy()
        for given, tensor in zip(session.get_inputs(), inputs, strict=True)
    }
    for _ in range(warm_up + repeats):
        session.run(None, feed)
        on_repeat()
    times: dict[str, list[float]] = {}
    for event in json.loads(Path(session.end_profiling()).read_text("utf-8")):
        if event.get("cat") == "Node" and event["name"].endswith(_TIME):
            times.setdefault(event["name"].removesuffix(_TIME), []).append(event["dur"] * 1e-6)
    return {node: float(np.median(found[warm_up:])) for node, found in times.items()}


def _nodes(path: Path) -> list[Any]:
    import onnx

    return list(onnx.load(path, load_external_data=False).graph.node)


def _layers_of_values(
    nodes: Iterable[Any], traced: Trace, layer_of_operator: dict[int, int]
) -> dict[str, int]:
    """Map the file's tensors that an operator of the trace makes to that operator's layer.

    The exporter records the torch node that each node comes from, and the modules that contain it.
    """
    by_node = {node.name: layer_of_operator[i] for i, node in enumerate(traced.made_by)}
    by_module = {op.name: layer_of_operator[i] for i, op in enumerate(traced.graph.operators)}
    made_in: dict[str, int] = {}
    for node in nodes:
        notes = {entry.key: entry.value for entry in node.metadata_props}
        scopes = ["", *ast.literal_eval(notes.get(_SCOPES, "['']"))]
        candidates = [by_node.get(scopes[-1]), *(by_node.get(out) for out in node.output)]
        candidates.append(by_module.get(scopes[-2]))
        layer = next((found for found in candidates if found is not None), None)
        if layer is not None:
            made_in.update(dict.fromkeys(node.output, layer))
    return made_in


def _layers_of_nodes(nodes: list[Any], made_in: dict[str, int]) -> dict[str, int]:
    """Return the layer of every node: the layer of its output, or of its first reader."""
    wanted_in = dict(made_in)
    where: dict[str, int] = {}
    for node in reversed(nodes):
        known = [wanted_in[out] for out in node.output if out in wanted_in]
        if known:
            where[node.name] = known[0]
            for given in node.input:
                wanted_in.setdefault(given, known[0])
    for node in nodes:  # after the last layer: views of outputs
        if node.name not in where:
            above = [made_in[given] for given in node.input if given in made_in]
            where[node.name] = max(above, default=0)
            made_in.update(dict.fromkeys(node.output, where[node.name]))
    return where
