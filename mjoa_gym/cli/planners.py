"""List the planners of this package and of installed packages, with a line each.

    mjoa-gym planners

You can pass every name as an AGENT to `mjoa-gym evaluate`.
"""

from __future__ import annotations

import argparse
from functools import partial

from mjoa_gym.evaluation.table import Table
from mjoa_gym.planners import planner_names, planner_of
from mjoa_gym.planners.registry import Planner


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add no options."""


def execute(args: argparse.Namespace) -> int:
    """Print the names."""
    rows = [(name, about(name, planner_of(name))) for name in planner_names()]
    print(Table("", ("planner", "what it does"), rows).text(left=(0, 1)))
    print("\nYour own: mjoa-gym evaluate mypackage.mymodule:my_planner")
    return 0


def about(name: str, planner: Planner) -> str:
    """What a planner does, in a line: the first of its docstring."""
    if isinstance(planner, partial) and "+" in name:
        partition, rule = name.split("+")
        return f"Ablation: the placements of {partition}, the shares by {rule}."
    return (planner.__doc__ or "").strip().partition("\n")[0]
