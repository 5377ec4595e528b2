"""Independent yardsticks for shares and plans: nothing here but `best_of_all` calls a planner.

On chains a latency is the longest of finitely many paths, each linear in the seconds per byte of
both links and in 1 / compute share. `chain_paths` lists them straight from the timing rules, and
`optimal_shares` minimises the weighted sum of their maxima with SciPy's SLSQP. On other networks
`searched_shares` looks for the optimum with a derivative-free method.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from mjoa_gym import UE, Instance, Plan, evaluate
from mjoa_gym.model import kernel
from mjoa_gym.model.instance import packed_inference, packed_link
from mjoa_gym.planners.ara import ara

LEAST = -16.0
"""Logarithm of the smallest share that the solvers consider."""


def objective(instance: Instance, plan: Plan) -> float:
    """Weighted sum of latencies."""
    return float(instance.weights @ evaluate(instance, plan))


def random_placements(rng: np.random.Generator, instance: Instance) -> list[NDArray[np.int8]]:
    """Placements that change sides rarely or often; some UEs stay local."""
    placements = []
    for ue in instance.ues:
        changes = rng.random(ue.dnn.n_layers) < rng.choice([0.0, 0.2, 0.5])
        placements.append(((np.cumsum(changes) + rng.integers(2)) % 2).astype(np.int8))
    return placements


SECONDS, UP, DOWN, MESSAGE, EDGE = np.eye(5)
"""What a path is made of: seconds on the UE, bytes up, bytes down, messages that are waited for,
seconds on the whole server."""


def chain_paths(ue: UE, placement: ArrayLike, upload: str) -> NDArray[np.float64]:
    """Every path through a chain's inference, one per row.

    `now` holds the paths to the present activation, `stream` the one to the end of the parameters.
    """
    sides = [0, *np.asarray(placement).tolist()]
    missing = ue.dnn.parameter_bytes * (1.0 - ue.resident) * (upload != "preinstalled")
    sizes = [float(ue.dnn.input_bytes), *ue.dnn.output_bytes]
    now, stream = [np.zeros(5)], np.zeros(5)
    if upload == "whole":
        stream = (missing @ np.asarray(placement)) * UP
    for layer, (before, here) in enumerate(itertools.pairwise(sides)):
        if here == 0:
            back = (sizes[layer] * DOWN + MESSAGE) * (before == 1)
            now = [path + back + ue.ue_seconds[layer] * SECONDS for path in now]
            continue
        if before == 0:  # the activation pre-empts the parameters
            now = [path + sizes[layer] * UP + MESSAGE for path in now]
            stream = stream + sizes[layer] * UP
        if upload == "serial" and missing[layer] > 0:
            word = 2 * MESSAGE * (before == 1)  # that the layer before has finished, and back
            now = [path + missing[layer] * UP + word for path in now]
        elif upload == "parallel" and missing[layer] > 0:
            stream = stream + missing[layer] * UP
            now.append(stream + MESSAGE)
        elif upload == "whole" and missing @ np.asarray(placement) > 0:
            now.append(stream + MESSAGE)
        now = [path + ue.edge_seconds[layer] * EDGE for path in now]
    back = (sizes[-1] * DOWN + MESSAGE) * (sides[-1] == 1)
    return np.unique([path + back for path in now], axis=0)


def path_seconds(
    instance: Instance, i: int, paths: NDArray[np.float64], beta: float, phi: float
) -> NDArray[np.float64]:
    """Seconds of UE i's paths at its shares."""
    return paths @ np.array([1.0, *packed_link(instance.packed, i, beta, phi)])


