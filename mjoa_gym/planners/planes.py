"""A latency as the maximum of planes, and the shares that balance such latencies.

For a fixed placement of a chain every path through the timing model is a sum of seconds on the
UE, bytes over a rate and edge seconds over a share. The latency, the longest path, is thus a
maximum of planes d + a up + b down + c slowdown in the seconds per byte of the links and in 1 /
compute share: convex in the shares. The plane that holds at some shares is read off the
simulator with three small steps, exact up to rounding because the latency is piecewise linear.

`balance` minimises the weighted sum of such latencies over all shares of both resources at once by
Newton's method on a smoothed maximum whose smoothing goes to zero, together with a logarithmic
barrier: without it, a UE whose latency hardly depends on a resource would make its share zero in
one step and with that shorten the steps of all others to nothing. UEs couple through the two sums
of shares only, so a step costs O(N x planes).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from mjoa_gym.model import kernel
from mjoa_gym.model.instance import packed_inference, packed_link
from mjoa_gym.model.link import BITS_PER_BYTE, Link
from mjoa_gym.model.objective import cost
from mjoa_gym.model.radio import rate_bps

STEP = 1e-6
"""Relative step that reads slopes off the simulator."""
SMOOTHING = (3e-2, 5e-3, 8e-4, 1e-4, 1e-5)
"""Temperatures of the smoothed maximum, relative to a UE's latency."""
BARRIER = 0.1
"""Weight of all barriers together, relative to the objective times the temperature."""
SAME = 1e-7
"""Planes that agree this well, relative to the latency, are one."""


@njit(cache=True, nogil=True)
def touching_plane(inference, link, placement, scratch, plane):
    """Write the plane (d, a, b, c) of a latency at a link into `plane`; returns the latency."""
    base = kernel.run(placement, inference, link, scratch)[1]
    up, down, slow = link.up * STEP, link.down * STEP, link.slowdown * STEP
    more_up = Link(link.up + up, link.down, link.message, link.slowdown)
    more_down = Link(link.up, link.down + down, link.message, link.slowdown)
    slower = Link(link.up, link.down, link.message, link.slowdown + slow)
    for k, (other, step) in enumerate(((more_up, up), (more_down, down), (slower, slow))):
        rise = kernel.run(placement, inference, other, scratch)[1] - base
        plane[k + 1] = max(0.0, rise / step) if step > 0.0 else 0.0  # no step at an infinite rate
    plane[0] = base - plane[1] * link.up - plane[2] * link.down - plane[3] * link.slowdown
    return base


@njit(cache=True, nogil=True)
def height(plane, link):
    """Seconds of a plane at a link."""
    return plane[0] + plane[1] * link.up + plane[2] * link.down + plane[3] * link.slowdown


@njit(cache=True, nogil=True)
def add_planes(packed, placements, active, bandwidth_share, compute_share, planes, n_planes):
    """Simulate every active UE at its shares and add the planes found there that are new.

    UE i has `n_planes[i]` planes in `planes` (N, K, 4); if they are K, the lowest is replaced.

    Returns:
        The weighted sum of latencies, and the largest relative amount by which a latency exceeded
        its planes so far.
    """
    scratch = kernel.new_scratch(np.max(np.diff(packed.first)))
    total, surprise = 0.0, 0.0
    plane = np.empty(4)
    for i in range(len(active)):
        if not active[i]:
            total += cost(packed.weight[i], packed.local_s[i])
            continue
        link = packed_link(packed, i, bandwidth_share[i], compute_share[i])
        placement = placements[packed.first[i] : packed.first[i + 1]]
        latency = touching_plane(packed_inference(packed, i), link, placement, scratch, plane)
        total += cost(packed.weight[i], latency)
        if not latency < np.inf:
            continue
        known, lowest, least = -np.inf, 0, np.inf
        for k in range(n_planes[i]):
            h = height(planes[i, k], link)
            known = max(known, h)
            if h < least:
                lowest, least = k, h
        surprise = max(surprise, (latency - known) / latency if latency > 0.0 else 0.0)
        if latency > known + SAME * latency or n_planes[i] == 0:
            k = lowest
            if n_planes[i] < planes.shape[1]:
                k = n_planes[i]
                n_planes[i] += 1
            planes[i, k] = plane
    return total, surprise


@njit(cache=True, nogil=True)
def derivatives(bandwidth_hz, share, snr, concentrates):
    """Seconds per byte at a share of the band, and the first two derivatives in the share."""
    rate = rate_bps(bandwidth_hz, share, snr, concentrates)
    value = BITS_PER_BYTE / rate
    if not concentrates:
        return value, -value / share, 2.0 * value / (share * share)
    unit = bandwidth_hz / np.log(2.0)
    slope = rate / share - unit * snr / (share + snr)
    bend = -unit * snr * snr / (share * (share + snr) ** 2)
    first = -value * slope / rate
    return value, first, value * (2.0 * slope * slope / rate - bend) / rate


