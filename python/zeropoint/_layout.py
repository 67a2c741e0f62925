"""How parameters lie over data: one for all, one per channel of an axis, or one per block along it.

The one place for the shape that the parameters have, and for which of them an element has.
"""

from __future__ import annotations

import math
from types import EllipsisType
from typing import Any, NamedTuple

import numpy as np

from ._reference import Array, spread

Tile = tuple[slice | EllipsisType, ...]  #: an index that cuts a tile out of an array


class Layout(NamedTuple):
    """The layout of the parameters over data of one shape; `_checks.layout` checks all of it."""

    shape: tuple[int, ...]  #: of the data
    axis: int | None = None  #: counted from 0; None: one scale for all
    block: int | None = None  #: elements along the axis that share a scale; None: per channel

    # -- the data as outer x length x inner elements, `length` of them along the axis -------------

    @property
    def outer(self) -> int:
        return 1 if self.axis is None else math.prod(self.shape[: self.axis])

    @property
    def length(self) -> int:
        return 1 if self.axis is None else self.shape[self.axis]

    @property
    def inner(self) -> int:
        return math.prod(self.shape if self.axis is None else self.shape[self.axis + 1 :])

    @property
    def flat(self) -> Layout:
        """The same over the data in the shape (outer, length, inner)."""
        axis = None if self.axis is None else 1
        return Layout((self.outer, self.length, self.inner), axis, self.block)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    # -- the parameters ---------------------------------------------------------------------------

    @property
    def params_shape(self) -> tuple[int, ...]:
        """(), (channels,), or the data's shape with the axis divided by the block size."""
        if self.axis is None:
            return ()
        if self.block is None:
            return (self.shape[self.axis],)
        blocks = -(-self.shape[self.axis] // self.block)
        return (*self.shape[: self.axis], blocks, *self.shape[self.axis + 1 :])

    def params_index(self, tile: Tile) -> tuple[Any, ...]:
        """Where the parameters of a tile of the data stand among all of them."""
        if self.axis is None:
            return (...,)
        cuts = self._cuts(tile)
        if self.block is not None:
            start, stop, _ = cuts[self.axis].indices(self.shape[self.axis])
            cuts[self.axis] = slice(start // self.block, -(-stop // self.block))
            return tuple(cuts)
        return (cuts[self.axis],)

    def spread(self, parameter: Array) -> Array:
        """The parameters in a shape that broadcasts against the data."""
        return spread(parameter, *self)

    def spread_over(self, parameter: Array, tile: Tile) -> Array:
        """The same against a tile of the data."""
        if self.axis is None:
            return parameter
        cuts = self._cuts(tile)
        if self.block is None:
            return spread(parameter[cuts[self.axis]], self.shape, self.axis, None)
        along = cuts[self.axis].indices(self.shape[self.axis])
        cuts[self.axis] = np.arange(*along) // self.block
        return np.asarray(parameter[tuple(cuts)])

    def _cuts(self, tile: Tile) -> list[Any]:
        """The slices of a tile along every axis."""
        cuts = [cut for cut in tile if isinstance(cut, slice)]
        return cuts + [slice(None)] * (len(self.shape) - len(cuts))
