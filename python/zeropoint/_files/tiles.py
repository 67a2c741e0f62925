"""How a tensor is cut, in the order of its file: into chunks, and those into tiles.

Chunks share no parameters.  A `Layout` here is flat, outer x length x inner elements; of a tensor
in Fortran order it is that of the axes reversed.
"""

from __future__ import annotations

from collections.abc import Iterator

from .._layout import Layout
from .._params import Params

#: elements of a tile: 4 MiB of float32, enough to hide the cost of a call
TILE = 1 << 20
#: bytes of a chunk that is held in memory; a larger one is read twice
RESIDENT = 1 << 25

Tile = tuple[slice, slice, slice]  #: consecutive elements of a flat layout


def _unit(layout: Layout) -> int:
    """Indices along the axis with the same parameters."""
    return min(layout.block or 1, layout.length)


def _shortest_chunk(layout: Layout) -> int:
    """Elements of the shortest run in the file whose parameters nothing else has."""
    if layout.axis is None or (layout.block is None and layout.outer > 1):
        return layout.size
    return _unit(layout) * layout.inner


def is_resident(layout: Layout, width: int) -> bool:
    """Whether chunks are small enough to be held in memory; of elements of `width` bytes."""
    return _shortest_chunk(layout) * width <= RESIDENT


def chunks(layout: Layout) -> Iterator[Layout]:
    """Consecutive chunks; several short ones are taken together, up to `TILE` elements."""
    for tile in tiles(layout, max(TILE, _shortest_chunk(layout))):
        yield Layout(shape_of(tile), layout.axis, layout.block)


def tiles(layout: Layout, limit: int | None = None) -> Iterator[Tile]:
    """Consecutive tiles of at most `limit` (`TILE`) elements: whole blocks, or inside one."""
    limit = limit or TILE
    if layout.size == 0:
        return
    outer, length, inner = layout.shape
    unit = _unit(layout)
    if inner > limit:
        edges = 1, 1, limit
    elif unit * inner > limit:
        edges = 1, limit // inner, inner
    elif length * inner > limit:
        edges = 1, limit // (unit * inner) * unit, inner
    else:
        edges = limit // (length * inner), length, inner
    for rows in _cuts(0, outer, edges[0]):
        for whole in _cuts(0, length, max(unit, edges[1])):
            for along in _cuts(whole.start, whole.stop, edges[1]):
                for within in _cuts(0, inner, edges[2]):
                    yield rows, along, within


def params_of(params: Params, layout: Layout, tile: Tile) -> Params:
    """Those of the layout's `params` that a tile needs."""
    index = layout.params_index(tile)
    first, second = params._arrays
    if first[index].shape == first.shape:
        return params
    return params._over(first[index], second[index])


def shape_of(tile: Tile) -> tuple[int, int, int]:
    outer, along, inner = tile
    return outer.stop - outer.start, along.stop - along.start, inner.stop - inner.start


def _cuts(start: int, stop: int, step: int) -> Iterator[slice]:
    for first in range(start, stop, step):
        yield slice(first, min(first + step, stop))
