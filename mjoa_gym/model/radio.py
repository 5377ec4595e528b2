"""The wireless link: what a share of the band is worth, and how distance and fading become SNRs.

The link budget is the usual one of edge-offloading studies: log-distance path loss, log-normal
shadowing, Rayleigh block fading, thermal noise over the whole band (Goldsmith, *Wireless
Communications*, 2005, chapters 2 and 3). Functions work element by element on arrays, and on
numbers inside kernels.
"""

from __future__ import annotations

import numpy as np

from mjoa_gym.model.compiling import compiled

SPREAD = np.bool_(False)
"""For `concentrates` in kernels: they would be compiled for a literal False as well."""


@compiled
def rate_bps(bandwidth_hz, share, snr, concentrates):
    """Rate of a share of a band: with power that concentrates on the share, or is spread evenly.

    `snr` is linear, at full band; on the share it is `snr / share` if the power concentrates.
    """
    if share <= 0.0:
        return 0.0
    return share * bandwidth_hz * np.log2(1.0 + (snr / share if concentrates else snr))


@compiled
def uplink_bps(bandwidth_hz, share, snr):
    """Uplink rate of a UE with a share of the band.

    The UE's transmit power concentrates on its part of the band, so that its SNR there is
    `snr / share`: `share B log2(1 + snr / share)`. Arguments as in `rate_bps`.
    """
    return rate_bps(bandwidth_hz, share, snr, True)


@compiled
def downlink_bps(bandwidth_hz, share, snr):
    """Downlink rate of a UE with a share of the band, `share B log2(1 + snr)`.

    The base station spreads its power over the whole band, so the SNR does not depend on the share.
    """
    return rate_bps(bandwidth_hz, share, snr, False)


@compiled
def within(value, low, high):
    """`value`, or the limit that it is beyond."""
    return np.minimum(np.maximum(value, low), high)


@compiled
def from_db(decibel):
    """The linear ratio of a level in dB, `10^(dB / 10)`; of dBm, the power in mW."""
    return 10.0 ** (decibel / 10.0)


@compiled
def noise_dbm(noise_dbm_per_hz, bandwidth_hz):
    """Noise power in dBm over a band, `N0 + 10 log10(B)`."""
    return noise_dbm_per_hz + 10.0 * np.log10(bandwidth_hz)


@compiled
def path_loss_db(distance_m, exponent, reference_loss_db):
    """Log-distance path loss in dB, `PL(1 m) + 10 n log10(d / 1 m)`, at a distance above 0.

    The exponent n is 2 in free space, about 3 in cities; the reference loss at 1 m is
    `20 log10(4 pi f / c)` in free space.
    """
    return reference_loss_db + 10.0 * exponent * np.log10(distance_m)


@compiled
def received_snr(power_dbm, loss_db, noise_power_dbm, fading_gain):
    """Linear SNR, `10^((P - loss - noise) / 10) |h|^2`, powers over the whole band.

    The loss is path loss and shadowing together, the gain |h|^2 that of the small-scale fading.
    """
    return from_db(power_dbm - loss_db - noise_power_dbm) * fading_gain


@compiled
def rayleigh_gain(uniform):
    """Power gain |h|^2 of Rayleigh fading, exponential with mean 1, from a uniform in [0, 1)."""
    return -np.log1p(-uniform)


@compiled
def disc_distance_m(uniform, distance_min_m, distance_max_m):
    """Distance to the centre of a point that is uniform over an annulus, from a u in [0, 1).

    The area within distance d grows with d^2, so `d = sqrt(a^2 + u (b^2 - a^2))`.
    """
    inner, outer = distance_min_m**2, distance_max_m**2
    distance_m = np.sqrt(inner + uniform * (outer - inner))
    return within(distance_m, distance_min_m, distance_max_m)


@compiled
def moved_distance_m(distance_m, step_m, turn, distance_min_m, distance_max_m):
    """Distance to the centre after a straight walk in some direction.

    The law of cosines gives the new distance; a UE that would leave the annulus turns back at its
    border (reflection), and one that walks further than the cell is wide ends on the border. The
    direction is a fraction of a full turn; 0 is straight away from the centre.
    """
    step = np.minimum(step_m, distance_max_m)
    squared = distance_m**2 + step**2 + 2.0 * distance_m * step * np.cos(2.0 * np.pi * turn)
    new = np.sqrt(np.maximum(squared, 0.0))
    new = np.minimum(new, 2.0 * distance_max_m - new)
    new = np.maximum(new, 2.0 * distance_min_m - new)
    return within(new, distance_min_m, distance_max_m)


@compiled
def next_shadowing_db(shadowing_db, correlation, deviation_db, normal):
    """Correlated log-normal shadowing, a first-order autoregressive process in dB.

    `s' = rho s + sqrt(1 - rho^2) sigma z`, with a standard normal draw z, keeps the standard
    deviation sigma (Gudmundson, *Electronics Letters* 27(23), 1991).
    """
    return correlation * shadowing_db + np.sqrt(1.0 - correlation**2) * deviation_db * normal
