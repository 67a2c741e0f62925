"""What the commands share: how they print, and the bar of a long job."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from datetime import timedelta
from typing import Any

from ._checks import printable

_SHOWN_AFTER = 2.0  # seconds of a job before its pace is worth showing


class WrongUsage(Exception):
    """Wrong usage that argparse cannot find."""


def print_json(value: Any) -> None:
    text = json.dumps(_plain(value), indent=2, allow_nan=False)
    print(text.replace("\x7f", "\\u007f"))  # the one control character that it leaves


def _plain(value: Any) -> Any:
    """`value` for JSON, which has no NaN and no Inf."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_pairs(pairs: dict[str, Any]) -> None:
    width = max(map(len, pairs)) + 2
    for name, value in pairs.items():
        print(f"{name:{width}}{value!s}")  # as str: a float32 in its own few digits


class Progress:
    """A bar on stderr where that is a terminal, else a line at each quarter.

    The bar of a job whose steps are bytes shows its pace and the time left once it is long.
    """

    def __init__(self, what: str, *, of_bytes: bool = False) -> None:
        self.what, self.of_bytes = what, of_bytes
        self.terminal = sys.stderr.isatty()
        self.shown = -1 if self.terminal else 0  # percent
        self.start = self.last = time.monotonic()
        self.width = 0  # of the line, which a shorter one must cover

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.terminal and self.shown >= 0:
            print(file=sys.stderr)  # leave the line of the bar, finished or not

    def __call__(self, done: int, total: int) -> None:
        percent = 100 * done // total if total else 100
        if not self.terminal:
            percent -= percent % 25
        now = time.monotonic()
        is_due = self.terminal and self.of_bytes and now - self.last >= 1
        if percent == self.shown and not is_due:
            return
        self.shown, self.last = percent, now
        if self.terminal:
            bar = f" [{'#' * (percent * 30 // 100):30}] {percent:3}%{self._pace(done, total, now)}"
            room = shutil.get_terminal_size().columns - len(bar) - 4  # a line that wraps stays
            line = printable(self.what, max(room, 16)) + bar
            print(f"\r{line:{self.width}}", end="", file=sys.stderr, flush=True)
            self.width = len(line)
        else:
            print(f"{self.what}: {percent}%", file=sys.stderr, flush=True)

    def _pace(self, done: int, total: int, now: float) -> str:
        seconds = now - self.start
        if not self.of_bytes or seconds < _SHOWN_AFTER or not done:
            return ""
        left = timedelta(seconds=round(seconds * (total - done) / done))
        return f"  {done / seconds / 1e6:,.0f} MB/s  {left} left"
