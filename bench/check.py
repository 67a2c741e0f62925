"""Is a result right?  Asked of every system before it is timed.

A system names the arithmetic that it follows.  Its result must have exactly the bits of that
arithmetic; how many of them differ from what the job asks for is counted and shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import zeropoint as zp

from . import operations
from .jobs import MI, Array, Case
from .operations import Result

if TYPE_CHECKING:
    from .systems.base import Call


SENTINEL = 91


class Arithmetic(NamedTuple):
    """A recipe of quantization, and its result for a case."""

    name: str
    compute: Callable[[Case], Result]
    exact: bool = True  #: False: the nearest of the formulas, on a CPU where the system has another


def convention(name: str) -> Arithmetic:
    """The arithmetic of one of zeropoint's conventions, computed by its NumPy reference."""
    return Arithmetic(name, lambda case: _reference(case, name))


#: for the operations that no convention changes
ANY = Arithmetic("any", lambda case: _reference(case, case.job.convention))


def _reference(case: Case, name: str) -> Result:
    """zeropoint's own function on the NumPy reference."""
    # its result has the dtype of float16 data only if that is asked for
    how = {"dtype": case.job.real} if case.job.operation == "dequantize" else {}
    with zp.use_backend("reference"):
        if case.job.operation in operations.ELEMENTWISE:
            return (in_chunks(case, lambda part: operations.call(case, name, part, **how)()),)
        return operations.arrays(operations.call(case, name, case.source)())


def in_chunks(case: Case, function: Callable[[Array], Array]) -> Array:
    """`function` of the case's data, chunk by chunk: its temporaries must not fill the memory."""
    source = case.source
    if case.job.axis is not None or case.size <= MI:
        return function(source)
    result = np.empty_like(case.out)
    rows = max(1, MI * len(source) // case.size)
    for start in range(0, len(source), rows):
        result[start : start + rows] = function(source[start : start + rows])
    return result


class Verdict(NamedTuple):
    wrong: int  #: elements that are not what the system's own arithmetic gives
    differ: int  #: elements that are not what the job's convention gives
    another: int = 0  #: a code off the nearest formula, where the system has none that is known


class Oracle:
    """Knows what each arithmetic gives for one case."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._known: dict[str, Result] = {}

    def verdict(self, call: Call) -> Verdict:
        """Run the call once, and compare."""
        if self._case.job.has_out:
            self._case.out.fill(SENTINEL)  # what another system left must not count
        got = call.result(call.run())
        own = self._expected(call.arithmetic)
        wrong, another = _differences(got, own), 0
        if not call.arithmetic.exact and _next_codes(got, own):
            wrong, another = 0, wrong
        by_convention = self._case.job.by_convention and call.arithmetic is not ANY
        asked = convention(self._case.job.convention) if by_convention else ANY
        if asked.name == call.arithmetic.name:
            return Verdict(wrong, wrong, another)
        return Verdict(wrong, _differences(got, self._expected(asked)), another)

    def _expected(self, arithmetic: Arithmetic) -> Result:
        if arithmetic.name not in self._known:
            self._known[arithmetic.name] = arithmetic.compute(self._case)
        return self._known[arithmetic.name]


def _next_codes(got: Result, expected: Result) -> bool:
    """Whether no code is off by more than one, and the parameters are the same."""
    codes, *parameters = (a.astype(np.float64) for a in got)
    wanted, *others = (b.astype(np.float64) for b in expected)
    near = codes.shape == wanted.shape and bool((abs(codes - wanted) <= 1).all())
    return near and all(map(np.array_equal, parameters, others))


def _differences(got: Result, expected: Result) -> int:
    """Elements that differ, parameters included; -0.0 and +0.0 differ too."""
    count = 0
    for a, b in zip(got, expected, strict=True):
        if a.shape != b.shape:
            return max(a.size, b.size)
        if a.dtype == b.dtype and a.tobytes() == b.tobytes():
            continue  # what follows takes a second for 64 Mi elements
        count += int(np.count_nonzero((a != b) & ((a == a) | (b == b))))  # NaN is NaN
        if b.dtype.kind == "f":
            count += int(np.count_nonzero((a == 0) & (np.signbit(a) != np.signbit(b))))
    return count
