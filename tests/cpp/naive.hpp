// What every call must give, written to be read: one element after the other in the plain
// arithmetic of the language and of <cmath>.  Nothing here is shared with the core but its words.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "call.hpp"

namespace test::naive {

// ---- numbers in memory -------------------------------------------------------------------------

template <class T>
T read(const void* data, std::size_t i) {
    T value;
    std::memcpy(&value, static_cast<const char*>(data) + i * sizeof(T), sizeof(T));
    return value;
}
template <class T>
void write(void* data, std::size_t i, T value) {
    std::memcpy(static_cast<char*>(data) + i * sizeof(T), &value, sizeof(T));
}

// A 16-bit float: sign, exponent with `bias`, `digits` of the significand.
struct Half {
    int digits, bias;
    int infinity() const { return (2 * bias + 1) << digits; }  // its bits
    double value(std::uint16_t bits) const {
        const int magnitude = bits & 0x7FFF, exponent = magnitude >> digits;
        const int fraction = magnitude & ((1 << digits) - 1);
        double v = std::ldexp(fraction, 1 - bias - digits);
        if (exponent > 0) v = std::ldexp(fraction + (1 << digits), exponent - bias - digits);
        if (magnitude == infinity()) v = std::numeric_limits<double>::infinity();
        if (magnitude > infinity()) v = std::numeric_limits<double>::quiet_NaN();
        return bits & 0x8000 ? -v : v;
    }
    std::uint16_t bits(double v) const {  // not for NaN; halves to even
        const std::uint16_t sign = std::signbit(v) ? 0x8000 : 0;
        v = std::abs(v);
        const int smallest = 1 - bias;  // exponent of the smallest normal number
        const int exponent = v > 0 && std::isfinite(v) ? std::max(std::ilogb(v), smallest) : 0;
        // counted in units of the last place, a whole number that the exponent goes on top of
        const double count = std::nearbyint(std::ldexp(v, digits - exponent));
        if (!std::isfinite(count)) return static_cast<std::uint16_t>(sign | infinity());
        const int magnitude =
            v == 0 ? 0 : ((exponent - smallest) << digits) + static_cast<int>(count);
        return static_cast<std::uint16_t>(sign | std::min(magnitude, infinity()));
    }
};

inline Half half(DType dtype) { return dtype == DType::f16 ? Half{10, 15} : Half{7, 127}; }
inline bool is_half(DType dtype) { return dtype == DType::f16 || dtype == DType::bf16; }
inline bool is_float(DType dtype) {
    return is_half(dtype) || dtype == DType::f32 || dtype == DType::f64;
}

inline double load(const void* data, DType dtype, std::size_t i) {
    if (dtype == DType::f64) return read<double>(data, i);
    if (dtype == DType::f32) return read<float>(data, i);
    return half(dtype).value(read<std::uint16_t>(data, i));
}
inline void store(void* data, DType dtype, std::size_t i, double v) {  // rounded once
    if (dtype == DType::f64)
        write(data, i, v);
    else if (dtype == DType::f32)
        write(data, i, static_cast<float>(v));
    else
        write(data, i, half(dtype).bits(v));
}
inline void store_code(void* data, std::size_t i, int code) {
    write(data, i, static_cast<unsigned char>(code & 0xFF));
}
inline int load_code(const void* data, DType code, std::size_t i) {
    return code == DType::i8 ? read<std::int8_t>(data, i) : read<std::uint8_t>(data, i);
}
// A NaN passes through with its sign and payload; a conversion makes it quiet.
inline void store_nan(const void* in, void* out, DType dtype, std::size_t i) {
    if (is_half(dtype)) {
        const int quiet = 1 << (half(dtype).digits - 1);
        write(out, i, static_cast<std::uint16_t>(read<std::uint16_t>(in, i) | quiet));
    } else {
        const std::size_t size = core::size_of(dtype);
        std::memcpy(static_cast<char*>(out) + i * size, static_cast<const char*>(in) + i * size,
                    size);
    }
}

/// Calls f with a number of the type that `dtype` names, an integer.
template <class F>
void with_integer(DType dtype, F f) {
    switch (dtype) {
        case DType::i8:
            return f(std::int8_t());
        case DType::u8:
            return f(std::uint8_t());
        case DType::i16:
            return f(std::int16_t());
        case DType::u16:
            return f(std::uint16_t());
        case DType::i32:
            return f(std::int32_t());
        case DType::u32:
            return f(std::uint32_t());
        case DType::i64:
            return f(std::int64_t());
        default:
            return f(std::uint64_t());
    }
}

// ---- the mathematics ---------------------------------------------------------------------------

template <class T>
int clip(T v, int low, int high) {  // NaN becomes `low`
    if (!(v > static_cast<T>(low))) return low;
    return v < static_cast<T>(high) ? static_cast<int>(v) : high;
}

/// The code of x in the working precision T.
template <class T>
int code(const Call& c, T x, T s, T z) {
    T v = 0;
    switch (c.convention) {
        case Convention::numpy:
            v = std::nearbyint(x / s + z);
            break;
        case Convention::onnx:
            v = std::nearbyint(x / s) + z;
            break;
        case Convention::torch:
            v = std::nearbyint(x * (1 / s)) + z;
            break;
        case Convention::tflite:
            v = std::round(x / s) + z;
            break;
    }
    return clip(v, c.qmin, c.qmax);
}

inline int quantized(const Call& c, double x, double s, std::int32_t z) {
    if (c.in == DType::f64) return code<double>(c, x, s, z);
    return code<float>(c, static_cast<float>(x), static_cast<float>(s), static_cast<float>(z));
}

inline double dequantized(const Call& c, int q, double s, std::int32_t z) {
    if (c.precision == DType::f64) return (q - static_cast<double>(z)) * s;
    return (static_cast<float>(q) - static_cast<float>(z)) * static_cast<float>(s);
}

/// Which parameter the element i of the array has.
inline std::size_t parameter(const Layout& g, std::size_t i) {
    if (g.kind == Layout::Kind::tensor) return 0;
    const std::size_t inner = i % g.inner, axis = i / g.inner % g.axis;
    if (g.kind == Layout::Kind::channel) return axis;
    const std::size_t outer = i / g.inner / g.axis, blocks = (g.axis + g.block - 1) / g.block;
    return (outer * blocks + axis / g.block) * g.inner + inner;
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

// Each row: least, greatest, exponent, and the counts of bins [(t - 1) w, t w) with w = 2^exponent
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

inline void element(const Call& c, const void* in, void* out, std::size_t i) {
    const std::size_t p = parameter(c.layout, i);
    const double s = c.scale[c.scale.size() == 1 ? 0 : p];
    const std::int32_t z = c.zero_point[c.zero_point.size() == 1 ? 0 : p];
    switch (c.op) {
        case Op::quantize:
            return store_code(out, i, quantized(c, load(in, c.in, i), s, z));
        case Op::dequantize:
            return store(out, c.out, i, dequantized(c, load_code(in, c.code, i), s, z));
        case Op::fake_quantize: {
            const int q = quantized(c, load(in, c.in, i), s, z);
            return store(out, c.out, i, dequantized(c, q, s, z));
        }
        case Op::requantize: {
            const float m = c.multiplier[c.multiplier.size() == 1 ? 0 : p];
            const float acc = static_cast<float>(read<std::int32_t>(in, i));
            return store_code(
                out, i, clip(std::nearbyint(acc * m) + static_cast<float>(z), c.qmin, c.qmax));
        }
        case Op::saturate: {
            if (!is_float(c.in))
                return with_integer(c.in, [&](auto zero) {
                    using T = decltype(zero);
                    const T v = read<T>(in, i);
                    const T low = static_cast<T>(c.low), high = static_cast<T>(c.high);
                    write(out, i, v < low ? low : v > high ? high : v);
                });
            const double v = load(in, c.in, i);
            if (std::isnan(v)) return store_nan(in, out, c.in, i);
            const double low = static_cast<double>(c.low), high = static_cast<double>(c.high);
            return store(out, c.in, i, v < low ? low : v > high ? high : v);
        }
        case Op::saturate_cast: {
            const bool is_signed = c.out == DType::i8;
            const int low = is_signed ? -128 : 0, high = is_signed ? 127 : 255;
            if (is_float(c.in))
                return store_code(out, i, clip(std::nearbyint(load(in, c.in, i)), low, high));
            return with_integer(c.in, [&](auto zero) {
                using T = decltype(zero);
                using Wide = std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>;
                const Wide v = read<T>(in, i);
                const int least = std::is_signed_v<T> ? low : 0;
                store_code(out, i, clip<Wide>(v, least, high));
            });
        }
        case Op::round: {
            const double v = load(in, c.in, i);
            if (std::isnan(v)) return store_nan(in, out, c.in, i);
            return store(out, c.in, i, c.ties_away ? std::round(v) : std::nearbyint(v));
        }
        case Op::min_max:
        case Op::histogram:
            return;  // not of one element
    }
}

/// The bytes that `run` must write.
inline std::vector<unsigned char> result(const Call& c, const void* in) {
    std::vector<unsigned char> out(c.out_bytes());
    if (out.empty()) return out;
    if (c.op == Op::histogram)
        histogram(c, in, out.data());
    else if (c.op == Op::min_max)
        c.out == DType::f64 ? min_max<double>(c, in, out.data())
                            : min_max<float>(c, in, out.data());
    else
        for (std::size_t i = 0; i < c.layout.size(); ++i) element(c, in, out.data(), i);
    return out;
}

/// Makes equal what is not promised: min_max and histogram give a NaN, not which; and counts mean
/// nothing beside NaN, or where data lie 2^30 bins from 0.
inline void only_promised(const Call& c, void* out) {
    const auto same_nan = [&](DType dtype, std::size_t i) {
        const bool is_nan = std::isnan(load(out, dtype, i));
        if (is_nan) store(out, dtype, i, std::numeric_limits<double>::quiet_NaN());
        return is_nan;
    };
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

}  // namespace test::naive
