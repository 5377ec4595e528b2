"""A certified lower bound on the latency of any policy in an episode of streaming.

In a streaming episode whose links do not depend on what is decided (no UE walks, no trace), every
policy meets the same rounds: the same UEs over the same links. Policies differ only in what is on
the server, and in how long rounds last. The bound grants a policy perfect information, and demands
less of it than the environment does:

*   At the start of round r the server holds at most M bytes, each shared layer once. In each round
    a policy may choose anew which of the uploaded bytes these are. (So what memory drops, and
    `retain`, do not matter.)
*   UEs whose parameters are stored together make a *group*: without sharing each UE alone, with
    sharing those whose networks have layers in common. A group's bytes B_g(r) grow by what its own
    UEs can upload: B_g(r + 1) <= B_g(r) + D_r sum u_i(b_i), where u_i are the uplinks' rates at
    their shares b_i, and D_r is the length of the round in seconds. In the group's first round
    nothing is there. Any byte of the group may stand for any other, and activations take no time
    from uploads here.
*   D_r is the period P_r, or the slowest UE's latency if that is longer. The bound treats a round
    as no shorter than H_r, for any H_r >= P_r that is chosen in advance. Here H_r is what the
    slowest known answer takes.

**Prices** (Lagrange multipliers, all >= 0): round r has the prices a of the band, c of the server,
m of a byte of memory, and v_g of a byte that group g uploads in the round. So v_g is the value of a
byte that is on the server in the next round. It is the penalty of an information relaxation, linear
in what is there. A byte that is there costs q_g(r) = m(r) + v_g(r - 1) - v_g(r) >= 0, and no policy
costs less than

    sum over r of ( min of sum_i cost_i - n_r max(0, D_r - H_r)  -  a - c - m M ),
    cost_i = w T + a b + c (server share) + q_g (bytes that are there) - v_g H_r u_i(b),

where n_r is at least what any division of the band earns in a second, sum v_g u_i(b_i). A set S of
UEs cannot upload more than B log2(1 + sum of S snr_i) together, however it divides the band
(concavity). So n_r is found by summation by parts: the group with the highest price gets all that
it can carry, and every other group gets what it adds to those before it. Prices are lowered until
n_r < w for all UEs.

If no UE takes longer than H_r, the minimum is at least sum_i l_i, where l_i is the least cost_i.
Otherwise the round lasts as long as one UE k, and the minimum is at least l'_k + the sum of the
others' l_i. Here l'_k is the least of cost_k - n_r max(0, T - H_r). That is again a problem of the
same kind: with weight w, or with weight w - n_r and the constant n_r H_r. From l_k alone, l'_k is
at least l_k - n_r / w max(0, l_k + e_k - w H_r) if no upload earns more than its share of the band
costs by more than e_k.

**Shared layers.** If k UEs have a layer, each pays 1/k of its bytes' price and chooses for itself
whether the layer is there. If all choose alike, that adds up to the price of the layer, so this
relaxes as well. A UE whose layers are shared by different numbers of UEs pays the least of its
parts for all of them.

**What is there.** For one placement let T(f) be the latency with a fraction f_l of each layer's
parameters there, and U_l the uplink's seconds of all of a layer at the edge. An edge layer starts
no earlier than a message after the uplink has carried the activations and the missing parameters of
all edge layers up to it: an uplink carries one thing at a time, and edge layers run in program
order. Let R0 and R1 be the latencies of `pbt_tree`'s relaxed reading with nothing and with
everything there. Then T(f) >= R1, and T(f) + sum f_l U_l >= R0. This holds in every upload mode.
Let p be the price of what takes a second to upload, in seconds of latency. If p < 1, a mean of the
two gives

    T(f) + p sum f_l U_l  >=  (1 - p) R1 + p R0,

and otherwise the sum is at least R0. `priced_bound` finds the least of that over all placements:
exactly on chains, from below elsewhere. For the shares there are the cells of `bound`. The argument
by which links are slowed down within a cell holds for each placement and each f, so it holds for
the least of them. What an uplink's share earns is concave in the share, and no more than its
tangent in the middle of the cell.

**Rounding.** Everything above is exact. Sums of rounded numbers are lowered by ROUNDING, which is a
thousand times the most that they can err by. Shares may exceed 1 by SHARE_TOLERANCE, as in a
`Plan`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.model import kernel
from mjoa_gym.model.compiling import compiled, inner
from mjoa_gym.model.instance import (
    SHARE_TOLERANCE,
    Instance,
    Packed,
    packed_inference,
    packed_link,
)
from mjoa_gym.model.objective import cost
from mjoa_gym.model.reference import reference
from mjoa_gym.planners.bound import (
    BOUND,
    COLUMNS,
    EASING,
    HIGH_B,
    HIGH_C,
    LOW_B,
    LOW_C,
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
    Answer,
    Round,
    RoundPrices,
    answers_to,
    dual_prices,
    dual_value,
    known_episode,
    rate_slope,
    reward_of,
)

TREES = 256, 128
"""The width and the front of the relaxed trees (`priced_bound`)."""
LITTLE = 5e-4
"""A gap of less than this part of a round's costs is not certified a second time."""
ROUNDING = 1e-9
"""The relative amount by which bounds are lowered, to cover the error of sums."""


