"""Find the menus that are shipped with the package, and write them to `planners/menus.json`.

These are the menus of every packaged scenario, of the scenarios `default` and `ideal` with up to
ten UEs, and of every other network of the catalogue in these two scenarios, all in both
environments. It takes some minutes. The file defines the entries of menus, so write it again only
if they may change. With `--add`, stored menus do not change, and missing ones are added.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from mjoa_gym import DNN, Scenario, files
from mjoa_gym.cli.ending import command_line, run
from mjoa_gym.evaluation.progress import bar
from mjoa_gym.planners.menu import ENTRIES, STORED, as_text, fingerprint, found_menu

MOST_UES = 10


def scenarios() -> Iterator[Scenario]:
    """Yield the scenarios whose menus are stored."""
    yield from map(Scenario.load, Scenario.names())
    for scenario in map(Scenario.load, ("default", "ideal")):
        yield scenario.with_changes(dnns=DNN.names())
        for n_ues in range(1, MOST_UES + 1):
            yield scenario.with_changes(n_ues=n_ues)


def main(argv: list[str] | None = None) -> int:
    """Write the file."""
    parser = command_line(__doc__)
    parser.add_argument("--add", action="store_true", help="keep stored menus")
    args = parser.parse_args(argv)
    menus: dict[str, dict[str, str]] = files.read(STORED, files.parse_json) if args.add else {}
    for scenario in bar(list(scenarios()), desc="scenarios"):
        for d, dnn in enumerate(scenario.profiles):
            for streaming in (False, True):
                key = fingerprint(scenario, d, streaming, ENTRIES)
                stored = menus.setdefault(dnn.name, {})
                if key not in stored:
                    stored[key] = as_text(found_menu(scenario, d, streaming, ENTRIES))
    files.write(STORED, json.dumps(menus, indent=1) + "\n")
    print(f"{sum(map(len, menus.values()))} menus in {STORED}")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
