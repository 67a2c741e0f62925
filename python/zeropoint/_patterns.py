"""Names that a caller chooses by shell patterns; a pattern that chooses nothing is an error."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Collection, Iterable

Patterns = str | Iterable[str] | None

_LONGEST = 200  # characters of names that are compared with a pattern
_MOST = 10_000  # names


def checked(given: Patterns, argument: str) -> list[str] | None:
    """The patterns as a list; TypeError unless they are text."""
    if given is None:
        return None
    found = [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
    for pattern in found:
        if not isinstance(pattern, str):
            raise TypeError(f"{argument} must hold patterns of names, not {pattern!r}; pass '*'")
    return found


def chosen(patterns: Iterable[str], names: Collection[str], argument: str) -> set[str]:
    """The names that match one of `patterns`; ValueError for a pattern that none matches.

    A pattern that is a name, letter by letter, chooses that name alone: ``layer[0]`` need not be
    written ``layer[[]0]``.
    """
    known, found = set(names), set[str]()
    for pattern in patterns:
        matched = [pattern]
        if pattern not in known:
            matched = [name for name in known if matches([pattern], name)]
        if not matched:
            raise ValueError(f"{argument} {pattern!r} {no_match(pattern, names)}")
        found.update(matched)
    return found


def matches(patterns: Iterable[str], name: str) -> bool:
    """Whether one of `patterns` fits a name, for callers that do not know the other names yet."""
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def no_match(pattern: str, names: Iterable[str]) -> str:
    """For an error: the rest of its sentence, and what to do."""
    return f"matches no name; {nearest(pattern, names)}; or leave it out"


def nearest(wanted: str, names: Iterable[str]) -> str:
    """For an error: the names that are like `wanted`, or the first few."""
    known = [name for name in names if len(name) <= _LONGEST][:_MOST]
    plain: dict[str, str] = {}
    for name in known:
        plain.setdefault(name.lower(), name)
    text = wanted.strip("*?").lower()[:_LONGEST]
    like = [plain[found] for found in difflib.get_close_matches(text, plain, 3, 0.5)]
    if like:
        return "the nearest are " + ", ".join(map(repr, like))
    if known:
        return "there are " + ", ".join(map(repr, known[:3])) + ", ..." * (len(known) > 3)
    return "there are none"
