// The mathematics of one element: the specification of what the loops compute.
//
// Included by loops.cpp once per ISA (and by choose.cpp, which tries codes out), hence the unnamed
// namespace: a function with external linkage compiled for AVX-512 could be the one that the linker
// keeps for every CPU.  For the same reason nothing from std:: is called here.  The caller has set
// round-to-nearest and no FTZ/DAZ.
#pragma once

#include <cstdint>

#include "types.h"

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

// ---- the conventions: the code of x, one struct each -----------------------------------------
//
// Clip first, round after: a value that rounds into the range was in it or at its edge before, so
// clip(rint(w)) = rint(clip(w)) for integer bounds, and no conversion can overflow.  Where z is
// added after rounding the bounds move by z (exact: all are small integers).

struct numpy {  // clip(rint(x / s + z))
    static constexpr bool halves_away = false;
    static constexpr bool rounds_the_sum = true;
    static constexpr bool by_reciprocal = false;
    template <class T>
    static T divided(T x, T s) {
        return x / s;
    }
    template <class T>
    static T before_rounding(T v, T z) {
        return v + z;
    }
    template <class T>
    static T bound(T limit, T) {
        return limit;
    }
    template <class T>
    static u8 round(T w, T) {
        return byte_of(w);
    }
    template <class T>
    static T nearest(T w) {  // for |w| < 2^21
        return (w + Format<T>::shifter) - Format<T>::shifter;
    }
};
struct onnx {  // clip(rint(x / s) + z)
    static constexpr bool halves_away = false;
    static constexpr bool rounds_the_sum = false;
    static constexpr bool by_reciprocal = false;
    template <class T>
    static T divided(T x, T s) {
        return x / s;
    }
    template <class T>
    static T before_rounding(T v, T) {
        return v;
    }
    template <class T>
    static T bound(T limit, T z) {
        return limit - z;
    }
    template <class T>
    static u8 round(T w, T z) {
        return static_cast<u8>(byte_of(w) + byte_of(z));
    }
    template <class T>
    static T nearest(T w) {
        return numpy::nearest(w);
    }
};
struct torch : onnx {  // clip(rint(x * (1 / s)) + z); in place of s stands 1 / s, rounded
    static constexpr bool by_reciprocal = true;
    template <class T>
    static T divided(T x, T inverse) {
        return x * inverse;
    }
};
struct tflite : onnx {  // clip(half_away(x / s) + z)
    static constexpr bool halves_away = true;
    template <class T>
    static u8 round(T w, T z) {
        return static_cast<u8>(byte_of(nearest(w)) + byte_of(z));
    }
    // For |v| < 2^21.  below_half is the number before 1/2: adding it carries exactly the halves
    // and what lies above them over the next integer.
    template <class T>
    static T nearest(T v) {
        return static_cast<T>(
            static_cast<i32>(v + (v < 0 ? -Format<T>::below_half : Format<T>::below_half)));
    }
};

struct ggml : tflite {  // clip(half_away(x * (1 / s)) + z)
    static constexpr bool by_reciprocal = true;
    template <class T>
    static T divided(T x, T inverse) {
        return torch::divided(x, inverse);
    }
};

template <class Convention, class T>
inline u8 code_of(T x, T s, T z, T low, T high) {
    const T w = Convention::before_rounding(Convention::divided(x, s), z);
    return Convention::round(clamp(w, Convention::bound(low, z), Convention::bound(high, z)), z);
}

// value_of(code_of(x)) for x and parameters in float32, without the code in between.  In place of
// the divisor stands what quantize reads.
template <class Convention>
inline f32 faked(f32 x, f32 divisor, f32 s, f32 z, f32 low, f32 high) {
    const f32 w = Convention::before_rounding(Convention::divided(x, divisor), z);
    // + 0 for a -0: compilers make a truncation of what goes through an integer
    const f32 r =
        Convention::nearest(clamp(w, Convention::bound(low, z), Convention::bound(high, z))) + 0.0f;
    return (Convention::rounds_the_sum ? r - z : r) * s;
}

// The code of x before it was clipped, less what `bound` takes off; clipped to one beyond the
// range.
template <class Convention, class T>
inline T one_beyond(T x, T s, T z, T low, T high) {
    const T w = Convention::before_rounding(Convention::divided(x, s), z);
    return Convention::nearest(
        clamp(w, Convention::bound(low - 1, z), Convention::bound(high + 1, z)));
}
// Whether that code lies outside [low, high]; that of a NaN does.
template <class Convention, class T>
inline bool is_clipped(T x, T s, T z, T low, T high) {
    const T near = one_beyond<Convention>(x, s, z, low, high);
    return near < Convention::bound(low, z) || near > Convention::bound(high, z);
}

// ---- x / s without a division ----------------------------------------------------------------

