// What every call must give.  The arithmetic is the core's own, which the Python tests compare with
// the reference: what is checked here is that layouts, vectors, tails, threads and machines change
// nothing.  Ranges and histograms are found one element after the other.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "call.hpp"
#include "numbers.hpp"

namespace test::oracle {

/// Which parameter the element i of the array has.
inline std::size_t parameter(const Layout& g, std::size_t i) {
    if (g.kind == Layout::Kind::tensor) return 0;
    const std::size_t inner = i % g.inner, axis = i / g.inner % g.axis;
    if (g.kind == Layout::Kind::channel) return axis;
    const std::size_t outer = i / g.inner / g.axis, blocks = (g.axis + g.block - 1) / g.block;
    return (outer * blocks + axis / g.block) * g.inner + inner;
}

template <class T>
void min_max_present(const Call& c, const void* in, void* out) {
    const std::size_t n = c.layout.parameters();
    std::vector<T> low(n, std::numeric_limits<T>::infinity()), high(n, -low.at(0));
    for (std::size_t i = 0; i < c.layout.size(); ++i) {
        const std::size_t p = parameter(c.layout, i);
        const T v = static_cast<T>(load(in, c.in, i));
        if (std::isnan(v)) continue;
        low[p] = std::min(low[p], v);
        high[p] = std::max(high[p], v);
    }
    for (std::size_t p = 0; p < n; ++p) {
        write(out, p, low[p] == 0 ? T(0) : low[p]);
        write(out, n + p, high[p] == 0 ? T(0) : high[p]);
    }
}

// ---- real offsets, in T: the wider of the precisions of the data and of the parameters ----------

// What is divided by, of the precision of the parameters.
template <class T>
T step(const Call& c, std::size_t p) {
    const double kept = c.scale[p];
    if (c.by_offset != OffsetConvention::sentence_transformers) return static_cast<T>(kept);
    const int n = c.qmax - c.qmin;
    return static_cast<T>(
        c.precision == DType::f64 ? kept / n : static_cast<float>(kept) / static_cast<float>(n));
}

template <class T>
int code_by_offset(const Call& c, std::size_t p, double value) {
    if (std::isnan(value)) return c.nan_code.value_or(c.qmin);
    const T x = static_cast<T>(value), o = static_cast<T>(c.offset[p]), s = step<T>(c, p);
    const T n = static_cast<T>(c.qmax - c.qmin);
    T counted = 0;  // from qmin
    switch (*c.by_offset) {
        case OffsetConvention::cf:
            counted = std::nearbyint((x - o) / s) - static_cast<T>(c.qmin);
            break;
        case OffsetConvention::faiss: {
            const T part = s == 0 ? 0 : (x - o) / s;
            counted = std::floor(n * (part < 0 ? 0 : part > 1 ? 1 : part));
            break;
        }
        case OffsetConvention::sentence_transformers:
            counted = std::floor((x - o) / (s == 0 ? 1 : s));
            break;
    }
    if (std::isnan(counted)) counted = 0;
    return c.qmin + static_cast<int>(counted < 0 ? 0 : counted > n ? n : counted);
}

// a * b + c, rounded once.
#if defined(__MINGW32__)
// That of its C library is rounded twice.  The product is exact, and so is its sum with c in two
// parts; where the greater one is halfway between two floats, the other one decides.
inline float fused(double a, double b, double c) {
    const double product = a * b, sum = product + c, part = sum - product;
    const double rest = (product - (sum - part)) + (c - part);
    const float nearest = static_cast<float>(sum);
    if (rest == 0 || !std::isfinite(nearest)) return nearest;
    const float other = std::nextafter(nearest, nearest < sum ? INFINITY : -INFINITY);
    if (sum - nearest != other - sum) return nearest;
    return (rest > 0) == (other > nearest) ? other : nearest;
}
#else
inline float fused(double a, double b, double c) {
    return std::fma(static_cast<float>(a), static_cast<float>(b), static_cast<float>(c));
}
#endif

template <class T>
double value_by_offset(const Call& c, std::size_t p, int code) {
    if (code == c.nan_code) return std::numeric_limits<double>::quiet_NaN();
    const T s = step<T>(c, p), o = static_cast<T>(c.offset[p]);
    if (c.by_offset == OffsetConvention::cf) {
        const T product = static_cast<T>(code) * s;
        return product + o;
    }
    T middle = static_cast<T>(code - c.qmin) + T(0.5);
    if (c.by_offset == OffsetConvention::faiss) middle /= static_cast<T>(c.qmax - c.qmin);
    if (c.fused && sizeof(T) == sizeof(float)) return fused(middle, s, o);
    const T product = middle * s;
    return product + o;
}

inline void by_offset(const Call& c, const void* in, void* out) {
    const bool wide = c.in == DType::f64 || c.precision == DType::f64;
    for (std::size_t i = 0; i < c.layout.size(); ++i) {
        const std::size_t p = parameter(c.layout, i);
        int code = 0;
        if (c.op == Op::dequantize)
            code = c.code == DType::i8 ? read<std::int8_t>(in, i) : read<std::uint8_t>(in, i);
        else
            code = wide ? code_by_offset<double>(c, p, load(in, c.in, i))
                        : code_by_offset<float>(c, p, load(in, c.in, i));
        if (c.op == Op::quantize) {
            write(out, i, static_cast<std::uint8_t>(code));
            continue;
        }
        const double value = c.precision == DType::f64 ? value_by_offset<double>(c, p, code)
                                                       : value_by_offset<float>(c, p, code);
        store(out, c.out, i, value);
    }
}

template <class T>
void min_max(const Call& c, const void* in, void* out) {
    const std::size_t n = c.layout.parameters();
    std::vector<T> low(n, std::numeric_limits<T>::infinity()), high(n, -low.at(0));
    std::vector<bool> nonfinite(n, false);
    for (std::size_t i = 0; i < c.layout.size(); ++i) {
        const std::size_t p = parameter(c.layout, i);
        const T v = static_cast<T>(load(in, c.in, i));
        nonfinite[p] = nonfinite[p] || !std::isfinite(v);
        low[p] = std::min(low[p], v);
        high[p] = std::max(high[p], v);
    }
    for (std::size_t p = 0; p < n; ++p) {
        const T nan = std::numeric_limits<T>::quiet_NaN();
        write(out, p, nonfinite[p] ? nan : low[p] == 0 ? T(0) : low[p]);
        write(out, n + p, nonfinite[p] ? nan : high[p] == 0 ? T(0) : high[p]);
    }
}

// Each row: minimum, maximum, exponent, and the counts of bins [(t - 1) w, t w) with w = 2^exponent
// (0 for the zeros, -t for what is negative), at t modulo their number.
inline void histogram(const Call& c, const void* in, void* out) {
    constexpr std::size_t bins = core::histogram_row - 3;
    Call range = c;
    range.out = DType::f64;
    const std::size_t n = c.layout.parameters();
    std::vector<double> ends(2 * n);
    if (n > 0) min_max<double>(range, in, ends.data());
    for (std::size_t p = 0; p < n; ++p) {
        write(out, p * core::histogram_row, ends[p]);
        write(out, p * core::histogram_row + 1, ends[n + p]);
        write(out, p * core::histogram_row + 2, c.exponents[p]);
    }
    for (std::size_t i = 0; i < c.layout.size(); ++i) {
        const std::size_t p = parameter(c.layout, i);
        const double x = load(in, c.in, i);
        const double steps = std::trunc(std::ldexp(x, static_cast<int>(-c.exponents[p])));
        if (!(std::abs(steps) < 0x1p30)) continue;  // see only_promised
        const auto t = static_cast<std::int64_t>(steps) + (x > 0) - (x < 0);
        const std::size_t word =
            p * core::histogram_row + 3 + (static_cast<std::uint64_t>(t) % bins);
        write(out, word, read<std::int64_t>(out, word) + 1);
    }
}

/// The bytes that `run` must write: for real offsets by the formulas above, else those of the
/// core's baseline for the elements of one parameter, fewer at a time than a vector of codes holds.
inline std::vector<unsigned char> result(const Call& c, const void* in) {
    constexpr std::size_t at_once = 15;
    std::vector<unsigned char> out(c.out_bytes());
    if (out.empty()) return out;
    if (c.op == Op::histogram) histogram(c, in, out.data());
    if (c.op == Op::min_max && c.out == DType::f64) min_max<double>(c, in, out.data());
    if (c.op == Op::min_max && c.out == DType::f32) min_max<float>(c, in, out.data());
    if (c.op == Op::min_max_present && c.out == DType::f64)
        min_max_present<double>(c, in, out.data());
    if (c.op == Op::min_max_present && c.out == DType::f32)
        min_max_present<float>(c, in, out.data());
    if (c.op == Op::lookup)
        for (std::size_t i = 0; i < out.size(); ++i)
            out[i] = c.tables[core::Tables::entries * parameter(c.layout, i) +
                              read<std::uint8_t>(in, i)];
    if (c.by_offset) by_offset(c, in, out.data());
    if (c.op >= Op::min_max || c.by_offset) return out;
    const std::size_t n = c.layout.size(), baseline = core::isas().size() - 1;
    std::vector<std::unique_ptr<Parameters>> made(c.layout.parameters());
    Call few = c;
    const auto one = [](const auto& all, std::size_t p) { return all[all.size() == 1 ? 0 : p]; };
    std::size_t next = 0;  // the parameter of the element i + m
    for (std::size_t i = 0; i < n; i += few.layout.size()) {
        const std::size_t p = next;
        std::size_t m = 1;
        while (i + m < n && (next = parameter(c.layout, i + m)) == p && m < at_once) ++m;
        few.layout = tensor(m);
        if (!made[p]) {
            few.scale.assign(1, one(c.scale, p));
            few.zero_point.assign(1, one(c.zero_point, p));
            few.multiplier.assign(1, one(c.multiplier, p));
            made[p] = std::make_unique<Parameters>(few);
        }
        run(few, *made[p], baseline, static_cast<const char*>(in) + i * core::size_of(c.in),
            out.data() + i * core::size_of(c.out));
    }
    return out;
}

/// Makes equal what is not promised: min_max, histogram and codes for NaN give a NaN, not which;
/// and counts mean nothing beside NaN, or where data lie 2^30 bins from 0.
inline void only_promised(const Call& c, void* out) {
    const auto same_nan = [&](DType dtype, std::size_t i) {
        const bool is_nan = std::isnan(load(out, dtype, i));
        if (is_nan) store(out, dtype, i, std::numeric_limits<double>::quiet_NaN());
        return is_nan;
    };
    if (c.nan_code && is_float(c.out))
        for (std::size_t i = 0; i < c.layout.size(); ++i) same_nan(c.out, i);
    for (std::size_t p = 0; p < c.layout.parameters(); ++p) {
        if (c.op == Op::min_max) {
            same_nan(c.out, p);
            same_nan(c.out, p + c.layout.parameters());
        } else if (c.op == Op::histogram) {
            const std::size_t row = p * core::histogram_row;
            const bool nonfinite = same_nan(DType::f64, row) + same_nan(DType::f64, row + 1) > 0;
            const double peak = std::max(-read<double>(out, row), read<double>(out, row + 1));
            if (nonfinite || std::ldexp(peak, static_cast<int>(-c.exponents[p])) >= 0x1p30)
                for (std::size_t k = 3; k < core::histogram_row; ++k)
                    write(out, row + k, std::int64_t(0));
        }
    }
}

}  // namespace test::oracle
