"""Other parameters that codes may have been made with: those of a rule for the data, or a fit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ._checks import CODE_DTYPES
from ._choice import Choice, range_or_none
from ._conventions import CONVENTIONS, OFFSET_CONVENTIONS
from ._params import OffsetParams, Params
from ._recipes import Points, Problem, Source
from ._reference import BY_SPAN, Array, widen

_RULES: tuple[dict[str, Any], ...] = (
    {},
    {"symmetric": True},
    {"zero_point_from": "max"},
    {"zero_point_from": "least_error"},
    {"convention": "onnx"},
    {"convention": "torch"},
    {"convention": "tflite"},
)
_MANY = 1 << 20  # channels that get parameters of their own
_BLOCKS = (16, 32, 64, 128)
_IN_BLOCKS = 1 << 22  # elements that are cut into blocks; of more there would be many parameters
_CHANNELS = 1 << 8  # to which lines are fitted one by one
_EACH = 1 << 8  # elements of a channel that a line is fitted to
_HOW = ("rounded", "floored", "truncated")
_NEAR = 2.0**-22
_FEW = 1 << 6  # of which it is seen whose parameters they have
_LEAST = 12  # that a line needs


def rules(problem: Problem, at: Array) -> dict[str, Source]:
    """The parameters that `choose_params` and common formulas have for these data, by name."""
    known = {name: each for name, each in problem.sources.items() if name.startswith("rule: ")}
    if known:
        return known
    found: dict[str, Source] = {}
    params, x = problem.params, problem.x
    how: dict[str, Any] = {"dtype": params.dtype, "qmin": params.qmin, "qmax": params.qmax}
    own = () if problem.has_offset else _RULES
    for axis in _axes(x):
        with contextlib.suppress(ValueError):  # a range that is not finite has no parameters
            low, high = range_or_none(x, axis, None, skip_nan=True)
            where = "" if axis is None else f", axis={axis}"
            for rule in own or ({"convention": params.convention},):
                with contextlib.suppress(ValueError):
                    chosen = Choice(**how, **rule).params(low, high, axis)
                    text = "".join(f", {name}={value!r}" for name, value in rule.items())
                    name = f"zp.choose_params(x, {params.dtype.name!r}{text}{where})"
                    first, second = chosen._arrays
                    found[f"rule: {name}"] = Source(first, second, axis)
                    for block in _BLOCKS if axis == x.ndim - 1 and x.size <= _IN_BLOCKS else ():
                        if rule in _RULES[:2] and block < x.shape[axis]:
                            ends = range_or_none(x, axis, block, skip_nan=True)
                            first, second = Choice(**how, **rule).params(*ends, axis, block)._arrays
                            name = f"zp.choose_params(x, {params.dtype.name!r}{text}{where}"
                            name += f", block_size={block})"
                            found[f"rule: {name}"] = Source(first, second, axis, block)
            if own:
                found |= _formulas(low, high, axis, params.qmin, params.qmax)
    unlike = {
        (s.first.tobytes(), s.second.tobytes(), s.axis): name for name, s in reversed(found.items())
    }
    return {name: found[name] for name in reversed(unlike.values())}


def of_tools(problem: Problem) -> Iterator[tuple[str, Array, Params]]:
    """The parameters that tools choose for these data, each by its own convention.

    The call that makes them, the data as the tool computes with them, and the parameters.
    """
    given, x = problem.params, problem.x
    dtype = problem.q.dtype if problem.q.dtype in CODE_DTYPES else given.dtype
    ends: list[dict[str, Any]] = [{}]
    if dtype == given.dtype:
        usual, names = Choice(dtype), ("qmin", "qmax", "nan_code")
        own = {name: getattr(given, name) for name in names}
        own = {name: value for name, value in own.items() if value != getattr(usual, name)}
        ends += [own] * bool(own)
    ways = [{"convention": name} | more for name in OFFSET_CONVENTIONS for more in ends]
    ways.append({"convention": "cf", "nan_code": 255 if dtype == np.uint8 else -128})  # of xarray
    ends.append({"symmetric": True})
    ways += [{"convention": name} | more for name in CONVENTIONS for more in ends]
    double = x.dtype == np.float64  # of which faiss, and the ranges of both, take float32
    with np.errstate(over="ignore"):
        single = x.astype(np.float32) if double else x
    nan = {"skip_nan": True} if problem.some_nan else {}
    for axis in _axes(x):
        along = {} if axis is None else {"axis": axis}
        with contextlib.suppress(ValueError):  # a range that is not finite has no parameters
            ends_of = [range_or_none(each, axis, None, skip_nan=True) for each in (x, single)]
            for how in ways:
                by_span = double and how["convention"] in BY_SPAN
                with contextlib.suppress(ValueError):
                    low, high = ends_of[by_span]
                    chosen = Choice(dtype, **how).params(low, high, axis, None, x.shape[-1])
                    more = "".join(f", {k}={v!r}" for k, v in (how | along | nan).items())
                    text = "x.astype(np.float32)" if by_span else "x"
                    call = f"zp.choose_params({text}, {dtype.name!r}{more})"
                    yield call, single if how["convention"] == "faiss" else x, chosen


def _axes(x: Array) -> list[int | None]:
    """No axis, and those that are not so long that they have as many numbers as the data."""
    return [None, *(k for k, n in enumerate(x.shape) if 1 < n <= min(x.size // 8, _MANY))]


def _fixed(params: Params) -> Iterator[tuple[str, Source]]:
    """Scales of data in [-1, 1] or [0, 1] that are written into the code."""
    real = params._arrays[0].dtype.type
    for name, step in (("1/127", 127), ("1/128", 128), ("1/255", 255), ("2/255", 127.5)):
        for zero in {0, -128 if params.dtype == np.int8 else 128}:
            scale = np.asarray(real(1) / real(step))
            yield f"rule: scale {name}, zero point {zero}", Source(scale, np.asarray(zero), None)


def _formulas(low: Array, high: Array, axis: int | None, qmin: int, qmax: int) -> dict[str, Source]:
    """Steps that people divide the range by."""
    of = "" if axis is None else f" of axis {axis}"
    peak, width = np.maximum(np.abs(low), np.abs(high)), high - low
    middle = np.full(low.shape, (qmin + qmax + 1) // 2, np.int32)
    real = low.dtype.type
    found = {}
    with np.errstate(all="ignore"):
        for n in (127, 127.5, 128):
            found[f"rule: max|x| / {n}{of}"] = Source(peak / real(n), middle, axis)
        for n in (255, 256):
            scale = width / real(n)
            zero = np.clip(qmin - np.rint(low / scale), -(2.0**31), 2.0**31 - 1)
            if np.isfinite(zero).all():
                name = f"rule: (max - min) / {n}{of}, the zero point from min"
                found[name] = Source(scale, zero.astype(np.int32), axis)
                name = f"rule: (x - min) * {n} / (max - min){of}, whose zero point is not rounded"
                found[name] = Source(scale, np.asarray(qmin - low / scale), axis)
    return {name: s for name, s in found.items() if (s.first > 0).all()}


def fit(problem: Problem, at: Array) -> dict[str, Source]:
    """Parameters for all data, that fit the codes at the positions `at`."""
    found: dict[str, Source] = {}
    if not _whole(problem, at):
        return found
    for how in _HOW:
        line = _line(problem, at, how)
        if line is not None:
            text = ", ".join(f"{a}={v!s}" for a, v in zip(problem.params._names, line, strict=True))
            found[f"fit: {text}"] = Source(np.asarray(line[0]), np.asarray(line[1]), None)
    return found


def fit_channels(problem: Problem, at: Array) -> dict[str, Source]:
    """The same for each index along each axis."""
    x, rng = problem.x, np.random.default_rng(2)
    if not _whole(problem, at):
        return {}
    found = _in_other_order(problem, rng)
    for axis in range(x.ndim):
        n = x.shape[axis]
        if not 1 < n <= _CHANNELS or x.size // n < _LEAST:
            continue
        for how in _HOW:
            pairs = []
            for k in range(n):
                line = _line(problem, _of_channel(x.shape, axis, k, rng), how)
                if line is None:
                    break
                pairs.append(line)
            else:
                first, second = (np.array(each) for each in zip(*pairs, strict=True))
                name = f"fit: one for each index of axis {axis}, codes {how}"
                found[name] = Source(first, second, axis)
    return found


def _in_other_order(problem: Problem, rng: Any) -> dict[str, Source]:
    """The parameters that there are, each where it explains most."""
    given, x = problem.sources["given"], problem.x
    if given.axis is None or given.block is not None or not 1 < given.first.size <= _CHANNELS:
        return {}
    pairs = given.first[:, None], given.second[:, None]
    best = []
    for k in range(given.first.size):
        points = Points(problem, _of_channel(x.shape, given.axis, k, rng)[:_FEW])
        codes = problem.params._codes(points.elements("same"), *pairs)
        best.append(int(np.argmax((codes == points.q).sum(axis=1))))
    shown = ", ".join(map(str, best[:8])) + ", ..." * (len(best) > 8)
    source = Source(given.first[best], given.second[best], given.axis)
    return {f"order: those of channels {shown}": source}


def _whole(problem: Problem, at: Array) -> bool:
    """Whether the codes are integers."""
    q = widen(Points(problem, at).q)
    return bool((np.isfinite(q) & (q == np.rint(q))).all())


def _of_channel(shape: tuple[int, ...], axis: int, k: int, rng: Any) -> Array:
    """Positions of elements with index k along the axis."""
    size = int(np.prod(shape))
    n = size // shape[axis]
    others = np.arange(n) if n <= _EACH else np.unique(rng.integers(0, n, _EACH))
    inner = int(np.prod(shape[axis + 1 :], dtype=np.int64))
    return np.asarray(others // inner * inner * shape[axis] + k * inner + others % inner)


def _line(problem: Problem, at: Array, how: str) -> tuple[Any, Any] | None:
    """Scale and zero point (or span and offset) by which most codes come of the values.

    Codes are the quotients "rounded", "floored", or "truncated" before the zero point is added.
    """
    points = Points(problem, at)
    x, q = widen(points.elements("same")).astype(np.float64), widen(points.q).astype(np.float64)
    ends = {q.min(), q.max(), problem.params.qmin, problem.params.qmax} if q.size else set()
    some = np.isfinite(x) & ~np.isin(q, list(ends))
    x, q = x[some], q[some]
    if x.size < _LEAST or np.unique(q).size < 6:
        return None
    order = np.argsort(x, kind="stable")
    x, q = x[order], q[order]
    far = x.size // 2
    with np.errstate(all="ignore"):
        slopes = (q[far:] - q[:-far]) / (x[far:] - x[:-far])
    slopes = slopes[np.isfinite(slopes)]
    a = float(np.median(slopes)) if slopes.size else 0.0
    if not a > 0:
        return None
    shift: Any = 0.5 * (how == "floored")
    if how == "truncated":
        shift = 0.5 * np.sign(q - round(float(np.median(q - a * x))))
    y = q + shift
    b = float(np.median(y - a * x))
    for _ in range(3):  # least squares of what lies near the line
        near = np.abs(y - a * x - b) < 1
        if near.sum() < _LEAST:
            return None
        a, b = map(float, np.polyfit(x[near], y[near], 1))
    if not a > 0:
        return None
    if isinstance(problem.params, OffsetParams):
        return _with_offset(problem.params, a, b)
    real = problem.params._arrays[0].dtype.type
    best = max(
        ((*_most(x, q - z, how), z) for z in range(round(b) - 2, round(b) + 3)),
        key=lambda found: found[0],
    )
    count, low, high, z = best
    if not 0 < low <= high < np.inf:
        return None
    if count < 0.5 * x.size and np.mean(np.abs(y - a * x - b) < 1) < 0.5:
        return None
    if count < 0.9 * x.size:  # as by a zero point that was not rounded
        return real(1 / a), np.float64(b)
    zero = np.int32(np.clip(z, -(2**31), 2**31 - 1))
    short = real(_shortest(low, high))
    return short if low <= short <= high else real((low + high) / 2), zero


def _most(x: Array, k: Array, how: str) -> tuple[int, float, float]:
    """How many of x have the code k by one scale, and the scales between which that holds."""
    # a quotient lies in [k - half, k + 1 - half]
    half = {"rounded": 0.5, "floored": 0.0}.get(how, np.where(x > 0, 0.0, 1.0))
    with np.errstate(all="ignore"):
        low = np.abs(x) / np.where(x > 0, k + 1 - half, -(k - half))
        high = np.abs(x) / np.where(x > 0, k - half, -(k + 1 - half))
    # a bound that is not positive is none; the quotients themselves are rounded
    low, high = low * (1 - _NEAR), np.where(high > 0, high * (1 + _NEAR), np.inf)
    some = (low > 0) & (low <= high) & np.isfinite(low)
    low, high = low[some], high[some]
    if not low.size:
        return 0, 0.0, 0.0
    ends = np.concatenate([low, high])
    step = np.concatenate([np.ones(low.size), -np.ones(high.size)])
    order = np.lexsort((-step, ends))
    total = np.cumsum(step[order])
    top = int(np.argmax(total))
    after = ends[order][top + 1] if top + 1 < ends.size else ends[order][top]
    return int(total[top]), float(ends[order][top]), float(after)


def _shortest(low: float, high: float) -> float:
    """The number of the fewest decimal digits in [low, high]."""
    for digits in range(1, 17):
        value = float(f"{(low + high) / 2:.{digits}g}")
        if low <= value <= high:
            return value
    return (low + high) / 2


def _with_offset(params: OffsetParams, a: float, b: float) -> tuple[Any, Any]:
    real, scale = params._arrays[0].dtype.type, 1 / a
    if params.convention in BY_SPAN:
        span = scale * (params.qmax - params.qmin)
        return real(span), real((params.qmin - b) * scale)
    return real(scale), real(-b * scale)
