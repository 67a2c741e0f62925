"""Whether a tag is a release of this project: what is wrong with it, or nothing.

    python tools/release.py TAG REPOSITORY

REPOSITORY is OWNER/NAME on the code host.  .github/workflows/release.yml publishes what passes.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def faults(root: Path, tag: str, repository: str) -> list[str]:
    """What keeps `tag` of the files at `root` from being published."""
    found = []
    package = root / "python" / "zeropoint"
    version = re.findall(r'^__version__ = "(.+)"$', (package / "__init__.py").read_text(), re.M)[0]
    if tag != f"v{version}":
        found.append(f"the tag is {tag}, and __version__ asks for v{version}")
    urls = tomllib.loads((root / "pyproject.toml").read_text())["project"]["urls"]
    for name, url in urls.items():
        if re.search(r"[/.]example(/|$)", url):
            found.append(f"[project.urls] {name} is still a placeholder: {url}")
    source = f"https://github.com/{repository}"
    if urls["Source"] != source:
        found.append(f"[project.urls] Source is {urls['Source']}, and this is {source}")
    if not re.search(r"^PUBLISHED = True\b", (package / "_extras.py").read_text(), re.M):
        found.append("_extras.PUBLISHED is not True: messages would not name the package")
    changes = (root / "CHANGELOG.md").read_text()
    if not re.search(rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d$", changes, re.M):
        found.append(f"CHANGELOG.md has no heading '## {version} - YYYY-MM-DD'")
    return found


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    found = faults(ROOT, *sys.argv[1:])
    print(*(f"not a release: {fault}" for fault in found), sep="\n", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
