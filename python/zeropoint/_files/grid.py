"""How a tensor is cut: into sections that share no parameters, and those into boxes.

In the order of its file a tensor is ``outer x length x inner`` elements, `length` of them along
the axis (per tensor all of them are `inner`).  Only this order is looked at here, so for Fortran
order the axes are reversed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .._params import QuantParams

#: elements of a box: 4 MiB of float32, enough to hide the cost of a call
CHUNK = 1 << 20
#: elements of a section that is held in memory; a larger one is read twice
RESIDENT = 1 << 23

Box = tuple[slice, slice, slice]  #: consecutive elements of a grid


class Grid(NamedTuple):
    """A tensor, or a section of one, in the order of its file."""

    outer: int
    length: int
    inner: int
    axis: int | None  #: 1, or None for one scale per tensor
    block: int | None

    @classmethod
    def of(cls, shape: tuple[int, ...], axis: int | None, block: int | None) -> Grid:
        """The grid of an array of `shape` in C order; `axis` is counted from 0."""
        if axis is None:
            return cls(1, 1, math.prod(shape), None, None)
        return cls(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]), 1, block)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.outer, self.length, self.inner

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def params_shape(self) -> tuple[int, ...]:
        """The shape of the scales: none, one a channel, or one a block."""
        if self.axis is None:
            return ()
        if self.block is None:
            return (self.length,)
        return self.outer, -(-self.length // self.block), self.inner

    @property
    def _unit(self) -> int:
        """Indices along the axis that share parameters."""
        return min(self.block or 1, self.length)

    @property
    def _least_section(self) -> int:
        """The elements of the shortest stretch of the file that has its parameters to itself.

        Per channel that is one channel if the axis is the first one, else everything.
        """
        if self.axis is None or (self.block is None and self.outer > 1):
            return self.size
        return self._unit * self.inner

    @property
    def resident(self) -> bool:
        """Whether sections are small enough to be held in memory."""
        return self._least_section <= RESIDENT

    def sections(self) -> Iterator[Grid]:
        """Consecutive sections; several short ones are taken together, up to `CHUNK` elements."""
        for box in self.boxes(max(CHUNK, self._least_section)):
            yield Grid(*box_shape(box), self.axis, self.block)

    def boxes(self, limit: int | None = None) -> Iterator[Box]:
        """Consecutive boxes of at most `limit` (`CHUNK`) elements: whole blocks, or inside one."""
        limit = limit or CHUNK
        if self.size == 0:
            return
        unit = self._unit
        if self.inner > limit:
            edges = 1, 1, limit
        elif unit * self.inner > limit:
            edges = 1, limit // self.inner, self.inner
        elif self.length * self.inner > limit:
            edges = 1, limit // (unit * self.inner) * unit, self.inner
        else:
            edges = limit // (self.length * self.inner), self.length, self.inner
        for outer in _cuts(0, self.outer, edges[0]):
            for whole in _cuts(0, self.length, max(unit, edges[1])):
                for part in _cuts(whole.start, whole.stop, edges[1]):
                    for inner in _cuts(0, self.inner, edges[2]):
                        yield outer, part, inner

    def groups(self, box: Box) -> tuple[Any, ...]:
        """Where the parameters of a box stand among those of the grid."""
        outer, part, inner = box
        if self.axis is None:
            return (...,)
        if self.block is None:
            return (part,)
        return outer, slice(part.start // self.block, -(-part.stop // self.block)), inner

    def params_of(self, params: QuantParams, box: Box) -> QuantParams:
        """Those of the grid's `params` that a box needs."""
        index = self.groups(box)
        scale = np.asarray(params.scale)[index]
        if scale.shape == np.shape(params.scale):
            return params
        return QuantParams(scale, params.zero_point[index], **params._recipe())


def box_shape(box: Box) -> tuple[int, int, int]:
    outer, part, inner = box
    return outer.stop - outer.start, part.stop - part.start, inner.stop - inner.start


def _cuts(start: int, stop: int, step: int) -> Iterator[slice]:
    for first in range(start, stop, step):
        yield slice(first, min(first + step, stop))
