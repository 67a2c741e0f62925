"""What ``zeropoint demo`` shows: three numbers in 8 bits, then a trained embedding table."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import zeropoint as zp

from ._compare import table
from ._reference import Array

_PACKAGE, _FILE, _TENSOR = "wordllama", "weights/l2_supercat_256.safetensors", "embedding.weight"
_QUERIES, _NEAREST = 1000, 10
_AT_ONCE = 50  # queries, whose scores stay in the cache


# ---------------------------------------------------------------------------------------------
# Three numbers


def example() -> dict[str, Any]:
    """The worked example of the tutorial that zeropoint started from, by its two rules."""
    x = np.array([-0.75, -0.45, 1.75], np.float32)
    return {"input": _short(x), **{rule: _worked(x, rule) for rule in ("max", "min")}}


def _worked(x: Array, rule: str) -> dict[str, Any]:
    params = zp.choose_params(x, zero_point_from=rule, include_zero=False)
    codes = zp.quantize(x, params)
    back = zp.dequantize(codes, params)
    found = {"scale": params.scale, "zero_point": params.zero_point, "codes": codes}
    found |= {"dequantized": back, "difference": back - x}
    return {name: _short(value) for name, value in found.items()}


def _short(value: Any) -> Any:
    """NumPy's values as Python's, a float32 in its own few digits (0.1, not 0.10000000149)."""
    if isinstance(value, np.ndarray):
        return [_short(item) for item in value]
    return float(str(value)) if isinstance(value, np.floating) else int(value)


def example_text(found: dict[str, Any]) -> str:
    """Five lines."""
    low, high = found["min"], found["max"]
    notes = {
        "numbers": (found["input"], "float32: 12 bytes"),
        "codes": (low["codes"], "uint8: 3 bytes, round(number / scale + zero point)"),
        "numbers again": (low["dequantized"], "(code - zero point) * scale"),
        "difference": (low["difference"], "never more than half a scale"),
    }
    lines = [[name, *map(str, values), note] for name, (values, note) in notes.items()]
    return (
        f"1. Three numbers in 8 bits\n\n{_indented(table(lines, left=5))}\n"
        f"   scale {low['scale']}, zero point {low['zero_point']} "
        f"(from the maximum in place of the minimum: {high['zero_point']}, codes {high['codes']})\n"
    )


# ---------------------------------------------------------------------------------------------
# A trained table


def measured() -> dict[str, Any] | None:
    """Size, error, neighbours found and time on the embedding table; None where it is absent."""
    found = _embedding_table()
    if found is None:
        return None
    stored, version = found
    x = stored.astype(np.float32)

    def ours() -> tuple[Array, zp.QuantParams]:
        return zp.quantize_dynamic(x, "int8", axis=0, symmetric=True)

    def numpy() -> Array:
        scale = np.abs(x).max(axis=1, keepdims=True) / 127
        same: Array = np.clip(np.round(x / scale), -128, 127).astype(np.int8)
        return same

    def usual() -> Array:
        with np.errstate(invalid="ignore"):
            wrapped: Array = (x * 127).astype(np.int8)
        return wrapped

    (codes, params), seconds = _timed(ours, 9)
    same, numpy_seconds = _timed(numpy, 3)
    wrapped, usual_seconds = _timed(usual, 3)
    stats = zp.error_stats(x, params)
    chosen = np.random.default_rng(0).choice(len(x), min(_QUERIES, len(x)), replace=False)
    unit = _unit(x)
    true = _nearest(unit, unit, chosen)

    def recall(values: Array) -> float:
        """The fraction of the true neighbours that a search in `values` finds."""
        pairs = zip(true, _nearest(_unit(values), unit, chosen), strict=True)
        return float(np.mean([np.isin(*pair).mean() for pair in pairs]))

    wrong = wrapped / np.float32(127) - x
    return {
        "name": f"{_TENSOR} of {_PACKAGE} {version}",
        "stored_dtype": stored.dtype.name,
        "dtype": x.dtype.name,
        "shape": list(x.shape),
        "range": [float(x.min()), float(x.max())],
        "backend": zp.backend(),
        "queries": len(chosen),
        "rows": [
            {"how": "float32", "bytes": x.nbytes, "max_error": 0.0, "relative_error": 0.0,
             "recall": 1.0, "seconds": None},
            {"how": "zeropoint", "bytes": codes.nbytes + params.scale.nbytes,
             "max_error": stats.max_abs_error, "relative_error": 10 ** (-stats.sqnr_db / 20),
             "recall": recall(zp.dequantize(codes, params)), "seconds": seconds},
            {"how": "(x * 127).astype(int8)", "bytes": wrapped.nbytes,
             "max_error": float(np.abs(wrong).max()),
             "relative_error": float(np.linalg.norm(wrong) / np.linalg.norm(x)),
             "recall": recall(wrapped.astype(np.float32)), "seconds": usual_seconds},
        ],
        "sqnr_db": stats.sqnr_db,
        "wrapped": float(np.mean(np.trunc(x * 127) != wrapped)),
        "unit_recall": recall((unit * 127).astype(np.int8).astype(np.float32)),
        "numpy_seconds": numpy_seconds,
        "ratio": numpy_seconds / seconds,
        "same_codes": bool(np.array_equal(codes, same)),
    }  # fmt: skip


def _embedding_table() -> tuple[Array, str] | None:
    """A trained array that pip can install, and its version; None where it is not installed.

    The package is found, not imported, so its own dependencies are not needed.
    """
    from . import files

    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, _FILE)
        if path.is_file():
            return files.read_tensor(path, _TENSOR), importlib.metadata.version(_PACKAGE)
    return None


def _timed(call: Callable[[], Any], times: int) -> tuple[Any, float]:
    """The result, and the seconds of the fastest run."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return result, min(seconds)


