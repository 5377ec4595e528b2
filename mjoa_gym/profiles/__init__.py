"""Makes profiles of a user's own models.

A network becomes an `OperatorGraph` (`graph`), whose operators are fused into layers (`fuse`); both
know no framework. What reads torch modules is in the modules ``torch_*``, which import torch;
what reads ONNX files in ``onnx_*``, which import onnx.
Nothing is imported here, so that `import mjoa_gym` stays light.
"""
