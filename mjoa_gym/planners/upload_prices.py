"""An episode as its bound sees it, and the prices at which the bound is (nearly) highest.

`streaming_bound` derives what has a price. Any prices give a bound, so nothing here needs to be
exact. The prices come from a linear programme over the answers of known placements, at shares on a
grid. Each turn adds every UE's best known answer to the prices so far (cutting planes).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mjoa_gym.model import kernel
from mjoa_gym.model.compiling import compiled
from mjoa_gym.model.inference import Upload
from mjoa_gym.model.instance import (
    SHARE_TOLERANCE,
    UE,
    Instance,
    Packed,
    packed_inference,
    packed_link,
)
from mjoa_gym.model.link import BITS_PER_BYTE
from mjoa_gym.model.reference import reference
from mjoa_gym.planners.far_sighted import placements_of

SHARES = 0.8 ** np.arange(18)
"""The shares of band and server that the search for prices considers."""
TURNS, GUESS, PRECISION = 40, 1e-2, 1e-3
"""The most turns of that search, and the relative distances from the highest value at which it
ends: at first, and in the end."""
MOST_PRICE = 1e3
"""The highest price, in seconds per band, server or megabyte."""
MOST_REWARD = 0.9
"""The part of a UE's weight that the reward for a second of a longer round may take at most."""
MEGABYTE = 1e6


class Round(NamedTuple):
    """A round with N UEs: its problem, and what known placements reach.

    The problem is given for a server that holds nothing and for one that holds everything. Tables
    are (K, S, S), for K placements and S shares of band and of server.
    """

    packed: Packed  # with nothing on the server, and weights that sum to 1
    installed: Packed  # the same with everything on the server
    rows: list[NDArray[np.int8]]  # per UE (K, L) placements
    none_s: list[NDArray[np.float64]]  # per UE the latencies with nothing on the server
    full_s: list[NDArray[np.float64]]  # per UE the latencies with everything on the server
    megabytes: list[NDArray[np.float64]]  # per UE the least megabytes that it pays for then
    rate_mb_s: NDArray[np.float64]  # (N, S) the rates of the uplinks
    group: NDArray[np.int64]  # (N,) see `Episode`
    part: NDArray[np.float64]  # (N,) the part of a byte's price that each UE pays
    local_s: NDArray[np.float64]  # (N,) all-local latencies
    lasts_s: float  # at least the period: H_r in `streaming_bound`


class Episode(NamedTuple):
    """An episode of R rounds, and its groups.

    A *group* is made up of the UEs whose parameters are stored together, over all rounds. If
    parameters are shared, those are the UEs whose networks have layers in common. Otherwise each UE
    is a group until it leaves.
    """

    rounds: list[Round]
    first: NDArray[np.int64]  # (G,) the first round with a UE of each group
    memory_mb: float


class RoundPrices(NamedTuple):
    """The prices in a round whose weights sum to 1."""

    band: float
    server: float
    memory: float  # of a megabyte that the server may keep
    there: NDArray[np.float64]  # (G,) of a group's megabyte on the server; inf if none can be there
    upload: NDArray[np.float64]  # (G,) what an uploaded megabyte earns

    def earns(self, known: Round) -> NDArray[np.float64]:
        """What a megabyte per second earns each UE (N,) while the round lasts."""
        return known.lasts_s * self.upload[known.group]


class Prices(NamedTuple):
    """The prices in an episode, which are the multipliers of the bound."""

    band: NDArray[np.float64]  # (R,)
    server: NDArray[np.float64]  # (R,)
    memory: NDArray[np.float64]  # (R,) per megabyte
    upload: NDArray[np.float64]  # (R, G) per megabyte

    def of(self, r: int, episode: Episode) -> RoundPrices:
        """The prices in round r, counted from 0."""
        there = np.where(
            r > episode.first, self.memory[r] + self.upload[r - 1] - self.upload[r], np.inf
        )
        return RoundPrices(self.band[r], self.server[r], self.memory[r], there, self.upload[r])


