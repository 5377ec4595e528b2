"""Pages that are made from the code when the site is built, so that they cannot go stale."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields

from griffe import Docstring, DocstringSectionKind

from mjoa_gym.cli.main import parser as command_line
from mjoa_gym.cli.planners import about
from mjoa_gym.envs import RoundsEnv
from mjoa_gym.planners.registry import ANYTIME, PLANNERS
from mjoa_gym.testbed.commands import parser as testbed_command_line
from mjoa_gym.world.scenario import Scenario

USAGE_WIDTH = 84


def environments() -> str:
    """The environments' page: the docstring of `RoundsEnv`."""
    title, _, rest = (inspect.getdoc(RoundsEnv) or "").partition("\n")
    return f"# Environments\n\n{title}\n{_with_links(rest)}\n"


def command_line_page() -> str:
    """Every command with its arguments, from the parsers."""
    top = command_line()
    lines = [
        "# Command line",
        "`mjoa-gym` and `python -m mjoa_gym` are the same. Every command ends with status 0, with "
        "1 if something went wrong, with 2 if it was called wrongly and with 130 after Ctrl-C.",
        "| Command | What it does |\n|---|---|",
    ]
    commands = list(_subcommands(top))
    rows = [
        f"| [`mjoa-gym {name}`](#mjoa-gym-{name}) | {_cell(text)} |" for name, text, _ in commands
    ]
    lines[-1] += "\n" + "\n".join(rows)
    for name, _, parser in commands:
        real = testbed_command_line() if name == "testbed" else parser
        lines += _command(f"mjoa-gym {name}", real, 2)
    return "\n\n".join(lines) + "\n"


def scenario_fields() -> str:
    """Every field of `Scenario`: type, default, meaning; and what the packaged ones change."""
    meanings = _attributes(Scenario)
    entries = [
        f"`{field.name}`\n:   {_cell(meanings[field.name])} Default: {_value(field.default)}."
        for field in fields(Scenario)
        if field.default is not MISSING
    ]
    default = Scenario()
    changed = []
    for name in Scenario.names():
        scenario = Scenario.load(name)
        changes = [
            f"`{field.name}`: {_value(getattr(scenario, field.name))}"
            for field in fields(Scenario)
            if field.name != "name"
            and getattr(scenario, field.name) != getattr(default, field.name)
        ]
        changed.append(f"| `{name}` | {'; '.join(changes) or 'the defaults'} |")
    return f"""# Scenario fields

A [`Scenario`][mjoa_gym.world.scenario.Scenario] is the setting of an environment.
[Scenarios](../scenarios.md) says how to use one, and where the defaults come from.

{(2 * chr(10)).join(entries)}

## Packaged scenarios

What each changes, besides its name:

| Scenario | Fields that differ from the defaults |
|---|---|
{chr(10).join(changed)}
"""


def planner_list() -> str:
    """Every planner of the package by name."""
    rows = []
    for name, planner in PLANNERS.items():
        budget = "yes" if name in ANYTIME else ""
        shown = f"`{name}`"
        if inspect.isfunction(planner):
            shown = f"[`{name}`][{planner.__module__}.{planner.__name__}]"
        rows.append(f"| {shown} | {_cell(about(name, planner))} | {budget} |")
    return f"""# Planners

Every name works in [`plan_with`][mjoa_gym.planners.registry.plan_with], in
[`compare`][mjoa_gym.evaluation.comparison.compare] and on the command line. `mjoa-gym planners`
prints this list, with the planners of installed packages. [Planners](../planners.md) explains what
each assumes, what it costs and how good it is.

| Name | What it does | Takes a time budget |
|---|---|---|
{chr(10).join(rows)}
"""


def _command(name: str, parser: argparse.ArgumentParser, level: int) -> list[str]:
    """The sections of a command and of those below it."""
    parts = [f"{'#' * level} {name}"]
    if parser.description:
        parts.append(_with_links(inspect.cleandoc(parser.description)))
    below = list(_subcommands(parser))
    if not below:
        parts += [f"```text\n{_usage(name, parser)}\n```"]
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if not isinstance(a, _SEVERAL | _HELP)]
        if actions:
            rows = [f"| {_invocation(action)} | {_help(parser, action)} |" for action in actions]
            parts.append("| Argument | Meaning |\n|---|---|\n" + "\n".join(rows))
    for step, text, one in below:
        one.description = one.description or f"{text[:1].upper()}{text[1:]}."
        parts += _command(f"{name} {step}", one, level + 1)
    return parts


_SEVERAL, _HELP = argparse._SubParsersAction, argparse._HelpAction


def _subcommands(
    parser: argparse.ArgumentParser,
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Name, help and parser of each."""
    for action in parser._actions:
        if isinstance(action, _SEVERAL):
            texts = {choice.dest: choice.help or "" for choice in action._choices_actions}
            yield from ((name, texts[name], one) for name, one in action.choices.items())


def _usage(name: str, parser: argparse.ArgumentParser) -> str:
    parser.prog = name
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=USAGE_WIDTH)
    return parser.format_usage().removeprefix("usage: ").strip()


def _invocation(action: argparse.Action) -> str:
    metavar = action.metavar or (
        "{" + ", ".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    )
    if not action.option_strings:
        return f"`{metavar}`"
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    return names if action.nargs == 0 else f"{names} `{metavar}`"


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    needed = "required" if action.option_strings and action.required else ""
    return "; ".join(part for part in (_cell(text), needed) if part)


def _attributes(what: type) -> dict[str, str]:
    """The meanings of a class's fields, by its docstring's section `Attributes`."""
    (section,) = (
        part
        for part in Docstring(inspect.getdoc(what) or "", parser="google").parse(warnings=False)
        if part.kind is DocstringSectionKind.attributes
    )
    return {attribute.name: attribute.description for attribute in section.value}


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_value, value))
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _cell(text: str) -> str:
    return _with_links(" ".join(text.split()).replace("|", "\\|"))


def _with_links(text: str) -> str:
    """Mentions of pages that are not code as links to them, from the folder ``reference``."""
    return re.sub(r"(?<![`\w/])docs/([\w-]+)\.md", r"[\1](../\1.md)", text)


PAGES = {
    "reference/environments.md": environments,
    "reference/command-line.md": command_line_page,
    "reference/scenario-fields.md": scenario_fields,
    "reference/planners.md": planner_list,
}
"""What makes each page, by its place on the site."""
