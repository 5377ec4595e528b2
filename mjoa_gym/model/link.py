"""What one UE gets of the shared resources, and the seconds that bytes take on its link."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mjoa_gym.model.compiling import compiled, either
from mjoa_gym.model.radio import SPREAD, rate_bps
from mjoa_gym.validation import fraction, non_negative, zero_or_more

BITS_PER_BYTE = 8


class Link(NamedTuple):
    """What one UE gets of the shared resources."""

    up: float  # seconds per byte of the uplink; inf at rate zero
    down: float  # seconds per byte of the downlink; inf at rate zero
    message: float  # seconds from the departure of a message's last byte until it can be used
    slowdown: float  # 1 / compute share: seconds at the edge per second on the whole server


class Channel(NamedTuple):
    """What decides the rates that a share of the band has (`radio.rate_bps`)."""

    up_hz: float  # band of the uplink
    down_hz: float  # band of the downlink
    snr_up: float  # linear uplink SNR at full band
    snr_down: float  # linear downlink SNR at full band
    concentrates: bool  # whether the UE's power concentrates on its part of the band
    message_s: float  # seconds that every message takes in addition to its bytes


@either
def seconds_for(amount, seconds_per_unit):
    """The seconds that an amount takes.

    An amount of zero takes no time, even at rate zero, where a unit takes forever.
    """
    return amount * seconds_per_unit if amount > 0.0 else 0.0


@compiled
def link_over(channel, bandwidth_share, compute_share):
    """The link of a UE with given shares of the band and of the server."""
    up = rate_bps(channel.up_hz, bandwidth_share, channel.snr_up, channel.concentrates)
    down = rate_bps(channel.down_hz, bandwidth_share, channel.snr_down, SPREAD)
    return Link(
        BITS_PER_BYTE / up if up > 0.0 else np.inf,
        BITS_PER_BYTE / down if down > 0.0 else np.inf,
        channel.message_s,
        1.0 / compute_share if compute_share > 0.0 else np.inf,
    )


def link_at(
    uplink_bps: float, downlink_bps: float, message_s: float = 0.0, compute_share: float = 1.0
) -> Link:
    """The link with given rates.

    Raises:
        ValueError: If an argument is not allowed. The message names it.
    """
    share = fraction("compute_share", compute_share)
    return Link(
        _seconds_per_byte("uplink_bps", uplink_bps),
        _seconds_per_byte("downlink_bps", downlink_bps),
        non_negative("message_s", message_s),
        1.0 / share if share > 0 else np.inf,
    )


def _seconds_per_byte(name: str, bps: float) -> float:
    """The seconds per byte at a rate in bits per second: 0 at an infinite rate, inf at zero."""
    rate = zero_or_more(name, bps)
    return BITS_PER_BYTE / rate if rate > 0 else np.inf