class Answer(NamedTuple):
    """A UE's best known answer to prices: what it costs, and what it takes."""

    value: float
    seconds: float
    band: float
    server: float
    megabytes: float  # the megabytes on the server that it pays for
    rate_mb_s: float  # the rate at which it can upload


def known_episode(instances: Sequence[Instance]) -> Episode:
    """Collect what is known of an episode from the problem of each round, with its `horizon`.

    Raises:
        ValueError: If rounds differ in what they must agree on, or an uplink has no limit.
    """
    for r, instance in enumerate(instances):
        _check_alike(instance, instances[0], r)
    groups = groups_of(instances)
    horizon = instances[0].horizon
    assert horizon is not None
    n_groups = 1 + max(int(own.max()) for own in groups)
    first = np.array([next(r for r, own in enumerate(groups) if g in own) for g in range(n_groups)])
    rounds = [_round(*pair) for pair in zip(instances, groups, strict=True)]
    return Episode(rounds, first, horizon.server_memory_bytes / MEGABYTE)


def _check_alike(instance: Instance, first: Instance, r: int) -> None:
    """Raise a ValueError if round r does not fit the first one, or if an uplink has no limit."""
    if instance.n_ues != first.n_ues:
        raise ValueError(f"rounds[{r}] has {instance.n_ues} UEs: must be {first.n_ues} as before")
    for name in ("server_memory_bytes", "share_parameters"):
        own, theirs = (getattr(each.horizon, name) for each in (instance, first))
        if own != theirs:
            raise ValueError(f"rounds[{r}].horizon.{name}={own!r}: must be {theirs!r} as before")
    for i, ue in enumerate(instance.ues):
        if ue.uplink_bps == np.inf:
            raise ValueError(f"rounds[{r}].ues[{i}].uplink_bps=inf: must be finite")


def groups_of(instances: Sequence[Instance]) -> list[NDArray[np.int64]]:
    """The groups of the UEs, per round (N,)."""
    horizon = instances[0].horizon
    if horizon is not None and horizon.share_parameters:
        return _groups_of_networks(instances)
    groups: list[NDArray[np.int64]] = []
    n_groups = 0
    for r, instance in enumerate(instances):
        own = np.empty(instance.n_ues, np.int64)
        for i, ue in enumerate(instance.ues):
            own[i] = groups[-1][i] if r and _same(ue, instances[r - 1].ues[i]) else n_groups
            n_groups += own[i] == n_groups
        groups.append(own)
    return groups


def _same(ue: UE, before: UE) -> bool:
    """Whether this may be the UE of the round before.

    Another UE may be taken for it, which only lowers the bound. The same UE is always recognised.
    """
    return ue.dnn == before.dnn and bool(np.array_equal(ue.ue_seconds, before.ue_seconds))


def _groups_of_networks(instances: Sequence[Instance]) -> list[NDArray[np.int64]]:
    """Do the same as `groups_of` if networks with a layer in common are stored together."""
    group_of: dict[tuple[str, float], int] = {}
    everywhere = [[contents_of(ue) for ue in instance.ues] for instance in instances]
    for contents in (own for ues in everywhere for own in ues):
        met = {group_of[layer] for layer in contents if layer in group_of}
        into = min(met, default=len(group_of))
        group_of |= {layer: into for layer, g in group_of.items() if g in met}
        group_of |= dict.fromkeys(contents, into)
    names = {g: k for k, g in enumerate(dict.fromkeys(group_of.values()))}
    return [np.array([names[group_of[own[0]]] for own in ues]) for ues in everywhere]


def contents_of(ue: UE) -> list[tuple[str, float]]:
    """What identifies the parameters of each of a UE's layers, without the parameter-free layers.

    A network without any parameters is identified by its name.
    """
    contents = zip(ue.dnn.fingerprints, ue.dnn.parameter_bytes.tolist(), strict=True)
    return [own for own in contents if own[1] > 0.0] or [(ue.dnn.name, 0.0)]


