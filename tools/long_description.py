"""The project's page on an index: README.md, whose relative links lead to the code host there.

scikit-build-core asks for it whenever it writes metadata (``[[tool.dynamic-metadata]]``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PICTURES = (".svg", ".png")


def absolute(text: str, source: str, version: str) -> str:
    """`text` with the links that a clone resolves led to the files of that version at `source`."""

    def lead(match: re.Match[str]) -> str:
        kind = "raw" if match[1].endswith(PICTURES) else "blob"
        return f"]({source}/{kind}/v{version}/{match[1]})"

    return re.sub(r"\]\((?!#|[a-z]+:)([^)\s]+)\)", lead, text)


def dynamic_metadata(settings: Mapping[str, Any], project: Mapping[str, Any]) -> dict[str, Any]:
    """The field `readme`; `version` must be known before it."""
    assert not settings, settings
    text = Path("README.md").read_text(encoding="utf-8")
    made = absolute(text, project["urls"]["Source"], project["version"])
    return {"readme": {"text": made, "content-type": "text/markdown"}}
