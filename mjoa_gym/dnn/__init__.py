"""Networks as profiles: a DAG of layers with each layer's FLOPs, parameters and output."""

from mjoa_gym.dnn.profile import DNN

__all__ = ["DNN"]
