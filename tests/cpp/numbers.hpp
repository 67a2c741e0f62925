// Numbers of every type in memory, whatever its alignment.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "call.hpp"

namespace test {

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
    else if (std::isnan(v))
        write(data, i,
              static_cast<std::uint16_t>(half(dtype).infinity() | 1 << (half(dtype).digits - 1)));
    else
        write(data, i, half(dtype).bits(v));
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

}  // namespace test
