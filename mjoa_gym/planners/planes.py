"""A latency as the maximum of planes, and the shares that balance such latencies.

For a fixed placement of a chain, every path through the timing model is a sum of seconds on the UE,
bytes over a rate, and edge seconds over a share. The latency is the longest path. It is thus a
maximum of planes d + a up + b down + c slowdown in the seconds per byte of the links and in 1 /
compute share, and convex in the shares. The plane that holds at given shares is read off the
simulator with three small steps. That is exact up to rounding, because the latency is piecewise
linear.

`balance` minimises the weighted sum of such latencies over all shares of both resources at once. It
uses Newton's method on a smoothed maximum whose smoothing goes to zero, together with a logarithmic
barrier. Without the barrier, the share of a UE whose latency hardly depends on a resource would
fall to zero in one step, and that would shorten the steps of all others to nothing. UEs are coupled
through the two sums of shares only, so a step costs O(N x planes).
"""

from __future__ import annotations

import math

import numpy as np

from mjoa_gym.model import kernel
from mjoa_gym.model.compiling import inner, lean_inner
from mjoa_gym.model.energy import counted
from mjoa_gym.model.instance import packed_link
from mjoa_gym.model.kernel import ZERO
from mjoa_gym.model.link import BITS_PER_BYTE, Link
from mjoa_gym.model.objective import cost, late
from mjoa_gym.model.radio import SPREAD, rate_bps

STEP = 1e-6
"""The relative step with which slopes are read off the simulator."""
SMOOTHING = (3e-2, 5e-3, 8e-4, 1e-4, 1e-5)
"""Temperatures of the smoothed maximum, relative to a UE's latency."""
BARRIER = 0.1
"""The weight of all barriers together, relative to the objective times the temperature."""
NEGLIGIBLE = -40.0
"""Planes that are this many temperatures below the highest one do not count."""
SAME = 1e-7
"""Planes whose difference is at most this fraction of the latency count as one."""


@lean_inner
def height(planes, k, link):
    """The seconds of plane k at a link."""
    return (
        planes[k, 0]
        + planes[k, 1] * link.up
        + planes[k, 2] * link.down
        + planes[k, 3] * link.slowdown
    )


@lean_inner
def highest(planes, count, link):
    """The seconds of the highest of the first `count` planes (K, 4) at a link; -inf without any."""
    top = -np.inf
    for k in range(count):
        top = max(top, height(planes, k, link))
    return top


@lean_inner
def learn(outline, inference, link, scratch, planes, count):
    """Simulate an outline at a link, and correct the known planes by the result.

    The first `count` of `planes` (K, 4) are known. A plane that is too high at this link is
    removed. (On networks that are not chains, latencies need not be convex.) If no plane is as high
    as the latency, the plane that touches it is added. If there is no room, it replaces the lowest
    plane.

    Returns:
        The latency, or with prices the cost in seconds without a missed deadline; by how much that
        exceeds the height of the planes before; the seconds that a missed deadline costs; and the
        new count.
    """
    prices = inference.prices
    latency = kernel.follow(outline, inference, link, scratch)[1]
    if not latency < np.inf:
        return latency, 0.0, 0.0, count
    lateness = late(prices, latency)
    latency = counted(prices, outline, inference, link, latency)
    tolerance = SAME * latency
    said, known, lowest, least = -np.inf, -np.inf, ZERO, np.inf
    k = ZERO
    while k < count:
        h = height(planes, k, link)
        said = max(said, h)
        if h > latency + tolerance:
            count -= 1
            for c in range(4):
                planes[k, c] = planes[count, c]
            continue
        known = max(known, h)
        if h < least:
            lowest, least = k, h
        k += 1
    if known < latency - tolerance or count == 0:
        if count < len(planes):
            lowest = count
            count += 1
        planes[lowest, 0] = latency
        for c in range(1, 4):
            step = STEP * (link.up if c == 1 else link.down if c == 2 else link.slowdown)
            beside = Link(
                link.up + (step if c == 1 else 0.0),
                link.down + (step if c == 2 else 0.0),
                link.message,
                link.slowdown + (step if c == 3 else 0.0),
            )
            slope = 0.0
            if step > 0.0:  # no step at an infinite rate
                then = kernel.follow(outline, inference, beside, scratch)[1]
                rise = counted(prices, outline, inference, beside, then) - latency
                slope = max(0.0, rise / step)
            planes[lowest, c] = slope
            planes[lowest, 0] -= slope * step / STEP
    excess = latency - max(said, 0.0)
    return latency, excess if abs(excess) > tolerance else 0.0, lateness, count


@lean_inner
def derivatives(bandwidth_hz, share, snr, concentrates):
    """The seconds per byte at a share of the band, and the first two derivatives in the share."""
    rate = rate_bps(bandwidth_hz, share, snr, concentrates)
    value = BITS_PER_BYTE / rate
    if not concentrates:
        return value, -value / share, 2.0 * value / (share * share)
    unit = bandwidth_hz / math.log(2.0)
    slope = rate / share - unit * snr / (share + snr)
    bend = -unit * snr * snr / (share * (share + snr) ** 2)
    first = -value * slope / rate
    return value, first, value * (2.0 * slope * slope / rate - bend) / rate


