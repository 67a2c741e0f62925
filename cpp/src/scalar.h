// The mathematics of one element: the specification of what the loops compute.
//
// Included by loops.cpp alone, once per ISA, hence the unnamed namespace: a function with external
// linkage compiled for AVX-512 could be the one that the linker keeps for every CPU.  For the same
// reason nothing from std:: is called here.  The caller has set round-to-nearest and no FTZ/DAZ.
#pragma once

#include <cstdint>

namespace {

using f32 = float;
using f64 = double;
using i8 = std::int8_t;
using u8 = std::uint8_t;
using i16 = std::int16_t;
using u16 = std::uint16_t;
using i32 = std::int32_t;
using u32 = std::uint32_t;
using i64 = std::int64_t;
using u64 = std::uint64_t;
struct f16 {
    u16 bits;
};
struct bf16 {
    u16 bits;
};

// ---- bits ------------------------------------------------------------------------------------

template <class T>
struct Format;
template <>
struct Format<f32> {
    using Bits = u32;
    static constexpr f32 shifter = 12582912.0f;  // 1.5 * 2^23: one ulp is 1
    static constexpr f32 integers = 8388608.0f;  // 2^23: from here on every float is an integer
    static constexpr f32 below_half = 0x1.fffffep-2f;
};
template <>
struct Format<f64> {
    using Bits = u64;
    static constexpr f64 shifter = 6755399441055744.0;  // 1.5 * 2^52
    static constexpr f64 integers = 4503599627370496.0;
    static constexpr f64 below_half = 0x1.fffffffffffffp-2;
};

template <class To, class From>
inline To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "a bit cast keeps the size");
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}

template <class T>
inline typename Format<T>::Bits bits(T v) {
    return bits_as<typename Format<T>::Bits>(v);
}

// ---- saturate and round ----------------------------------------------------------------------

// NaN fails the first comparison and becomes `low`; the order of the two is part of the contract.
template <class T>
inline T clamp(T v, T low, T high) {
    v = v > low ? v : low;
    return v < high ? v : high;
}

// As clamp, but NaN passes through.
template <class T>
inline T saturated(T v, T low, T high) {
    v = v < low ? low : v;
    return v > high ? high : v;
}

// The low byte of the integer nearest to v, halves to even, for |v| < 2^21: adding the shifter
// leaves the rounded integer in the low bits of the significand, in two's complement, so that one
// byte serves uint8 and int8.
template <class T>
inline u8 byte_of(T v) {
    return static_cast<u8>(bits(v + Format<T>::shifter));
}

// v rounded to an integer by rule, any v; NaN and Inf pass through, the sign of zero stays.
struct even {
    template <class T>
    static T near(T v) {  // 0 <= v < integers
        return (v + Format<T>::integers) - Format<T>::integers;
    }
};
struct away {
    template <class T>
    static T near(T v) {
        T r = even::near(v);
        r = r > v ? r - 1 : r;                            // floor
        return v - r >= static_cast<T>(0.5) ? r + 1 : r;  // exact: v - r needs no more bits than v
    }
};
template <class T, class Rule>
inline T rounded(T v) {
    using Bits = typename Format<T>::Bits;
    constexpr Bits sign = Bits(1) << (8 * sizeof(T) - 1);
    const T magnitude = bits_as<T>(static_cast<Bits>(bits(v) & ~sign));
    const T r = Rule::near(magnitude);
    const T with_sign = bits_as<T>(static_cast<Bits>(bits(r) | (bits(v) & sign)));
    return magnitude < Format<T>::integers ? with_sign : v;
}

// ---- the conventions: the code of x, one function each ---------------------------------------
//
// Clamp first, round after: a code that rounds into the range was in it or at its edge before, so
// clip(rint(v)) = rint(clip(v)) for integer bounds, and no conversion can overflow.  Where z is
// added after rounding, the bounds move by z (exact: all are small integers).

struct numpy {  // clip(rint(x / s + z))
    template <class T>
    static u8 code(T x, T s, T z, T low, T high) {
        return byte_of(clamp(x / s + z, low, high));
    }
};
struct onnx {  // clip(rint(x / s) + z)
    template <class T>
    static u8 code(T x, T s, T z, T low, T high) {
        return static_cast<u8>(byte_of(clamp(x / s, low - z, high - z)) + byte_of(z));
    }
};
struct torch {  // clip(rint(x * (1 / s)) + z); `inverse` is 1 / s, rounded
    template <class T>
    static u8 code(T x, T inverse, T z, T low, T high) {
        return static_cast<u8>(byte_of(clamp(x * inverse, low - z, high - z)) + byte_of(z));
    }
};
struct tflite {  // clip(half_away(x / s) + z)
    template <class T>
    static u8 code(T x, T s, T z, T low, T high) {
        return static_cast<u8>(byte_of(half_away(clamp(x / s, low - z, high - z))) + byte_of(z));
    }
    // For |v| < 2^21.  below_half is the number before 1/2: adding it carries exactly the halves
    // and what lies above them over the next integer.
    template <class T>
    static T half_away(T v) {
        return static_cast<T>(
            static_cast<i32>(v + (v < 0 ? -Format<T>::below_half : Format<T>::below_half)));
    }
};

