"""The tools whose arithmetic has a real offset: faiss, sentence-transformers, xarray."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import numpy as np

from ..check import convention
from ..jobs import Case
from .base import Call, Declined, System, module, one_thread


def per_column(case: Case, name: str) -> None:
    if case.job.axis != 1 or len(case.shape) != 2:
        raise Declined(f"{name} has one range for each column of a matrix")


class Faiss(System):
    """The codec of an IndexScalarQuantizer, QT_8bit, trained as the job says; with `out`."""

    name = "faiss"
    package = "faiss-cpu"
    conventions = ("faiss",)

    def __init__(self) -> None:
        self._faiss = module("faiss")

    def context(self, threads: int) -> contextlib.AbstractContextManager[Any]:
        self._faiss.omp_set_num_threads(threads)
        return contextlib.nullcontext()

    def quantize(self, case: Case, threads: int) -> Call:
        return self._call(case, "compute_codes_c")

    def dequantize(self, case: Case, threads: int) -> Call:
        return self._call(case, "decode_c")

    def _call(self, case: Case, name: str) -> Call:
        """Of the function behind compute_codes or decode, which make a new result each time."""
        per_column(case, "faiss")
        if case.job.codes != "uint8":
            raise Declined("its codes are uint8")
        codec = self._faiss.ScalarQuantizer(case.shape[1], self._faiss.ScalarQuantizer.QT_8bit)
        span, offset = case.numbers
        self._faiss.copy_array_to_vector(np.concatenate([offset, span]), codec.trained)
        pointers = map(self._faiss.swig_ptr, (case.source, case.out))
        run = partial(getattr(codec, name), *pointers, case.shape[0])
        return Call(run, lambda _: (case.out,), convention("faiss"))


class SentenceTransformers(System):
    """quantize_embeddings with the ranges given; it has no way back."""

    name = "sentence-transformers"
    package = "sentence-transformers"
    conventions = ("sentence-transformers",)

    def __init__(self) -> None:
        self._quantize = module("sentence_transformers.util.quantization").quantize_embeddings

    def quantize(self, case: Case, threads: int) -> Call:
        one_thread("quantize_embeddings", threads)
        per_column(case, "quantize_embeddings")
        run = partial(self._quantize, case.x, case.job.codes, np.stack(case.ends))
        return Call(run, lambda codes: (codes,), convention("sentence-transformers"))


class XArray(System):
    """The steps of to_netcdf and open_dataset between the array and the file."""

    name = "xarray"
    package = "xarray"
    note = "its coders without a file, with a new result"
    conventions = ("cf",)
    missing = True

    def __init__(self) -> None:
        self._variable = module("xarray").Variable
        self._conventions = module("xarray.conventions")

    def quantize(self, case: Case, threads: int) -> Call:
        attributes = self._attributes(case, threads)
        encoding = {"dtype": case.job.codes, **attributes}
        variable = self._variable(_dimensions(case), case.x, encoding=encoding)
        run = partial(self._conventions.encode_cf_variable, variable)
        return Call(run, lambda encoded: (encoded.values,), convention("cf"))

    def dequantize(self, case: Case, threads: int) -> Call:
        variable = self._variable(_dimensions(case), case.q, self._attributes(case, threads))

        def run() -> Any:
            return self._conventions.decode_cf_variable("x", variable).values  # until then lazy

        return Call(run, lambda values: (values,), convention("cf"))

    @staticmethod
    def _attributes(case: Case, threads: int) -> dict[str, Any]:
        one_thread("xarray", threads)
        if case.job.axis is not None:
            raise Declined("CF has one scale and one offset for a variable")
        if case.nan_code is None:
            raise Declined("warns where no code is kept for missing values")
        scale, offset = case.numbers
        fill = np.dtype(case.job.codes).type(case.nan_code)
        return {"scale_factor": scale, "add_offset": offset, "_FillValue": fill}


def _dimensions(case: Case) -> list[str]:
    return [f"axis{i}" for i in range(len(case.shape))]
