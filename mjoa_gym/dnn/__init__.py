"""Networks as profiles: a DAG of layers with what each computes, stores and sends."""

from mjoa_gym.dnn.profile import DNN

__all__ = ["DNN"]
