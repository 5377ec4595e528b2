"""Profiles of users' own models.

A network becomes a graph of operators (`graph`), which are fused into layers (`fuse`). Both are
independent of any framework. The modules ``torch_*`` read torch modules and import torch. The
modules ``onnx_*`` read ONNX files and import onnx. This package imports nothing, so that
`import mjoa_gym` stays light.
"""
