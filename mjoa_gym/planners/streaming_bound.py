from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.model import kernel
from mjoa_gym.model.compiling import compiled, inner
from mjoa_gym.model.instance import (
    SHARE_TOLERANCE,
    Horizon,
    Instance,
    packed_inference,
    packed_link,
)
from mjoa_gym.model.objective import cost
from mjoa_gym.planners.bound import (
    BOUND,
    COLUMNS,
    EASING,
    HIGH_B,
    HIGH_C,
    LOW_B,
    VAIN,
    cell_link,
    head_start_price,
    least_in,
    left_for_latency,
    split,
    width,
)
from mjoa_gym.planners.upload_prices import (
    MEGABYTE,
    Round,
    RoundPrices,
    answers_to,
    dual_prices,
    dual_value,
    known_episode,
    rate_slope,
    reward_of,
)

ROUNDING = 1e-9
"""Relative error of sums, at most, by which bounds are lowered."""


class StreamingBound(NamedTuple):
    """What no policy can beat in an episode."""

    latency_s: float  # mean over the rounds of the UEs' weighted mean latency, certified
    aim_s: float  # what the bound would be if all known placements were all there are
    rounds_s: NDArray[np.float64]  # (R,) each round's part; only their mean is a bound


def streaming_bound(
    rounds: Sequence[Instance], tolerance: float = 2e-3, most_cells: int = 400
) -> StreamingBound:
    """A lower bound on the mean latency of any policy in an episode.

    Args:
        rounds: The problem of every round, in order, each with its `horizon`; what they say of
            resident parameters is not looked at.
        tolerance: Relative slack at which a UE's cells need not be split further.
        most_cells: Cells per UE and round; the tolerance is eased where that takes more.

    Raises:
        ValueError: If links depend on what is decided, or a horizon is missing.
    """
    for r, instance in enumerate(rounds):
        _check(instance, r)
    episode, prices = dual_prices(known_episode(rounds))
    certified, aims = np.zeros((2, len(episode.rounds)))
    for r, known in enumerate(episode.rounds):
        own, memory_mb = prices.of(r, episode), episode.memory_mb
        rewards = (0.0, reward_of(known, own))
        answers = [answers_to(known, own, reward) for reward in rewards]
        least = np.array([[answer.value for answer in each] for each in answers])
        aims[r] = dual_value(memory_mb, own, *least)
        for reward, each, values in zip(rewards, answers, least, strict=True):
            for i, answer in enumerate(each):
                small = tolerance * float(known.packed.weight[i]) * answer.seconds
                values[i] = _certified(known, i, own, reward, answer.value, small, most_cells)
        certified[r] = dual_value(memory_mb, own, *least)
    return StreamingBound(float(certified.mean()), float(aims.mean()), certified)


def _check(instance: Instance, r: int) -> Horizon:
    """Raise a ValueError if links depend on what is decided, or the horizon of round r is missing."""
    horizon = instance.horizon
    if horizon is None:
        raise ValueError(f"rounds[{r}].horizon=None: it says how long a round lasts, and of memory")
    scenario = horizon.scenario
    if scenario is not None and (scenario.traced or scenario.speed_m_per_s > 0):
        raise ValueError(
            f"speed_m_per_s={scenario.speed_m_per_s!r}, trace={scenario.trace!r}: must be 0 and None;"
            " where UEs walk or links follow a trace, they depend on how long rounds last"
        )
    return horizon


def _certified(
    known: Round,
    i: int,
    prices: RoundPrices,
    reward: float,
    aim: float,
    small: float,
    most_cells: int,
) -> float:
    """A lower bound on what UE i's answer to prices costs, whatever it is."""
    byte = known.part[i] * prices.there[known.group[i]] / MEGABYTE
    earns = prices.earns(known)[i] / MEGABYTE
    # w T - reward max(0, T - lasts) is the lesser of w T and (w - reward) T + reward lasts
    constant, packed = reward * known.lasts_s, known.packed
    packed = packed._replace(weight=packed.weight - reward)
    bound = -np.inf
    while bound == -np.inf:
        bound = constant + certified_answer(
            packed, known.installed, i, known.rows[i], prices.band, prices.server, byte,
            earns, aim - constant - small, small, most_cells,
        )  # fmt: skip
        small *= EASING
    return float(bound) - ROUNDING * (abs(aim) + constant + prices.band + prices.server)


@compiled
def certified_answer(
    packed, installed, i, rows, price_b, price_p, byte_price, earns, target, small, most_cells
):
    """A lower bound, at most `target`, on what UE i's answer to prices costs.

    A byte that is there costs `byte_price`, a byte per second of the uplink earns `earns`. Cells no
    wider than `small` are not divided; -inf if that takes more than `most_cells`.
    """
    cells = np.zeros((most_cells + 1, COLUMNS))
    cells[0, HIGH_B] = cells[0, HIGH_C] = 1.0 + SHARE_TOLERANCE
    cells[0, BOUND] = -np.inf
    done, count = 0, 1
    least = target
    while done < count:
        if count > most_cells:
            return -np.inf
        cell = cells[done]
        own_b, constant = band_price(packed, i, cell, price_b, earns)
        paid, seconds = left_for_latency(packed, i, cell, own_b, price_p, target - constant)
        if seconds > 0.0:
            dear = max(price_b, abs(own_b))
            gap = width(cell, dear, price_p)
            link = cell_link(packed, i, cell, own_b, price_p, seconds)
            known = cost(packed.weight[i], known_cost(packed, installed, i, rows, link, byte_price))
            if gap > small and known + paid + constant < target:
                split(cell, cells[count], dear, price_p)
                count += 1
                continue
            bound = least_in(packed, i, cell, own_b, price_p, byte_price, target - constant)
            cell[BOUND] = max(cell[BOUND], bound + constant)
            if gap > max(small, VAIN * (target - cell[BOUND])) and cell[BOUND] < target:
                split(cell, cells[count], dear, price_p)
                count += 1
                continue
            least = min(least, cell[BOUND])
        done += 1
    return least


@inner
def band_price(packed, i, cell, price_b, earns):
    """What a share of the band costs at least in a cell, less what it earns: a price, a constant.

    The rate is concave in the share, so uploads earn no more than the tangent in the middle of the
    cell says. Where that is more than the share costs, its greatest one is the cheapest.
    """
    if earns <= 0.0:
        return price_b, 0.0
    middle = 0.5 * (cell[LOW_B] + cell[HIGH_B])
    rate, slope = 1.0 / packed_link(packed, i, middle, 1.0).up, rate_slope(packed, i, middle)
    own, constant = price_b - earns * slope, -earns * (rate - slope * middle)
    if own < 0.0:
        return 0.0, constant + own * cell[HIGH_B]
    return own, constant


@compiled
def known_cost(packed, installed, i, rows, link, byte_price):
    """The least seconds of known placements on a link, with payments for what is there as time."""
    scratch = kernel.new_scratch(rows.shape[1])
    none, full = packed_inference(packed, i), packed_inference(installed, i)
    price = head_start_price(packed.weight[i], link, byte_price)
    least = packed.local_s[i]
    for k in range(len(rows)):
        there = kernel.run(rows[k], full, link, scratch)[1]
        if there < least:
            missing = kernel.run(rows[k], none, link, scratch)[1]
            least = min(least, there + price * max(0.0, missing - there))
    return least
