"""JSON read value by value, so that memory does not grow with a hostile text.

The grammar is that of RFC 8259, with the limits of the safetensors library's parser: nesting of
127, and numbers that fit a float64.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from .source import AGAIN, fault

_DEEPEST = 127
_MEMBERS = 1000  # elements and members of one value, all levels together
_SKIPPED = 1_000_000  # the same of all values that are skipped: some seconds

_SPACE = rb"[ \t\n\r]*+"
_QUOTED = rb'("[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+")'
_TOKEN = re.compile(
    _SPACE
    + rb"(?:"
    + _QUOTED
    + rb"|(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?[0-9]++)?+)"
    + rb"|(true|false|null)|([][{},:]))"
)
_OBJECT, _END = re.compile(_SPACE + rb"\{"), re.compile(_SPACE + rb"\}")
_REST = re.compile(_SPACE + rb"\Z")
_NAME = re.compile(_SPACE + _QUOTED + _SPACE + rb":")
_STRING, _NUMBER, _WORD = 1, 2, 3  # groups
_WORDS = {b"true": True, b"false": False, b"null": None}


class Reader:
    """A JSON object; `what` names it in errors.

    It is read front to back: `members` and, for each of them, one of `members`, `value`, `skip`;
    `end` after the last.
    """

    def __init__(self, raw: bytes, path: Path, what: str) -> None:
        self.at = 0  #: the next byte to read; a caller may move it past its own reads
        self.raw = raw
        self._path, self._what = path, what
        self._depth, self._left, self._skippable = 0, 0, _SKIPPED

    def members(self) -> Iterator[str]:
        """The names of the object that comes next."""
        found = _OBJECT.match(self.raw, self.at)
        if found is None:
            self._fail("an object is missing")
        self.at = found.end()
        self._deeper()
        token = b","
        if end := _END.match(self.raw, self.at):
            self.at, token = end.end(), b"}"
        while token == b",":
            found = _NAME.match(self.raw, self.at)
            if found is None:
                self._fail("a member's name and colon are missing or malformed")
            self.at = found.end()
            yield self._text(found[1])
            token = self._expect(b",", b"}")
        self._depth -= 1

    def value(self) -> Any:
        """The value that comes next; in its objects no name occurs twice."""
        self._left = _MEMBERS
        return self._value(*self._take(), keep=True)

    def skip(self) -> None:
        """Read past a value; names may occur twice."""
        self._left = self._skippable
        self._value(*self._take(), keep=False)
        self._skippable = self._left

    def end(self) -> None:
        """ValueError if anything follows."""
        if not _REST.match(self.raw, self.at):
            self._fail("text follows its end")

    def at_object(self) -> bool:
        """Whether an object comes next."""
        return _OBJECT.match(self.raw, self.at) is not None

    # -- tokens ---------------------------------------------------------------------------------

    def _take(self) -> tuple[int, bytes]:
        found = _TOKEN.match(self.raw, self.at)
        if found is None:
            self._fail("a value is missing or malformed")
        self.at = found.end()
        kind = found.lastindex or 0
        return kind, found[kind]

    def _expect(self, *marks: bytes) -> bytes:
        _, token = self._take()
        if token not in marks:
            self._fail(f"{b' or '.join(marks).decode()} is missing before")
        return token

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise fault(self._path, f"{self._what} is nested more than {_DEEPEST} times", AGAIN)

    def _value(self, kind: int, token: bytes, *, keep: bool) -> Any:
        self._left -= 1
        if self._left < 0:
            raise fault(self._path, f"{self._what} has a value with too many members", AGAIN)
        if kind == _STRING:
            return self._text(token)
        if kind == _NUMBER:
            return self._number(token)
        if kind == _WORD:
            return _WORDS[token]
        if token == b"{":
            self.at -= 1
            found: dict[str, Any] = {}
            for name in self.members():
                if name in found:
                    self._fail(f"the name {name!r} occurs twice")
                value = self._value(*self._take(), keep=keep)
                if keep:
                    found[name] = value
            return found
        if token != b"[":
            self._fail("a value is missing")
        self._deeper()
        values: list[Any] = []
        kind, token = self._take()
        while token != b"]":
            value = self._value(kind, token, keep=keep)
            if keep:
                values.append(value)
            if self._expect(b",", b"]") == b"]":
                break
            kind, token = self._take()
            if token == b"]":
                self._fail("a comma too many")
        self._depth -= 1
        return values

    def _number(self, token: bytes) -> int | float:
        if token.strip(b"-").isdigit() and len(token) <= 20 and token != b"-0":
            return int(token)
        value = float(token)
        if value in (float("inf"), float("-inf")):
            self._fail("a number is out of range")
        return value

    def _text(self, token: bytes) -> str:
        try:
            text = token.decode()
            text = str(json.loads(text)) if "\\" in text else text[1:-1]
            text.encode()  # half a surrogate pair is no text
            return text
        except UnicodeDecodeError:
            self._fail("it is not UTF-8")
        except UnicodeEncodeError:
            self._fail("half a surrogate pair")

    def _fail(self, what: str) -> NoReturn:
        what = f"{self._what} is not valid JSON ({what}, at byte {self.at})"
        raise fault(self._path, what, AGAIN)
