"""Measures how long a device takes for each layer of a network.

`LayeredModel` executes the layers one after the other, so a time includes the calls of all the
layer's operators and about 20 µs of Python. This is what an eager framework or the project's
testbed needs, and more than a compiled engine needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mjoa_gym.execution.layered_model import LayeredModel
from mjoa_gym.layers import INPUT


def layer_seconds(
    model: LayeredModel,
    example_inputs: Any,
    repeats: int = 20,
    warm_up: int = 3,
    on_repeat: Callable[[], None] = lambda: None,
) -> NDArray[np.float64]:
    """Return median seconds of every layer, on the device of the model's tensors.

    Args:
        model: The model with its parameters.
        example_inputs: As for `LayeredModel.inputs`.
        repeats: Number of measured inferences.
        warm_up: Number of inferences before these, which do not count.
        on_repeat: Called after every inference.

    Returns:
        (L,) seconds, above 0.

    Raises:
        ValueError: If the model is on the meta device.
    """
    if repeats < 1 or warm_up < 0:
        raise ValueError(f"repeats={repeats}, warm_up={warm_up}: must be >= 1 and >= 0")
    bundles = {INPUT: model.inputs(example_inputs)}
    device = bundles[INPUT][0].device
    if device.type == "meta":
        raise ValueError("example_inputs are on the meta device, where nothing is computed")
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    parameters = [model.needed_parameters(layer) for layer in range(model.dnn.n_layers)]
    seconds = np.empty((warm_up + repeats, model.dnn.n_layers))
    for repeat in range(warm_up + repeats):
        wait()
        for layer in range(model.dnn.n_layers):
            start = time.perf_counter()
            bundles[layer] = model.run(layer, bundles, parameters[layer])
            wait()
            seconds[repeat, layer] = time.perf_counter() - start
        on_repeat()
    return np.maximum(np.median(seconds[warm_up:], axis=0), 1e-9)
