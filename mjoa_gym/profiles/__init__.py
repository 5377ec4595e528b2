"""Makes profiles of a user's own models.

A network becomes a graph of operators (`graph`), which are fused into layers (`fuse`); both know
no framework. What reads torch modules is in the modules ``torch_*``, which import torch;
what reads ONNX files in ``onnx_*``, which import onnx.
Nothing is imported here, so that `import mjoa_gym` stays light.
"""
