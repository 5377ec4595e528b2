"""The wireless link: the rate of a share of the band, and SNRs from distance and fading.

The link budget is the usual one in studies of edge offloading: log-distance path loss, log-normal
shadowing, Rayleigh block fading, and thermal noise over the whole band (Goldsmith, *Wireless
Communications*, 2005, chapters 2 and 3). The functions work element by element on arrays, and on
numbers inside kernels.
"""

from __future__ import annotations

import numpy as np

from mjoa_gym.model.compiling import compiled

SPREAD = np.bool_(False)
"""False for `concentrates` in kernels. Numba would compile a kernel again for a literal False."""


@compiled
def rate_bps(bandwidth_hz, share, snr, concentrates):
    """The rate of a share of a band, in bits per second.

    `snr` is linear, at full band. If the UE's power concentrates on the share, the SNR there is
    `snr / share`. Otherwise the power is spread evenly, and the SNR is the same on every share.
    """
    if share <= 0.0:
        return 0.0
    return share * bandwidth_hz * np.log2(1.0 + (snr / share if concentrates else snr))


@compiled
def uplink_bps(bandwidth_hz, share, snr):
    """The uplink rate of a UE with a share of the band: `share B log2(1 + snr / share)` in bit/s.

    The UE's transmit power concentrates on its part of the band, so its SNR there is `snr / share`.
    The arguments are those of `rate_bps`.
    """
    return rate_bps(bandwidth_hz, share, snr, True)


@compiled
def downlink_bps(bandwidth_hz, share, snr):
    """The downlink rate of a UE with a share of the band: `share B log2(1 + snr)` in bit/s.

    The base station spreads its power over the whole band, so the SNR does not depend on the share.
    """
    return rate_bps(bandwidth_hz, share, snr, False)


@compiled
def within(value, low, high):
    """`value`, limited to the range from `low` to `high`."""
    return np.minimum(np.maximum(value, low), high)


@compiled
def from_db(decibel):
    """The linear ratio of a level in dB, `10^(dB / 10)`; for a level in dBm, the power in mW."""
    return 10.0 ** (decibel / 10.0)


@compiled
def noise_dbm(noise_dbm_per_hz, bandwidth_hz):
    """The noise power over a band in dBm, `N0 + 10 log10(B)`."""
    return noise_dbm_per_hz + 10.0 * np.log10(bandwidth_hz)


@compiled
def path_loss_db(distance_m, exponent, reference_loss_db):
    """The log-distance path loss in dB, `PL(1 m) + 10 n log10(d / 1 m)`, at a distance d above 0.

    The exponent n is 2 in free space and about 3 in cities. The reference loss at 1 m is
    `20 log10(4 pi f / c)` in free space.
    """
    return reference_loss_db + 10.0 * exponent * np.log10(distance_m)


@compiled
def received_snr(power_dbm, loss_db, noise_power_dbm, fading_gain):
    """The linear SNR, `10^((P - loss - noise) / 10) |h|^2`, with powers over the whole band.

    The loss is the sum of path loss and shadowing. The gain |h|^2 is that of the small-scale
    fading.
    """
    return from_db(power_dbm - loss_db - noise_power_dbm) * fading_gain


@compiled
def rayleigh_gain(uniform):
    """The power gain |h|^2 of Rayleigh fading, from a uniform number in [0, 1).

    The gain is exponentially distributed with mean 1.
    """
    return -np.log1p(-uniform)


@compiled
def disc_distance_m(uniform, distance_min_m, distance_max_m):
    """The distance to the centre of a point that is uniformly distributed over an annulus.

    `uniform` is a uniform number u in [0, 1). The area within distance d grows with d^2, so
    `d = sqrt(a^2 + u (b^2 - a^2))`, where a and b are the least and the greatest distance.
    """
    inner, outer = distance_min_m**2, distance_max_m**2
    distance_m = np.sqrt(inner + uniform * (outer - inner))
    return within(distance_m, distance_min_m, distance_max_m)


@compiled
def moved_distance_m(distance_m, step_m, turn, distance_min_m, distance_max_m):
    """The distance to the centre after a straight walk in a given direction.

    The law of cosines gives the new distance. A UE that would leave the annulus turns back at its
    border (reflection). A UE that walks further than the cell is wide ends on the border. `turn` is
    the direction as a fraction of a full turn; 0 is straight away from the centre.
    """
    step = np.minimum(step_m, distance_max_m)
    squared = distance_m**2 + step**2 + 2.0 * distance_m * step * np.cos(2.0 * np.pi * turn)
    new = np.sqrt(np.maximum(squared, 0.0))
    new = np.minimum(new, 2.0 * distance_max_m - new)
    new = np.maximum(new, 2.0 * distance_min_m - new)
    return within(new, distance_min_m, distance_max_m)


@compiled
def next_shadowing_db(shadowing_db, correlation, deviation_db, normal):
    """The next value of correlated log-normal shadowing in dB.

    The shadowing is a first-order autoregressive process, `s' = rho s + sqrt(1 - rho^2) sigma z`,
    with a standard normal number z. The process keeps the standard deviation sigma (Gudmundson,
    *Electronics Letters* 27(23), 1991).
    """
    return correlation * shadowing_db + np.sqrt(1.0 - correlation**2) * deviation_db * normal
