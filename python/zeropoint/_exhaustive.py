"""The engine of ``zeropoint verify --deep``: whole domains where `_selfcheck` takes samples.

- ``quantize``: every float32 (all 2^32 bit patterns), every float16 and bfloat16, with `PAIRS` of
  scale and zero point and `STEPS` from a real offset, or with all 256 zero points;
- ``fake_quantize``: every float32 with the same parameters;
- ``dequantize``: every code with every zero point and `SCALES` scales, and with as many real
  offsets;
- ``choose_params``: `RANGES` ranges of data at random and all pairs of the hard ends.

Kernels are never their own oracle.  For fixed parameters the code is a monotone function of x, so
the reference's answer for 2^32 inputs is a few hundred runs of equal codes, found by bisection; the
kernels' codes are compared with them, element by element.  Values and errors are compared in
arithmetic that is exact, as the comments say.
"""

from __future__ import annotations

import itertools
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from . import _api, _backend, _reference
from ._choice import RULES, Choice, ChoiceKeywords
from ._conventions import CONVENTIONS, OFFSET_CONVENTIONS
from ._params import OffsetParams, Params, QuantParams, quantize_by_reference
from ._reference import BY_SPAN, Array
from ._selfcheck import CODES, REALS, Row

#: (scale, zero point counted from qmin): a step of 1/255; one where the product with the rounded
#: reciprocal is an ulp off; a power of two; two where float32 products overflow; a subnormal one
#: whose reciprocal is finite; two plain ones.  Both ends, the middle and others as zero points.
PAIRS = (
    *((1 / 255, 0), (1.96185386, 128), (2.0**-7, 255), (1e-30, 128)),
    *((1e30, 64), (3e-39, 200), (0.1, 128), (0.0078, 7)),
)
#: (size of a step, real offset): plain ones; one of 1/255, whose 255 steps are not quite 1; a power
#: of two; offsets that take digits from x, and all of them; where float32 overflows; a subnormal
#: step, and one so small that it is 0 where the span is kept; a span of 0.
STEPS = (
    *((0.1, -12.8), (1 / 255, 0.0), (2.0**-7, 0.5), (0.0078, -1e4), (1e-6, 1e6)),
    *((1e30, -1e32), (3e-39, 1e-38), (5e-45, 0.0), (0.0, 7.0)),
)
#: Every zero point with one scale: 0.1 times a power of two so small that no product or quotient
#: is subnormal.  CPUs take up to a hundred times as long for those; so hours, not days.
ALL_ZERO_POINTS = tuple((0.1 * 2.0**-64, zero) for zero in range(256))

SCALES = 100_000
RANGES = 1_000_000