def _round(instance: Instance, group: NDArray[np.int64]) -> Round:
    """Collect what is known of a round."""
    horizon = instance.horizon
    assert horizon is not None
    whole = np.concatenate([ue.dnn.parameter_bytes for ue in instance.ues])
    mode = Upload.PREINSTALLED if instance.upload == "preinstalled" else Upload.PARALLEL
    packed = instance.packed._replace(
        missing_bytes=whole, weight=instance.weights / instance.weights.sum(), mode=int(mode)
    )
    installed = packed._replace(mode=int(Upload.PREINSTALLED))
    rows = [np.ascontiguousarray(placements) for placements in placements_of(instance)]
    part = parts_of(instance.ues) if horizon.share_parameters else np.ones(instance.n_ues)
    tables = []
    for i in range(instance.n_ues):
        own = np.zeros((3, len(rows[i]), len(SHARES), len(SHARES)))
        tabulate(packed, installed, i, rows[i], SHARES, own)
        own[2] *= part[i] / MEGABYTE
        tables.append(own)
    none_s, full_s, megabytes = ([own[k] for own in tables] for k in range(3))
    rates = [
        [1.0 / MEGABYTE / packed_link(packed, i, b, 1.0).up for b in SHARES]
        for i in range(len(part))
    ]
    return Round(
        packed, installed, rows, none_s, full_s, megabytes, np.array(rates), group, part,
        instance.local_s, horizon.period_s,
    )  # fmt: skip


def parts_of(ues: Sequence[UE]) -> NDArray[np.float64]:
    """The part (N,) that each UE pays of the price of its layers: the least over its layers.

    A UE pays an equal part of the price of a layer as every other UE that has the layer.
    """
    everyone = [contents_of(ue) for ue in ues]
    users = Counter(layer for own in everyone for layer in own)
    return np.array([1.0 / max(users[layer] for layer in own) for own in everyone])


@compiled
def tabulate(packed, installed, i, rows, shares, tables):
    """Write UE i's latencies with nothing and with everything there into `tables` (3, K, S, S).

    The third table is the bytes that take as long to upload as the two latencies differ. It does
    not help to have more bytes.
    """
    scratch = kernel.new_scratch(rows.shape[1])
    none = reference(packed_inference(packed, i))
    full = reference(packed_inference(installed, i))
    for b in range(len(shares)):
        for c in range(len(shares)):
            link = packed_link(packed, i, shares[b], shares[c])
            for k in range(len(rows)):
                missing_s = kernel.run(rows[k], none, link, scratch)[1]
                there_s = kernel.run(rows[k], full, link, scratch)[1]
                tables[0, k, b, c], tables[1, k, b, c] = missing_s, there_s
                if there_s < missing_s < np.inf:
                    tables[2, k, b, c] = (missing_s - there_s) / link.up


def capacity_mb_s(packed: Packed, members: NDArray[np.bool_]) -> float:
    """An upper bound in MB/s on what the uplinks of some UEs (N,) carry together.

    It holds for any division of the band. Shares b of a band carry sum b log2(1 + snr / b) <=
    log2(1 + sum snr) per Hz, because the logarithm is concave. Shares of given rates carry no more
    than the greatest of the rates.
    """
    concentrates = members & packed.concentrates
    band = packed.up_hz[concentrates].max(initial=0.0)
    bps = band * np.log2(1.0 + packed.snr_up[concentrates].sum())
    given = members & ~packed.concentrates
    bps += (packed.up_hz[given] * np.log2(1.0 + packed.snr_up[given])).max(initial=0.0)
    return float(bps * (1.0 + SHARE_TOLERANCE) / BITS_PER_BYTE / MEGABYTE)