class StreamingBound(NamedTuple):
    """What no policy can beat in an episode."""

    latency_s: float  # mean over the rounds of the UEs' weighted mean latency, certified
    aim_s: float  # what the bound would be if there were no placements but the known ones
    rounds_s: NDArray[np.float64]  # (R,) each round's part; only their mean is a bound


def streaming_bound(
    rounds: Sequence[Instance], tolerance: float = 4e-3, most_cells: int = 200
) -> StreamingBound:
    """A lower bound on the mean latency of any policy in an episode.

    Args:
        rounds: The problem of every round, in order, each with its `horizon`. The resident
            parameters in it are ignored.
        tolerance: The relative slack at which a UE's cells need not be split further.
        most_cells: The most cells per UE and round. If that is too few, the tolerance grows.

    Returns:
        The bound in seconds, and how it comes about.

    Raises:
        ValueError: If links depend on what is decided, if a horizon is missing, if an uplink has no
            limit, or if rounds differ in what they must agree on.
    """
    memory_mb, priced = _priced(rounds)
    certified = [_bound_of(*each, memory_mb, tolerance, most_cells) for each in priced]
    aims = [_aim_of(*each, memory_mb) for each in priced]
    return StreamingBound(float(np.mean(certified)), float(np.mean(aims)), np.array(certified))


def streaming_aim(rounds: Sequence[Instance]) -> float:
    """What `streaming_bound` would be if there were no placements but the known ones; no bound."""
    memory_mb, priced = _priced(rounds)
    return float(np.mean([_aim_of(*each, memory_mb) for each in priced]))


def _priced(rounds: Sequence[Instance]) -> tuple[float, list[tuple[Round, RoundPrices]]]:
    """The server's memory in megabytes, and for each round what is known and its prices."""
    for r, instance in enumerate(rounds):
        _check(instance, r)
    episode, prices = dual_prices(known_episode(rounds))
    own = [(known, prices.of(r, episode)) for r, known in enumerate(episode.rounds)]
    return episode.memory_mb, own


def _aim_of(known: Round, prices: RoundPrices, memory_mb: float) -> float:
    """A round's part of what the bound would be with the known placements."""
    both = answers_to(known, prices), answers_to(known, prices, reward_of(known, prices))
    values = (np.array([answer.value for answer in each]) for each in both)
    return dual_value(memory_mb, prices, *values)


def _bound_of(
    known: Round, prices: RoundPrices, memory_mb: float, tolerance: float, most_cells: int
) -> float:
    """A round's part of the bound."""

    def certified(i: int, answer: Answer, reward: float) -> float:
        small = tolerance * float(known.packed.weight[i]) * answer.seconds
        return _certified(known, i, prices, reward, answer.value, small, most_cells)

    reward = reward_of(known, prices)
    least = np.array([certified(i, own, 0.0) for i, own in enumerate(answers_to(known, prices))])
    rewarded = np.array([_rewarded(known, i, prices, reward, own) for i, own in enumerate(least)])
    slow = answers_to(known, prices, reward)
    for i in map(int, np.flatnonzero(least - rewarded > LITTLE * least.sum())):
        rewarded[i] = max(rewarded[i], certified(i, slow[i], reward))
    return dual_value(memory_mb, prices, least, rewarded)


def _check(instance: Instance, r: int) -> None:
    """Raise a ValueError if links depend on what is decided, or if round r has no horizon."""
    horizon = instance.horizon
    if horizon is None:
        raise ValueError(f"rounds[{r}].horizon=None: must be a Horizon, with the period and memory")
    scenario = horizon.scenario
    if scenario is not None and (scenario.traced or scenario.speed_m_per_s > 0):
        raise ValueError(
            f"speed_m_per_s={scenario.speed_m_per_s!r}, trace={scenario.trace!r}: must be 0 and"
            " None; otherwise links depend on how long rounds last"
        )


def _rewarded(known: Round, i: int, prices: RoundPrices, reward: float, least: float) -> float:
    """A lower bound on UE i's cost with a reward for longer rounds, from that without (`least`)."""
    weight = float(known.packed.weight[i])
    earned = most_earned(known.packed, i, prices.band, prices.earns(known)[i])
    return least - reward / weight * max(0.0, least + earned - weight * known.lasts_s)


def most_earned(packed: Packed, i: int, band: float, earns: float) -> float:
    """An upper bound on what UE i's uploads earn beyond the cost of their share of the band.

    `earns` is what a megabyte per second earns. The rate is concave in the share, so no share earns
    more than a tangent says.
    """
    if earns <= 0.0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(40):
        share = 0.5 * (low + high)
        dear = band >= earns * rate_slope(packed, i, share) / MEGABYTE
        low, high = (low, share) if dear else (share, high)
    slope = earns * rate_slope(packed, i, high) / MEGABYTE - band
    now = earns / packed_link(packed, i, high, 1.0).up / MEGABYTE - band * high
    return max(0.0, now + max(slope * (1.0 + SHARE_TOLERANCE - high), -slope * high))


