"""Exports torch modules as ONNX files, for the tests of `DNN.from_onnx`."""

from __future__ import annotations

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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), example, path, verbose=False, **arguments)
    return path