@lean_inner
def smoothed(packed, users, shares, planes, n_planes, temperatures, barrier, local):
    """The sum of the users' smoothed weighted latencies at their shares, plus all barriers.

    The gradients and Hessians (g_beta, g_phi, h_bb, h_bp, h_pp) are written into `local` (n, 5).
    """
    total = 0.0
    for j in range(len(users)):
        i, beta, phi, temperature = users[j], shares[j, 0], shares[j, 1], temperatures[j]
        concentrates = packed.concentrates[i]
        up, up1, up2 = derivatives(packed.up_hz[i], beta, packed.snr_up[i], concentrates)
        down, down1, down2 = derivatives(packed.down_hz[i], beta, packed.snr_down[i], SPREAD)
        slow = 1.0 / phi
        slow1, slow2 = -slow * slow, 2.0 * slow * slow * slow
        link = Link(up, down, 0.0, slow)
        top = highest(planes[j], n_planes[j], link)
        mass = gb = gp = bb = bp = pp = curve_b = curve_p = 0.0
        for k in range(n_planes[j]):
            below = (height(planes[j], k, link) - top) / temperature
            if below < NEGLIGIBLE:
                continue
            p = math.exp(below)
            by_beta = planes[j, k, 1] * up1 + planes[j, k, 2] * down1
            by_phi = planes[j, k, 3] * slow1
            mass += p
            gb += p * by_beta
            gp += p * by_phi
            bb += p * by_beta * by_beta
            bp += p * by_beta * by_phi
            pp += p * by_phi * by_phi
            curve_b += p * (planes[j, k, 1] * up2 + planes[j, k, 2] * down2)
            curve_p += p * planes[j, k, 3] * slow2
        w, out = packed.weight[i], local[j]
        gb, gp = gb / mass, gp / mass
        bend_b = curve_b / mass + (bb / mass - gb * gb) / temperature
        bend_p = curve_p / mass + (pp / mass - gp * gp) / temperature
        out[0], out[1] = w * gb - barrier / beta, w * gp - barrier / phi
        out[2] = w * bend_b + barrier / (beta * beta)
        out[3] = w * (bp / mass - gb * gp) / temperature
        out[4] = w * bend_p + barrier / (phi * phi)
        total += cost(w, top + temperature * math.log(mass)) - barrier * math.log(beta * phi)
    return total


@lean_inner
def newton_step(local, step):
    """Write the Newton step that keeps both sums of shares into `step` (n, 2).

    Returns:
        The prices of bandwidth and compute (the marginal latencies that all users have in common in
        the end), and twice the decrease that the step promises.
    """
    m00 = m01 = m11 = r0 = r1 = 0.0
    for j in range(len(local)):
        gb, gp, a, b, c = local[j, 0], local[j, 1], local[j, 2], local[j, 3], local[j, 4]
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
    for j in range(len(local)):
        gb, gp, a, b, c = local[j, 0], local[j, 1], local[j, 2], local[j, 3], local[j, 4]
        det = max(a * c - b * b, 1e-14 * a * c)
        db, dp = price_b - gb, price_p - gp
        step[j, 0] = (c * db - b * dp) / det
        step[j, 1] = (a * dp - b * db) / det
        decrement -= gb * step[j, 0] + gp * step[j, 1]
    return price_b, price_p, decrement


@lean_inner
def longest_step(shares, step):
    """The length, at most 1, at which a step (n, 2) reduces every share by nine tenths at most."""
    length = 1.0
    for j in range(len(shares)):
        for r in range(2):
            if step[j, r] < 0.0:
                length = min(length, -0.9 * shares[j, r] / step[j, r])
    return length


@lean_inner
def temper(packed, users, shares, planes, n_planes, smoothing, temperatures):
    """Write the users' temperatures (n,), and return the weighted sum of the planes' latencies."""
    objective = 0.0
    for j in range(len(users)):
        link = packed_link(packed, users[j], shares[j, 0], shares[j, 1])
        latency = highest(planes[j], n_planes[j], link)
        objective += cost(packed.weight[users[j]], latency)
        temperatures[j] = smoothing * max(latency, 1e-300)
    return objective


@inner
def balance(packed, users, planes, n_planes, shares, first_smoothing):
    """Minimise the weighted sum of latencies, each the maximum of its planes, over the shares.

    Args:
        packed: The instance.
        users: (n,) the UEs with a layer at the edge.
        planes: (n, K, 4) the planes of each user; of user j the first `n_planes[j]` count.
        n_planes: (n,) at least 1 each.
        shares: (n, 2) positive. They change in place, and their sums stay the same.
        first_smoothing: The index of the first of the `SMOOTHING` to use.

    Returns:
        The prices of bandwidth and compute: the common marginal latencies with their sign changed.
    """
    n = len(users)
    local, step, trial, temperatures = (
        np.empty((n, 5)),
        np.empty((n, 2)),
        shares.copy(),
        np.empty(n),
    )
    price_b = price_p = 0.0
    for level in range(first_smoothing, len(SMOOTHING)):
        smoothing = SMOOTHING[level]
        objective = temper(packed, users, shares, planes, n_planes, smoothing, temperatures)
        if objective <= 0.0:
            return 0.0, 0.0
        barrier = BARRIER * smoothing * objective / n
        value = smoothed(packed, users, shares, planes, n_planes, temperatures, barrier, local)
        for _ in range(40):
            price_b, price_p, decrement = newton_step(local, step)
            if not decrement > 1e-10 * abs(value):
                break
            length, new = longest_step(shares, step), np.inf
            for _ in range(30):
                for j in range(n):
                    trial[j, 0] = shares[j, 0] + length * step[j, 0]
                    trial[j, 1] = shares[j, 1] + length * step[j, 1]
                new = smoothed(packed, users, trial, planes, n_planes, temperatures, barrier, local)
                if new <= value - 0.1 * length * decrement:
                    break
                length *= 0.5
            if not new < value:
                break
            value = new
            for j in range(n):
                shares[j, 0], shares[j, 1] = trial[j, 0], trial[j, 1]
    return -price_b, -price_p