def uploads(known: Round, price: NDArray[np.float64]) -> NDArray[np.float64]:
    """The megabytes per second (G,) that earn most at prices (G,).

    No set of groups carries more than its UEs' uplinks together. So the group with the highest
    price gets all that it can carry, and every other group gets what it adds to those before it.
    """
    carried, members, before = np.zeros_like(price), np.zeros(len(known.group), np.bool_), 0.0
    for g in np.argsort(-price, kind="stable"):
        if price[g] > 0.0 and (known.group == g).any():
            members |= known.group == g
            now = capacity_mb_s(known.packed, members)
            carried[g], before = max(0.0, now - before), now
    return carried


def answers_to(known: Round, prices: RoundPrices, reward: float = 0.0) -> list[Answer]:
    """The UEs' best answers to prices, among the known placements at the shares of the grid.

    Each second by which a UE makes the round longer earns `reward`.
    """
    return [_answer_of(known, i, prices, reward) for i in range(len(known.group))]


def _answer_of(known: Round, i: int, prices: RoundPrices, reward: float) -> Answer:
    """UE i's best answer."""
    weight, there = known.packed.weight[i], prices.there[known.group[i]]

    def costs(seconds: Any) -> Any:
        return weight * seconds - reward * np.maximum(0.0, seconds - known.lasts_s)

    band = prices.band * SHARES - prices.earns(known)[i] * known.rate_mb_s[i]
    b = int(band.argmin())
    share, rate = (SHARES[b], known.rate_mb_s[i, b]) if band[b] < 0.0 else (0.0, 0.0)
    local = float(costs(known.local_s[i])) + min(0.0, band[b])
    best = Answer(local, known.local_s[i], share, 0.0, 0.0, rate)
    paid = band[:, None] + prices.server * SHARES
    options = [(known.none_s[i], np.zeros_like(known.megabytes[i]))]
    if there < np.inf:
        options.append((known.full_s[i], known.megabytes[i]))
    for seconds, megabytes in options:
        value = costs(seconds) + paid
        if there < np.inf:
            value = value + there * megabytes
        k, b, c = map(int, np.unravel_index(value.argmin(), value.shape))
        if value[k, b, c] < best.value:
            best = Answer(
                float(value[k, b, c]), float(seconds[k, b, c]), float(SHARES[b]), float(SHARES[c]),
                float(megabytes[k, b, c]), known.rate_mb_s[i, b],
            )  # fmt: skip
    return best


def reward_of(known: Round, prices: RoundPrices) -> float:
    """An upper bound on what the uploads in one more second of a round earn."""
    return float(prices.upload @ uploads(known, prices.upload))


def dual_value(
    memory_mb: float,
    prices: RoundPrices,
    least: NDArray[np.float64],
    rewarded: NDArray[np.float64],
) -> float:
    """A round's part of the bound, if the UEs' answers cost at least `least` (N,).

    The answer of the UE that the round lasts for costs at least its entry of `rewarded` (N,).
    """
    memory = prices.memory * memory_mb if prices.memory > 0.0 else 0.0
    slowest = min(0.0, float((rewarded - least).min()))
    shares = (prices.band + prices.server) * (1.0 + SHARE_TOLERANCE)
    return float(least.sum()) + slowest - shares - memory


def dual_prices(episode: Episode) -> tuple[Episode, Prices]:
    """The prices with (nearly) the highest value, as far as answers are known.

    Returns:
        The episode, with rounds that last as long as the answers at a first guess of prices, and
        its prices.
    """
    prices = _search(episode, GUESS)
    rounds = []
    for r, known in enumerate(episode.rounds):
        answers = answers_to(known, prices.of(r, episode))
        slowest_s = max(answer.seconds for answer in answers)
        rounds.append(known._replace(lasts_s=max(known.lasts_s, slowest_s)))
    episode = episode._replace(rounds=rounds)
    return episode, _search(episode, PRECISION)