// (q - z) * s in the precision of s
template <class T, class Q>
inline T value_of(Q q, T s, T z) {
    return (static_cast<T>(q) - z) * s;
}

// ---- conversions, rounded once ---------------------------------------------------------------

template <class To, class From>
struct Convert {
    static To of(From v) { return static_cast<To>(v); }
};

template <>
struct Convert<f32, bf16> {
    static f32 of(bf16 v) { return bits_as<f32>(static_cast<u32>(v.bits) << 16); }
};

// Scaling by 2^112 moves float16's exponent to float32's, subnormals included, without a branch.
template <>
struct Convert<f32, f16> {
    static f32 of(f16 v) {
        const u32 magnitude = static_cast<u32>(v.bits & 0x7FFF) << 13;
        const u32 sign = static_cast<u32>(v.bits & 0x8000) << 16;
        const u32 finite = bits(bits_as<f32>(magnitude) * 0x1p112f);
        const u32 quiet = magnitude > 0x0F800000u ? 0x00400000u : 0u;  // a NaN leaves quiet
        return bits_as<f32>(sign |
                            (magnitude >= 0x0F800000u ? magnitude | 0x70000000u | quiet : finite));
    }
};

// To float16 and bfloat16 from float32 or float64, for the parts that no instruction does.
// `digits` is the stored significand of the target, `bias` its exponent bias, both in a 16-bit
// word.
template <class T, int digits, int bias>
inline u16 narrowed(T v) {
    using Bits = typename Format<T>::Bits;
    constexpr int width = 8 * sizeof(T), from_digits = sizeof(T) == 4 ? 23 : 52;
    constexpr int from_bias = sizeof(T) == 4 ? 127 : 1023, shift = from_digits - digits;
    constexpr u32 exponent_max = 2 * bias + 1;
    const Bits b = bits(v), magnitude = b & ~(Bits(1) << (width - 1));
    const u32 sign = static_cast<u32>(b >> (width - 16)) & 0x8000u;
    const Bits exponent = magnitude >> from_digits;
    if (exponent == (Bits(1) << (width - 1 - from_digits)) - 1) {  // Inf or NaN
        const Bits payload = magnitude & ((Bits(1) << from_digits) - 1);
        const u32 nan = payload ? (1u << (digits - 1)) | static_cast<u32>(payload >> shift) : 0u;
        return static_cast<u16>(sign | exponent_max << digits | nan);
    }
    int drop = shift;  // bits of the significand that do not fit
    Bits significand = magnitude;
    const int e = static_cast<int>(exponent) - from_bias + bias;
    if (e < 1) {  // subnormal in the target: the significand with its leading one, shifted further
        drop = shift + 1 - e;
        if (exponent == 0 || drop > from_digits + 1) return static_cast<u16>(sign);
        significand = (magnitude & ((Bits(1) << from_digits) - 1)) | Bits(1) << from_digits;
    } else {
        significand -= static_cast<Bits>(from_bias - bias) << from_digits;
    }
    const Bits half = Bits(1) << (drop - 1), odd = significand >> drop & 1;
    const Bits kept = (significand + (half - 1) + odd) >> drop;  // a carry goes into the exponent
    const Bits infinity = static_cast<Bits>(exponent_max) << digits;
    return static_cast<u16>(sign | static_cast<u32>(kept < infinity ? kept : infinity));
}

template <class T>
struct Convert<f16, T> {
    static f16 of(T v) { return {narrowed<T, 10, 15>(v)}; }
};
template <>
struct Convert<bf16, f64> {
    static bf16 of(f64 v) { return {narrowed<f64, 7, 127>(v)}; }
};
template <>
struct Convert<bf16, f32> {
    static bf16 of(f32 v) {
        const u32 b = bits(v);
        const u32 nearest = (b + 0x7FFFu + (b >> 16 & 1u)) >> 16;
        return {static_cast<u16>(v == v ? nearest : b >> 16 | 0x40u)};
    }
};

}  // namespace
