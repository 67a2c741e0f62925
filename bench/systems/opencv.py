"""OpenCV: LUT, which has a table for all channels or one for each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..check import ANY
from ..jobs import Array, Case
from .base import Call, System, module

COLUMNS = 1 << 12  # an image of one row, or of one column, is never split among threads


class OpenCV(System):
    name = "opencv"
    package = "opencv-python-headless"
    keywords = ("arithmetic",)

    def __init__(self) -> None:
        self._cv2 = module("cv2")

    def context(self, threads: int) -> contextlib.AbstractContextManager[Any]:
        self._cv2.setNumThreads(threads)
        return contextlib.nullcontext()

    def rescale(self, case: Case, threads: int) -> Call:
        shape = (-1, COLUMNS) if case.size % COLUMNS == 0 else (1, -1)
        run = self._call(case.q.reshape(shape), case.table, case.out.reshape(shape))
        return Call(run, lambda _: (case.out,), ANY)

    lookup = rescale

    def image_lookup(self, case: Case, threads: int) -> Call:
        """Images with their channels last as one tall image, or plane by plane."""
        if case.job.axis == case.q.ndim - 1:
            shape = -1, *case.shape[-2:]
            tables = np.ascontiguousarray(case.table.T)[np.newaxis]
            run = self._call(case.q.reshape(shape), tables, case.out.reshape(shape))
            return Call(run, lambda _: (case.out,), ANY)
        calls = [
            self._call(image[i], table, codes[i])
            for image, codes in zip(case.q, case.out, strict=True)
            for i, table in enumerate(case.table)
        ]

        def run_all() -> None:
            for call in calls:
                call()

        return Call(run_all, lambda _: (case.out,), ANY)

    def _call(self, source: Array, table: Array, out: Array) -> Callable[[], Any]:
        return partial(self._cv2.LUT, source, table, out)