def _certified(
    known: Round,
    i: int,
    prices: RoundPrices,
    reward: float,
    aim: float,
    small: float,
    most_cells: int,
) -> float:
    """A lower bound on the cost of UE i's answer to prices, whatever the answer is."""
    byte = known.part[i] * prices.there[known.group[i]] / MEGABYTE
    earns = prices.earns(known)[i] / MEGABYTE
    # w T - reward max(0, T - lasts) is the lesser of w T and (w - reward) T + reward lasts
    constant, packed = reward * known.lasts_s, known.packed
    packed = packed._replace(weight=packed.weight - reward)
    bound = constant + certified_answer(
        packed, known.installed, i, known.rows[i], prices.band, prices.server, byte, earns,
        aim - constant, small, most_cells, TREES,
    )  # fmt: skip
    return float(bound) - ROUNDING * (abs(aim) + constant + prices.band + prices.server)


@compiled
def certified_answer(
    packed, installed, i, rows, price_b, price_p, byte_price, earns, aim, small, most_cells,
    trees,
):  # fmt: skip
    """A lower bound, slightly below `aim` at most, on the cost of UE i's answer to prices.

    A byte that is on the server costs `byte_price`, and a byte per second of the uplink earns
    `earns`. Cells no wider than `small` are not divided. If that takes more than `most_cells`,
    `small` grows.
    """
    cells = np.zeros((2 * most_cells + 2, COLUMNS))
    count, target = most_cells + 1, aim
    while count > most_cells:
        target = aim - small
        count = divide(
            packed, installed, i, rows, price_b, price_p, byte_price, earns, target, small, cells,
            most_cells,
        )  # fmt: skip
        small *= EASING
    for k in range(count):
        certify(packed, i, cells[k], price_b, price_p, byte_price, earns, target, trees)
    while True:
        worst = np.argmin(cells[:count, BOUND])
        cell = cells[worst]
        bound = cell[BOUND]
        own_b = max(price_b, band_price(packed, i, cell, price_b, earns)[0])
        in_vain = max(small, VAIN * (target - bound))
        if bound >= target or count == len(cells) or width(cell, own_b, price_p) <= in_vain:
            return min(target, bound)
        split(cell, cells[count], own_b, price_p)
        certify(packed, i, cell, price_b, price_p, byte_price, earns, target, trees)
        certify(packed, i, cells[count], price_b, price_p, byte_price, earns, target, trees)
        count += 1


@inner
def divide(
    packed, installed, i, rows, price_b, price_p, byte_price, earns, target, small, cells,
    most_cells,
):  # fmt: skip
    """Divide the square of shares into cells in which known placements cost at least the target.

    Cells no wider than `small` are not divided.

    Returns:
        The number of cells; `most_cells` + 1 if `most_cells` are not enough.
    """
    cells[0, LOW_B] = cells[0, LOW_C] = 0.0
    cells[0, HIGH_B] = cells[0, HIGH_C] = 1.0 + SHARE_TOLERANCE
    cells[0, BOUND] = -np.inf
    done, count = 0, 1
    while done < count <= most_cells:
        cell = cells[done]
        own_b, constant = band_price(packed, i, cell, price_b, earns)
        dear = max(price_b, own_b)
        paid, seconds = left_for_latency(packed, i, cell, own_b, price_p, target - constant)
        known = np.inf
        if seconds > 0.0 and width(cell, dear, price_p) > small:
            link = cell_link(packed, i, cell, own_b, price_p, seconds)
            known = cost(packed.weight[i], known_cost(packed, installed, i, rows, link, byte_price))
        if known + paid + constant >= target:
            done += 1
        else:
            split(cell, cells[count], dear, price_p)
            count += 1
    return count


@inner
def certify(packed, i, cell, price_b, price_p, byte_price, earns, target, trees):
    """Raise a cell's bound to what its trees certify, at most to the target."""
    own_b, constant = band_price(packed, i, cell, price_b, earns)
    least = least_in(packed, i, cell, own_b, price_p, byte_price, target - constant, trees)
    cell[BOUND] = max(cell[BOUND], least + constant)


@inner
def band_price(packed, i, cell, price_b, earns):
    """A lower bound on what a share of the band costs in a cell, less what it earns.

    The rate is concave in the share, so uploads earn no more than the tangent in the middle of the
    cell says. If they earn more than the share costs, the greatest share in the cell is the
    cheapest.

    Returns:
        The bound as a price per share, and a constant.
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
    """The least seconds of known placements on a link, with payments for what is there added."""
    scratch = kernel.new_scratch(rows.shape[1])
    none = reference(packed_inference(packed, i))
    full = reference(packed_inference(installed, i))
    price = head_start_price(packed.weight[i], link, byte_price)
    least = packed.local_s[i]
    for k in range(len(rows)):
        there = kernel.run(rows[k], full, link, scratch)[1]
        if there < least:
            missing = kernel.run(rows[k], none, link, scratch)[1]
            least = min(least, there + price * max(0.0, missing - there))
    return least
