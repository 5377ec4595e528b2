"""Electrical power of a user equipment (UE)."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mjoa_gym.validation import amount


@dataclass(frozen=True)
class Power:
    """The watts that a device draws from its battery, each finite and >= 0.

    The joules of an inference are the sum of `compute_w` times the seconds for which the processor
    computes, `idle_w` times the other seconds until the inference ends, and `transmit_w` and
    `receive_w` times the seconds for which the uplink and the downlink are busy. The last two are
    electrical power with amplifier and baseband, so they are above the power that the antenna
    radiates.

    Attributes:
        compute_w: The whole device without the radio while its processor computes.
        idle_w: The whole device without the radio while it waits.
        transmit_w: Additional power of transmitting.
        receive_w: Additional power of receiving.

    Raises:
        ValueError: If a field is invalid; names the field, its value and what is allowed.
    """

    compute_w: float
    idle_w: float
    transmit_w: float
    receive_w: float

    def __post_init__(self) -> None:
        for name in POWER_FIELDS:
            object.__setattr__(self, name, amount(name, getattr(self, name)))


POWER_FIELDS = tuple(field.name for field in fields(Power))
"""The fields in the order in which kernels read them."""
