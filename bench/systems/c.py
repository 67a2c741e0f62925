"""The C interface, as other languages call it: by ctypes, with handles that are made before."""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from ctypes import byref, c_double, c_float, c_int32, c_size_t, c_void_p
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

import zeropoint as zp

from ..check import ANY, convention
from ..jobs import Array, Case
from ..operations import ACCUMULATOR_SCALE, Result
from .base import Call, Declined, System

DTYPES = {"float16": 0, "bfloat16": 1, "float32": 2, "int8": 4, "uint8": 5}
ARITHMETIC = ("exact", "litert", "litert_reference", "float")
FUNCTION = ctypes.CFUNCTYPE(c_double, c_double, c_void_p)
INTEGERS = ("zero_point", "qmin", "qmax", "dtype", "convention", "include_zero")


class Params(ctypes.Structure):
    _fields_ = (("scale", c_float), *((name, c_int32) for name in INTEGERS))


class Handle(c_void_p):
    """Of a type of its own, so that it can have a finalizer."""


class C(System):
    name = "zeropoint-c"
    role = "ours"
    package = "zeropoint"
    keywords = ("arithmetic",)
    note = "the package's static library, linked into a shared one, by ctypes"

    def __init__(self) -> None:
        archive = resources.files("zeropoint") / "lib" / "libzeropoint.a"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "libzeropoint.so")
            whole = ["-Wl,--whole-archive", str(archive), "-Wl,--no-whole-archive"]
            command = ["cc", "-shared", "-pthread", "-o", str(path), *whole, "-lstdc++", "-lm"]
            try:
                subprocess.run(command, check=True, capture_output=True, text=True)
                self._c = ctypes.CDLL(str(path))
            except (OSError, subprocess.CalledProcessError) as error:
                why = (getattr(error, "stderr", "") or str(error)).splitlines()[0]
                raise ImportError(f"the C interface cannot be linked here: {why}") from error
        self._c.zeropoint_message.restype = ctypes.c_char_p

    @contextlib.contextmanager
    def context(self, threads: int) -> Iterator[None]:
        self._c.zeropoint_set_num_threads(c_size_t(threads))
        yield

    def quantize(self, case: Case, threads: int) -> Call:
        return self._call(case, "quantizer", _own(case), "quantize", case.x, _real(case), case.out)

    def dequantize(self, case: Case, threads: int) -> Call:
        call = "dequantize", case.q, case.out, _real(case)
        return self._call(case, "quantizer", _own(case), *call)

    def fake_quantize(self, case: Case, threads: int) -> Call:
        call = "fake_quantize", case.x, case.out, _real(case)
        return self._call(case, "quantizer", _own(case), *call)

    def requantize(self, case: Case, threads: int) -> Call:
        made_of = c_double(float(ACCUMULATOR_SCALE)), *_own(case)
        return self._call(case, "requantizer", made_of, "requantize", case.x, case.out)

    def rescale(self, case: Case, threads: int) -> Call:
        arithmetic = c_int32(ARITHMETIC.index(dict(case.job.keywords)["arithmetic"]))
        made_of = _struct(case.given), _struct(case.wanted), arithmetic
        return self._call(case, "lookup", made_of, "apply", case.q, case.out, create="_rescale")

    def lookup(self, case: Case, threads: int) -> Call:
        tanh = FUNCTION(lambda value, _: float(np.tanh(value)))
        made_of = tanh, None, _struct(case.given), _struct(case.wanted)
        return self._call(case, "lookup", made_of, "apply", case.q, case.out)

    def _call(
        self,
        case: Case,
        kind: str,
        made_of: Sequence[Any],
        name: str,
        *given: Any,
        create: str = "",
    ) -> Call:
        """A function of a handle.  Arrays go as addresses; the case keeps them."""
        names = f"create{create}", name, "destroy"
        made, function, destroy = (getattr(self._c, f"zeropoint_{kind}_{each}") for each in names)

        def result(status: int) -> Result:
            if status:
                raise ValueError(self._c.zeropoint_message().decode())
            return (case.out,)

        handle = Handle()
        result(made(*made_of, byref(handle)))
        weakref.finalize(handle, destroy, c_void_p(handle.value))
        run = partial(function, handle, *map(_passed, given), c_size_t(case.size))
        return Call(run, result, convention(case.job.convention) if case.job.by_convention else ANY)


def _own(case: Case) -> tuple[Any]:
    if case.job.axis is not None:
        raise Declined("measured per tensor")
    return (_struct(case.params(case.job.convention)),)


def _struct(params: zp.QuantParams) -> Any:
    numbers = params.scale, params.zero_point, params.qmin, params.qmax
    kinds = DTYPES[params.dtype.name], [*zp.CONVENTIONS].index(params.convention)
    return byref(Params(*numbers, *kinds, params.include_zero))


def _real(case: Case) -> c_int32:
    return c_int32(DTYPES[case.job.real])


def _passed(given: Array | c_int32) -> Any:
    return c_void_p(given.ctypes.data) if isinstance(given, np.ndarray) else given