def _search(episode: Episode, precision: float) -> Prices:
    """Prices whose value no other prices exceed by more than `precision`, relatively."""
    programme = _Programme(episode)
    prices = programme.start()
    best, best_prices = -np.inf, prices
    for _ in range(TURNS):
        value = programme.answered(prices)
        if value > best:
            best, best_prices = value, prices
        limit, found = programme.solve()
        if found is None or limit - best <= precision * abs(best):
            break
        middle = [0.5 * (one + two) for one, two in zip(found, best_prices, strict=True)]
        prices = allowed(Prices(*middle), episode)
    return best_prices


def allowed(prices: Prices, episode: Episode) -> Prices:
    """Lower the prices of uploads until they are allowed.

    They are lowered until what is on the server costs no less than nothing, and until a longer
    round earns no more than it costs.
    """
    upload = np.zeros_like(prices.upload)
    for r, known in enumerate(episode.rounds[:-1]):
        own = np.where(r >= episode.first, np.maximum(0.0, prices.upload[r]), 0.0)
        limit = prices.memory[r] + (upload[r - 1] if r else 0.0)
        own = np.where(r > episode.first, np.minimum(own, limit), own)
        reward = float(own @ uploads(known, own))
        most = MOST_REWARD * float(known.packed.weight.min())
        upload[r] = own * min(1.0, most / reward) if reward > 0.0 else own
    return prices._replace(upload=upload)