def _unit(x: Array) -> Array:
    rows: Array = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)
    return rows


def _nearest(rows: Array, queries: Array, chosen: Array) -> Array:
    """For each of the chosen queries the nearest of the rows but its own, by cosine."""
    found = []
    for first in range(0, len(chosen), _AT_ONCE):
        own = chosen[first : first + _AT_ONCE]
        scores = queries[own] @ rows.T
        scores[np.arange(len(own)), own] = -2
        found.append(np.argpartition(scores, -_NEAREST, axis=1)[:, -_NEAREST:])
    return np.concatenate(found)


def measured_text(found: dict[str, Any]) -> str:
    """The table and its columns explained."""
    lines = [["", "bytes", "largest error", "typical error", f"recall@{_NEAREST}", "ms"]]
    for row in found["rows"]:
        ms = "-" if row["seconds"] is None else f"{row['seconds'] * 1e3:.1f}"
        errors = [f"{row['max_error']:.3g}", f"{100 * row['relative_error']:.2f} %"]
        lines.append([row["how"], f"{row['bytes']:,}", *errors, f"{row['recall']:.4f}", ms])
    whole, ours, usual = found["rows"]
    neighbours = [_NEAREST * recall for recall in (ours["recall"], usual["recall"])]
    length, width = found["shape"]
    low, high = found["range"]
    same = "the same codes" if found["same_codes"] else "OTHER CODES"
    return f"""\
2. A real table: {length:,} word vectors of {width} numbers
   ({found["name"]}, {found["stored_dtype"]} widened to {found["dtype"]})

{_indented(table(lines, left=1))}

   {whole["bytes"] / ours["bytes"]:.1f} times smaller, and a search still finds \
{neighbours[0]:.2f} of the {_NEAREST} nearest rows.
   The line that people write finds {neighbours[1]:.2f}: \
{100 * found["wrapped"]:.0f} % of the numbers do not fit int8 and wrap around.
   On rows of length 1 all fit, and it finds {_NEAREST * found["unit_recall"]:.2f}: \
it uses few of the codes, and does not round.
   NumPy takes {found["numpy_seconds"] * 1e3:.1f} ms for {same}: \
zeropoint is {found["ratio"]:.1f} times as fast.

   zeropoint      quantize_dynamic(x, "int8", axis=0, symmetric=True): a scale for each row
   bytes          of the codes, and a scale for each row; the zero points are 0
   largest error  of one number; they reach from {low:.2f} to {high:.2f}
   typical error  over the typical number (root mean squares); {found["sqnr_db"]:.1f} dB of SQNR
   recall@{_NEAREST}      what is found of the {_NEAREST} rows nearest to a row, by cosine; \
for {found["queries"]:,} rows
   ms             to choose scales and make codes, the fastest of several runs; \
backend {found["backend"]}"""


def _indented(text: str) -> str:
    return "\n".join(f"   {line}" for line in text.splitlines())
