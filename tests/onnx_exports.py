"""Exports torch modules as ONNX files, for the tests of `DNN.from_onnx`."""

from __future__ import annotations

import functools
import logging
import warnings

import torch


def export(module, example, path, **arguments):
    """Exports the module with parameters that no optimisation can leave out."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.1, 1, generator=generator)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    _keep_what_the_exporter_knows()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), example, path, verbose=False, **arguments)
    return path


@functools.cache
def _keep_what_the_exporter_knows():
    """Has the exporter translate its operators once: at every call, that takes half of the time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from torch.onnx._internal.exporter._registration import ONNXRegistry
        except ImportError:  # it is not public: without it, tests take longer
            return
    ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))
