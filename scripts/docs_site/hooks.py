"""What MkDocs calls while it builds the site: pages from the code, and links out of ``docs/``."""

from __future__ import annotations

import re
from typing import Any

from api import package_pages
from generated import PAGES
from links import PAGES as FILES
from links import ROOT, copies, indented, rewritten
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and what pages show that lies outside of ``docs/``."""
    made = {place: make() for place, make in PAGES.items()} | package_pages()
    for file, place in FILES.items():
        if files.get_file_from_path(place) is None:
            made[place] = (ROOT / file).read_text("utf-8")
    for place, content in made.items():
        files.append(File.generated(config, place, content=content))
    needed: dict[str, Any] = {}
    for page in files.documentation_pages():
        needed |= copies(page.src_uri, page.content_string)
    for place, path in sorted(needed.items()):
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links out of ``docs/`` lead to the copies, or to the public host."""
    try:
        return indented(rewritten(page.file.src_uri, markdown))
    except FileNotFoundError as error:
        raise PluginError(str(error)) from error


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Docstrings that name a page of ``docs/`` lead to it."""
    up = "../" * page.url.count("/")
    return re.sub(r"<code>docs/([\w-]+)\.md</code>", rf'<a href="{up}\1.html">\1</a>', html)
