"""Seeded faults: every one of them must make a test fail.

    python tests/deep/faults.py [--list] [--only NAME] [--work DIR]

Each fault is a small wrong edit of the C++ or Python code, of the kind that people make: a tail off
by one, ties away from zero, a reciprocal for a division, a swapped lane.  They are applied one by
one to a copy of the tree; the tree itself is only read.  First the tests that the table names run
on the copy as it is, since a test that fails anyway catches nothing.  Then, for each fault, those
that should see it first, and where they do not all others, before it counts as survived.

Needs the packages of ``pip install -e ".[test,parity]"``, dask, zarr, pybind11 and a C++ compiler.
With ``--work`` the copy stays in that directory, and the next run builds less.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 900  # for one run of pytest; a fault that makes it hang is caught by that too
#: not among "all others": they compile, or look at how the code was compiled, or oracle the text
SLOW = {"test_cpp_package", "test_vectorised", "test_docs", "test_layering"}


class Fault(NamedTuple):
    name: str
    file: str
    old: str  #: occurs in the file exactly once
    new: str
    tests: (
        str  #: that should see it first: "kernels::test_sizes" is a test of tests/test_kernels.py
    )
    isa: str = ""  #: the fault is in code for this one alone

    @property
    def ids(self) -> list[str]:
        parts = [test.partition("::") for test in self.tests.split()]
        return [f"tests/test_{file}.py{colons}{test}" for file, colons, test in parts]


CPP = "cpp/src/"
PY = "python/zeropoint/"
SIZES = "kernels::test_sizes"
ENDS = "golden::test_ends"
LONG = "kernels::test_products_give_the_codes_of_the_quotient"
OTHER = "kernels::test_other_operations"
CHANNELS = "kernels::test_channels"
BLOCKS = "kernels::test_blocks"
NAN_IN_THREADS = "threads::test_a_nan_is_found_by_any_thread"

# Not here, because no test can see them:
# - `certify` that believes every scale: no scale is known with which the products go wrong
# - `away` without its floor: its nearest integer is already rounded up where it matters
# - `smallest_at_least` of the reference that never steps down: its first guess is never too large
# - the payload and the sign of a NaN: they are nobody's promise, and `verify` ignores them
# - the first guess of the width of bins, half as large: it is too small in any case, and doubled
# - prefetching, tiling, streaming and sharing left out: speed alone
FAULTS = [
    # ---- scalar.h: the mathematics of one element ------------------------------------------------
    Fault(
        "NaN is clamped to the upper bound",
        CPP + "scalar.h",
        "v = v > low ? v : low;\n    return v < high ? v : high;",
        "v = v < high ? v : high;\n    return v > low ? v : low;",
        ENDS,
    ),
    Fault(
        "no upper clamp",
        CPP + "scalar.h",
        "return v < high ? v : high;",
        "return v;",
        ENDS,
    ),
    Fault(
        "saturate does not pass NaN",
        CPP + "scalar.h",
        "v = v < low ? low : v;",
        "v = v > low ? v : low;",
        "golden::test_saturate",
    ),
    Fault(
        "round: halves away go toward zero",
        CPP + "scalar.h",
        "return v - r >= static_cast<T>(0.5) ? r + 1 : r;",
        "return v - r > static_cast<T>(0.5) ? r + 1 : r;",
        "golden::test_round",
    ),
    Fault(
        "round: large floats are rounded too",
        CPP + "scalar.h",
        "return magnitude < Format<T>::integers ? with_sign : v;",
        "return with_sign;",
        OTHER,
    ),
    Fault(
        "round: -0.3 becomes +0",
        CPP + "scalar.h",
        "static_cast<Bits>(bits(r) | (bits(v) & sign))",
        "bits(r > 0 && (bits(v) & sign) ? -r : r)",
        "golden::test_round " + OTHER,
    ),
    Fault(
        "numpy: a reciprocal for the division",
        CPP + "scalar.h",
        "rounds_the_sum = true;\n    template <class T>\n    static T divided(T x, T s) {\n"
        "        return x / s;",
        "rounds_the_sum = true;\n    template <class T>\n    static T divided(T x, T s) {\n"
        "        return x * (1 / s);",
        "golden::test_the_reciprocal_is_not_the_quotient",
    ),
    Fault(
        "onnx, tflite: a reciprocal for the division",
        CPP + "scalar.h",
        "rounds_the_sum = false;\n    template <class T>\n    static T divided(T x, T s) {\n"
        "        return x / s;",
        "rounds_the_sum = false;\n    template <class T>\n    static T divided(T x, T s) {\n"
        "        return x * (1 / s);",
        "golden::test_the_reciprocal_is_not_the_quotient " + SIZES,
    ),
    Fault(
        "numpy: the zero point is added after rounding, in vectors",
        CPP + "scalar.h",
        "static constexpr bool rounds_the_sum = true;",
        "static constexpr bool rounds_the_sum = false;",
        LONG,
    ),
    Fault(
        "onnx: bounds do not move by the zero point",
        CPP + "scalar.h",
        "return limit - z;",
        "return limit;",
        ENDS,
    ),
    Fault(
        "onnx: halves away from zero",
        CPP + "scalar.h",
        "return static_cast<u8>(byte_of(w) + byte_of(z));",
        "return static_cast<u8>(byte_of(rounded<T, away>(w)) + byte_of(z));",
        "golden::test_ties",
    ),
    Fault(
        "tflite: 1/2 is added, and carries the float below 1/2 over",
        CPP + "scalar.h",
        "below_half = 0x1.fffffep-2f;",
        "below_half = 0.5f;",
        SIZES + " " + LONG,
    ),
    Fault(
        "tflite: the same in float64",
        CPP + "scalar.h",
        "below_half = 0x1.fffffffffffffp-2;",
        "below_half = 0.5;",
        "selfcheck::test_no_backend_differs_from_the_reference",
    ),
    Fault(
        "certify: the lower end of x is in the range",
        CPP + "scalar.h",
        "m.x_low = below(least_with_quotient(LeastAbove<Convention>::v(low, z), s));",
        "m.x_low = least_with_quotient(LeastAbove<Convention>::v(low, z), s);",
        LONG,
    ),
    Fault(
        "certify: the upper end of x is one code short",
        CPP + "scalar.h",
        "LeastAbove<Convention>::v(high - 1, z)",
        "LeastAbove<Convention>::v(high - 2, z)",
        LONG,
    ),
    Fault(
        "certify: the upper end of x is one code beyond",
        CPP + "scalar.h",
        "LeastAbove<Convention>::v(high - 1, z)",
        "LeastAbove<Convention>::v(high, z)",
        LONG,
    ),
    Fault(
        "dequantize: distributed over the difference",
        CPP + "scalar.h",
        "return (static_cast<T>(q) - z) * s;",
        "return static_cast<T>(q) * s - z * s;",
        "golden::test_dequantize " + SIZES,
    ),
    Fault(
        "histogram: negative numbers share the zeros' bin",
        CPP + "scalar.h",
        "+ (x > 0) - (x < 0);",
        "+ (x > 0);",
        "observers::test_a_histogram_by_hand",
    ),
    Fault(
        "float16: Inf widens to 65536",
        CPP + "scalar.h",
        "(magnitude >= 0x0F800000u ? magnitude",
        "(magnitude > 0x0F800000u ? magnitude",
        "kernels::test_all_float16",
    ),
    Fault(
        "narrowing: ties go up",
        CPP + "scalar.h",
        "(significand + (half - 1) + odd) >> drop;",
        "(significand + half) >> drop;",
        "golden::test_subnormal_results",
    ),
    Fault(
        "narrowing: the least subnormals round to 0",
        CPP + "scalar.h",
        "drop > from_digits + 1)",
        "drop > from_digits)",
        "golden::test_subnormal_results",
    ),
    Fault(
        "bfloat16: ties go up",
        CPP + "scalar.h",
        "(b + 0x7FFFu + (b >> 16 & 1u)) >> 16;",
        "(b + 0x8000u) >> 16;",
        "golden::test_subnormal_results",
    ),
    # ---- loops.cpp -------------------------------------------------------------------------------
    Fault(
        "tail off by one",
        CPP + "loops.cpp",
        "for (size_t i = from; i < to; ++i) y[i] = f(i);",
        "for (size_t i = from; i + 1 < to; ++i) y[i] = f(i);",
        "golden::test_ties " + SIZES,
    ),
    Fault(
        "the ragged start is left out",
        CPP + "loops.cpp",
        "plain_run(f, y, 0, i);",
        "",
        "kernels::test_alignments " + SIZES,
    ),
    Fault(
        "the second line of a block is not streamed",
        CPP + "loops.cpp",
        "for (size_t byte = 0; byte < sizeof done; byte += line)",
        "for (size_t byte = 0; byte < line; byte += line)",
        "selfcheck::test_results_streamed_past_the_caches",
    ),
    Fault(
        "lanes swapped (AVX-512)",
        CPP + "loops.cpp",
        "_mm512_setr_epi32(0, 4, 8, 12, 1,",
        "_mm512_setr_epi32(0, 8, 4, 12, 1,",
        SIZES,
        "avx512",
    ),
    Fault(
        "lanes swapped (AVX2)",
        CPP + "loops.cpp",
        "_mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)",
        "_mm256_setr_epi32(0, 1, 4, 5, 2, 6, 3, 7)",
        SIZES,
        "avx2",
    ),
    Fault(
        "the zero point is added without saturation (AVX-512)",
        CPP + "loops.cpp",
        "_mm512_adds_epi16",
        "_mm512_add_epi16",
        SIZES + " " + LONG,
        "avx512",
    ),
    Fault(
        "int8: no lower clamp after packing",
        CPP + "loops.cpp",
        "Lanes::max_i8(Lanes::pack_i8(a, b), low_byte)",
        "Lanes::pack_i8(a, b)",
        SIZES,
    ),
    Fault(
        "uint8: no lower clamp after packing",
        CPP + "loops.cpp",
        "Lanes::max_u8(Lanes::pack_u8(a, b), low_byte)",
        "Lanes::pack_u8(a, b)",
        "kernels::test_part_of_the_codes",
    ),
    Fault(
        "tflite: negative halves are rounded toward zero",
        CPP + "loops.cpp",
        "Lanes::with_sign_of(half, w)",
        "half",
        LONG,
    ),
    Fault(
        "torch: NaN takes the upper bound, in vectors",
        CPP + "loops.cpp",
        "Lanes::min(top, Lanes::mul(Lanes::load(x + k), m))",
        "Lanes::min(Lanes::mul(Lanes::load(x + k), m), top)",
        SIZES,
    ),
    Fault(
        "products: NaN takes the upper bound",
        CPP + "loops.cpp",
        "Lanes::min(top, Lanes::load(x + k))",
        "Lanes::min(Lanes::load(x + k), top)",
        LONG,
    ),
    Fault(
        "quantize: every column has the first one's scale",
        CPP + "loops.cpp",
        "return code_of<Convention>(x[i], scale[i], zero[i], low, high);",
        "return code_of<Convention>(x[i], scale[0], zero[i], low, high);",
        CHANNELS,
    ),
    Fault(
        "dequantize: every row has the first one's zero point",
        CPP + "loops.cpp",
        "const X s = scale[row], z = zero[row];",
        "const X s = scale[row], z = zero[0];",
        CHANNELS,
    ),
    Fault(
        "long runs: every row has the first one's multiplier",
        CPP + "loops.cpp",
        "const Multiplier m = multipliers[row];",
        "const Multiplier m = multipliers[0];",
        "kernels::test_long_channels",
    ),
    Fault(
        "float16: the instruction rounds toward zero",
        CPP + "loops.cpp",
        "_MM_FROUND_TO_NEAREST_INT",
        "_MM_FROUND_TO_ZERO",
        SIZES,
    ),
    Fault(
        "min_max: NaN is forgotten",
        CPP + "loops.cpp",
        "nonfinite += v - v;",
        "static_cast<void>(nonfinite);",
        "golden::test_min_max " + NAN_IN_THREADS,
    ),
    Fault(
        "min_max: NaN in the first vector is forgotten",
        CPP + "loops.cpp",
        "lows[j] = highs[j] = x[j], nonfinites[j] = x[j] - x[j];",
        "lows[j] = highs[j] = x[j], nonfinites[j] = 0;",
        NAN_IN_THREADS,
    ),
    Fault(
        "min_max: NaN in short runs is forgotten",
        CPP + "loops.cpp",
        "low[i] = (v < low[i] ? v : low[i]) + nonfinite;",
        "low[i] = v < low[i] ? v : low[i];",
        NAN_IN_THREADS,
    ),
    Fault(
        "min_max: one lane is left out",
        CPP + "loops.cpp",
        "for (size_t j = 0; j < lanes; ++j) {\n            low =",
        "for (size_t j = 1; j < lanes; ++j) {\n            low =",
        OTHER,
    ),
    # ---- layout.cpp ------------------------------------------------------------------------------
    Fault(
        "tiling: the parameters of another channel",
        CPP + "layout.cpp",
        "static_cast<const char*>(from) + c * size",
        "static_cast<const char*>(from) + (c + i) % grid_.axis * size",
        CHANNELS,
    ),
    Fault(
        "tiling: what is left after whole tiles is left out",
        CPP + "layout.cpp",
        "visit(Chunk{whole * tiled_cols, 1, rest * plane, 0, true});",
        "rest < tiled_rows;",
        CHANNELS,
    ),
    Fault(
        "tiling: the ranges of tiles are not joined",
        CPP + "layout.cpp",
        "tiling_->fold();",
        "",
        CHANNELS,
    ),
    Fault(
        "blocks: the short last one has the parameters of the one before",
        CPP + "layout.cpp",
        "Chunk{o * plane + whole * grid.block, 1, rest, first + whole, false}",
        "Chunk{o * plane + whole * grid.block, 1, rest, first + whole - 1, false}",
        BLOCKS,
    ),
    Fault(
        "blocks: along another axis all have the first one's parameters",
        CPP + "layout.cpp",
        "(first + b) * grid.inner, true",
        "first * grid.inner, true",
        BLOCKS,
    ),
    Fault(
        "blocks: the short last one is left out",
        CPP + "layout.cpp",
        "std::min(grid.block, grid.axis - start), grid.inner",
        "grid.axis - start < grid.block ? 0 : grid.block, grid.inner",
        BLOCKS,
    ),
    Fault(
        "long rows in parts: the stride is that of the part",
        CPP + "layout.cpp",
        "part.element += r * chunk.cols + c;",
        "part.element += r * part.cols + c;",
        "kernels::test_long_channels",
    ),
    Fault(
        "rows in parts: the parameters of the first row",
        CPP + "layout.cpp",
        "part.parameter += chunk.per_column ? c : r;",
        "part.parameter += chunk.per_column ? c : 0;",
        CHANNELS + " kernels::test_long_channels",
    ),
    Fault(
        "staging: both stages have the same buffer",
        CPP + "layout.cpp",
        "buffers_[i % 2]",
        "buffers_[0]",
        SIZES,
    ),
    Fault(
        "threads: every second share is lost",
        CPP + "layout.cpp",
        "shares_.next.fetch_add(1,",
        "shares_.next.fetch_add(2,",
        "threads::test_same_bits_for_any_number",
    ),
    Fault(
        "threads: every thread does every share",
        CPP + "layout.cpp",
        "return share_ == share;",
        "return share_ >= share;",
        "observers::test_same_bits_for_any_number_of_threads",
    ),
    Fault(
        "threads: the range of one of them is lost",
        CPP + "layout.cpp",
        "for (std::size_t t = 1; t < stages_.size(); ++t)\n            for",
        "for (std::size_t t = 2; t < stages_.size(); ++t)\n            for",
        NAN_IN_THREADS + " observers::test_same_bits_for_any_number_of_threads",
    ),
    # ---- choose.cpp ------------------------------------------------------------------------------
    Fault(
        "symmetric: the centre is rounded toward 0",
        CPP + "choose.cpp",
        "ends / 2 - (ends % 2 < 0 ? 1 : 0)",
        "ends / 2",
        "params::test_sub_ranges choice::test_symmetric",
    ),
    Fault(
        "rule max is rule min",
        CPP + "choose.cpp",
        "z = from_max;",
        "z = from_min;",
        "article params::test_formulas",
    ),
    Fault(
        "rule least_error takes max where both are as good",
        CPP + "choose.cpp",
        "return error(from_max) < error(from_min) ?",
        "return error(from_max) <= error(from_min) ?",
        "params::test_least_error_takes_max_only_if_strictly_better choice",
    ),
    Fault(
        "rule least_error looks at one end",
        CPP + "choose.cpp",
        "return std::max(round_trip_error<Convention>(low, scale, z, c),",
        "return std::min(round_trip_error<Convention>(low, scale, z, c),",
        "params::test_formulas choice",
    ),
    Fault(
        "torch: no least scale",
        CPP + "choose.cpp",
        "scale = std::max(scale, static_cast<T>(0x1p-23));",
        "scale = std::max(scale, T(0));",
        "params choice",
    ),
    Fault(
        "onnx: its zero point from the rounded quotient",
        CPP + "choose.cpp",
        "z = clip(std::nearbyint(static_cast<T>(c.qmin) - low / scale), c.qmin, c.qmax);",
        "z = clip(from_min, c.qmin, c.qmax);",
        "params choice",
    ),
    Fault(
        "tflite: from the other end",
        CPP + "choose.cpp",
        "use_min ? c.qmin - l / s : c.qmax - h / s",
        "use_min ? c.qmax - h / s : c.qmin - l / s",
        "params::test_tflite_known_values choice",
    ),
    Fault(
        "tflite: the zero point's halves toward zero",
        CPP + "choose.cpp",
        "std::abs(v - whole) >= 0.5",
        "std::abs(v - whole) > 0.5",
        "params::test_tflite_known_values choice",
    ),
    Fault(
        "a subnormal scale is the rounded quotient",
        CPP + "choose.cpp",
        "return low == high || is_normal(scale) ? scale : smallest_scale(low, high, steps);",
        "return scale;",
        "params::test_overflow_and_subnormals",
    ),
    Fault(
        "the smallest scale: the product is not exact",
        CPP + "choose.cpp",
        "std::fma(s, steps, -product)",
        "0.0",
        "params choice",
    ),
    Fault(
        "the smallest scale is not the smallest",
        CPP + "choose.cpp",
        "    while (scale > 0 && reaches(std::nextafter(scale, T(0)))) "
        "scale = std::nextafter(scale, T(0));\n",
        "",
        "params choice",
    ),
    Fault(
        "all zeros: the first code",
        CPP + "choose.cpp",
        "zero_point = std::min(std::max(0, c.qmin), c.qmax);",
        "zero_point = c.qmin;",
        "params::test_all_zeros",
    ),
    Fault(
        "include_zero: negative data are not widened",
        CPP + "choose.cpp",
        "high = std::max(high, T(0));",
        "",
        "params::test_constant_data_widens_to_zero params::test_formulas choice",
    ),
    # ---- params.cpp, fpstate.h, pool.cpp ---------------------------------------------------------
    Fault(
        "torch: the scale stands where its reciprocal belongs",
        CPP + "params.cpp",
        "reciprocal && s > 0 ? 1 / s : s;",
        "s;",
        "golden::test_ties",
    ),
    Fault(
        "torch: the reciprocal of the float64 scale for float32 data",
        CPP + "params.cpp",
        "reciprocal && s > 0 ? 1 / s : s;",
        "reciprocal ? static_cast<T>(1 / (scale64.empty() ? scale32[i] : scale64[i])) : s;",
        "cli::test_verify",
    ),
    Fault(
        "every channel has the first one's zero point",
        CPP + "params.cpp",
        "static_cast<T>(zero_point[i]);",
        "static_cast<T>(zero_point[0]);",
        "golden::test_per_channel_and_block",
    ),
    Fault(
        "a scale that is lost in float32 is used",
        CPP + "params.cpp",
        "if (!(s > 0) || !std::isfinite(s)) return false;",
        "static_cast<void>(s);",
        "bad_input::test_nothing_is_written_before_an_error",
    ),
    Fault(
        "the reciprocal is rounded as the host rounds",
        CPP + "params.cpp",
        "const FpGuard guard;\n        const std::size_t n",
        "const std::size_t n",
        "host_state::test_the_core_finds_the_reciprocal_in_a_state_of_its_own",
    ),
    Fault(
        "torch: parameters are chosen without a look at 1/scale",
        CPP + "choose.cpp",
        "!std::isfinite(1 / chosen)",
        "false",
        "choice::test_torch_needs_one_over_the_scale",
    ),
    Fault(
        "the host's rounding mode stays",
        CPP + "fpstate.h",
        "if (host != needed) write(needed);",
        "",
        "host_state::test_same_bits_and_state_kept",
    ),
    Fault(
        "the host's floating-point state is not put back",
        CPP + "fpstate.h",
        "~FpGuard() { leave(host_); }",
        "~FpGuard() {}",
        "host_state::test_same_bits_and_state_kept",
    ),
    Fault(
        "a caller that finds the threads busy does nothing",
        CPP + "pool.cpp",
        "if (taken_.exchange(true, std::memory_order_acquire)) return work(context, 0);",
        "if (taken_.exchange(true, std::memory_order_acquire)) return;",
        "threads::test_many_callers",
    ),
    Fault(
        "the child of a fork keeps the threads it has not",
        CPP + "pool.cpp",
        "[] { the_pool.store(nullptr, std::memory_order_release); }",
        "[] {}",
        "threads::test_children_answer",
    ),
    Fault(
        "the process' own CPUs are not asked for",
        CPP + "pool.cpp",
        "if (sched_getaffinity(0, sizeof set, &set) == 0)",
        "if (sched_getaffinity(0, sizeof set, &set) < 0)",
        "threads::test_the_default_follows_the_affinity",
    ),
    # ---- core.cpp, the bindings ------------------------------------------------------------------
    Fault(
        "round: the kernels are swapped",
        CPP + "core.cpp",
        "ties_away ? Tag::away : Tag::even",
        "ties_away ? Tag::even : Tag::away",
        "golden::test_round",
    ),
    Fault(
        "saturate_cast: int8 begins at 0",
        CPP + "core.cpp",
        "stage.low = is_signed ? -128 : 0;",
        "stage.low = 0;",
        "golden::test_saturate_cast",
    ),
    Fault(
        "dequantize: the last conversion is left out",
        CPP + "core.cpp",
        "    pipeline.dequantize(params.data());\n"
        "    pipeline.convert(params.precision(), x.dtype);\n"
        "    return pipeline.run(grid, q, x.data, poll);",
        "    pipeline.dequantize(params.data());\n    return pipeline.run(grid, q, x.data, poll);",
        "golden::test_dequantize_rounds_once_from_the_precision_of_the_scale",
    ),
    Fault(
        "the multipliers of long runs come without their range",
        CPP + "core.cpp",
        "stage.parameter_size = sizeof(Multiplier);\n                stage.low = p.qmin;",
        "stage.parameter_size = sizeof(Multiplier);\n                stage.low = 0;",
        LONG,
    ),
    Fault(
        "joined ranges forget NaN",
        CPP + "core.cpp",
        "const T nonfinite = *lows == *lows ? 0 : *lows;",
        "const T nonfinite = 0;",
        NAN_IN_THREADS,
    ),
    Fault(
        "joined histograms: the last thread's counts",
        CPP + "core.cpp",
        "h.counts[k] += from[i].counts[k];",
        "h.counts[k] = from[i].counts[k];",
        "observers::test_same_bits_for_any_number_of_threads",
    ),
    Fault(
        "arrays never overlap",
        "cpp/bindings/module.cpp",
        "return first < second + b_bytes && second < first + a_bytes;",
        "return first == second && a_bytes == b_bytes;",
        "layouts::test_overlap",
    ),
    Fault(
        "out of any shape is written to",
        "cpp/bindings/module.cpp",
        "           same_shape(out, x) &&\n",
        "",
        "bad_input::test_table",
    ),
    Fault(
        "out that is read-only is written to",
        "cpp/bindings/module.cpp",
        "dtype_of(out) == dtype && has_flags(out, out_flags)",
        "dtype_of(out) == dtype && has_flags(out, plain_flags)",
        "bad_input::test_table",
    ),
    Fault(
        "a negative axis is off by one",
        "cpp/bindings/module.cpp",
        "const std::ptrdiff_t axis = *axis_or_none < 0 ? *axis_or_none + ndim : *axis_or_none;",
        "const std::ptrdiff_t axis = *axis_or_none < 0 ? *axis_or_none + ndim - 1 : *axis_or_none;",
        "golden::test_per_channel_and_block " + CHANNELS,
    ),
    Fault(
        "foreign byte order is taken for the machine's",
        "cpp/bindings/module.cpp",
        "return descr->byteorder == foreign ? -1 : descr->type_num;",
        "return foreign ? descr->type_num : -1;",
        "layouts::test_views",
    ),
    Fault(
        "blocks of another arrangement are taken",
        "cpp/bindings/module.cpp",
        "if (params.block && parameter_shape(array, *grid, params.axis) != params.shape)",
        "if (params.block && parameter_shape(array, *grid, params.axis).empty())",
        "bad_input",
    ),
    Fault(
        "min_max gives NaN in place of an error",
        "cpp/bindings/module.cpp",
        "if (!range || holds_nan(range->low)) return py::none();",
        "if (!range) return py::none();",
        "bad_input::test_table golden::test_min_max",
    ),
    # ---- Python: the reference, checks, parameters -----------------------------------------------
    Fault(
        "reference: numpy adds the zero point after rounding",
        PY + "_reference.py",
        "round_half_even(x / s + z)",
        "round_half_even(x / s) + z",
        "golden::test_ties",
    ),
    Fault(
        "reference: torch divides",
        PY + "_reference.py",
        "round_half_even(x * (1 / s)) + z",
        "round_half_even(x / s) + z",
        "golden::test_the_reciprocal_is_not_the_quotient reference",
    ),
    Fault(
        "reference: halves away go toward zero",
        PY + "_reference.py",
        "np.abs(x - whole) >= 0.5",
        "np.abs(x - whole) > 0.5",
        "golden::test_ties",
    ),
    Fault(
        "reference: 1/2 is added before the floor",
        PY + "_reference.py",
        "    up = np.abs(x - whole) >= 0.5",
        "    up = np.floor(np.abs(x) + x.dtype.type(0.5)) > np.abs(whole)",
        "reference::test_round reference::test_quantize_at_half_steps",
    ),
    Fault(
        "reference: float64 to bfloat16 is rounded twice",
        PY + "_reference.py",
        "y = _round_to_odd(y)",
        "y = y.astype(np.float32)",
        "golden::test_bfloat16_rounds_once reference::test_narrow",
    ),
    Fault(
        "reference: NaN becomes qmax",
        PY + "_reference.py",
        "np.where(np.isnan(code), qmin, code)",
        "np.where(np.isnan(code), qmax, code)",
        ENDS,
    ),
    Fault(
        "reference: the least element may be -0",
        PY + "_reference.py",
        "np.where(finite, low + 0, nan)",
        "np.where(finite, low, nan)",
        "golden::test_min_max " + OTHER,
    ),
    Fault(
        "reference: blocks are interleaved",
        PY + "_reference.py",
        "index = np.arange(shape[axis]) // block",
        "index = np.arange(shape[axis]) % -(-shape[axis] // block)",
        "golden::test_per_channel_and_block",
    ),
    Fault(
        "reference: joined bins are off by one",
        PY + "_reference.py",
        "((np.abs(number) - 1 >> doublings) + 1)",
        "(np.abs(number) >> doublings)",
        "observers",
    ),
    Fault(
        "reference: the zeros' bin is the first positive one's",
        PY + "_reference.py",
        "np.trunc(np.ldexp(x, -exponent)) + np.sign(x)",
        "np.floor(np.ldexp(x, -exponent)) + 1",
        "observers::test_a_histogram_by_hand",
    ),
    Fault(
        "qmin may be qmax",
        PY + "_checks.py",
        "if qmin >= qmax:",
        "if qmin > qmax:",
        "bad_input::test_table",
    ),
    Fault(
        "a bool is an integer",
        PY + "_checks.py",
        "if isinstance(value, (bool, np.bool_)) or (",
        "if isinstance(value, np.bool_) or (",
        "bad_input::test_table",
    ),
    Fault(
        "the first NaN is where the first number is",
        PY + "_checks.py",
        "int(np.argmax(bad))",
        "int(np.argmin(bad))",
        "bad_input::test_table",
    ),
    Fault(
        "out may be read-only",
        PY + "_checks.py",
        "if not out.flags.writeable:",
        "if not out.flags.aligned:",
        "bad_input::test_table",
    ),
    Fault(
        "elements of out may share memory",
        PY + "_checks.py",
        "    if shared is not False:",
        "    if shared is None:",
        "bad_input::test_out_whose_elements_share_memory",
    ),
    Fault(
        "elements that interleave share memory",
        PY + "_checks.py",
        "(np.diff(starts) < item).any()",
        "(np.diff(starts) <= item).any()",
        "bad_input::test_overlap_of_elements_is_decided_exactly",
    ),
    Fault(
        "NumPy bools are zero points",
        PY + "_checks.py",
        'getattr(getattr(value, "dtype", None), "kind", "") == "b"',
        "False",
        "bad_input::test_table",
    ),
    Fault(
        "requantize takes a zero point above qmax",
        PY + "_api.py",
        "zero.min() <= zero.max() <= params.qmax:",
        "zero.min():",
        "bad_input::test_table",
    ),
    Fault(
        "parameters can be made anew in place",
        PY + "_params.py",
        'if hasattr(self, "_native"):',
        "if False:",
        "params::test_a_second_init",
    ),
    Fault(
        "quantize writes before it looks for NaN",
        PY + "_api.py",
        '    if _checks.flag(check_finite, "check_finite"):\n        _checks.finite(x, "x"',
        '    if _checks.flag(check_finite, "check_finite"):\n'
        "        quantize(x, params, out=out)\n"
        '        _checks.finite(x, "x"',
        "bad_input::test_nothing_is_written_before_an_error",
    ),
    Fault(
        "flip_signedness: the zero point goes the other way",
        PY + "_api.py",
        "by = -128 if params.dtype == np.uint8 else 128",
        "by = 128 if params.dtype == np.uint8 else -128",
        "golden::test_shift",
    ),
    Fault(
        "saturate: a bound of one bit too many",
        PY + "_api.py",
        "magnitude.bit_length() - trailing <= bits",
        "magnitude.bit_length() - trailing <= bits + 1",
        "bad_input::test_table",
    ),
    Fault(
        "requantize: acc_scale is rounded to float32 first",
        PY + "_api.py",
        "*np.broadcast_arrays(scales.astype(np.float64), ",
        "*np.broadcast_arrays(scales.astype(np.float32).astype(np.float64), ",
        "choice::test_the_multiplier_of_requantize_is_rounded_once",
    ),
    Fault(
        "parameters are equal whatever their zero points",
        PY + "_params.py",
        "scale.tobytes(), zero.tobytes(), *rest",
        "scale.tobytes(), zero.shape, *rest",
        "params::test_value",
    ),
    Fault(
        "parameters are equal whatever their convention",
        PY + "_params.py",
        "for name in _FIELDS[2:])",
        "for name in _FIELDS[2:-2])",
        "params::test_every_field_counts",
    ),
    Fault(
        "to_dict forgets the precision",
        PY + "_params.py",
        'fields["scale_dtype"] = scale.dtype.name',
        'fields["scale_dtype"] = "float32"',
        "params::test_value",
    ),
    Fault(
        "parameters can be written to",
        PY + "_params.py",
        "return np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape)",
        "return x.copy()",
        "params::test_immutable",
    ),
    Fault(
        "the short last block needs no parameters",
        PY + "_params.py",
        "blocks = -(-shape[axis] // self.block_size)",
        "blocks = max(1, shape[axis] // self.block_size)",
        BLOCKS,
    ),
    Fault(
        "the core's parameters keep a negative axis",
        PY + "_params.py",
        "axis if block is None else axis % scale.ndim",
        "axis",
        "kernels::test_the_fast_path_equals_the_general_one",
    ),
    Fault(
        "the host's arithmetic is Python's too",
        PY + "_backend.py",
        "    if _core is None:\n        return function\n    enter",
        "    if _core or True:\n        return function\n    enter",
        "host_state::test_every_operation_in_threads",
    ),
    Fault(
        "chunks: those along the second axis start anew",
        PY + "_chunks.py",
        "            yield part, *rest",
        "            yield rest",
        "chunks::test_each_element_is_in_one_piece",
    ),
    Fault(
        "the place of a NaN is that in its chunk",
        PY + "_checks.py",
        "where = tuple(int(i) + start for i, start in offsets)",
        "where = tuple(int(i) for i, start in offsets)",
        "chunks::test_nan_and_inf_beyond_the_first_piece",
    ),
    Fault(
        "observers: of few elements, equal ones count once",
        PY + "observers.py",
        "np.add.at(self._table, (rows, 1 + places), 1)",
        "self._table[rows, 1 + places] += 1",
        "every_path::test_observers",
    ),
    Fault(
        "verify compares nothing",
        PY + "_backend.py",
        "return _State(-1 if verify else isa, isa, verify, chosen)",
        "return _State(isa, isa, verify, chosen)",
        "backend::test_verify_can_fail kernels::test_a_wrong_kernel_is_caught",
    ),
    Fault(
        "the general path writes over what it reads",
        PY + "_backend.py",
        "and not np.may_share_memory(out, source)",
        "and out is not source",
        "layouts::test_overlap",
    ),
    Fault(
        "error_stats: decibels of amplitudes",
        PY + "_compare.py",
        "sqnr = 10 * math.log10(",
        "sqnr = 20 * math.log10(",
        "compare::test_error_stats_by_hand",
    ),
    Fault(
        "error_stats: the last code counts as saturated",
        PY + "_compare.py",
        "(code > params.qmax)",
        "(code >= params.qmax)",
        "compare::test_the_ends_themselves_do_not_count",
    ),
    Fault(
        "error_stats: every chunk has the codes of the first",
        PY + "_compare.py",
        "part, q = x[chunk], codes[chunk]",
        "part, q = x[chunk], codes[: len(x[chunk])]",
        "compare::test_chunks_change_nothing_that_matters",
    ),
    # ---- observers -------------------------------------------------------------------------------
    Fault(
        "observers: the last data's least element",
        PY + "observers.py",
        "self._low = min(self._low, low.item())",
        "self._low = low.item()",
        "observers::test_any_order_of_different_ranges",
    ),
    Fault(
        "observers: bins are twice as wide as they need to be",
        PY + "observers.py",
        "extent - BINS.bit_length() + 1)",
        "extent - BINS.bit_length() + 3)",
        "observers::test_a_histogram_by_hand",
    ),
    Fault(
        "observers: counts of other widths are added as they are",
        PY + "observers.py",
        "        _widen(table, low, high, self._table[:, 0])\n",
        "",
        "observers::test_any_order_of_different_ranges",
    ),
    Fault(
        "observers: bins do not join when the range grows",
        PY + "observers.py",
        "row[0], row[1:] = exponent, 0\n        np.add.at(row, 1 + joined % BINS, counts)",
        "row[0] = exponent",
        "observers::test_any_order_of_different_ranges",
    ),
    Fault(
        "observers: of equal bins only one is counted",
        PY + "observers.py",
        "np.add.at(row, 1 + joined % BINS, counts)",
        "row[1 + joined % BINS] += counts",
        "observers::test_any_order_of_different_ranges",
    ),
    Fault(
        "observers: from_dict puts empty bins after the counts",
        PY + "observers.py",
        "np.cumsum(np.where(counts < 0, -counts, 1)) - 1",
        "np.cumsum(np.where(counts < 0, 1, 1)) - 1",
        "observers::test_dictionary_of_real_data",
    ),
    Fault(
        "percentile: the bin before",
        PY + "_clipping.py",
        "np.argmax(below >= rank, axis=1)",
        "np.argmax(below > rank, axis=1)",
        "observers::test_percentile_by_hand",
    ),
    Fault(
        "percentile: an end has no fraction",
        PY + "_clipping.py",
        "(rank - (upto - count)) / count",
        "(rank - upto) / count",
        "observers::test_percentile_by_hand",
    ),
    Fault(
        "mse: the variance of a step is 1/3",
        PY + "_clipping.py",
        "integral = level / 12",
        "integral = level / 3",
        "observers::test_squared_error_by_hand",
    ),
    Fault(
        "entropy: what is clipped does not count",
        PY + "_clipping.py",
        "data[-1] += counts[last:].sum()",
        "data[-1] += 0",
        "observers::test_divergence_of_what_is_clipped",
    ),
    # ---- files -----------------------------------------------------------------------------------
    Fault(
        "files: the parameters of a short last block are missing",
        PY + "_layout.py",
        "slice(start // self.block, -(-stop // self.block))",
        "slice(start // self.block, max(1, stop // self.block))",
        "files::test_boundaries",
    ),
    Fault(
        "files: the range of the last chunk",
        PY + "_files/work.py",
        "low[at] = np.minimum(low[at], found[0])",
        "low[at] = found[0]",
        "files::test_boundaries",
    ),
    Fault(
        "files: in Fortran order the axis is not reversed",
        PY + "files.py",
        "len(shape) - 1 - axis",
        "axis",
        "files::test_boundaries",
    ),
    Fault(
        "files: the place of a NaN in Fortran order is that in the file",
        PY + "_files/work.py",
        "if not tensor.fortran:",
        "if tensor.size:",
        "files::test_nan_and_inf_are_counted_over_the_whole_tensor",
    ),
    Fault(
        "files: renamed before it is on the disk",
        PY + "_files/target.py",
        "            os.fsync(file.fileno())\n        os.replace(temporary, target)",
        "            os.replace(temporary, target)\n            os.fsync(file.fileno())",
        "files::test_file_and_directory_are_synced_around_the_rename",
    ),
    Fault(
        "files: what is left of a failed job stays",
        PY + "_files/target.py",
        "            temporary.unlink()",
        "            temporary.stat()",
        "files::test_interruption_leaves_the_target",
    ),
    Fault(
        "files: bytes of a big-endian file stay as they are",
        PY + "_files/source.py",
        "values if self._tensor.stored.isnative else values.byteswap(inplace=True)",
        "values",
        "files::test_round_trip",
    ),
    Fault(
        "files: a tensor of an archive starts with its header",
        PY + "_files/npz.py",
        "member.read(tensor.start)",
        "member.read(tensor.start - 4)",
        "files::test_all_float_tensors",
    ),
    Fault(
        "files: safetensors may overlap",
        PY + "_files/safetensors.py",
        "if tensor.start != end:",
        "if tensor.start > end:",
        "files_hostile::test_overlap_where_the_lengths_add_up",
    ),
    Fault(
        "files: offsets count from the start of the file",
        PY + "_files/safetensors.py",
        "tuple(shape), False, start + offsets[0], size)",
        "tuple(shape), False, 8 + offsets[0], size)",
        "files::test_all_float_tensors",
    ),
    Fault(
        "files: a source that changes is not noticed",
        PY + "_files/source.py",
        "if state_of(self._file) != self.state:",
        "if state_of(self._file)[0] < 0:",
        "files::test_source_that_changes",
    ),
    Fault(
        "files: the time of a change of state is not looked at",
        PY + "_files/source.py",
        "found.st_mtime_ns, found.st_ctime_ns",
        "found.st_mtime_ns",
        "files_access::test_a_source_that_is_rewritten_and_its_time_set_back",
    ),
    Fault(
        "files: what is being written can be read by all",
        PY + "_files/target.py",
        "0o666 if old is None else 0o600",
        "0o666",
        "files_access::test_what_is_being_written_is_as_private_as_its_target",
    ),
    Fault(
        "files: members of an archive may overlap",
        PY + "_files/npz.py",
        "if info.header_offset < end:",
        "if info.header_offset < 0:",
        "files_hostile::test_members_share_no_bytes",
    ),
    Fault(
        "files: a pattern that matches nothing is silent",
        PY + "_patterns.py",
        "if not matched:",
        "if matched is None:",
        "patterns::test_a_pattern_that_matches_nothing",
    ),
    # ---- interop, Dask, Zarr ---------------------------------------------------------------------
    Fault(
        "litert: channels are computed as tensors are",
        PY + "interop/litert.py",
        'convention = "litert" if axis is None else "litert_reference"',
        'convention = "litert"',
        "interop_litert::test_weights_per_channel",
    ),
    Fault(
        "litert: every axis is the first",
        PY + "interop/litert.py",
        "axis = dimension if scales.size > 1 else None",
        "axis = 0 if scales.size > 1 else None",
        "interop_litert",
    ),
    Fault(
        "litert: blocks without scales are plain integers",
        PY + "interop/litert.py",
        "quantized = in_blocks or _numbers",
        "quantized = _numbers",
        "interop_litert::test_blocks_without_scales",
    ),
    Fault(
        "onnx: the last of two tensors of one name is taken",
        PY + "interop/_onnx_graph.py",
        "(name in found or (name in inputs and",
        "((name in inputs and",
        "interop_onnx::test_two_tensors_of_one_name",
    ),
    Fault(
        "names from files reach the terminal as they are",
        PY + "_checks.py",
        "if text.isprintable():",
        "if text:",
        "names_from_files",
    ),
    Fault(
        "litert: tensors are set before all values are quantized",
        PY + "interop/litert.py",
        "ready.append((index, value if p is None else zp.quantize(value, p)))",
        "ready.append((index, value if p is None else zp.quantize(value, p)))\n"
        "                self._interpreter.set_tensor(*ready[-1])",
        "litert_all_or_nothing",
    ),
    Fault(
        "onnx: the default axis is 0",
        PY + "interop/_onnx_graph.py",
        'attribute(node, "axis", 1)',
        'attribute(node, "axis", 0)',
        "interop_onnx::test_per_channel",
    ),
    Fault(
        "onnx: codes without a zero point are int8",
        PY + "interop/_onnx_graph.py",
        "or int(onnx.TensorProto.UINT8)",
        "or int(onnx.TensorProto.INT8)",
        "interop_onnx::test_a_missing_zero_point",
    ),
    Fault(
        "onnx: Gemm is never transposed",
        PY + "interop/_onnx_weights.py",
        'place ^ attribute(node, "transB" if place else "transA", 0)',
        "place",
        "interop_onnx::test_the_channel_axis",
    ),
    Fault(
        "torch: the range is that of the dtype",
        PY + "interop/torch.py",
        "qmax=observer.quant_max,",
        "qmax=None,",
        "interop_torch::test_params_are_the_modules",
    ),
    Fault(
        "torch: autograd does not learn of writes",
        PY + "interop/torch.py",
        "        torch.autograd.graph.increment_version(out)  # autograd does not see who wrote\n",
        "",
        "interop_torch::test_autograd_learns_of_writes",
    ),
    Fault(
        "dask: merging changes what it is given",
        PY + "dask.py",
        "observers, fresh())",
        "observers)",
        "dask::test_merging_leaves_alone_what_dask_may_ask_for_again",
    ),
    Fault(
        "dask: the place of a NaN is that in its chunk",
        PY + "dask.py",
        "starts[axis][i] + place[axis]",
        "place[axis]",
        "dask::test_nan_and_inf_are_counted_over_the_whole_array",
    ),
    Fault(
        "dask: chunks may cut blocks",
        PY + "dask.py",
        "min(-(-end // block_size) * block_size, length)",
        "min(end, length)",
        "dask::test_any_chunks dask::test_chunks_stay_where_they_can",
    ),
    Fault(
        "zarr: shards of equal codes are left out",
        PY + "zarr.py",
        "write_empty_chunks=True",
        "write_empty_chunks=False",
        "zarr::test_a_shard_of_equal_codes_is_kept",
    ),
    Fault(
        "zarr: chunks may cut the axis",
        PY + "zarr.py",
        "            self.params._check_fits(chunks)\n",
        "            self.params._check_fits(shape)\n",
        "zarr::test_chunks_that_cut_the_axis",
    ),
    Fault(
        "zarr: any fill value",
        PY + "zarr.py",
        "(code <= params.qmax + 0.5)",
        "(code <= params.qmax + 50)",
        "zarr",
    ),
    Fault(
        "zarr: an axis inside shards",
        PY + "zarr.py",
        "self.params.axis is not None and not self._validated",
        "self.params.axis is not None and False",
        "zarr::test_no_axis_inside_shards",
    ),
    # ---- what reviews found since ----------------------------------------------------------------
    Fault(
        "a fork in mid-call does not wait for the helpers",
        CPP + "pool.cpp",
        "if (owner_ == std::this_thread::get_id()) await_helpers();",
        "",
        "host_process::test_a_fork_in_mid_call",
    ),
    Fault(
        "verify: memory that is not written may look right",
        PY + "_backend.py",
        "if expected is not None:  # what is not written",
        "if False:  # what is not written",
        "selfcheck::test_a_kernel_that_writes_nothing_is_found",
    ),
    Fault(
        "verify --deep: memory that is not written may look right",
        PY + "_exhaustive.py",
        "codes.fill(want ^ 0xFF)",
        "codes.fill(want)",
        "exhaustive::test_codes_that_are_not_written_are_found",
    ),
    Fault(
        "HistogramObserver: a float64 range is compared in float32",
        PY + "observers.py",
        "low, high = low.astype(np.float64), high.astype(np.float64)\n        return bool(",
        "return bool(",
        "observers::test_a_range_that_float32_cannot_tell",
    ),
    Fault(
        "percentile: a range of nothing",
        PY + "observers.py",
        "(new_low < new_high) | ((new_low != 0) & choice.include_zero)",
        "(new_low < new_high) | choice.include_zero",
        "observers::test_percentiles_of_data_that_are_nearly_all_zero",
    ),
    Fault(
        "mse: whatever seems better",
        PY + "_clipping.py",
        "_SURE = 3",
        "_SURE = 0",
        "observers::test_mse_is_careful_with_few_different_values",
    ),
    Fault(
        "merge: counts that overflow",
        PY + "observers.py",
        ">= 2**63).any():",
        ">= 2**63).all() and False:",
        "observers::test_more_elements_than_counts_hold",
    ),
    Fault(
        "dequantize_file: a bound where values became Inf",
        PY + "_files/work.py",
        "                    step = np.inf\n",
        "                    pass\n",
        "files::test_values_beyond_the_dtype_have_no_bound",
    ),
    Fault(
        "numpy.seterr makes errors of ours",
        PY + "_compare.py",
        '    @np.errstate(all="ignore")  # parts',
        "    # parts",
        "host_state::test_seterr_is_no_concern_of_ours",
    ),
    Fault(
        "a masked array as out",
        PY + "_checks.py",
        "if isinstance(out, np.ma.MaskedArray):",
        "if False:",
        "bad_input",
    ),
    Fault(
        "a zero point of 2^31",
        CPP + "choose.cpp",
        "z < 2147483648.0",
        "z <= 2147483648.0",
        "choice::test_zero_points_at_the_ends_of_int32",
    ),
    Fault(
        "use_backend ends the verification",
        PY + "_backend.py",
        "current().verify, True)",
        "False, True)",
        "backend::test_another_backend_is_verified_too",
    ),
    Fault(
        "the host's traps stay",
        CPP + "fpstate.h",
        "needed = 0x1F80;",
        "needed = 0x1900;",
        "host_state::test_every_operation_in_threads",
    ),
    Fault(
        "C++: the exponents of float16 and bfloat16 are swapped",
        CPP + "zeropoint.cpp",
        "core::DType::f16 ? 0x7C00 : 0x7F80",
        "core::DType::f16 ? 0x7F80 : 0x7C00",
        "cpp_package::test_every_function_equals_python",
    ),
    Fault(
        "memory that is short ends the process",
        CPP + "params.cpp",
        "} catch (const std::exception&) {\n    return nullptr;",
        "} catch (const int&) {\n    return nullptr;",
        "out_of_memory::test_every_allocation_of_every_call_in_python",
    ),
    Fault(
        "a setting of more than 64 bits",
        PY + "_backend.py",
        "len(text) <= 20 and int(text) < 2**64",
        "len(text) <= 20",
        "environment::test_nonsense",
    ),
]


# ---------------------------------------------------------------------------------------------
# The copy


class Copy:
    """The tree in a directory of its own, its module compiled, with an interpreter for it.

    `project` is the directory whose CMakeLists.txt is built, and `targets` what is built of it.
    """

    def __init__(self, work: Path, project: str = ".", targets: tuple[str, ...] = ()) -> None:
        self._project, self._targets = project, targets
        self.tree, self.built, self._room = work / "tree", work / "build", work / "venv"
        tracked = _run("git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard")
        self._fill([Path(name) for name in tracked.split("\0") if name])
        # the values are those of -O3, which takes three times as long to compile
        self._edit("CMakeLists.txt", "set(loop_options -O3 ", "set(loop_options -O1 ")
        self._environment()
        self._configure()
        self.build()
        where = "import zeropoint as zp; print(zp.__file__, *zp.backends())"
        found, *self.backends = _run(self.python, "-c", where, cwd=self.tree).split()
        if not Path(found).is_relative_to(self.tree) or self.backends == ["reference"]:
            sys.exit(f"the copy is not what is imported: {found}, {self.backends}")

    def _fill(self, names: list[Path]) -> None:
        """Only what differs is written, so that a kept copy is not compiled again."""
        names = [name for name in names if (ROOT / name).is_file()]
        for old in [path for path in self.tree.rglob("*") if path.is_file()]:
            if old.suffix != ".so" and old.relative_to(self.tree) not in names:
                old.unlink()
        for name in names:
            source, target = ROOT / name, self.tree / name
            if not target.exists() or target.read_bytes() != source.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)

    def _environment(self) -> None:
        """The packages of this interpreter, and before them the copy's.

        What a .pth file names is put on the path, but the .pth files there, that of an editable
        zeropoint among them, are not read.
        """
        _run(sys.executable, "-m", "venv", "--without-pip", str(self._room))
        (packages,) = self._room.glob("lib/python*/site-packages")
        paths = [str(self.tree / "python"), *(p for p in sys.path if p.endswith("site-packages"))]
        (packages / "copy.pth").write_text("\n".join(paths) + "\n")
        self.python = str(self._room / "bin" / "python")

    def _configure(self) -> None:
        _run(
            *("cmake", "-G", "Ninja", "-S", str(self.tree / self._project), "-B", str(self.built)),
            "-DSKBUILD=ON",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={_run(sys.executable, '-m', 'pybind11', '--cmakedir').strip()}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={self.tree / 'python' / 'zeropoint'}",
        )

    def build(self) -> None:
        targets = ["--target", *self._targets] if self._targets else []
        _run("cmake", "--build", str(self.built), *targets)

    def _edit(self, file: str, old: str, new: str) -> None:
        path = self.tree / file
        text = path.read_text()
        if text.count(old) != 1:
            sys.exit(f"{file}: found {text.count(old)} times, not once:\n{old}")
        path.write_text(text.replace(old, new))

    @contextlib.contextmanager
    def with_fault(self, fault: Fault) -> Iterator[None]:
        with self.restored(fault.file):
            self._edit(fault.file, fault.old, fault.new)
            if fault.file.startswith("cpp/"):
                self.build()
            yield

    @contextlib.contextmanager
    def restored(self, file: str) -> Iterator[Path]:
        """A file of the copy, which has its text again in the end."""
        path = self.tree / file
        text = path.read_text()
        try:
            yield path
        finally:
            path.write_text(text)

    def tests(self, ids: list[str], seconds: float = SECONDS) -> str | None:
        """The first test that fails, None if all pass."""
        command = [self.python, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ZEROPOINT_")}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1"}
        job = subprocess.Popen(
            [*command, "--hypothesis-seed=0", *ids],
            cwd=self.tree,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output, _ = job.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(job.pid, signal.SIGKILL)
            job.communicate()
            return "none: they hang"
        if job.returncode == 0:
            return None
        if job.returncode < 0:
            return f"none: the interpreter dies of {signal.Signals(-job.returncode).name}"
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output, re.MULTILINE)
        if failed is None:
            sys.exit(f"pytest {' '.join(ids)} ended with {job.returncode}:\n{output}")
        return failed[1]

    def others(self) -> list[str]:
        found = [path for path in self.tree.glob("tests/test_*.py") if path.stem not in SLOW]
        return sorted(str(path.relative_to(self.tree)) for path in found)


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


# ---------------------------------------------------------------------------------------------


def check_table(faults: list[Fault]) -> None:
    """Exits unless the texts are where the table says, and no two faults have one name."""
    for fault in faults:
        found = (ROOT / fault.file).read_text().count(fault.old)
        if found != 1:
            sys.exit(f"{fault.name}: in {fault.file} found {found} times, not once:\n{fault.old}")
        for test in fault.ids:
            if not (ROOT / test.partition("::")[0]).is_file():
                sys.exit(f"{fault.name}: there is no {test}")
    if len({fault.name for fault in faults}) != len(faults):
        sys.exit("two faults have one name")


def main() -> int:
    parser = argparse.ArgumentParser(description="Seeded faults, and the tests that see them.")
    parser.add_argument("--list", action="store_true", help="print the faults and end")
    parser.add_argument("--only", metavar="NAME", help="the faults with this in their name or file")
    parser.add_argument("--work", metavar="DIR", type=Path, help="keep the copy there")
    options = parser.parse_args()
    check_table(FAULTS)
    faults = [f for f in FAULTS if (options.only or "") in f"{f.name} {f.file}"]
    if not faults:
        parser.error(f"no fault has {options.only!r} in its name or file")
    if options.list:
        for fault in faults:
            print(f"{fault.file}: {fault.name}")
        return 0
    faults.sort(key=lambda fault: fault.file.startswith("cpp/"))  # while all is compiled as it is
    with contextlib.ExitStack() as stack:
        work = options.work or stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-"))
        Path(work).mkdir(parents=True, exist_ok=True)
        return _try(faults, Copy(Path(work).resolve()))


def _try(faults: list[Fault], copy: Copy) -> int:
    start = time.monotonic()
    ids = sorted({test for fault in faults for test in fault.ids})
    for _, together in itertools.groupby(ids, lambda test: test.partition("::")[0]):
        failed = copy.tests(list(together))
        if failed:
            sys.exit(f"without any fault this fails: {failed}")
    print(f"without a fault all pass ({time.monotonic() - start:.0f} s)", flush=True)
    survived = 0
    for fault in faults:
        start = time.monotonic()
        if fault.isa and fault.isa not in copy.backends:
            print(f"NOT TRIED {fault.name}: this machine lacks {fault.isa}", flush=True)
            continue
        with copy.with_fault(fault):
            test = copy.tests(fault.ids)
            late = ""
            if test is None:
                test, late = copy.tests(copy.others()), ", by none of the first"
                if test and "::" in test and copy.tests([test]) is None:
                    test = None  # it failed by chance
        survived += test is None
        told = f"caught   {fault.name}: {test}{late}" if test else f"SURVIVED {fault.name}"
        print(f"{told} ({time.monotonic() - start:.1f} s)", flush=True)
    tried = sum(not fault.isa or fault.isa in copy.backends for fault in faults)
    print(f"{tried - survived} passed, {survived} failed")
    return bool(survived)


if __name__ == "__main__":
    sys.exit(main())
