"""The engine of ``zeropoint verify``: every operation of the core against the NumPy reference.

The inputs are made to find differences: half steps and their float neighbours, NaN, Inf, huge and
subnormal numbers, sizes around those of vectors, odd offsets and strides.  They come from a fixed
seed, so a difference that was found once is found again.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import _api, _backend, _checks, _compare, _lookup, _q8_0
from ._chunks import unlike
from ._conventions import CONVENTIONS, OFFSET_CONVENTIONS
from ._layout import Layout
from ._params import OffsetParams, Params, QuantParams
from ._reference import BY_RECIPROCAL, BY_SPAN, Array, working_dtype
from .observers import HistogramObserver

with contextlib.suppress(ImportError):  # after it NumPy knows the names of its dtypes
    importlib.import_module("ml_dtypes")

Generator = np.random.Generator

#: the dtypes that are checked; bfloat16 only where ml_dtypes is installed
REALS = tuple(np.dtype(name) for name in _checks.FLOATS if name in np.sctypeDict)
CODES = np.dtype(np.uint8), np.dtype(np.int8)
EVERY_CONVENTION = (*CONVENTIONS, *OFFSET_CONVENTIONS)
INTEGERS = tuple(np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8))

# A vector holds 2 to 64 elements, and a loop takes up to four at a time.
_SIZES = sorted(
    {j * 2**k + d for k in range(1, 7) for j in range(1, 5) for d in (-1, 0, 1)} | {0, 1025, 4099}
)

_SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0]
_SPECIAL += [
    sign * value
    for sign in (1, -1)
    for value in (
        *(5e-324, 1e-310, 1e-45, 1e-40, 6e-8, 3e-5),  # subnormal in one dtype or another
        *(2.0**-126, 2.0**-1022, 6.1035156e-05),  # the smallest normal numbers
        *(0.5, 1.5, 2.5, 254.5, 2.0**23 - 0.5, 2.0**23 + 1, 2.0**24, 1.5 * 2.0**23, 2.0**52 - 0.5),
        *(2.0**31, 2.0**63, 65504.0, 1e30, 3.4028234e38, 1e300, 1.7976931348623157e308),
    )
]


# Kernels with no function of their own: conversion stands before and after the other loops, and
# long runs of shared parameters are quantized without the division where a proof allows it.
# Results larger than the caches are stored past them; all are with ZEROPOINT_STREAM_FROM=0.
_WITHIN = (
    *("convert", "certify", "quantize_runs", "gather", "scatter", "transpose", "swap_bytes"),
    *("clipped", "clipped_offset", "tally", "fewest", "mark", "min_max_present"),
    *("quantize_offset", "dequantize_offset", "fake_quantize_offset"),
)


class Row(NamedTuple):
    """One operation on one backend."""

    backend: str
    operation: str
    cases: int  #: calls compared
    elements: int  #: elements compared
    differences: int  #: calls with at least one element that differs
    first: str  #: what differs in the first of them


class _Case(NamedTuple):
    elements: int
    call: Callable[..., Array]
    has_out: bool = True  #: whether `call` takes `out`


def run(backends: Sequence[str] | None = None) -> Iterator[Row]:
    """Check the compiled `backends` (all of them by default), a row per operation.

    Raises RuntimeError if the core has a kernel that no operation here would run.
    """
    unknown = [kernel for kernel in _backend.core_info().get("kernels", []) if not _is_run(kernel)]
    if unknown:
        raise RuntimeError(f"no operation of the self-check runs these kernels: {unknown}")
    # the reference cannot be its own oracle
    compiled = [
        b for b in (_backend.backends() if backends is None else backends) if b != "reference"
    ]
    for operation, cases in OPERATIONS.items() if compiled else ():
        yield from _rows(compiled, operation, cases())


def _is_run(kernel: str) -> bool:
    """Whether a kernel ("operation A B") is of an operation and of types that are checked."""
    operation, *types = kernel.split()
    known = {"even", "away", *(name.replace("-", "_") for name in EVERY_CONVENTION)}
    known |= {name.replace("float", "f") for name in _checks.FLOATS}
    known |= {f"{dtype.kind}{8 * dtype.itemsize}" for dtype in INTEGERS}
    return operation in {*OPERATIONS, *_WITHIN} and known.issuperset(types)


def _rows(backends: Sequence[str], operation: str, cases: Iterator[_Case]) -> Iterator[Row]:
    """Of each case, which takes as long to draw as to check, on all the backends."""
    count = elements = 0
    differences, first = dict.fromkeys(backends, 0), dict.fromkeys(backends, "")
    for case in cases:
        count += 1
        elements += case.elements
        answers: list[Any] = []
        for backend in backends:
            if problem := _problem(backend, case, answers):
                differences[backend] += 1
                first[backend] = first[backend] or problem
    for backend in backends:
        yield Row(backend, operation, count, elements, differences[backend], first[backend])


def _problem(backend: str, case: _Case, answers: list[Any]) -> str:
    """What differs; empty where nothing does.

    `answers` are the reference's for this case, in the order of its calls, which the first backend
    fills: none of them changes what is asked, or its results differ.

    Under `verify` calls take the general path, so a second one takes the fast path, and a third
    writes over wrong bytes, because fresh memory may hold an earlier result.
    """
    known = iter([*answers])

    def ask(reference: Callable[..., Any], *arguments: Any) -> Any:
        for answer in known:
            return answer
        answers.append(reference(*arguments))
        return answers[-1]

    with _backend.use_backend(backend):
        token = _backend.ask.set(ask)
        try:
            with _backend.verify():
                checked = case.call()
        except _backend.VerificationError as error:
            return str(error)
        finally:
            _backend.ask.reset(token)
        if case.call().tobytes() != checked.tobytes():
            return f"{backend}: the fast path and the general path differ"
        if case.has_out and case.call(out=unlike(checked)).tobytes() != checked.tobytes():
            return f"{backend}: with out the fast path and the general path differ"
    return ""


# ---------------------------------------------------------------------------------------------
# Inputs


def _layouts(n: int) -> list[Layout]:
    """Per tensor; per channel of the first, a middle and the last axis; blocks of both axes.

    Some axes count from the end, as callers may.
    """
    return [
        Layout((n,)),
        Layout((3, n), 0),
        Layout((2, 3, n), 1),
        Layout((3, n), -1),
        Layout((2, n), 1, 16),
        Layout((2, n), -1, 5),
        Layout((5, n), 0, 2),
    ]


_KINDS = range(len(_layouts(0)))


def _parameters(layout: Layout) -> tuple[int, ...]:
    return _checks.layout(*layout).params_shape


#: with runs so long that the core quantizes them without the division
_LONG = Layout((20_011,)), Layout((2, 8_201), 0), Layout((20_011,), 0, 8_209)
#: with few channels, one after the other in memory: tiles whose room is no multiple of a vector
_TILED = (Layout((2_184, 15), 1), Layout((3_276, 10), 1))
#: and with so many that their ranges are not all found before the first is quantized
_MANY = Layout((3, 7_001), 1, 3), Layout((1_300, 33), 0), Layout((70, 700), 0, 32)


def _with_sizes(combinations: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Every combination with every fifth size, in turn.

    The numbers of dtypes, layouts and so on have no factor 5, so each of them meets all sizes.
    """
    for i, combination in enumerate(combinations):
        for n in _SIZES[i % 5 :: 5]:
            yield n, combination