// With FMA a product of x and the reciprocal, corrected by what x - q * s says, is the correctly
// rounded quotient: q = RN(x * r), then RN(q + r * (x - q * s)) with r = RN(1/s), unless something
// overflows or underflows (Brisebarre, Muller and Raina, "Accelerating correctly rounded
// floating-point division when the divisor is known in advance", IEEE Transactions on Computers 53,
// 2004).
//
// The product of x with 1/s in two terms, fma(x, ch, x * cl) with ch = RN(1/s), cl = RN(1/s - ch),
// spares one more operation: it is the quotient for most s (Brisebarre and Muller, "Correctly
// rounded multiplication by arbitrary precision constants", IEEE Transactions on Computers 57,
// 2008).  `certify` proves for one s that it gives the same codes as the division, for every x.

// Whether quotients of codes are far from overflow, and from underflow wherever |x / s| > 1/4, and
// float32 adds the zero point exactly, as a word.
inline bool is_ordinary(f32 s, f32 z) {
    return s > 0x1p-90f && s < 0x1p90f && z > -0x1p15f && z < 0x1p15f;
}

using zeropoint::core::Multiplier;

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define ZP_HAS_FMA
inline f32 product(f32 x, f32 ch, f32 cl) { return __builtin_fmaf(x, ch, x * cl); }

template <class Convention>
inline u8 code_of(f32 x, const Multiplier& m) {
    const f32 v = product(clamp(x, m.x_low, m.x_high), m.ch, m.cl);
    return Convention::round(Convention::before_rounding(v, m.zero), m.zero);
}

inline f32 above(f32 v) {  // the next float; v is neither 0 nor the last
    const u32 b = bits(v);
    return bits_as<f32>(v > 0 ? b + 1 : b - 1);
}
inline f32 below(f32 v) {
    const u32 b = bits(v);
    return bits_as<f32>(v > 0 ? b - 1 : b + 1);
}

// The smallest float f with RN(g(f)) >= t, for an increasing g given by its inverse: RN(y) >= t
// from the midpoint of t and the float before it on, and a tie goes to t if t is even.
template <class Inverse>
inline f32 smallest_reaching(f32 t, Inverse inverse) {
    const f64 midpoint = 0.5 * (static_cast<f64>(t) + static_cast<f64>(below(t)));
    const bool tie_reaches = static_cast<f32>(midpoint) == t;
    const f64 bound = inverse(midpoint);  // exact, see the callers
    const f32 f = static_cast<f32>(bound);
    return f < bound || (f == bound && !tie_reaches) ? above(f) : f;
}

// The smallest x whose quotient by s rounds to v or more.  s * midpoint has 24 + 25 bits: exact.
inline f32 smallest_with_quotient(f32 v, f32 s) {
    return smallest_reaching(v, [s](f64 midpoint) { return midpoint * s; });
}

// The smallest v with which the code is above k: at k + 1/2 if that half rounds up, else after it;
// for numpy the one whose sum with z reaches that.
template <class Convention>
struct SmallestAbove {
    static f32 v(f32 k, f32 z) {
        const f32 half = k - z + 0.5f;
        return Convention::nearest(half) > half ? half : above(half);
    }
};
template <>
struct SmallestAbove<numpy> {
    static f32 v(f32 k, f32 z) {
        const f32 half = k + 0.5f, w = numpy::nearest(half) > half ? half : above(half);
        return smallest_reaching(w, [z](f64 midpoint) { return midpoint - z; });
    }
};

// Quotient and product are monotone in x, and the code is monotone in either.  So the codes agree
// for every x if they agree on both sides of every boundary between two codes: the smallest x whose
// quotient gives more than k must give more than k by the product too, and the float before it not.
// (The product is monotone where it matters: RN(x * cl) is monotone itself; where it falls with x,
// x * ch grows from one float to the next by 2^-24 of itself, 2^23 times what the other moves by.
// Only where x * cl underflows can that fail, and there v is next to 0 and rounds to it either
// way.)
template <class Convention>
inline Multiplier certify(f32 s, f32 z, f32 low, f32 high) {
    const f32 ch = 1 / s;
    Multiplier m{s, z, ch, static_cast<f32>(1 / static_cast<f64>(s) - ch), 0, 0, 0};
    if (!is_ordinary(s, z)) return m;
    const int n = static_cast<int>(high - low);
    u32 wrong = 0;
    for (int i = 0; i < n; ++i) {
        const f32 v = SmallestAbove<Convention>::v(low + static_cast<f32>(i), z);
        const f32 x = smallest_with_quotient(v, s), before = below(x);
        wrong |= u32(!(product(x, ch, m.cl) >= v)) | u32(!(product(before, ch, m.cl) < v));
    }
    m.x_low = below(smallest_with_quotient(SmallestAbove<Convention>::v(low, z), s));
    m.x_high = smallest_with_quotient(SmallestAbove<Convention>::v(high - 1, z), s);
    m.certified = !wrong;
    return m;
}
#endif

