"""Make the packaged traces: synthetic links whose means and spreads are published figures.

No measurement is copied. `docs/uplinks.md` says which figures are published and which are our
choice. The files are the same on every run; on another machine, last digits may differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mjoa_gym import files
from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.world.trace import FOLDER
from mjoa_gym.world.trace_formats import as_csv

ROWS = 400
"""Number of rows, one per second."""


@dataclass(frozen=True)
class Recipe:
    """A link: log-normal values with an exponential autocorrelation.

    Attributes:
        uplink_mbps: Mean rate.
        downlink_mbps: Mean rate.
        sigma: Standard deviation of the logarithm of a rate.
        correlation_s: Seconds after which the correlation has fallen to 1 / e.
        message_ms: Mean cost of a message; None uses the scenario's.
        seed: Seed of the random numbers.
    """

    uplink_mbps: float
    downlink_mbps: float
    sigma: float
    correlation_s: float
    message_ms: float | None
    seed: int


# "28 to 42 mostly" is taken as the range from the 10th to the 90th percentile
WALKING_SIGMA = float(np.log(42 / 28) / (2 * 1.2816))
WALKING_MEAN = float(np.sqrt(28 * 42) * np.exp(WALKING_SIGMA**2 / 2))
RECIPES = {
    "glasgow-like": Recipe(165.05, 670.63, 0.3, 10.0, 21.62 / 2, 2025),
    "walking-like": Recipe(WALKING_MEAN, 10 * WALKING_MEAN, WALKING_SIGMA, 5.0, None, 2021),
}


def log_normal(
    mean: float, sigma: float, correlation_s: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return (ROWS,) values with exactly this mean and this deviation of their logarithms."""
    correlation = np.exp(-1.0 / correlation_s)
    steps = rng.standard_normal(ROWS) * np.sqrt(1.0 - correlation**2)
    steps[0] /= np.sqrt(1.0 - correlation**2)
    level = np.empty(ROWS)
    for k, step in enumerate(steps):
        level[k] = step if k == 0 else correlation * level[k - 1] + step
    values = np.exp(sigma * (level - level.mean()) / level.std())
    return mean * values / values.mean()


def trace_of(recipe: Recipe) -> NDArray[np.float64]:
    """Return a trace's columns (ROWS, 3 or 4)."""
    rng = np.random.default_rng(recipe.seed)
    rates = [
        log_normal(mean * 1e6, recipe.sigma, recipe.correlation_s, rng)
        for mean in (recipe.uplink_mbps, recipe.downlink_mbps)
    ]
    columns = [np.arange(ROWS), *(rate.round(-3) for rate in rates)]
    if recipe.message_ms is not None:
        message_s = log_normal(recipe.message_ms / 1e3, recipe.sigma, recipe.correlation_s, rng)
        columns.append(message_s.round(5))
    return np.stack(columns, axis=1)


def main(argv: list[str] | None = None) -> int:
    """Write the files."""
    parser = command_line(__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder (default: the package's)")
    args = parser.parse_args(argv)
    for name, recipe in RECIPES.items():
        path = args.out / f"{name}.csv"
        files.write(path, as_csv(trace_of(recipe)))
        print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
