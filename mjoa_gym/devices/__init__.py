"""Device models: how many seconds a device needs for each layer of a DNN.

Three models, from rough to exact: `FlopsDevice` (FLOPs over speed), `RooflineDevice` (FLOPs, memory
traffic and a fixed cost per layer, with one speed per kind of layer) and `TableDevice` (measured
times). All are immutable and have one method, `Device.seconds`. `load_device` gives the named
devices, whose figures and sources are in ``docs/devices.md``, and reads measured tables.
"""

from mjoa_gym.devices.catalogue import device_names, load_device
from mjoa_gym.devices.models import (
    KINDS,
    LABELS,
    Device,
    FlopsDevice,
    Profile,
    RooflineDevice,
    ScaledDevice,
    TableDevice,
    layer_bytes,
)

__all__ = [
    "KINDS",
    "LABELS",
    "Device",
    "FlopsDevice",
    "Profile",
    "RooflineDevice",
    "ScaledDevice",
    "TableDevice",
    "device_names",
    "layer_bytes",
    "load_device",
]
