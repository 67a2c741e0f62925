"""Random views of one memory: strided, negative, broadcast, misaligned, byte-swapped, read-only,
overlapping.  Every operation of every ISA gives what the reference gives for a plain copy.

Hypothesis draws them by a fixed seed; `tests/deep` draws twenty times as many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import zeropoint as zp

pytestmark = pytest.mark.slow("a thousand random views")

Array = np.ndarray[Any, Any]

NATIVE = [name for name in zp.backends() if name != "reference"]
REALS = [np.dtype(t) for t in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]
CODES = [np.dtype(t) for t in (np.uint8, np.int8)]
INTEGERS = [np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)]
BYTES = 15_000  # of the memory that the views are of


class View(NamedTuple):
    """How to look at the memory: a block of it, cut, transposed and perhaps repeated, or in windows
    that have elements in common."""

    offset: int
    shape: tuple[int, ...]
    cuts: tuple[slice, ...]
    order: tuple[int, ...]
    repeated: int  #: 0: not at all, else so often, along an axis of its own in front
    window: int = 0  #: 0: none, else so many elements of the last axis, along an axis of its own


WHOLE = slice(None)
CUTS = [WHOLE, slice(None, None, -1), slice(None, None, 2), slice(1, -1), slice(3, None, 3)]
CUTS += [slice(-2, 1, -2), slice(None, 1), slice(5, 2)]


@st.composite
def views(draw: Any) -> View:
    ndim = draw(st.sampled_from([0, 1, 1, 2, 2, 3]))
    longest = (1500, 36, 11)[ndim - 1]
    lengths = st.sampled_from([0, 1, 3, longest // 2, longest - 1, longest, longest, longest])
    shape = tuple(draw(lengths) for _ in range(ndim))
    if draw(st.booleans()):  # of one chunk
        cuts, order = (WHOLE,) * ndim, tuple(range(ndim))
    else:
        cuts = tuple(draw(st.sampled_from(CUTS)) for _ in range(ndim))
        order = tuple(draw(st.permutations(range(ndim))))
    repeated = draw(st.sampled_from([0, 0, 0, 3]))
    window = draw(st.sampled_from([0, 0, 0, 2, 5]))
    return View(draw(st.integers(0, 70)), shape, cuts, order, repeated, window)


def start_of(view: View, dtype: np.dtype[Any]) -> int:
    """The byte where the block starts; aligned more often than not."""
    return view.offset * dtype.itemsize if view.offset % 3 else view.offset


def look(memory: Array, view: View, dtype: np.dtype[Any]) -> Array:
    """The view of `memory`, an array of bytes."""
    start, n = start_of(view, dtype), int(np.prod(view.shape))
    x = memory[start : start + n * dtype.itemsize].view(dtype).reshape(view.shape)
    x = x[(*view.cuts, ...)].transpose(view.order)
    if x.ndim and x.shape[-1] >= view.window > 0:
        x = np.lib.stride_tricks.sliding_window_view(x, view.window, axis=-1)
    return np.broadcast_to(x, (view.repeated, *x.shape)) if view.repeated else x


class Operation(NamedTuple):
    source: list[np.dtype[Any]]
    target: Callable[[np.dtype[Any], np.dtype[Any]], np.dtype[Any] | None]  #: of source and codes
    call: Callable[..., Any]  #: of x, parameters and out


OPERATIONS = {
    "quantize": Operation(REALS, lambda x, q: q, lambda x, p, out: p.quantize(x, out=out)),
    "fake_quantize": Operation(
        REALS, lambda x, q: x, lambda x, p, out: p.fake_quantize(x, out=out)
    ),
    "requantize": Operation(
        [np.dtype(np.int32)], lambda x, q: q, lambda x, p, out: zp.requantize(x, 1e-3, p, out=out)
    ),
    "saturate": Operation(
        [*REALS, *(np.dtype(f"i{size}") for size in (2, 4, 8))],
        lambda x, q: x,
        lambda x, p, out: zp.saturate(x, -3, 90, out=out),
    ),
    "saturate_cast": Operation(
        [*REALS, *INTEGERS], lambda x, q: q, lambda x, p, out: zp.saturate_cast(x, p.dtype, out=out)
    ),
    "round": Operation(REALS, lambda x, q: x, lambda x, p, out: zp.round(x, ties="away", out=out)),
    "quantize_dynamic": Operation(
        REALS,
        lambda x, q: q,
        lambda x, p, out: (
            zp.quantize_dynamic(x, p.dtype, axis=p.axis, block_size=p.block_size)[0]
            if out is None
            else zp.quantize_dynamic(x, p.dtype, axis=p.axis, block_size=p.block_size, out=out)[0]
        ),
    ),
    "histogram": Operation(
        REALS, lambda x, q: None, lambda x, p, out: zp.HistogramObserver(axis=p.axis).update(x)
    ),
    "error_stats": Operation(REALS, lambda x, q: None, lambda x, p, out: zp.error_stats(x, p)),
    "min_max": Operation(
        REALS, lambda x, q: None, lambda x, p, out: zp.min_max(x, channel_axis=p.axis)
    ),
    "choose_params": Operation(
        REALS,
        lambda x, q: None,
        lambda x, p, out: zp.choose_params(x, axis=p.axis, block_size=p.block_size),
    ),
    **{
        f"dequantize to {real}": Operation(
            CODES,
            lambda x, q, real=real: real,  # type: ignore[misc]
            lambda x, p, out, real=real: p.dequantize(x, dtype=real, out=out),
        )
        for real in REALS
    },
}


@st.composite
def cases(draw: Any) -> dict[str, Any]:
    name = draw(st.sampled_from(sorted(OPERATIONS)))
    source = draw(st.sampled_from(OPERATIONS[name].source))
    case = {
        "name": name,
        "source": source,
        "codes": source if "dequantize" in name else draw(st.sampled_from(CODES)),
        "view": draw(views()),
        "swapped": draw(st.sampled_from([False, False, True])),
        "read_only": draw(st.booleans()),
        "axis": draw(st.sampled_from([None, 0, 1, -1])),
        "block": draw(st.sampled_from([None, 1, 5])),
        "convention": draw(st.sampled_from(list(zp.CONVENTIONS))),
        "out": draw(st.sampled_from(["fresh", "plain", "view", "same memory"])),
        "out_shift": draw(st.sampled_from([0, 0, 1, 2, 16, 64, -1, -16, -64])),
        "out_odd": draw(st.sampled_from([0, 0, 0, 1])),
        "out_step": draw(st.sampled_from([1, 1, 2, -1, -3])),
        "seed": draw(st.integers(0, 2**16)),
    }
    if draw(st.sampled_from([False, False, True])):
        # one plain array over another, a little further on: what a loop would get wrong
        shape = draw(st.sampled_from([(1500,), (36, 33), (11, 9, 11)]))
        whole = (WHOLE,) * len(shape)
        case["view"] = View(1, shape, whole, tuple(range(len(shape))), 0)
        case |= {"swapped": False, "out": "same memory", "out_odd": 0, "out_step": 1}
        case["out_shift"] = draw(st.sampled_from([1, 2, 7, 16, 64]))
    return case


class Tally:
    """How much was compared."""

    def __init__(self) -> None:
        self.views = self.calls = self.overlapping = 0

    def __str__(self) -> str:
        return (
            f"{self.views:,} views, {self.calls:,} calls on {', '.join(NATIVE)}, "
            f"{self.overlapping:,} of them with out over the input: 0 differ"
        )


def filled(dtype: np.dtype[Any], view: View, rng: np.random.Generator) -> Array:
    """Memory full of finite numbers, as the view finds them; they reach beyond the codes."""
    n = BYTES // dtype.itemsize
    if dtype.kind in "iu":
        values = rng.integers(0, 256, n * dtype.itemsize, np.uint8).view(dtype)
    else:
        values = (rng.normal(size=n) * 60).astype(dtype)
    odd = bytes(start_of(view, dtype) % dtype.itemsize)
    return np.frombuffer(odd + values.tobytes(), np.uint8)


def check(case: dict[str, Any], tally: Tally) -> None:
    """One view through one operation, on every native backend."""
    operation, dtype, view = OPERATIONS[case["name"]], case["source"], case["view"]
    rng = np.random.default_rng(case["seed"])
    foreign = dtype
    if case["swapped"] and dtype.name != "bfloat16":  # which has no other byte order
        foreign = dtype.newbyteorder()
    values = filled(foreign, view, rng)
    plain = np.array(look(values, view, foreign).astype(dtype), order="C")
    params = parameters(case, plain.shape, rng)
    with zp.use_backend("reference"):
        expected = outcome(operation.call, plain, params, None)
    tally.views += 1
    for name in NATIVE:
        memory = values.copy()
        x = look(memory, view, foreign)
        target = operation.target(dtype, case["codes"])
        out, room = target_of(case, memory, x.shape, target)
        if case["read_only"]:
            x = x.view()
            x.flags.writeable = False
        before = room.bytes.copy()
        with zp.use_backend(name):
            got = outcome(operation.call, x, params, out)
        assert got == expected, name
        assert ((room.bytes == before) | room.is_out).all(), name
        tally.calls += 1
        tally.overlapping += out is not None and x.size > 4 and np.may_share_memory(x, out)


def parameters(case: dict[str, Any], shape: tuple[int, ...], rng: Any) -> zp.QuantParams:
    """Random parameters that fit the shape, if it has such an axis."""
    axis, block = case["axis"], case["block"]
    if axis is None or not -len(shape) <= axis < len(shape):
        axis = block = None
    if case["name"] == "requantize":
        block = None
    form: tuple[int, ...] = ()
    if axis is not None:
        at = axis % len(shape)
        blocks = -(-shape[at] // block) if block else 0
        form = (*shape[:at], blocks, *shape[at + 1 :]) if block else (shape[at],)
    info = np.iinfo(case["codes"])
    return zp.QuantParams(
        np.asarray(rng.uniform(0.2, 2, form), np.float32),
        rng.integers(info.min, info.max, form, endpoint=True) if form else int(info.max) - 100,
        case["codes"],
        axis=axis,
        block_size=block,
        convention=case["convention"],
    )


def outcome(call: Callable[..., Any], x: Array, params: zp.QuantParams, out: Array | None) -> Any:
    """Result as a value to compare, bits and all; or the error, which must be the same too."""
    try:
        result = call(x, params, out)
    except ValueError as error:
        return str(error)
    if isinstance(result, (zp.QuantParams, zp.HistogramObserver, zp.ErrorStats)):
        return result
    if isinstance(result, tuple):
        return [(np.asarray(part).dtype, np.asarray(part).tobytes()) for part in result]
    assert out is None or result is out
    assert out is not None or result.flags.c_contiguous
    return result.dtype, result.shape, result.tobytes()


class Room(NamedTuple):
    """The memory that `out` is a view of, and which of its bytes belong to `out`."""

    bytes: Array
    is_out: Array


def target_of(
    case: dict[str, Any], memory: Array, shape: tuple[int, ...], dtype: np.dtype[Any] | None
) -> tuple[Array | None, Room]:
    """`out` as the case wants it: absent, an array of its own, or a view, perhaps of `memory`."""
    if case["out"] == "fresh" or dtype is None:
        return None, Room(np.empty(0, np.uint8), np.empty(0, np.bool_))
    n, step, first = int(np.prod(shape)), 1, 0
    if case["out"] != "plain":
        step = case["out_step"]
        first = start_of(case["view"], case["source"]) + case["out_shift"] * dtype.itemsize
        first = max(0, first) + case["out_odd"]
    span = slice(first, first + n * abs(step) * dtype.itemsize)
    if case["out"] != "same memory" or span.stop > memory.size:
        memory = np.full(span.stop + 40, 0xA5, np.uint8)
    is_out = np.zeros(memory.size, np.uint8)
    is_out[span].view(f"u{dtype.itemsize}")[::step][:n] = np.iinfo(f"u{dtype.itemsize}").max
    return memory[span].view(dtype)[::step][:n].reshape(shape), Room(memory, is_out == 255)


def run(examples: int, phases: tuple[Phase, ...] = tuple(Phase)) -> Tally:
    """Draw so many cases and check them."""
    tally = Tally()

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def every(case: dict[str, Any]) -> None:
        check(case, tally)

    every()
    assert tally.views >= examples
    return tally


@pytest.mark.skipif(not NATIVE, reason="the compiled core is absent")
def test_random_views(note: Any) -> None:
    tally = run(1000)
    note(str(tally))


@pytest.mark.skipif(not NATIVE, reason="the compiled core is absent")
@pytest.mark.parametrize("broken", ["the order of a copy", "the check for overlap"])
def test_a_wrong_view_is_found(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    if broken == "the order of a copy":
        right = zp._backend.contiguous
        monkeypatch.setattr(zp._backend, "contiguous", lambda x: right(x.T).reshape(x.shape))
    else:
        monkeypatch.setattr(np, "may_share_memory", lambda a, b: False)
    with pytest.raises(AssertionError):
        run(1000, (Phase.generate,))  # the first will do
