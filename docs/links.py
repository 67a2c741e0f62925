"""The links of the finished site: every one leads to something, and no page needs the network."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


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
            elif parts.fragment and not (
                target in pages and unquote(parts.fragment) in pages[target].names
            ):
                yield f"{where} has no such place"
    for path in sorted(site.rglob("*.css")):
        if re.search(r"url\(\s*[\"']?(https?:)?//|@import", path.read_text()):
            yield f"{path.relative_to(site)} loads something from elsewhere"
