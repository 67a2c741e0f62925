"""What a system is: something that can do a job."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar, NamedTuple

import zeropoint as zp

from ..check import Arithmetic
from ..jobs import Case
from ..operations import Result

STRIDED = "NCHW seen as NHWC", "x[..., ::2]", "crop"


class Declined(Exception):
    """A system cannot do a job; the message says why."""


class Call(NamedTuple):
    """A prepared call: what is timed, and how to see what it did."""

    run: Callable[[], Any]
    result: Callable[[Any], Result]  #: from what `run` returned
    arithmetic: Arithmetic
    before: Callable[[], Any] = lambda: None  #: not timed, before some calls that are


class System:
    """One implementation.

    A subclass has a method for each operation of `jobs.JOBS` that it knows; the method takes the
    case and the number of threads, does whatever need not be timed, and returns a `Call`.  It
    raises `Declined` where it cannot serve; ImportError in the constructor means that the system
    is not installed.
    """

    name: ClassVar[str]
    role: ClassVar[str] = "peer"  #: "ours", "peer", or "yardstick": not a rival, and not checked
    package: str  #: the distribution whose version is recorded
    note: str = ""  #: what a reader of the run should know of the system
    moves_arrays: ClassVar[bool] = True  #: False: a call passes no array
    views: ClassVar[Sequence[str]] = ()  #: what it takes, of `jobs.VIEWS`
    keywords: ClassVar[Sequence[str]] = ()  #: and of the keywords of jobs
    conventions: ClassVar[Collection[str]] = zp.CONVENTIONS  #: of jobs
    missing: ClassVar[bool] = False  #: whether it takes NaN as missing values

    def prepare(self, case: Case, threads: int) -> Call:
        job = case.job
        keywords = not set(dict(job.keywords)) <= set(self.keywords)
        if keywords or (job.view and job.view not in self.views):
            raise Declined("takes no such array or keyword")
        if job.convention not in self.conventions:
            raise Declined(f"does not follow the {job.convention} convention")
        if job.missing and not self.missing:
            raise Declined("knows no missing values")
        method = getattr(self, job.operation, None)
        if method is None:
            raise Declined("has no such function")
        call: Call = method(case, threads)
        return call

    def context(self, threads: int) -> contextlib.AbstractContextManager[Any]:
        """What must hold while a call runs."""
        return contextlib.nullcontext()


def module(name: str) -> Any:
    """An optional package, without types: none of them promises its types to a checker."""
    return importlib.import_module(name)


def one_thread(name: str, threads: int) -> None:
    if threads != 1:
        raise Declined(f"{name} has one thread")


def float32_only(case: Case) -> None:
    if case.job.real != "float32":
        raise Declined(f"has no {case.job.real} for this")
