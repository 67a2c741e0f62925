"""The documentation as a site: `python -m sphinx -W -b html docs build/site`.

The pages are plain Markdown that a code host shows as well.  Their links to files outside of this
folder lead to pages that are made here: a highlighted source, a list of a folder, or the page that
includes the file.  When the site is written every link in it is followed (`links.py`).
"""

from __future__ import annotations

import functools
import html
import os.path
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging

sys.path.insert(0, os.path.dirname(__file__))
import api_pages  # before zeropoint, whose core it hides
import links

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
    "api_pages",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_templates"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!zeropoint).*")]  # there is no inventory of NumPy offline
autodoc_mock_imports = api_pages.HEAVY
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
add_module_names = False  # the title of the page has it
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"
default_role = "py:obj"  # of docstrings
highlight_language = "none"
myst_enable_extensions = ["colon_fence"]
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
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"  # that is what code prints

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


@functools.cache
def shown() -> list[Path]:
    """The files and folders that become pages."""
    found = [path for name in SHOWN for path in [ROOT / name, *sorted((ROOT / name).rglob("*"))]]
    return [
        path
        for path in found
        if "__pycache__" not in path.parts and (path.is_dir() or path.suffix in LANGUAGES)
    ]


def page_of(path: Path) -> str:
    """The name of the page that shows a file or folder of the project, or nothing."""
    inside = path.relative_to(ROOT).as_posix()
    return INCLUDED.get(inside) or (f"source/{inside}" if path in shown() else "")


def lead_to_pages(app: Sphinx, document: nodes.document) -> None:
    """A link to a file or folder that has a page leads there; to any other file: a download."""
    folder = Path(app.srcdir, app.env.docname).parent
    for kind in (addnodes.download_reference, addnodes.pending_xref):
        for node in list(document.findall(kind)):
            target = Path(node["reftarget"].partition("#")[0])
            if node["reftype"] != "myst" or not target.name:
                continue
            if node.get("refdomain") == "doc":  # Markdown
                path = Path(app.srcdir, f"{target}.md").resolve()
                if path.is_relative_to(ROOT) and (page := page_of(path)):
                    node["reftarget"] = page
                continue
            for start in (folder, ROOT):  # the second: in the text of an included page
                path = Path(os.path.normpath(start / target))
                if path.is_relative_to(ROOT) and (page := page_of(path)):
                    uri = app.builder.get_relative_uri(app.env.docname, page)
                    link = nodes.reference("", "", *node.children, refuri=uri, internal=True)
                    node.replace_self(link)
                    break


def pages_of_sources(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    for path in shown():
        page, name = page_of(path), path.relative_to(ROOT).as_posix()
        if path.is_dir():
            rows = [
                f'<li><a href="{html.escape(app.builder.get_relative_uri(page, page_of(each)))}">'
                f"<code>{html.escape(each.name)}</code></a> {html.escape(first_words(each))}</li>"
                for each in sorted(path.iterdir())
                if each in shown()
            ]
            body = f"<ul>{''.join(rows)}</ul>"
        else:
            text, language = path.read_text(), LANGUAGES[path.suffix]
            highlighter = app.builder.highlighter  # type: ignore[attr-defined]
            body = highlighter.highlight_block(text, language, linenos=False)
        title = f"<h1><code>{html.escape(name)}</code></h1>"
        yield page, {"title": name, "body": title + body}, "page.html"


def first_words(path: Path) -> str:
    """The first line of a file says what it is; of a folder, that of its first file."""
    if path.is_dir():
        return first_words(next(each for each in shown() if path in each.parents))
    line = next((line for line in path.read_text().splitlines() if line.strip('"/*# ')), "")
    return line.strip('"/*# ')


#: where a name may be broken
PLACES = re.compile(r"(?<=.[_./,(=])(?=\w)|(?<=\w-)(?=\w)|(?<=[a-z])(?=[A-Z])")


def break_lines(
    app: Sphinx, page: str, template: str, context: dict[str, Any], document: nodes.document | None
) -> None:
    """Long names in the text end a line where a person would, so that no table is too wide; in
    tables a number stays beside its unit."""
    body = re.sub(
        r'(?<=<span class="pre">)[^<]{12,}',
        lambda name: PLACES.sub('</span><wbr><span class="pre">', name[0]),
        context.get("body", ""),
    )
    context["body"] = re.sub(
        r"<td>.*?</td>",
        lambda cell: re.sub(r"(?<=\d) (?=([mnu]?s|[kKMGT]i?B|[KMG]i|dB|x)\b)", "&#160;", cell[0]),
        body,
        flags=re.DOTALL,
    )


def check_site(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        for fault in links.check(Path(app.outdir)):
            LOG.warning(fault)


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", lead_to_pages, priority=100)  # before downloads are collected
    app.connect("html-collect-pages", pages_of_sources)
    app.connect("html-page-context", break_lines)
    app.connect("build-finished", check_site)
