"""The wireless link: what a share of the band is worth, and how distance and fading become SNRs."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def uplink_bps(bandwidth_hz, share, snr):
    """Uplink rate of a UE with a share of the band.

    The UE's transmit power concentrates on its part of the band, so that its SNR there is
    `snr / share`: `share B log2(1 + snr / share)`.

    Args:
        bandwidth_hz: The whole band, B.
        share: In [0, 1].
        snr: Linear SNR at full band.
    """
    if share <= 0.0:
        return 0.0
    return share * bandwidth_hz * np.log2(1.0 + snr / share)


@njit(cache=True, nogil=True)
def downlink_bps(bandwidth_hz, share, snr):
    """Downlink rate of a UE with a share of the band, `share B log2(1 + snr)`.

    The base station spreads its power over the whole band, so the SNR does not depend on the share.
    """
    return share * bandwidth_hz * np.log2(1.0 + snr)
