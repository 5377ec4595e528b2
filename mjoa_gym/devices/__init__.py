"""Device models: how many seconds a device needs for each layer of a DNN.

Four models, from rough to exact: `FlopsDevice` (FLOPs over speed), `RooflineDevice` (FLOPs, memory
traffic and a fixed cost per layer, with one speed per kind of layer), `RegressionDevice` (a linear
model per kind of layer) and `TableDevice` (measured times). All are immutable and have one method,
`Device.seconds`. Their `Power`, if it is known, is what they draw from a battery. `load_device`
returns the named devices, whose figures and sources are in ``docs/devices.md``, and reads
measurements from files.
"""

from mjoa_gym.devices.catalogue import device_names, load_device
from mjoa_gym.devices.models import (
    FEATURES,
    KINDS,
    LABELS,
    Device,
    FlopsDevice,
    RegressionDevice,
    RooflineDevice,
    ScaledDevice,
    TableDevice,
    layer_bytes,
)
from mjoa_gym.devices.power import POWER_FIELDS, Power

__all__ = [
    "FEATURES", "KINDS", "LABELS", "POWER_FIELDS", "Device", "FlopsDevice", "Power",
    "RegressionDevice", "RooflineDevice", "ScaledDevice", "TableDevice", "device_names",
    "layer_bytes", "load_device",
]  # fmt: skip