def _with_layouts(kinds: Iterable[int], *choices: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """(layout, one of each of the choices), in every combination of a kind of layout and these."""
    for n, (kind, *rest) in _with_sizes(itertools.product(kinds, *choices)):
        yield _layouts(n)[kind], *rest


def _codes(rng: Generator, codes: np.dtype[Any]) -> dict[str, Any]:
    """A range of codes, and now and then a code for NaN: at an end of it, or outside."""
    info = np.iinfo(codes)
    qmin, qmax = int(info.min), int(info.max)
    part = rng.integers(3) == 0
    nan_code: int | None = int(rng.choice([qmin, qmax])) if rng.integers(3) == 0 else None
    if part:
        qmin, qmax = qmin + int(rng.integers(100)), qmax - int(rng.integers(100))
    elif nan_code is not None:
        qmin, qmax = qmin + (nan_code == qmin), qmax - (nan_code == qmax)
    return {"qmin": qmin, "qmax": qmax, "nan_code": nan_code}


def _choose(
    rng: Generator, layout: Layout, codes: np.dtype[Any], convention: str, real: np.dtype[Any]
) -> Params:
    """Parameters at random: scales of any size and precision, any range, any zero point or offset,
    with a code for NaN or without."""
    recipe = _codes(rng, codes) | {"axis": layout.axis, "block_size": layout.block}
    recipe |= {"dtype": codes, "convention": convention}
    if recipe["nan_code"] in (recipe["qmin"], recipe["qmax"]):
        recipe["nan_code"] = None
    qmin, qmax = int(recipe["qmin"]), int(recipe["qmax"])
    shape = _parameters(layout)
    # powers of two give exact half steps in every dtype
    scale = np.ldexp(rng.choice([1.0, rng.uniform(0.5, 2)], shape), rng.integers(-9, 3))
    kind = int(rng.integers(8))
    if kind == 0:
        scale = scale * 1e33
    elif kind == 1 and convention not in BY_RECIPROCAL:  # there 1/s would overflow
        scale = scale * 1e-39  # subnormal in float32
    far = convention == "numpy" and rng.integers(6) == 0
    reach = (-(10**6), 10**6) if far else (qmin, qmax)
    zero = rng.integers(*reach, shape, endpoint=True)
    # in one of four cases not the precision of the data
    wide = (real == np.float64) != (rng.integers(4) == 0)
    scale = np.asarray(scale, np.float64 if wide else np.float32)
    if convention in CONVENTIONS:
        return QuantParams(scale, zero if shape else int(zero), include_zero=not far, **recipe)
    # half of them such that the digits of the sums are those of the codes alone
    offset = np.asarray(-zero * scale * rng.choice([1.0, 1.37]), scale.dtype)
    if convention not in BY_SPAN:
        return OffsetParams(scale, offset, **recipe)
    span = np.asarray(scale * (qmax - qmin) * (rng.integers(12, size=shape) > 0), scale.dtype)
    fused = convention == "faiss" and not wide and bool(rng.integers(2))
    return OffsetParams(None, offset, span=span, fused=fused, **recipe)


def _near_half_steps(
    rng: Generator, params: Params, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    """Numbers at and beside the boundaries between codes, one in eight special."""
    layout = params._check_fits(shape)
    assert isinstance(params, QuantParams | OffsetParams)
    scale = layout.spread(np.asarray(params.scale)).astype(np.float64)
    code = rng.integers(params.qmin - 2, params.qmax + 2, shape) + 0.5
    if isinstance(params, QuantParams):
        middle = (code - layout.spread(np.asarray(params.zero_point))) * scale
    else:
        if params.convention in BY_SPAN:  # whole steps above the offset
            code = code - params.qmin - 0.5
        middle = code * scale + layout.spread(np.asarray(params.offset))
    return _special(rng, _beside(rng, middle, dtype))


def _beside(rng: Generator, x: Array, dtype: np.dtype[Any]) -> Array:
    """`x` or one of its two neighbours in the working precision, as `dtype`."""
    with np.errstate(all="ignore"):
        y = x.astype(working_dtype(dtype))
        return np.asarray(np.nextafter(y, y + rng.integers(-1, 2, x.shape) * np.abs(y))).astype(
            dtype
        )


def _special(rng: Generator, x: Array) -> Array:
    with np.errstate(all="ignore"):
        special = np.asarray(rng.choice(_SPECIAL, x.shape)).astype(x.dtype)
    return np.where(rng.integers(8, size=x.shape) == 0, special, x)


def _placed(rng: Generator, x: Array) -> Array:
    """`x` at an odd offset in memory; or now and then with a stride, backwards, with its axes in
    another order, in rows of longer ones, in rows that overlap, in the other byte order."""
    kind = rng.choice(["plain", "plain", "steps", "permuted", "rows", "windows", "swapped"])
    if kind == "windows" and x.size:  # each row begins with the second element of the one before
        windows = np.lib.stride_tricks.sliding_window_view(x.reshape(-1), x.shape[-1])
        return windows[: x.size // x.shape[-1]].reshape(x.shape)
    if kind == "permuted":
        order = tuple(rng.permutation(x.ndim))
        return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
    if kind == "rows":
        longer = np.empty((*x.shape[:-1], x.shape[-1] + 3), x.dtype)
        placed = longer[..., 1:-2]
    else:
        stride = int(rng.choice([2, 3, 5, -1])) if kind == "steps" else 1
        offset = int(rng.integers(4))
        dtype = x.dtype.newbyteorder() if kind == "swapped" else x.dtype
        memory = np.empty(x.size * abs(stride) + offset, dtype)
        steps = memory[offset :: abs(stride)][: x.size][:: 1 if stride > 0 else -1]
        placed = steps.reshape(x.shape)  # a view, since the steps are equal
    placed[...] = x
    return placed


# ---------------------------------------------------------------------------------------------
# The operations


def _quantize(function: Callable[..., Array]) -> Iterator[_Case]:
    rng = np.random.default_rng(1)
    choices = EVERY_CONVENTION, CODES, REALS
    for layout, convention, codes, real in itertools.chain(
        _with_layouts(_KINDS, *choices),
        itertools.product(_LONG, *choices),
        itertools.product(_TILED, EVERY_CONVENTION, CODES[:1], REALS),
    ):
        params = _choose(rng, layout, codes, convention, real)
        x = _near_half_steps(rng, params, layout.shape, real)
        x = np.asfortranarray(x) if layout in _TILED else _placed(rng, x)
        yield _Case(x.size, partial(function, x, params))


def _dequantize() -> Iterator[_Case]:
    rng = np.random.default_rng(2)
    for layout, convention, codes, real in _with_layouts(_KINDS, EVERY_CONVENTION, CODES, REALS):
        params = _choose(rng, layout, codes, convention, real)
        q = _placed(rng, rng.integers(0, 256, layout.shape, np.uint8).view(codes))
        dtype = None if real == np.float32 else real  # None takes the fast path
        yield _Case(q.size, partial(_api.dequantize, q, params, dtype=dtype))


def _requantize() -> Iterator[_Case]:
    rng = np.random.default_rng(3)
    for layout, codes in _with_layouts((0, 1, 2, 3) * 8, CODES):
        params = _choose(rng, layout, codes, "onnx", np.dtype(np.float32))
        assert isinstance(params, QuantParams)
        # steps of the accumulator far finer than the codes'; by 2 every other one is a half step
        acc_scale = np.asarray(params.scale, np.float64) / rng.choice([2.0, 1000.0, 3e6, 1e7])
        steps = np.asarray(rng.integers(-600, 601, layout.shape) * 10.0 ** rng.integers(0, 7))
        acc = np.where(
            rng.integers(8, size=layout.shape) == 0,
            rng.choice([-(2**31), 2**31 - 1, 0, 2**24 + 1], layout.shape),
            steps,
        ).astype(np.int32)
        acc = _placed(rng, acc)
        yield _Case(acc.size, partial(_api.requantize, acc, acc_scale, params))


def _saturate() -> Iterator[_Case]:
    rng = np.random.default_rng(4)
    integers = [np.dtype(name) for name in ("int16", "int32", "int64")]
    wide = itertools.product((*REALS, *integers) * 4, [(-128, 127), (0, 255), (-3, 5)])
    codes = itertools.product(CODES * 4, [(0, 127), (3, 100), (5, 5)])
    for n, (real, (low, high)) in _with_sizes(itertools.chain(wide, codes)):
        x = _placed(rng, _numbers(rng, n, real))
        yield _Case(n, partial(_api.saturate, x, low, high))


def _saturate_cast() -> Iterator[_Case]:
    rng = np.random.default_rng(5)
    for n, (real, codes) in _with_sizes(itertools.product((*REALS, *INTEGERS) * 4, CODES)):
        x = _placed(rng, _numbers(rng, n, real))
        yield _Case(n, partial(_api.saturate_cast, x, codes))


def _round() -> Iterator[_Case]:
    rng = np.random.default_rng(6)
    for n, (real, ties) in _with_sizes(itertools.product(REALS * 4, ("even", "away"))):
        x = _placed(rng, _numbers(rng, n, real))
        yield _Case(n, partial(_api.round, x, ties=ties))


def _numbers(rng: Generator, n: int, dtype: np.dtype[Any]) -> Array:
    """Halves and their neighbours within and beyond 8 bits, or integers of any size."""
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        near = rng.integers(max(-300, info.min), min(300, info.max), n, dtype, endpoint=True)
        far = rng.integers(info.min, info.max, n, dtype, endpoint=True)
        return np.where(rng.integers(4, size=n) == 0, far, near)
    return _special(rng, _beside(rng, rng.integers(-600, 600, n) / 2, dtype))


def _min_max() -> Iterator[_Case]:
    """Per tensor and channel by `min_max`; blocks by `choose_params`, the only way to them."""
    rng = np.random.default_rng(7)
    specials = ("none", "finite", "any") * 2
    for layout, special, skip_nan, real in _with_layouts(_KINDS, specials, (False, True), REALS):
        x = (rng.standard_normal(layout.shape) * 100).astype(real)
        if special != "none":
            x = _special(rng, x)
        if special == "finite":
            x = np.where(np.isfinite(x), x, real.type(1))
        if skip_nan:
            x = _holey(rng, x)
        x = _placed(rng, x)
        yield _Case(x.size, partial(_range_of, x, layout, skip_nan), has_out=False)


def _holey(rng: Generator, x: Array) -> Array:
    """`x` with NaN among its elements, few or nearly all."""
    nan = np.asarray(rng.choice([np.nan, -np.nan], x.shape), x.dtype)
    return np.where(rng.random(x.shape) < rng.choice([0.02, 0.5, 0.9]), nan, x)


def _range_of(x: Array, layout: Layout, skip_nan: bool) -> Array:
    axis, block = layout.axis, layout.block
    try:
        if block is None:
            return np.stack(_api.min_max(x, channel_axis=axis, skip_nan=skip_nan))
        params = _api.choose_params(x, axis=axis, block_size=block, skip_nan=skip_nan)
    except ValueError:  # no data, or NaN or Inf: raised after the comparison
        return np.empty(0)
    return np.asarray(params.scale)


def _histogram() -> Iterator[_Case]:
    """The table of a `HistogramObserver`, which counts finite data of any range."""
    rng = np.random.default_rng(9)
    kinds = [kind for kind, layout in enumerate(_layouts(0)) if layout.block is None]
    for layout, real in itertools.chain(
        _with_layouts(kinds * 5, REALS), itertools.product(_LONG[:2], REALS)
    ):
        if math.prod(_parameters(layout)) > 64:
            continue  # each channel takes 32 KiB
        x = _special(rng, (rng.standard_normal(layout.shape) * 100).astype(real))
        x = np.where(np.isfinite(x), x, real.type(1))
        skip_nan = rng.integers(3) == 0
        x = _placed(rng, _holey(rng, x) if skip_nan else x)
        yield _Case(x.size, partial(_counted, x, layout.axis, bool(skip_nan)), has_out=False)


def _counted(x: Array, axis: int | None, skip_nan: bool) -> Array:
    return HistogramObserver(axis=axis, skip_nan=skip_nan).update(x)._table


def _errors() -> Iterator[_Case]:
    """The figures of `error_stats`, of data that are finite, partly zero and partly clipped."""
    rng = np.random.default_rng(10)
    choices = EVERY_CONVENTION, REALS
    for layout, convention, real in itertools.chain(
        _with_layouts(_KINDS, *choices), itertools.product(_LONG, *choices)
    ):
        codes = CODES[rng.integers(2)]  # by turns: the reference takes its time
        params = _choose(rng, layout, codes, convention, real)
        x = _near_half_steps(rng, params, layout.shape, real)
        x = _placed(rng, np.where(np.isfinite(x), x, real.type(0)))
        yield _Case(x.size, partial(_figures, x, params), has_out=False)


def _figures(x: Array, params: Params) -> Array:
    if x.size == 0:  # an error
        return np.empty(0)
    figures = _compare.error_stats(x, params).to_dict().values()
    return np.array([float(figure) for figure in figures])


def _quantize_dynamic() -> Iterator[_Case]:
    """Range, choice of parameters and codes; the bytes of all three."""
    rng = np.random.default_rng(8)
    rules = ("max", "min", "least_error", "default", "symmetric")
    for layout, codes, convention, real in itertools.chain(
        _with_layouts(_KINDS, CODES, EVERY_CONVENTION, REALS),
        itertools.product(_LONG + _MANY, CODES[1:], EVERY_CONVENTION, REALS),
    ):
        rule = str(rng.choice(rules)) if convention in CONVENTIONS else "default"
        scale = 10.0 ** rng.integers(-6, 4)
        x = ((rng.standard_normal(layout.shape) + rng.integers(-2, 3)) * scale).astype(real)
        x = np.where(np.isfinite(x), x, real.type(1))
        skip_nan = bool(rng.integers(3) == 0)
        x = _placed(rng, _holey(rng, x) if skip_nan else x)
        keywords = {
            "zero_point_from": None if rule in ("default", "symmetric") else rule,
            "symmetric": rule == "symmetric",
            "convention": convention,
            "axis": layout.axis,
            "block_size": layout.block,
            "skip_nan": skip_nan,
            **_codes(rng, codes),
        }
        yield _Case(x.size, partial(_dynamic, x, codes, keywords), has_out=False)


def _dynamic(x: Array, codes: np.dtype[Any], keywords: dict[str, Any]) -> Array:
    try:
        q, params = _api.quantize_dynamic(x, codes, **keywords)
    except ValueError:  # no data
        return np.empty(0)
    results = q, *params._arrays
    return np.frombuffer(b"".join(result.tobytes() for result in results), np.uint8)


def _to_q8_0() -> Iterator[_Case]:
    """Blocks at and beside half steps, with scales of any size, some of which are stored as 0."""
    rng = np.random.default_rng(12)
    for n, (real, _) in _with_sizes(itertools.product(REALS, range(6))):
        steps = rng.integers(-127, 127, (n, 32)) + rng.choice([0.0, 0.5], (n, 32))
        steps[:, :1] = rng.choice([0.0, 127.0, -127.0], (n, 1))
        x = _beside(rng, np.ldexp(steps, rng.integers(-140, 15, (n, 1))), real)
        x = np.where(np.isfinite(x), x, real.type(0))
        yield _Case(x.size, partial(_q8_0.quantize, _placed(rng, x)), has_out=False)


def _from_q8_0() -> Iterator[_Case]:
    rng = np.random.default_rng(13)
    for n, (real, _) in _with_sizes(itertools.product(REALS, range(6))):
        blocks = rng.integers(256, size=(n, 34), dtype=np.uint8)
        blocks[:, 1] &= 0xBF  # the scale is finite
        yield _Case(n * 32, partial(_q8_0.dequantize, blocks, real), has_out=False)


def _look_up() -> Iterator[_Case]:
    """Tables of all codes in any order, one or one a channel; few channels in turn among them."""
    rng = np.random.default_rng(14)
    kinds = (0, 0, 0, 0, 0, *range(1, 8))
    for n, (kind, *dtypes) in _with_sizes(itertools.product(kinds, CODES, CODES)):
        layout = [*_layouts(n)[:4], *(Layout((n, k), 1) for k in (2, 3, 4, 7))][kind]
        shape = _parameters(layout)
        source, target = (
            QuantParams(
                np.ones(shape), np.zeros(shape, int) if shape else 0, dtype, axis=layout.axis
            )
            for dtype in dtypes
        )
        table = rng.permuted(np.tile(np.arange(256, dtype=np.uint8), (*shape, 1)), axis=-1)
        table = table.reshape(*shape, 256).view(target.dtype)
        q = _placed(rng, rng.integers(0, 256, layout.shape, np.uint8).view(source.dtype))
        yield _Case(q.size, partial(_lookup._restored(source, target, table, 0.0), q))


OPERATIONS: dict[str, Callable[[], Iterator[_Case]]] = {
    "quantize": partial(_quantize, _api.quantize),
    "dequantize": _dequantize,
    "fake_quantize": partial(_quantize, _api.fake_quantize),
    "requantize": _requantize,
    "saturate": _saturate,
    "saturate_cast": _saturate_cast,
    "round": _round,
    "min_max": _min_max,
    "histogram": _histogram,
    "errors": _errors,
    "quantize_dynamic": _quantize_dynamic,
    "to_q8_0": _to_q8_0,
    "from_q8_0": _from_q8_0,
    "lookup": _look_up,
}