@njit(cache=True, nogil=True)
def smoothed(packed, active, shares, planes, n_planes, temperatures, barrier, local):
    """The sum of the active UEs' smoothed weighted latencies at their shares, plus all barriers.

    Writes gradients and Hessians (g_beta, g_phi, h_bb, h_bp, h_pp) into `local` (N, 5).
    """
    total = 0.0
    for i in range(len(active)):
        if not active[i]:
            continue
        beta, phi, temperature = shares[i, 0], shares[i, 1], temperatures[i]
        concentrates = packed.concentrates[i]
        up, up1, up2 = derivatives(packed.up_hz[i], beta, packed.snr_up[i], concentrates)
        down, down1, down2 = derivatives(packed.down_hz[i], beta, packed.snr_down[i], False)
        slow = 1.0 / phi
        slow1, slow2 = -slow * slow, 2.0 * slow * slow * slow
        link = Link(up, down, 0.0, slow)
        top = -np.inf
        for k in range(n_planes[i]):
            top = max(top, height(planes[i, k], link))
        mass = gb = gp = bb = bp = pp = curve_b = curve_p = 0.0
        for k in range(n_planes[i]):
            plane = planes[i, k]
            p = np.exp((height(plane, link) - top) / temperature)
            by_beta = plane[1] * up1 + plane[2] * down1
            by_phi = plane[3] * slow1
            mass += p
            gb += p * by_beta
            gp += p * by_phi
            bb += p * by_beta * by_beta
            bp += p * by_beta * by_phi
            pp += p * by_phi * by_phi
            curve_b += p * (plane[1] * up2 + plane[2] * down2)
            curve_p += p * plane[3] * slow2
        w, out = packed.weight[i], local[i]
        gb, gp = gb / mass, gp / mass
        bend_b = curve_b / mass + (bb / mass - gb * gb) / temperature
        bend_p = curve_p / mass + (pp / mass - gp * gp) / temperature
        out[0], out[1] = w * gb - barrier / beta, w * gp - barrier / phi
        out[2] = w * bend_b + barrier / (beta * beta)
        out[3] = w * (bp / mass - gb * gp) / temperature
        out[4] = w * bend_p + barrier / (phi * phi)
        total += w * (top + temperature * np.log(mass)) - barrier * (np.log(beta) + np.log(phi))
    return total


@njit(cache=True, nogil=True)
def newton_step(local, active, step):
    """Write the Newton step that keeps both sums of shares into `step` (N, 2).

    Returns:
        The price of bandwidth and of compute (the marginal latencies that all UEs come to share),
        and the decrease that the step promises, twice.
    """
    m00 = m01 = m11 = r0 = r1 = 0.0
    for i in range(len(active)):
        if active[i]:
            gb, gp, a, b, c = local[i]
            det = max(a * c - b * b, 1e-14 * a * c)
            m00 += c / det
            m01 -= b / det
            m11 += a / det
            r0 += (c * gb - b * gp) / det
            r1 += (a * gp - b * gb) / det
    det = m00 * m11 - m01 * m01
    price_b = (m11 * r0 - m01 * r1) / det
    price_p = (m00 * r1 - m01 * r0) / det
    decrement = 0.0
    for i in range(len(active)):
        step[i] = 0.0
        if active[i]:
            gb, gp, a, b, c = local[i]
            det = max(a * c - b * b, 1e-14 * a * c)
            db, dp = price_b - gb, price_p - gp
            step[i, 0] = (c * db - b * dp) / det
            step[i, 1] = (a * dp - b * db) / det
            decrement -= gb * step[i, 0] + gp * step[i, 1]
    return price_b, price_p, decrement


@njit(cache=True, nogil=True)
def balance(packed, active, planes, n_planes, shares, first_smoothing):
    """Minimise the weighted sum of latencies, each the maximum of its planes, over the shares.

    `shares` (N, 2), positive for active UEs, change in place; their sums do not. `SMOOTHING` is
    gone through from index `first_smoothing` on.

    Returns:
        The prices of bandwidth and compute: minus the common marginal latencies.
    """
    n = len(active)
    local, step, trial = np.empty((n, 5)), np.empty((n, 2)), shares.copy()
    scale = np.ones(n)
    price_b = price_p = 0.0
    for level in range(first_smoothing, len(SMOOTHING)):
        objective = 0.0
        for i in range(n):
            if active[i]:
                link = packed_link(packed, i, shares[i, 0], shares[i, 1])
                for k in range(n_planes[i]):
                    h = height(planes[i, k], link)
                    scale[i] = h if k == 0 else max(scale[i], h)
                objective += cost(packed.weight[i], scale[i])
                scale[i] = max(scale[i], 1e-300)
        if objective <= 0.0:
            return 0.0, 0.0
        temperature = SMOOTHING[level] * scale
        barrier = BARRIER * SMOOTHING[level] * objective / np.sum(active)
        for _ in range(40):
            value = smoothed(packed, active, shares, planes, n_planes, temperature, barrier, local)
            price_b, price_p, decrement = newton_step(local, active, step)
            if not decrement > 1e-10 * abs(value):
                break
            length = 1.0
            for i in range(n):
                for r in range(2):
                    if active[i] and step[i, r] < 0.0:
                        length = min(length, -0.9 * shares[i, r] / step[i, r])
            for _ in range(30):
                trial[:] = shares + length * step
                new = smoothed(packed, active, trial, planes, n_planes, temperature, barrier, local)
                if new <= value - 0.1 * length * decrement:
                    break
                length *= 0.5
            if not new < value:
                break
            shares[:] = trial
    return -price_b, -price_p
