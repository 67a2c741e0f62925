"""The documentation as a site: `python -m sphinx -W -b html docs build/site`.

The pages are plain Markdown that a code host shows as well.  Their links to files outside of this
folder lead to pages that are made here: a highlighted source, a list of a folder, or the page that
includes the file.  When the site is written every link in it is followed; see `check`.
"""

from __future__ import annotations

import html
import os.path
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging

import zeropoint

ROOT = Path(__file__).resolve().parents[1]
LOG = logging.getLogger("zeropoint.docs")

project = "zeropoint"
author = "the zeropoint developers"
project_copyright = author
version = release = zeropoint.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_templates"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!zeropoint).*")]  # there is no inventory of NumPy offline
highlight_language = "none"
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["myst.header"]  # TEMPORARY, until speed.md has second headings
myst_heading_anchors = 4  # by the names that code hosts give them

html_theme = "furo"
html_title = f"zeropoint {release}"
html_static_path = ["_static"]
html_css_files = ["zeropoint.css"]
html_favicon = html_logo = "_static/zeropoint.svg"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"top_of_page_buttons": [], "footer_icons": []}
pygments_style, pygments_dark_style = "tango", "github-dark"
copybutton_exclude = ".linenos, .gp, .go"

# ---------------------------------------------------------------------------------------------
# Files outside of docs/

#: which of them become pages, with their languages, and those that a page includes
LANGUAGES = {".py": "python", ".c": "c", ".cpp": "cpp", ".h": "c", ".hpp": "cpp", ".txt": "cmake"}
SHOWN = ("examples", "cpp/include/zeropoint")
INCLUDED = {
    "README.md": "index",
    "CHANGELOG.md": "changelog",
    "CONTRIBUTING.md": "contributing",
    "SECURITY.md": "security",
}


def shown() -> Iterator[Path]:
    """The files and folders that become pages."""
    for name in SHOWN:
        for path in [ROOT / name, *sorted((ROOT / name).rglob("*"))]:
            if "__pycache__" not in path.parts and (path.is_dir() or path.suffix in LANGUAGES):
                yield path


def page_of(path: Path) -> str:
    """The name of the page that shows a file or folder of the project, or nothing."""
    inside = path.relative_to(ROOT).as_posix()
    return INCLUDED.get(inside) or (f"source/{inside}" if path in set(shown()) else "")


def lead_to_pages(app: Sphinx, document: nodes.document) -> None:
    """A link to a file or folder that has a page leads there; to any other file: a download."""
    for node in list(document.findall(addnodes.download_reference)) + [
        node
        for node in document.findall(addnodes.pending_xref)
        if node["reftype"] == "myst" and not node.get("refdomain")
    ]:
        target = node["reftarget"].partition("#")[0]
        path = Path(os.path.normpath(Path(app.srcdir, app.env.docname).parent / target))
        if target and path.is_relative_to(ROOT) and (page := page_of(path)):
            uri = app.builder.get_relative_uri(app.env.docname, page)
            node.replace_self(nodes.reference("", "", *node.children, refuri=uri, internal=True))


def pages_of_sources(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    for path in shown():
        page, name = page_of(path), path.relative_to(ROOT).as_posix()
        if path.is_dir():
            rows = [
                f'<li><a href="{html.escape(app.builder.get_relative_uri(page, page_of(each)))}">'
                f"<code>{html.escape(each.name)}</code></a> {html.escape(first_words(each))}</li>"
                for each in sorted(path.iterdir())
                if each in set(shown())
            ]
            body = f"<ul>{''.join(rows)}</ul>"
        else:
            text, language = path.read_text(), LANGUAGES[path.suffix]
            highlighter = app.builder.highlighter  # type: ignore[attr-defined]
            body = highlighter.highlight_block(text, language, linenos=False)
        title = f"<h1><code>{html.escape(name)}</code></h1>"
        yield page, {"title": name, "body": title + body}, "page.html"


def first_words(path: Path) -> str:
    """The first line of a file says what it is."""
    if path.is_dir():
        return ""
    line = next((line for line in path.read_text().splitlines() if line.strip('"/*# ')), "")
    return line.strip('"/*# ')


# ---------------------------------------------------------------------------------------------
# The links of the finished site


class Links(HTMLParser):
    """What a page links to, what it loads, and the names in it that links can lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id" or (name, tag) == ("name", "a"):
                self.names.add(value or "")
            elif name == "href" and tag in ("a", "use"):
                self.links.add(value or "")
            elif name in ("href", "src", "srcset", "data", "action", "poster"):
                self.loads.add(value or "")


def check(site: Path) -> Iterator[str]:
    """What is wrong with the links of a site: every one within it must lead to something, and
    nothing may be loaded from elsewhere."""
    pages = {path: Links(path.read_text()) for path in sorted(site.rglob("*.html"))}
    for page, found in pages.items():
        for link in sorted(found.links | found.loads):
            parts = urlsplit(link)
            where = f"{page.relative_to(site)}: {link!r}"
            if parts.scheme == "data" or (parts.scheme == "https" and link in found.links):
                continue
            if parts.scheme or parts.netloc:
                yield f"{where} leaves the site"
                continue
            target = page
            if parts.path:
                target = Path(os.path.normpath(page.parent / unquote(parts.path)))
            if not target.is_file() or not target.is_relative_to(site):
                yield f"{where} leads nowhere"
            elif parts.fragment and unquote(parts.fragment) not in pages[target].names:
                yield f"{where} has no such place"
    for path in (path for path in site.rglob("*.css")):
        if "url(http" in (text := path.read_text()) or "@import" in text:
            yield f"{path.relative_to(site)} loads something from elsewhere"


def check_site(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        for fault in check(Path(app.outdir)):
            LOG.warning(fault)


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", lead_to_pages, priority=100)  # before downloads are collected
    app.connect("html-collect-pages", pages_of_sources)
    app.connect("build-finished", check_site)