// (q - z) * s in the precision of s
template <class T, class Q>
inline T value_of(Q q, T s, T z) {
    return (static_cast<T>(q) - z) * s;
}

// ---- real offsets ------------------------------------------------------------------------------

// a * b + c, rounded once.
#if defined(ZP_HAS_FMA)
inline f32 fused(f32 a, f32 b, f32 c) { return __builtin_fmaf(a, b, c); }
#else
// The product is exact in double.  So is the error of the sum (Knuth, "The Art of Computer
// Programming", volume 2, 4.2.2), and where there is one the last bit of the sum is made odd: then
// the second rounding, to fewer bits, is as good as the only one (Boldo and Melquiond, "When double
// rounding is odd", 2005).
inline f32 fused(f32 a, f32 b, f32 c) {
    const f64 product = static_cast<f64>(a) * static_cast<f64>(b), more = c;
    const f64 sum = product + more, part = sum - product;
    const f64 error = (product - (sum - part)) + (more - part);
    const u64 found = bits(sum), towards_zero = (bits(error) ^ found) >> 63;
    const u64 odd = (found - towards_zero) | 1;
    return static_cast<f32>(bits_as<f64>(error != 0 ? odd : found));
}
#endif

// An OffsetForm in the working precision.  As in the conventions above, clip first, round after.
template <class T>
struct ByOffset {
    T steps, first, last, divisor;
    T shift, counted_shift;  // of a code, and of a code less `word`
    T down;                  // 1 where codes are rounded down, else 0
    u8 word;
    bool once;
    explicit ByOffset(const zeropoint::core::OffsetForm& form)
        : steps(static_cast<T>(form.steps)),
          first(static_cast<T>(form.first)),
          last(static_cast<T>(form.last)),
          divisor(static_cast<T>(form.divisor)),
          shift(static_cast<T>(form.shift)),
          counted_shift(static_cast<T>(form.shift - form.word)),
          down(form.truncates ? 1 : 0),
          word(static_cast<u8>(form.word)),
          once(form.once) {}

    T before_rounding(T x, T s, T o) const { return (x - o) / s * steps; }
    T rounded(T w) const {  // |w| < 2^21
        const T nearest = (w + Format<T>::shifter) - Format<T>::shifter;
        return nearest - (nearest > w ? down : 0);
    }
    u8 code(T x, T s, T o) const {
        const T w = clamp(before_rounding(x, s, o), first, last);
        return static_cast<u8>(byte_of(rounded(w)) + word);
    }
    static T bound(T limit, T) { return limit; }
    // The code less `word`, before it was clipped, clipped to one beyond the range.
    T one_beyond(T x, T s, T o) const {
        // of a span of 0, for which s is Inf, nothing is clipped, not even where x - o overflows
        const T w = s - s == 0 ? before_rounding(x, s, o) : 0;
        return rounded(clamp(w, first - 1, last + 1));
    }
    bool is_clipped(T x, T s, T o) const {  // that of a NaN is
        const T near = one_beyond(x, s, o);
        return near < first || near > last;
    }
    // Of a code less `shift`; `divides` where the divisor is not 1.
    template <bool divides, bool once>
    T value(T counted, T s, T o) const {
        const T t = divides ? counted / divisor : counted;
        if constexpr (once) return fused(t, s, o);
        return t * s + o;
    }
};

// ---- the bins of a histogram -----------------------------------------------------------------

// Bin 0 holds the zeros alone, bin t > 0 holds [(t - 1) w, t w), and -t the same negated.  Toward
// zero, so that a quotient that underflows is right as well.  For |x / w| < 2^30: beyond, and for
// NaN, the number means nothing.  `inverse` is 1 / w, a power of two.
template <class T>
inline i32 bin_of(T x, T inverse) {
    const T steps = clamp(x * inverse, static_cast<T>(-0x1p30), static_cast<T>(0x1p30));
    return static_cast<i32>(steps) + (x > 0) - (x < 0);
}

// 2^-exponent for |exponent| < 1023; as float it may be subnormal, or 0 where x / w < 1 for all x
template <class T>
inline T inverse_width(i64 exponent) {
    return static_cast<T>(bits_as<f64>(static_cast<u64>(1023 - exponent) << 52));
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
template <>
struct Convert<f64, bf16> {
    static f64 of(bf16 v) { return Convert<f32, bf16>::of(v); }
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
template <>
struct Convert<f64, f16> {
    static f64 of(f16 v) { return Convert<f32, f16>::of(v); }
};

// To float16 and bfloat16 from float32 or float64, where no instruction does it.
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
