"""Electrical power of a user equipment (UE)."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mjoa_gym.validation import amount


@dataclass(frozen=True)
class Power:
    """The watts that a device draws from its battery, each finite and >= 0.

    The joules of an inference are `compute_w` times the seconds for which the processor computes,
    `idle_w` times the other seconds until the inference ends, and, besides these, `transmit_w` and
    `receive_w` times the seconds for which the uplink and the downlink are busy. These two are
    electrical power, amplifier and baseband included, and thus more than what the antenna radiates.

    Attributes:
        compute_w: The whole device while its processor computes, radio aside.
        idle_w: The whole device while it waits, radio aside.
        transmit_w: What transmitting adds to either.
        receive_w: What receiving adds to either.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """

    compute_w: float
    idle_w: float
    transmit_w: float
    receive_w: float

    def __post_init__(self) -> None:
        for name in POWER_FIELDS:
            object.__setattr__(self, name, amount(name, getattr(self, name)))


POWER_FIELDS = tuple(field.name for field in fields(Power))
"""In the order of the rows that kernels read."""