def optimal_shares(
    instance: Instance, placements: Sequence[ArrayLike]
) -> tuple[float, NDArray[np.float64]]:
    """The least objective of given placements of chains, and (2, N) shares that reach it.

    The variables are the logarithms of the users' shares (in which the problem is convex, too) and
    the users' latencies, relative to those of the last point.
    """
    users = [i for i, placement in enumerate(placements) if np.any(placement)]
    n, shares = len(users), np.zeros((2, instance.n_ues))
    if not users:
        return float(instance.weights @ instance.local_s), shares
    paths = [chain_paths(instance.ues[i], placements[i], instance.upload) for i in users]
    counts = [len(rows) for rows in paths]
    owner, first = np.repeat(np.arange(n), counts), np.cumsum([0, *counts[:-1]])

    def seconds(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        beta, phi = np.exp(logs.reshape(2, n))
        return np.concatenate(
            [path_seconds(instance, i, paths[k], beta[k], phi[k]) for k, i in enumerate(users)]
        )

    def slopes(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        rows = np.zeros((len(owner), 2 * n))
        for r, step in enumerate(np.kron(np.eye(2), np.ones(n)) * 1e-6):
            slope = (seconds(logs + step) - seconds(logs - step)) / 2e-6
            rows[np.arange(len(owner)), r * n + owner] = slope
        return rows

    def next_point(logs: NDArray[np.float64], tops: NDArray[np.float64]) -> NDArray[np.float64]:
        unit = np.maximum(tops, 1e-12 * tops.max())
        cost = instance.weights[users] * unit
        cost /= cost.sum()

        def above_paths(z):
            return z[2 * n :][owner] - seconds(z[: 2 * n]) / unit[owner]

        def above_paths_slopes(z):
            return np.hstack([-slopes(z[: 2 * n]) / unit[owner, None], np.eye(n)[owner]])

        def unused(z):
            return 1.0 - np.exp(z[: 2 * n]).reshape(2, n).sum(axis=1)

        def unused_slopes(z):
            own = np.kron(np.eye(2), np.ones(n)) * np.exp(z[: 2 * n])
            return np.hstack([-own, np.zeros((2, n))])

        return minimize(
            lambda z: cost @ z[2 * n :],
            np.concatenate([logs, np.ones(n)]),
            jac=lambda z: np.concatenate([np.zeros(2 * n), cost]),
            method="SLSQP",
            bounds=[(LEAST, 0.0)] * (2 * n) + [(0.0, None)] * n,
            constraints=[
                {"type": "ineq", "fun": above_paths, "jac": above_paths_slopes},
                {"type": "ineq", "fun": unused, "jac": unused_slopes},
            ],
            options={"maxiter": 300, "ftol": 1e-12},
        ).x[: 2 * n]

    logs = np.full(2 * n, -np.log(n))
    best, best_logs = np.inf, logs
    for _ in range(5):  # SLSQP ends early now and then: go on from where it ended
        tops = np.maximum.reduceat(seconds(logs), first)
        before, value = best, instance.weights[users] @ tops
        if value < best:
            best, best_logs = value, logs
        if value <= 0 or not value < before * (1 - 1e-8):
            break
        logs = next_point(logs, tops)
        if not np.isfinite(logs).all():
            break
        sums = np.exp(logs).reshape(2, n).sum(axis=1)
        logs = logs - np.repeat(np.log(np.maximum(1.0, sums)), n)
    shares[:, users] = np.exp(best_logs).reshape(2, n)
    return objective(instance, Plan(placements, *shares)), shares


def searched_shares(
    instance: Instance, placements: Sequence[ArrayLike], starts: int = 4, seed: int = 0
) -> float:
    """The least objective of given placements that Nelder-Mead finds from several starts."""
    uses = np.array([np.any(placement) for placement in placements])
    n, rng = int(uses.sum()), np.random.default_rng(seed)

    def value(logs: NDArray[np.float64]) -> float:
        shares = np.zeros((2, instance.n_ues))
        parts = np.exp(logs.reshape(2, n) - logs.reshape(2, n).max(axis=1, keepdims=True))
        shares[:, uses] = parts / parts.sum(axis=1, keepdims=True)
        return objective(instance, Plan(placements, *shares))

    if n == 0:
        return float(instance.weights @ instance.local_s)
    best = np.inf
    for start in [np.zeros(2 * n), *rng.normal(0.0, 1.5, (starts - 1, 2 * n))]:
        for _ in range(2):  # a fresh simplex frees a collapsed one
            options = {"xatol": 1e-7, "fatol": 0.0, "maxfev": 500, "adaptive": True}
            found = minimize(value, start, method="Nelder-Mead", options=options)
            start, best = found.x, min(best, found.fun)
    return float(best)


def all_placements(n_layers: int) -> NDArray[np.int8]:
    """Every placement of a network, (2^L, L)."""
    return np.array(list(itertools.product((0, 1), repeat=n_layers)), np.int8)


def seconds_of_all(instance: Instance, i: int, beta: float, phi: float) -> NDArray[np.float64]:
    """UE i's latencies under every placement."""
    packed = instance.packed
    placements = all_placements(instance.ues[i].dnn.n_layers)
    return kernel.run_many(
        placements, packed_inference(packed, i), packed_link(packed, i, beta, phi)
    )


def best_of_all(instance: Instance, levels: int = 12) -> float:
    """About the least objective of any plan of a tiny instance.

    Every combination of all placements that are the fastest somewhere on a grid of shares (those
    that are nowhere cannot be in an optimum, but for the grid's gaps), each with ARA's shares.
    """
    grid = np.unique([*np.linspace(0, 1, levels + 1)[1:], *np.geomspace(1e-3, 1 / levels, 5)])
    menus = []
    for i, ue in enumerate(instance.ues):
        placements = all_placements(ue.dnn.n_layers)
        fastest = {0}
        for beta, phi in itertools.product(grid, grid):
            fastest.add(int(np.argmin(seconds_of_all(instance, i, beta, phi))))
        menus.append(placements[sorted(fastest)])
    return min(
        objective(instance, Plan(choice, *ara(instance, choice)))
        for choice in itertools.product(*menus)
    )