class _Programme:
    """The linear programme: prices that maximise the value of the answers so far.

    Its variables are the prices and, for each round, the reward of a longer round, the value, and
    the least cost of each UE.
    """

    def __init__(self, episode: Episode) -> None:
        self.episode = episode
        n, n_ues, n_groups = len(episode.rounds), len(episode.rounds[0].group), len(episode.first)
        self.shapes = [(n,), (n,), (n,), (n, n_groups), (n,), (n,), (n, n_ues)]
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])
        self.size = int(ends[-1])
        parts = zip(np.split(np.arange(self.size), ends[:-1]), self.shapes, strict=True)
        index = [part.reshape(shape) for part, shape in parts]
        self.band, self.server, self.memory, self.upload = index[:4]
        self.reward, self.value, self.least = index[4:]
        self.rows: list[int] = []
        self.columns: list[int] = []
        self.numbers: list[float] = []
        self.right: list[float] = []
        self._limit()

    def _limit(self) -> None:
        """Set the limits of the variables, which do not depend on answers."""
        episode = self.episode
        low, high = np.full((2, self.size), np.inf)
        low[: self.value[0]], low[self.value[0] :] = 0.0, -np.inf
        local = sum(float(known.packed.weight @ known.local_s) for known in episode.rounds)
        # if all of a resource costs more than all-local, the bound is not above 0
        high[self.band] = high[self.server] = local
        high[self.upload] = MOST_PRICE
        memory = episode.memory_mb
        high[self.memory] = min(MOST_PRICE, local / memory) if memory > 0.0 else MOST_PRICE
        high[self.memory[0]] = 0.0
        for r, known in enumerate(episode.rounds):
            high[self.reward[r]] = MOST_REWARD * known.packed.weight.min()
            last = r == len(episode.rounds) - 1
            for g, first in enumerate(episode.first):
                if r < first or last:
                    high[self.upload[r, g]] = 0.0
                elif r > first:
                    terms = {self.upload[r, g]: 1.0, self.memory[r]: -1.0}
                    self._add(terms | {self.upload[r - 1, g]: -1.0}, 0.0)
        self.bounds = np.stack([low, high], axis=1)

    def _add(self, terms: dict[int, float], limit: float) -> None:
        """Require that a sum of variables with factors is at most a limit."""
        self.rows.extend([len(self.right)] * len(terms))
        self.columns.extend(terms)
        self.numbers.extend(terms.values())
        self.right.append(limit)

    def start(self) -> Prices:
        """The prices with which the search begins."""
        n_rounds, n_ues = self.least.shape
        given = np.repeat([0.2 / n_ues, 0.2 / n_ues, 1e-3 / n_ues], n_rounds)
        given = np.minimum(given, self.bounds[: len(given), 1])
        band, server, memory = given.reshape(3, n_rounds)
        return Prices(band, server, memory, np.zeros(self.upload.shape))

    def answered(self, prices: Prices) -> float:
        """Add the answers to prices; return the value that they give."""
        episode, total = self.episode, 0.0
        for r, known in enumerate(episode.rounds):
            own = prices.of(r, episode)
            reward, carried = reward_of(known, own), uploads(known, own.upload)
            answers, slow = answers_to(known, own), answers_to(known, own, reward)
            values = (np.array([answer.value for answer in each]) for each in (answers, slow))
            total += dual_value(episode.memory_mb, own, *values)
            earned = {self.upload[r, g]: carried[g] for g in np.flatnonzero(carried)}
            self._add(earned | {self.reward[r]: -1.0}, 0.0)
            memory_mb = min(episode.memory_mb, MOST_PRICE**2)  # inf has no price
            paid = {self.band[r]: 1.0, self.server[r]: 1.0, self.memory[r]: memory_mb}
            value = {self.value[r]: 1.0}
            self._add(value | paid | dict.fromkeys(self.least[r], -1.0), 0.0)
            for i, answer in enumerate(answers):
                limit = known.packed.weight[i] * answer.seconds
                self._add({self.least[r, i]: 1.0} | self._terms(r, known, i, answer), limit)
            for i, answer in enumerate(slow):
                beyond = {self.reward[r]: answer.seconds - known.lasts_s}
                if beyond[self.reward[r]] > 0.0:
                    others = dict.fromkeys(np.delete(self.least[r], i), -1.0)
                    own_terms = _sum(self._terms(r, known, i, answer), paid, value, beyond, others)
                    self._add(own_terms, known.packed.weight[i] * answer.seconds)
        return total

    def _terms(self, r: int, known: Round, i: int, answer: Answer) -> dict[int, float]:
        """What an answer pays, with its sign changed, as factors of the variables."""
        g = known.group[i]
        terms = {self.band[r]: -answer.band, self.server[r]: -answer.server}
        earned = known.lasts_s * answer.rate_mb_s
        if r > self.episode.first[g]:
            terms |= {self.memory[r]: -answer.megabytes, self.upload[r - 1, g]: -answer.megabytes}
            earned += answer.megabytes
        return terms | {self.upload[r, g]: earned}

    def solve(self) -> tuple[float, Prices | None]:
        """The highest value that the answers so far allow, and prices that reach it.

        The prices are None if the solver gives up because numbers are too far apart.
        """
        from scipy.optimize import linprog
        from scipy.sparse import coo_array

        goal = np.zeros(self.size)
        goal[self.value] = -1.0
        shape = (len(self.right), self.size)
        planes = coo_array((self.numbers, (self.rows, self.columns)), shape=shape).tocsr()
        found = linprog(goal, planes, self.right, bounds=self.bounds, method="highs")
        if found.x is None:
            return np.inf, None
        prices = np.maximum(0.0, found.x)
        own = (prices[at] for at in (self.band, self.server, self.memory, self.upload))
        return -found.fun, Prices(*own)


def _sum(*terms: dict[int, float]) -> dict[int, float]:
    """Add up sums of variables with factors."""
    total: dict[int, float] = {}
    for own in terms:
        for at, number in own.items():
            total[at] = total.get(at, 0.0) + number
    return total


@compiled
def rate_slope(packed, i, share):
    """The slope of a UE's uplink rate over its share of the band, in bytes per second."""
    snr, hz = packed.snr_up[i], packed.up_hz[i] / BITS_PER_BYTE
    if not packed.concentrates[i]:
        return hz * np.log2(1.0 + snr)
    ratio = snr / share
    return hz * (np.log2(1.0 + ratio) - ratio / (1.0 + ratio) / np.log(2.0))
