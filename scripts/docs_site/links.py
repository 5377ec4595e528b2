"""Links of the documentation's pages that leave ``docs/``, as they have to be on the site.

On the public host a page may link to any file of the repository. On the site, what a browser shows
is copied beside the pages, other files are looked at on the host, and a file that does not exist
is an error.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOST = "https://github.com/mjoa-gym/mjoa-gym"
COPIED = (".png", ".svg", ".html", ".json.gz")
"""Endings of files that are copied to the site."""
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
}
"""Files of the repository that are pages of the site, under another name."""
FROM_CODE = {
    "mjoa_gym/__init__.py": "api/index.md",
    "mjoa_gym/cli/main.py": "reference/command-line.md",
    "mjoa_gym/envs/scalar.py": "reference/environments.md",
    "mjoa_gym/planners/registry.py": "reference/planners.md",
}
"""Files of code that the site shows as pages which are made from them."""
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")
_FENCED = re.compile(r"(^[ ]*```.*?^[ ]*```[ ]*$)", re.DOTALL | re.MULTILINE)


def source_of(page: str) -> str:
    """Where the repository has a page of the site."""
    for file, name in PAGES.items():
        if name == page and not (ROOT / "docs" / page).exists():
            return file
    return f"docs/{page}"


def copies(page: str, markdown: str) -> dict[str, Path]:
    """The files that a page needs on the site, by their places there.

    Args:
        page: The page's place on the site, as ``tutorials/train.md``.
        markdown: What it says.
    """
    folder = posixpath.dirname(source_of(page))
    found = {}
    for text in _outside_code(markdown):
        for target, _ in _LINK.findall(text):
            place = posixpath.normpath(posixpath.join(folder, target))
            if not place.startswith("docs/") and place.endswith(COPIED):
                found[place] = ROOT / place
    return {place: file for place, file in found.items() if file.is_file()}


def rewritten(page: str, markdown: str) -> str:
    """The page with links that lead somewhere on the site.

    Args:
        page: The page's place on the site.
        markdown: What it says.

    Raises:
        FileNotFoundError: If a link leads to a file that the repository does not have.
    """
    folder, here = posixpath.dirname(source_of(page)), posixpath.dirname(page) or "."

    def replaced(link: re.Match[str]) -> str:
        target, anchor = link[1], link[2] or ""
        place = posixpath.normpath(posixpath.join(folder, target))
        if place.startswith("docs/"):
            return posixpath.relpath(place[len("docs/") :], here) + anchor
        if shown := (PAGES | FROM_CODE).get(place):
            return posixpath.relpath(shown, here) + anchor
        if not (ROOT / place).exists():
            raise FileNotFoundError(f"{source_of(page)} links to {target}, which does not exist")
        if place.endswith(COPIED):
            return posixpath.relpath(place, here) + anchor
        kind = "tree" if (ROOT / place).is_dir() else "blob"
        return f"{HOST}/{kind}/main/{place}{anchor}"

    parts = _FENCED.split(markdown)
    parts[::2] = [_LINK.sub(replaced, text) for text in parts[::2]]
    return "".join(parts)


def indented(markdown: str) -> str:
    """The page with what is nested in lists indented by four, as Python-Markdown wants it."""
    parts = _FENCED.split(markdown)
    parts[::2] = [re.sub(r"^ {2,3}(?=\S)", "    ", text, flags=re.MULTILINE) for text in parts[::2]]
    return "".join(parts)


def _outside_code(markdown: str) -> list[str]:
    return _FENCED.split(markdown)[::2]
