#!/usr/bin/env python3
"""Generates the packaged catalogue from real architectures: python scripts/build_catalogue.py."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from catalogue.entry import describe
from catalogue.page import networks_page
from catalogue.zoo import MODELS

from mjoa_gym.cli.ending import run
from mjoa_gym.dnn.file import as_text

ROOT = Path(__file__).resolve().parents[1]
PACKAGED = ROOT / "mjoa_gym" / "dnn" / "catalogue"


def main() -> int:
    """Builds the asked-for entries, or all of them."""
    parser = argparse.ArgumentParser(
        description="Trace each model without weights, count its operators, fuse them into layers"
        " and write one JSON file per model. Needs torch and torchvision."
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=sorted(MODELS),
        metavar="NAME",
        help="build this model only (repeatable); one of " + ", ".join(MODELS),
    )
    parser.add_argument(
        "--output", type=Path, default=PACKAGED, help="folder to write to (default: %(default)s)"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.output.mkdir(parents=True, exist_ok=True)
    names = arguments.only or list(MODELS)
    for number, name in enumerate(names, start=1):
        start = time.perf_counter()
        print(f"[{number}/{len(names)}] {name:<16}", end="", flush=True)
        dnn, total = describe(name, MODELS[name])
        text = as_text(dnn.to_dict(MODELS[name].title, total))
        (arguments.output / f"{name}.json").write_text(text, encoding="utf-8")
        print(
            f"{dnn.n_layers:4d} layers of {total['fused_from_operators']:4d} operators"
            f" {total['macs'] / 1e9:8.4f} GMAC {total['parameters']:12,d} parameters"
            f" {time.perf_counter() - start:6.1f} s",
            flush=True,
        )
    if arguments.output == PACKAGED:
        (ROOT / "docs" / "networks.md").write_text(networks_page(PACKAGED), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
