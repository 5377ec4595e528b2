"""Choose the constants of the far-sighted planner, on episodes that no evaluation uses.

    python scripts/tune_far_sighted.py --episodes 20

The script plays the same Streaming episodes with every setting and with MJOA-MU with prefetch, and
prints a table. Evaluations start at seed 1,000,000; seeds here must stay below 900,000.
"""

from __future__ import annotations

import argparse
from functools import partial
from itertools import product

from mjoa_gym.cli.ending import run
from mjoa_gym.evaluation import compare
from mjoa_gym.planners.far_sighted import Foresight, far_sighted

LAST_TRAINING_SEED = 899_999
REFERENCE = "mjoa-mu-prefetch"


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, play, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--scenario", default="default", help="name, or a YAML file")
    add("--episodes", type=int, default=20)
    add("--seed", type=int, default=500_000, help="seed of the first episode")
    add("--patience", type=float, nargs="+", default=[0.1, 0.3, 0.6, 1.0])
    add("--share", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    options = parser.parse_args(argv)
    if options.seed + options.episodes - 1 > LAST_TRAINING_SEED:
        parser.error(f"seeds must not exceed {LAST_TRAINING_SEED}: the others are for evaluation")
    planners = {REFERENCE: REFERENCE} | {
        f"patience {patience:g}, share {share:g}": partial(
            far_sighted, foresight=Foresight(patience, share)
        )
        for patience, share in product(options.patience, options.share)
    }
    found = compare(
        planners, "streaming", options.episodes, options.seed, scenario=options.scenario,
        reference=REFERENCE,
    )  # fmt: skip
    print(found.table())
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