#: elements per call: they stay in the L2 cache, and the core leaves them to the calling thread
CHUNK = 2**17
CHUNKS = range(2**32 // CHUNK)
_SHORT = 4096  # elements of a run for which the core does not prove a product, so it divides

_EIGHT_TIMES = 0x0101010101010101  # a byte times this is a word of eight
_INFINITY = 0x7F800000  # bits of float32's Inf; NaN lies above
_SIGN = 0x80000000


class Stage(NamedTuple):
    """One kind of check, in chunks that can run in any order and in any thread."""

    chunks: Sequence[Any]
    check: Callable[[Any], list[Row]]


def run(
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    all_zero_points: bool = False,
) -> Iterator[Row]:
    """Check every compiled backend, a row per operation; `progress` gets (done, total).

    As many chunks run at a time as the library may use threads.
    """
    backends = [name for name in _backend.backends() if name != "reference"]
    if not backends:
        return
    progress(0, 1)  # before the boundaries of so many parameters are found
    usual = [*with_zero_points(PAIRS), *with_offsets()]
    params = list(with_zero_points(ALL_ZERO_POINTS)) if all_zero_points else usual
    stages = (
        quantize_float32(backends, params, CHUNKS, short_runs=not all_zero_points),
        fake_quantize_float32(backends, usual, CHUNKS),
        quantize_halves(backends, params),
        dequantize(backends, SCALES),
        dequantize_by_offset(backends, SCALES),
        choose_params(backends, RANGES),
    )
    total = sum(len(stage.chunks) for stage in stages)
    before = 0
    for stage in stages:
        yield from rows(stage, lambda done, before=before: progress(before + done, total))  # type: ignore[misc]
        before += len(stage.chunks)


def hours() -> float:
    """About how long `run` takes here with all zero points, from some of its chunks."""
    backends = [name for name in _backend.backends() if name != "reference"]
    pairs, chunks = ALL_ZERO_POINTS[::128], CHUNKS[::2048]
    stage = quantize_float32(backends, list(with_zero_points(pairs)), chunks, short_runs=False)
    start = time.perf_counter()
    rows(stage)
    fraction = len(pairs) * len(chunks) / (len(ALL_ZERO_POINTS) * len(CHUNKS))
    return (time.perf_counter() - start) / fraction / 3600


def rows(stage: Stage, progress: Callable[[int], None] = lambda done: None) -> list[Row]:
    """Run the chunks of a stage and add up their rows; `progress` gets the chunks done."""
    found: dict[tuple[str, str], Row] = {}
    pool = ThreadPoolExecutor(_backend.get_num_threads())
    try:
        for done, chunk in enumerate(pool.map(stage.check, stage.chunks), 1):
            for row in chunk:
                if old := found.get(row[:2]):
                    names = "cases", "elements", "differences"
                    sums = {name: getattr(old, name) + getattr(row, name) for name in names}
                    row = row._replace(**sums, first=old.first or row.first)
                found[row[:2]] = row
            progress(done)
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C nothing more is begun
    return list(found.values())


def description(*, all_zero_points: bool = False) -> list[str]:
    """What `run` checks, in sentences."""
    if all_zero_points:
        pairs = f"all 256 zero points with the scale {ALL_ZERO_POINTS[0][0]:.9g}, in long runs"
    else:
        pairs = ", ".join(f"{scale:.9g} (qmin + {zero})" for scale, zero in PAIRS)
        pairs = f"the scales (and zero points) {pairs}; in long runs and in runs of {_SHORT:,}"
    steps = ", ".join(f"{step:.9g} (from {offset:.9g})" for step, offset in STEPS)
    return [
        f"quantize: all {2**32:,} float32 and all {2**16:,} of each 16-bit type, to uint8 and int8 "
        f"by {pairs}.",
        f"{'fake_quantize' if all_zero_points else 'Both ways'}, with a real offset: steps of "
        f"{steps}; int8 with a code for NaN.",
        f"fake_quantize: all float32 to uint8 and back, by {len(PAIRS)} scales and by these steps.",
        f"dequantize: 256 codes x 256 zero points x {SCALES:,} scales, float32 and float64; and by "
        "as many real offsets.",
        f"choose_params: {RANGES:,} ranges at random and {len(_hard_ranges()):,} hard ones, by "
        f"{len(RULES)} rules, to uint8 and int8: 0 is exact, and no element is off by more than "
        "half a step and 2^-14 of one.",
    ]


# ---------------------------------------------------------------------------------------------
# quantize: every input


class _Case(NamedTuple):
    """Parameters, and the code of every float32 by them: code[i] from the bits starts[i] on."""

    params: Params
    rows: Params  #: the same for each row of a chunk in short runs
    starts: list[int]
    codes: list[int]  #: as uint8, for int8 too


def with_zero_points(pairs: Sequence[tuple[float, int]]) -> Iterator[Params]:
    """Each pair of (scale, zero point counted from qmin), by each convention, to uint8 and int8."""
    for convention, dtype, (scale, zero) in itertools.product(CONVENTIONS, CODES, pairs):
        yield QuantParams(scale, zero + int(np.iinfo(dtype).min), dtype, convention=convention)


def with_offsets() -> Iterator[OffsetParams]:
    """Each of `STEPS` by each convention, to uint8, and to int8 with a code for NaN.

    Values of faiss in turn by a fused multiply-add, and by a product and a sum.
    """
    every = itertools.product(OFFSET_CONVENTIONS, CODES, enumerate(STEPS))
    for convention, dtype, (i, (step, offset)) in every:
        nan_code = -128 if dtype == np.int8 else None
        how: dict[str, Any] = {"dtype": dtype, "convention": convention, "nan_code": nan_code}
        if convention in BY_SPAN:
            fused = convention == "faiss" and i % 2 == 0
            yield OffsetParams(None, offset, span=255 * step, fused=fused, **how)
        elif step:
            yield OffsetParams(step, offset, **how)


def _by_row(params: Params, n: int) -> Params:
    first, second = (np.full(n, each) for each in params._arrays)
    return params._made(first, second, params._recipe() | {"axis": 0})


def _reference_codes(x: Array, params: Params) -> Array:
    return quantize_by_reference(x, params, params._check_fits(x.shape))


def code_runs(params: Params) -> tuple[list[int], list[int]]:
    """Where runs of equal codes start among the float32 bit patterns, and their codes as uint8.

    Every operation of every convention is correctly rounded, so monotone, and with it the code:
    from 0 to Inf it only grows, from -0 to -Inf it only falls.
    """
    starts, codes = [], []
    nan = params.qmin if params.nan_code is None else params.nan_code

    def code_at(bits: Array) -> Array:
        return _reference_codes(bits.astype(np.uint32).view(np.float32), params).astype(np.int64)

    for half, sign in ((0, 1), (_SIGN, -1)):
        first, last = (int(code) for code in code_at(np.array([half, half + _INFINITY])))
        steps = np.arange(1, abs(last - first) + 1)
        # `below` is before the step, `above` at it or past it
        below, above = np.zeros_like(steps), np.full_like(steps, _INFINITY)
        while np.any(above - below > 1):
            middle = (below + above) // 2
            reached = sign * (code_at(half + middle) - first) >= steps
            below, above = np.where(reached, below, middle), np.where(reached, middle, above)
        starts += [half, *(half + above).tolist(), half + _INFINITY + 1]
        codes += [first, *(first + sign * steps).tolist(), nan]
    return [*starts, 2**32], [code & 0xFF for code in codes]


def quantize_float32(
    backends: Sequence[str],
    params: Sequence[Params],
    chunks: Sequence[int],
    *,
    short_runs: bool = True,
) -> Stage:
    """Every float32 of the chunks, by each of the parameters, which are per tensor.

    As one long run, for which the core may multiply instead of divide, and with `short_runs` also
    as rows for which it does not.
    """
    every = np.arange(CHUNK, dtype=np.uint32)
    n = CHUNK // _SHORT
    cases = [_Case(each, _by_row(each, n), *code_runs(each)) for each in params]

    def check(chunk: int) -> list[Row]:
        start = chunk * CHUNK
        x = (every + np.uint32(start)).view(np.float32)
        short = x.reshape(n, _SHORT)
        codes, same = np.empty(CHUNK, np.uint8), np.empty(CHUNK // 8, np.bool_)
        found = []

        def oracle(backend: str, case: _Case, want: int | Array, data: Array, by: Params) -> None:
            # an element that is not written must differ
            if isinstance(want, int):
                codes.fill(want ^ 0xFF)
            else:
                np.invert(want, out=codes)
            _api.quantize(data, by, out=codes.view(by.dtype).reshape(data.shape))
            first = _other_code(x, codes, want, same, case.params)
            name = f"quantize float32 {by.convention}"
            found.append(Row(backend, name, 1, CHUNK, bool(first), first))

        wanted = [(case, _codes_from(start, case)) for case in cases]
        for backend in backends:
            with _backend.use_backend(backend):
                for case, want in wanted:
                    oracle(backend, case, want, x, case.params)
                    if short_runs:
                        oracle(backend, case, want, short, case.rows)
        return found

    return Stage(chunks, check)


def fake_quantize_float32(
    backends: Sequence[str], params: Sequence[Params], chunks: Sequence[int]
) -> Stage:
    """Every float32 of the chunks to uint8 and back: the bits of its code's value."""
    every = np.arange(CHUNK, dtype=np.uint32)
    cases = []
    for each in params:
        if each.dtype == np.uint8:
            q = np.arange(256, dtype=np.uint8)
            values = each._decoded(q, *each._arrays, np.dtype(np.float32))
            cases.append((_Case(each, each, *code_runs(each)), values.view(np.uint32)))

    def check(chunk: int) -> list[Row]:
        start = chunk * CHUNK
        x = (every + np.uint32(start)).view(np.float32)
        got = np.empty(CHUNK, np.uint32)
        found = []
        for case, values in cases:
            want = np.asarray(values[_codes_from(start, case)])
            for backend in backends:
                np.invert(want, out=got)  # an element that is not written must differ
                with _backend.use_backend(backend):
                    _api.fake_quantize(x, case.params, out=got.view(np.float32))
                same = got == want
                at = int(np.argmin(same))
                first = ""
                if not same.all():
                    pair = got[at], np.broadcast_to(want, got.shape)[at]
                    first = _difference(case.params, x[at], *np.array(pair).view(np.float32))
                name = f"fake_quantize float32 {case.params.convention}"
                found.append(Row(backend, name, 1, CHUNK, bool(first), first))
        return found

    return Stage(chunks, check)


def _codes_from(start: int, case: _Case) -> int | Array:
    """The codes of a chunk from the bits `start` on, as uint8; an int where all are the same."""
    first = bisect_right(case.starts, start) - 1
    end = start + CHUNK
    if case.starts[first + 1] >= end:
        return case.codes[first]
    last = bisect_right(case.starts, end - 1)
    bounds = [start, *case.starts[first + 1 : last], end]
    return np.repeat(np.array(case.codes[first:last], np.uint8), np.diff(bounds))


def _other_code(x: Array, codes: Array, want: int | Array, same: Array, params: Params) -> str:
    """The first code that is not the reference's, in words.

    `same` is room for one bool to eight codes.
    """
    if isinstance(want, int):  # eight codes at a time
        np.equal(codes.view(np.uint64), want * _EIGHT_TIMES, out=same)
        if same.all():
            return ""
    right = codes == want
    if right.all():
        return ""
    at = int(np.argmin(right))
    pair = codes[at], want if isinstance(want, int) else want[at]
    got, wanted = np.array(pair, np.uint8).view(params.dtype)
    return _difference(params, x[at], got, wanted)


def _difference(params: Params, x: Any, got: Any, want: Any) -> str:
    bits = f"0x{int.from_bytes(x.tobytes(), 'little'):0{2 * x.itemsize}X}"
    return f"{params}: {x!r} ({bits}) gives {got}, the reference {want}"


def quantize_halves(backends: Sequence[str], params: Sequence[Params]) -> Stage:
    """Every float16, and bfloat16 where ml_dtypes is installed."""
    halves = [np.arange(2**16, dtype=np.uint16).view(d) for d in REALS if d.itemsize == 2]

    def check(chunk: tuple[Array, Params]) -> list[Row]:
        x, by = chunk
        want = _reference_codes(x, by)
        short = x.reshape(-1, _SHORT)
        short_params = _by_row(by, len(short))
        found = []
        for backend in backends:
            name = f"quantize {x.dtype.name} {by.convention}"
            for data, how in ((x, by), (short, short_params)):
                got = ~want  # an element that is not written must differ
                with _backend.use_backend(backend):
                    _api.quantize(data, how, out=got.reshape(data.shape))
                same = got == want
                at = int(np.argmin(same))
                first = "" if same.all() else _difference(by, x[at], got[at], want[at])
                found.append(Row(backend, name, 1, x.size, bool(first), first))
        return found

    return Stage(list(itertools.product(halves, params)), check)


# ---------------------------------------------------------------------------------------------
# dequantize: every code, every zero point

_AT_ONCE = 2  # scales per call
_IN_A_CHUNK = 50  # and per chunk
_DIFFERENCES = np.arange(-255, 256)  # q - z


def dequantize(backends: Sequence[str], scales: int) -> Stage:
    """All codes x all zero points x `scales` scales of any size, in float32 and in float64."""
    every = np.arange(256, dtype=np.uint8)
    codes = {d: np.tile(every + np.uint8(d.kind == "i") * 128, (_AT_ONCE * 256, 1)) for d in CODES}

    def check(chunk: tuple[int, np.dtype[Any]]) -> list[Row]:
        number, real = chunk
        got, bits = np.empty((_AT_ONCE * 256, 256), real), np.dtype(f"u{real.itemsize}")
        found = []
        for s in _scales(number, real).reshape(-1, _AT_ONCE):
            products = _exact_products(s)
            # row z of a scale's window holds the values of q - z for q = qmin .. qmax
            want = np.lib.stride_tricks.sliding_window_view(products, 256, axis=1)[:, ::-1]
            for dtype in CODES:
                zeros = np.tile(np.arange(256) + np.iinfo(dtype).min, _AT_ONCE)
                params = QuantParams(np.repeat(s, 256), zeros, dtype, axis=0, convention="onnx")
                q = codes[dtype].view(dtype)
                values = got.reshape(want.shape)
                for backend in backends:
                    np.invert(want.view(bits), out=values.view(bits))  # as above
                    with _backend.use_backend(backend):
                        _api.dequantize(q, params, out=got)
                    first = _other_bits(q, params, values, want)
                    name = f"dequantize {real.name}"
                    found.append(Row(backend, name, 1, got.size, bool(first), first))
        return found

    numbers = range(-(-scales // _IN_A_CHUNK))
    return Stage(list(itertools.product(numbers, (np.dtype("f4"), np.dtype("f8")))), check)


def _other_bits(q: Array, params: QuantParams, got: Array, want: Array) -> str:
    """The first value that is not `want` to the bit, in words; both by (scale, zero point, q)."""
    bits = np.dtype(f"u{got.itemsize}")
    same = got.view(bits) == want.view(bits)
    if same.all():
        return ""
    at = np.unravel_index(int(np.argmin(same)), same.shape)
    row = int(at[0]) * 256 + int(at[1])
    return (
        f"code {q[row, at[2]]} by scale {params.scale[row]!r}, zero point "
        f"{params.zero_point[row]}: {got[at]!r}, exactly rounded {want[at]!r}"
    )


def _scales(number: int, real: np.dtype[Any]) -> Array:
    """Positive finite numbers of any exponent, the subnormal ones too, by their bits."""
    info, bits = np.finfo(real), np.dtype(f"u{real.itemsize}")
    last = int(info.max.view(bits))
    rng = np.random.default_rng([2, number, real.itemsize])
    s = rng.integers(1, last, _IN_A_CHUNK, bits, endpoint=True)
    if number == 0:
        s[:4] = 1, int(info.smallest_normal.view(bits)) - 1, last - 1, last
    return s.view(real)


def _exact_products(s: Array) -> Array:
    """(q - z) * s for every difference q - z, rounded once, by another way than a product in the
    precision of `s`.

    float32: the product has 9 + 24 bits, so it is exact in float64.  float64: s is cut into a head
    and a tail of 26 and 27 bits, whose products are exact, so their sum is the only rounding.
    """
    with np.errstate(over="ignore"):
        if s.dtype == np.float32:
            return np.asarray(np.multiply.outer(s.astype(np.float64), _DIFFERENCES), np.float32)
        head = (s.view(np.uint64) & ~np.uint64(2**27 - 1)).view(np.float64)
        tail = s - head
        return np.asarray(
            np.multiply.outer(head, _DIFFERENCES) + np.multiply.outer(tail, _DIFFERENCES)
        )


# ---------------------------------------------------------------------------------------------
# dequantize: every code, with real offsets


def dequantize_by_offset(backends: Sequence[str], pairs: int) -> Stage:
    """All codes x `pairs` of steps and offsets of any size, in float32 and in float64."""
    every = np.arange(256, dtype=np.uint8)
    codes = {d: np.tile(every + np.uint8(d.kind == "i") * 128, (_IN_A_CHUNK, 1)) for d in CODES}

    def check(chunk: tuple[int, np.dtype[Any], str, bool]) -> list[Row]:
        number, real, convention, fused = chunk
        kept, offset = _steps_and_offsets(number, real, convention)
        bits = np.dtype(f"u{real.itemsize}")
        found = []
        for dtype in CODES:
            recipe = {"axis": 0, "convention": convention, "fused": fused}
            params = OffsetParams._made(kept, offset, recipe | {"dtype": dtype})
            q = codes[dtype].view(dtype)
            want = _exact_values(q, params)
            for backend in backends:
                got = (~want.view(bits)).view(real)  # an element that is not written must differ
                with _backend.use_backend(backend):
                    _api.dequantize(q, params, out=got)
                same = got.view(bits) == want.view(bits)
                first = ""
                if not same.all():
                    i, j = (int(k) for k in np.unravel_index(int(np.argmin(same)), same.shape))
                    first = (
                        f"code {q[i, j]} by {kept[i]!r} from {offset[i]!r}, {convention}, fused "
                        f"{fused}: {got[i, j]!r}, exactly rounded {want[i, j]!r}"
                    )
                name = f"dequantize {real.name} {convention}"
                found.append(Row(backend, name, 1, got.size, bool(first), first))
        return found

    numbers = range(-(-pairs // _IN_A_CHUNK))
    reals = np.dtype("f4"), np.dtype("f8")
    kinds = [(real, name, False) for real in reals for name in OFFSET_CONVENTIONS]
    kinds.append((reals[0], "faiss", True))
    return Stage([(number, *kind) for number in numbers for kind in kinds], check)


def _steps_and_offsets(number: int, real: np.dtype[Any], convention: str) -> tuple[Array, Array]:
    """Steps of any size, or spans of so many; offsets that cancel values, and any others.

    No value overflows.
    """
    kept = _scales(number, real)
    largest = float(np.finfo(real).max) / 2.0**9
    kept[kept > largest] = 1
    rng = np.random.default_rng([5, number, real.itemsize])
    near = kept * (rng.integers(-300, 300, kept.size) / (255 if convention in BY_SPAN else 1))
    any_size = _scales(number + 1, real).astype(np.float64) * rng.choice([-1, 1], kept.size)
    offset = np.where(rng.integers(3, size=kept.size) > 0, near, any_size)
    offset[np.abs(offset) > largest] = 0
    if convention in BY_SPAN:
        kept[rng.integers(20, size=kept.size) == 0] = 0
    return kept, offset.astype(real)


def _exact_values(q: Array, params: OffsetParams) -> Array:
    """What the codes mean, each operation rounded, by another way than the reference's.

    float32: a sum, product or quotient of two float32 that is rounded to float64 first is the
    same float32 (Figueroa, "When is double rounding innocuous?", 1995); a fused sum is not, where
    the float64 is half way between two float32, so there fractions decide.  float64: by NumPy.
    """
    kept, offset = (each[:, None] for each in params._arrays)
    real, c = kept.dtype, q.astype(np.float64)
    n = params.qmax - params.qmin

    def rounded(x: Array) -> Array:
        return x.astype(real).astype(np.float64)

    factor, wide = kept.astype(np.float64), offset.astype(np.float64)
    if params.convention != "cf":
        c = c - params.qmin + 0.5
    if params.convention == "faiss":
        c = rounded(c / n)
    elif params.convention != "cf":
        factor = rounded(factor / n)
    product = c * factor  # exact for float32: 24 and 24 bits
    if real == np.float64:
        return np.asarray(product + wide)
    if not params.fused:
        return np.asarray((rounded(product) + wide).astype(np.float32))
    total = product + wide
    found = np.array(total.astype(np.float32))
    # half way between normal numbers; subnormal ones are multiples of 2^-149
    unsure = (total.view(np.uint64) & np.uint64(2**29 - 1)) == 2**28
    unsure |= np.abs(total) < 2.0**-125
    for i, j in np.argwhere(unsure):
        exact = Fraction(product[i, j]) + Fraction(wide[i, 0])
        found[i, j] = _nearest_float32(exact, found[i, j])
    return found


def _nearest_float32(exact: Fraction, guess: Any) -> Any:
    """Of `guess` and its neighbours the nearest to `exact`; of two the even one."""
    beside = (np.nextafter(guess, np.float32(end)) for end in (-np.inf, np.inf))
    return min(
        (guess, *beside),
        key=lambda y: (abs(Fraction(float(y)) - exact), int(y.view(np.uint32)) & 1),
    )


# ---------------------------------------------------------------------------------------------
# choose_params: ranges of every kind

_RANGES_AT_ONCE = 2048
_POINTS = 16  # elements between the ends of each range, the ends among them

#: every rule of `choose_params` that widens the range to 0
HOW: tuple[ChoiceKeywords, ...] = (
    *(ChoiceKeywords(zero_point_from=rule) for rule in RULES),
    {"symmetric": True},
    *(
        ChoiceKeywords(convention=name)
        for name, row in CONVENTIONS.items()
        if row.default_rule not in RULES
    ),
)


def choose_params(backends: Sequence[str], ranges: int) -> Stage:
    """Random and hard float32 ranges: the promise that each set of parameters must keep.

    The scale is finite and positive, the zero point a code, 0 exact; no element between the ends
    is off by more than half a step and 2^-14 of one.  That is room for the roundings of the
    arithmetic, each 2^-24 of at most 256 steps: two in the scale (510 of 2^-24), two in the zero
    point (512).  And the parameters are the reference's to the bit.
    """
    found = np.concatenate([_hard_ranges(), _random_ranges(ranges)])
    chunks = np.array_split(found, -(-len(found) // _RANGES_AT_ONCE))

    def check(chunk: Array) -> list[Row]:
        low, high = np.minimum(chunk[:, 0], 0), np.maximum(chunk[:, 1], 0)
        rows = []
        for keywords, dtype in itertools.product(HOW, CODES):
            want = _reference.choose(low, high, **Choice(dtype, **keywords).keywords)
            x = _between(low, high, *want)
            for backend in backends:
                with _backend.use_backend(backend):
                    params = _api.choose_params(chunk, dtype, axis=0, **keywords)
                    first = _broken_promise(params, x, want)
                how = "symmetric" if "symmetric" in keywords else next(iter(keywords.values()))
                name = f"choose_params {how}"
                rows.append(Row(backend, name, 1, x.size, bool(first), first))
        return rows

    return Stage(chunks, check)


def _hard_ranges() -> Array:
    """All pairs of 0, powers of two from the first subnormal to the last, and their neighbours."""
    powers = np.ldexp(np.float32(1), [*range(-149, 128, 12), -126, -118, 127]).astype(np.float32)
    ends = np.concatenate(
        [powers, np.nextafter(powers, np.float32(0)), np.nextafter(powers, np.float32(np.inf))]
    )
    ends = np.unique([*ends, np.finfo(np.float32).max])
    ends = np.concatenate([-ends[::-1], ends[ends > 0]])
    low, high = np.triu_indices(ends.size)
    return np.stack([ends[low], ends[high]], axis=1)


def _random_ranges(n: int) -> Array:
    """A quarter each: any exponents, similar ends, one-sided, narrow."""
    rng = np.random.default_rng(3)
    each = -(-n // 4)
    bits = rng.integers(0, _INFINITY, (each, 2), np.uint32) | (
        rng.integers(0, 2, (each, 2), np.uint32) << np.uint32(31)
    )
    size = np.exp(rng.uniform(-80, 80, (each, 1)))
    like = rng.normal(size=(each, 2)) * size
    one_sided = rng.uniform(0, 1, (each, 2)) * size * rng.choice([-1.0, 1.0], (each, 1))
    narrow = size * (1 + rng.uniform(0, 2.0**-20, (each, 2)))
    kinds = bits.view(np.float32), *(kind.astype(np.float32) for kind in (like, one_sided, narrow))
    return np.sort(np.concatenate(kinds)[:n], axis=1)


def _between(low: Array, high: Array, scale: Array, zero: Array) -> Array:
    """Elements of each range, a row per range: its ends, 0, half steps and others at random."""
    rng = np.random.default_rng(4)
    low, high, scale, zero = (v[:, None] for v in (low, high, scale, zero))
    half_steps = (rng.integers(-128, 256, (len(low), 6)) + 0.5) * scale.astype(np.float64)
    place = rng.uniform(size=(len(low), _POINTS - 9))
    others = low * (1 - place) + high * place  # in float64
    x = np.concatenate([half_steps, others], axis=1)
    x = np.clip(x, low, high).astype(np.float32)
    return np.concatenate([low, high, np.zeros_like(low), x], axis=1)


def _broken_promise(params: QuantParams, x: Array, want: tuple[Array, Array]) -> str:
    """What is wrong with the parameters for `x`, a row per range; empty if nothing is."""
    scale, zero = np.asarray(params.scale), np.asarray(params.zero_point)
    good = np.isfinite(scale) & (scale > 0) & (zero >= params.qmin) & (zero <= params.qmax)
    if not good.all():
        i = int(np.argmin(good))
        return f"range {x[i, :2]}: scale {scale[i]!r}, zero point {zero[i]}"
    same = (scale == want[0]) & (zero == want[1])
    if not same.all():
        i = int(np.argmin(same))
        return (
            f"range {x[i, :2]}: scale {scale[i]!r}, zero point {zero[i]}, "
            f"the reference {want[0][i]!r}, {want[1][i]:.0f}"
        )
    zeros = _api.dequantize(zero.astype(params.dtype)[:, None], params)
    if zeros.any():
        i = int(np.argmax(zeros != 0))
        return f"range {x[i, :2]}: the zero point means {zeros[i, 0]!r}"
    # (q - z) * s has 9 + 24 bits and the bound 24 + 14: exact in float64.  Rounding the error
    # cannot carry it past the bound, so only an error that seems to be the bound is in doubt.
    steps = _api.quantize(x, params).astype(np.float64) - zero[:, None]
    s = scale.astype(np.float64)[:, None]
    bound = s * (0.5 + 2.0**-14)
    error = np.abs(steps * s - x)
    wrong = error > bound
    for i, j in np.argwhere(error == bound):
        exact = abs(Fraction(steps[i, j]) * Fraction(s[i, 0]) - Fraction(float(x[i, j])))
        wrong[i, j] = exact > Fraction(bound[i, 0])
    if wrong.any():
        i, j = (int(k) for k in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
        return (
            f"range {x[i, :2]}: {x[i, j]!r} is off by {error[i, j] / s[i, 0]} steps of {scale[i]!r}"
        )
    return ""
