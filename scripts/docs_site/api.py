"""The pages of the API: one for each package, made from the docstrings by mkdocstrings."""

from __future__ import annotations

import ast
from pathlib import Path

from links import ROOT

PACKAGE = ROOT / "mjoa_gym"
OWN_PAGES = {"mjoa_gym.cli": "the command line has a page of its own"}
"""Packages without a page here, and why."""


def package_pages() -> dict[str, str]:
    """The Markdown of every page, by its place on the site."""
    packages = [
        ".".join(file.parent.relative_to(ROOT).parts)
        for file in sorted(PACKAGE.rglob("__init__.py"))
    ]
    pages = {
        f"api/{name}.md": _page(name) for name in packages if name not in (*OWN_PAGES, "mjoa_gym")
    }
    return {"api/index.md": _index(packages), **pages}


def _index(packages: list[str]) -> str:
    """What `import mjoa_gym` gives, and the list of packages."""
    rows = [
        f"| [`{name}`]({name}.md) | {_about(name)} |"
        for name in packages
        if name not in (*OWN_PAGES, "mjoa_gym")
    ]
    others = "\n\n".join(_module(name) for name in _modules("mjoa_gym"))
    return f"""# API

Everything public is here: each package has a page, with its modules in order. Names that begin with
an underscore are not public and may change at any time. Of the public ones, those below and those
that a package's page calls its main names are what other projects should rely on.

## mjoa_gym

```python
from mjoa_gym import DNN, UE, Instance, Plan, evaluate, simulate
```

{_main_names("mjoa_gym")}

## Packages

| Package | What it holds |
|---|---|
{chr(10).join(rows)}

{others}
"""


def _page(package: str) -> str:
    """A package's docstring, its main names, what it defines itself, and its modules."""
    parts = [f"# {package}", _text(_tree(_file(package)))]
    if names := _main_names(package):
        parts += ["## Main names", f"Import them from `{package}`.", names]
    own = [name for name in _defined(package) if not name.startswith("_")]
    if own:
        parts += ["## In the package itself", _directive(package, own)]
    modules = _modules(package)
    if len(modules) > 1:
        rows = [f"| [{_short(name)}](#{_short(name)}) | {_about(name)} |" for name in modules]
        parts += ["## Modules", "| Module | What it holds |\n|---|---|\n" + "\n".join(rows)]
    parts += [_module(name) for name in modules]
    return "\n\n".join(parts) + "\n"


def _module(name: str) -> str:
    short = _short(name)
    return f"## {short} {{ #{short} }}\n\n{_directive(name)}"


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _directive(name: str, members: list[str] | None = None) -> str:
    """What makes mkdocstrings show a module, or some names of it."""
    only = "" if members is None else f"      members: [{', '.join(members)}]\n"
    return f"::: {name}\n    options:\n      heading_level: 3\n{only}"


def _modules(package: str) -> list[str]:
    """The public modules of a package, without those of packages below."""
    files = sorted(_file(package).parent.glob("*.py"))
    return [f"{package}.{file.stem}" for file in files if not file.stem.startswith("_")]


def _main_names(package: str) -> str:
    """A table of what `__all__` lists, each with a link and its docstring's first line."""
    rows = []
    for name, (module, original) in sorted(_exports(package).items()):
        about = _defined(module).get(original, "").partition("\n")[0].replace("|", "\\|")
        shown = f"[`{name}`][{module}.{original}]" if about else f"`{name}`"
        rows.append(f"| {shown} | {about or f'defined in `{module}`'} |")
    head = "| Name | What it is |\n|---|---|\n"
    return head + "\n".join(rows) if rows else ""


def _exports(package: str) -> dict[str, tuple[str, str]]:
    """Module and name there of everything in a package's `__all__`."""
    places = {name: (package, name) for name in _defined(package)}
    listed: list[str] = []
    for node in _tree(_file(package)).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mjoa_gym"):
            for alias in node.names:
                places[alias.asname or alias.name] = _origin(str(node.module), alias.name)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            listed = ast.literal_eval(node.value)
    return {name: places[name] for name in listed}


def _origin(module: str, name: str) -> tuple[str, str]:
    """Where a name is defined, if a package only passes it on."""
    passed_on = _exports(module) if _file(module).name == "__init__.py" else {}
    return passed_on.get(name, (module, name))


def _defined(module: str) -> dict[str, str]:
    """What a module defines and documents: its names, with their docstrings ("" without)."""
    body, found = _tree(_file(module)).body, {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = ast.get_docstring(node) or ""
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            text = after.value if isinstance(after, ast.Expr) else None
            told = text.value if isinstance(text, ast.Constant) else ""
            found[ast.unparse(target)] = str(told)
    return found


def _about(module: str) -> str:
    """The first line of a module's docstring, as a table's cell."""
    return _text(_tree(_file(module))).partition("\n")[0].replace("|", "\\|")


def _text(tree: ast.Module) -> str:
    return ast.get_docstring(tree) or ""


def _file(name: str) -> Path:
    path = ROOT.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))
