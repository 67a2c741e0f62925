// Scale and zero point for data that lie in [low, high].

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "fpstate.h"
#include "scalar.h"
#include "zeropoint/core.hpp"

// That results do not overlap with ranges, nor with each other, GCC cannot know: there would be a
// second copy of each loop.
#if defined(__GNUC__) && !defined(__clang__)
#define ZEROPOINT_INDEPENDENT _Pragma("GCC ivdep")
#else
#define ZEROPOINT_INDEPENDENT
#endif

namespace zeropoint::core {

namespace {

// ---- a scale for ranges at the edge of the precision ------------------------------------------

// Whether the exact sum of the terms is >= 0.  They are kept as an expansion: doubles that do not
// overlap, so that the sign of the last one that is not 0 is the sign of the sum (Shewchuk,
// "Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric Predicates", 1997).
template <std::size_t n>
bool sum_reaches_zero(const double (&terms)[n]) {
    double expansion[n];
    for (std::size_t k = 0; k < n; ++k) {
        double sum = terms[k];
        for (std::size_t i = 0; i < k; ++i) {
            const double a = sum, b = expansion[i];
            sum = a + b;
            const double b_part = sum - a;
            expansion[i] = (a - (sum - b_part)) + (b - b_part);
        }
        expansion[k] = sum;
    }
    for (std::size_t k = n; k-- > 0;)
        if (expansion[k] != 0) return expansion[k] > 0;
    return true;
}

// The smallest T that is >= (high - low) / steps, Inf where there is none.
template <class T>
T smallest_scale(T low, T high, int steps) {
    // Multiplied by a power of two so that nothing below overflows or underflows in double; a low
    // or high that would vanish beside the other only has to keep its sign.
    const bool huge = std::max(std::abs(low), std::abs(high)) > 1;
    const double unit = sizeof(T) == sizeof(float) ? 1.0 : huge ? 0x1p-100 : 0x1p+300;
    const auto scaled = [unit](T v) {
        const double w = static_cast<double>(v) * unit;
        return v != 0 && std::abs(w) < 0x1p-900 ? std::copysign(0x1p-900, w) : w;
    };
    const double from = scaled(low), to = scaled(high);
    const auto reaches = [&](T scale) {
        // in two parts, whose products are exact: a C library's fma need not be
        const double s = static_cast<double>(scale) * unit;
        const double most = bits_as<double>(bits(s) >> 27 << 27);
        return sum_reaches_zero({most * steps, (s - most) * steps, from, -to});
    };
    constexpr T largest = std::numeric_limits<T>::max();
    constexpr T infinity = std::numeric_limits<T>::infinity();
    const double guess = (to / steps - from / steps) / unit;
    T scale = guess < static_cast<double>(largest) ? static_cast<T>(guess) : largest;
    while (!reaches(scale)) {
        if (scale == largest) return infinity;
        scale = std::nextafter(scale, infinity);
    }
    while (scale > 0 && reaches(std::nextafter(scale, T(0)))) scale = std::nextafter(scale, T(0));
    return scale;
}

template <class T>
bool is_normal(T scale) {
    return scale >= std::numeric_limits<T>::min() && scale <= std::numeric_limits<T>::max();
}

// (high - low) / steps, evaluated in Precision.
template <class Precision, class T>
T plain_step(T low, T high, int steps) {
    return static_cast<T>((static_cast<Precision>(high) - static_cast<Precision>(low)) /
                          static_cast<Precision>(steps));
}

// The same at the edge of the precision too.
template <class Precision, class T>
T step(T low, T high, int steps) {
    const T scale = plain_step<Precision>(low, high, steps);
    return low == high || is_normal(scale) ? scale : smallest_scale(low, high, steps);
}

// ---- the zero point ---------------------------------------------------------------------------

template <class T>
T clip(T v, int low, int high) {
    return std::min(std::max(v, static_cast<T>(low)), static_cast<T>(high));
}

template <class T>
T nearest(T v) {  // std::nearbyint, which would be a call for each number
    return rounded<T, even>(v);
}

// The default rule of each convention: in which precision the scale of a range is evaluated, and
// the least that it can be; and the zero point.
template <class C, class T>
struct DefaultRule;
template <class T>
struct DefaultRule<numpy, T> {
    using Precision = T;
    static constexpr T least_scale = 0;
    static T zero_point(T low, T, T scale, const Choice& c) {
        return static_cast<T>(c.qmin) - nearest(low / scale);
    }
};
template <class T>
struct DefaultRule<onnx, T> : DefaultRule<numpy, T> {  // DynamicQuantizeLinear
    static T zero_point(T low, T, T scale, const Choice& c) {
        return clip(nearest(static_cast<T>(c.qmin) - low / scale), c.qmin, c.qmax);
    }
};
template <class T>
struct DefaultRule<torch, T> {  // MinMaxObserver
    using Precision = T;
    static constexpr T least_scale = static_cast<T>(0x1p-23);
    static T zero_point(T low, T high, T scale, const Choice& c) {
        return clip(DefaultRule<numpy, T>::zero_point(low, high, scale, c), c.qmin, c.qmax);
    }
};
template <class T>
struct DefaultRule<tflite, T> {  // ChooseQuantizationParams, in float64
    using Precision = double;
    static constexpr T least_scale = 0;
    static T zero_point(T low, T high, T scale, const Choice& c) {
        const double l = low, h = high, exact = (h - l) / (double(c.qmax) - double(c.qmin));
        const double s = std::isfinite(exact) && is_normal(scale) ? exact : scale;
        // from the end with the smaller error bound
        const bool use_min =
            std::abs(c.qmin) + std::abs(l / s) < std::abs(c.qmax) + std::abs(h / s);
        const double z = rounded<double, away>(use_min ? c.qmin - l / s : c.qmax - h / s);
        return static_cast<T>(clip(z, c.qmin, c.qmax));
    }
};

template <class C, class T>
using RuleOf = DefaultRule<std::conditional_t<std::is_same_v<C, ggml>, numpy, C>, T>;

// How far `end` moves when it is quantized and dequantized.
template <class C, class T>
double round_trip_error(T end, T scale, T z, const Choice& c) {
    const std::uint8_t byte = code_of<C>(end, by_reciprocal(c.convention) ? 1 / scale : scale, z,
                                         static_cast<T>(c.qmin), static_cast<T>(c.qmax));
    const int code = c.qmin < 0 ? static_cast<std::int8_t>(byte) : byte;
    const T back = (static_cast<T>(code) - z) * scale;
    return std::abs(static_cast<double>(back) - static_cast<double>(end));
}

// Of the two rules the one that moves the ends less.
template <class C, class T>
T least_error(T low, T high, T scale, T from_min, T from_max, const Choice& c) {
    const auto error = [&](T z) {
        return std::max(round_trip_error<C>(low, scale, z, c),
                        round_trip_error<C>(high, scale, z, c));
    };
    return error(from_max) < error(from_min) ? from_max : from_min;
}

// Of a symmetric choice: the zero point, and the steps from there to the nearer end of the codes.
int centre(const Choice& c) {
    const int ends = c.qmin + c.qmax + 1;
    return ends / 2 - (ends % 2 < 0 ? 1 : 0);  // rounded down, not towards 0
}
int reach(const Choice& c) { return std::min(c.qmax - centre(c), centre(c) - c.qmin); }

// Not a part of each caller, and small: what it is called for takes longer.
template <class C, class T>
[[gnu::noinline, gnu::cold]] Fault choose_one(T low, T high, const Choice& c, T& scale,
                                              std::int32_t& zero_point) noexcept {
    if (!(std::isfinite(low) && std::isfinite(high))) return Fault::not_finite;
    if (c.symmetric) {
        const T peak = std::max(std::abs(low), std::abs(high));
        scale = peak == 0 ? 1 : step<T>(T(0), peak, reach(c));
        zero_point = centre(c);
        return std::isfinite(scale) ? Fault::none : Fault::too_wide;
    }
    if (c.include_zero) {
        low = std::min(low, T(0));
        high = std::max(high, T(0));
    } else if (low == high) {
        return Fault::constant;
    }
    const int steps = c.qmax - c.qmin;
    scale = c.zero_point_from == ZeroPointFrom::default_rule
                ? std::max(step<typename RuleOf<C, T>::Precision>(low, high, steps),
                           RuleOf<C, T>::least_scale)
                : step<T>(low, high, steps);
    if (!std::isfinite(scale)) return Fault::too_wide;
    if (scale == 0) {  // all zeros
        scale = 1;
        zero_point = std::min(std::max(0, c.qmin), c.qmax);
        return Fault::none;
    }
    const T from_min = static_cast<T>(c.qmin) - nearest(low / scale);
    const T from_max = static_cast<T>(c.qmax) - nearest(high / scale);
    T z = 0;
    switch (c.zero_point_from) {
        case ZeroPointFrom::default_rule:
            z = RuleOf<C, T>::zero_point(low, high, scale, c);
            break;
        case ZeroPointFrom::max:
            z = from_max;
            break;
        case ZeroPointFrom::min:
            z = from_min;
            break;
        case ZeroPointFrom::least_error:
            z = least_error<C>(low, high, scale, from_min, from_max, c);
            break;
    }
    if (!(z >= -2147483648.0 && z < 2147483648.0)) return Fault::far_from_zero;
    zero_point = static_cast<std::int32_t>(z);
    return Fault::none;
}

// Many ranges in vectors.  False where one is out of the ordinary, and choose_one has to look: it
// is not finite, or its scale not a normal number.
template <class T>
bool choose_symmetric(const T* low, const T* high, std::size_t n, const Choice& c, T* scale,
                      std::int32_t* zero_point) noexcept {
    const int steps = reach(c), middle = centre(c);
    unsigned others = 0;
    ZEROPOINT_INDEPENDENT
    for (std::size_t i = 0; i < n; ++i) {
        const T peak = std::max(std::abs(low[i]), std::abs(high[i]));
        scale[i] = plain_step<T>(T(0), peak, steps);
        zero_point[i] = middle;
        others += !(is_normal(scale[i]) && low[i] <= high[i]);
    }
    return others == 0;
}
template <class Rule, class T>
bool choose_ordinary(const T* low, const T* high, std::size_t n, const Choice c, T* scale,
                     std::int32_t* zero_point) noexcept {
    if (c.symmetric) return choose_symmetric(low, high, n, c, scale, zero_point);
    const int steps = c.qmax - c.qmin;
    unsigned others = 0;
    ZEROPOINT_INDEPENDENT
    for (std::size_t i = 0; i < n; ++i) {
        const T from = std::min(low[i], T(0)), to = std::max(high[i], T(0));
        const T s = plain_step<typename Rule::Precision>(from, to, steps);
        const bool ordinary = is_normal(s) && low[i] <= high[i];
        others += !ordinary;
        scale[i] = ordinary ? std::max(s, Rule::least_scale) : T(1);
        // another range in place of one whose zero point no int32 can be made of
        const T z = Rule::zero_point(ordinary ? from : T(0), ordinary ? to : T(1), scale[i], c);
        zero_point[i] = static_cast<std::int32_t>(z);
    }
    return others == 0;
}

template <class C, class T>
Verdict choose_all(const T* low, const T* high, std::size_t n, const Choice& choice, T* scale,
                   std::int32_t* zero_point) noexcept {
    const FpGuard guard;
    constexpr std::size_t at_once = 256;
    const bool in_vectors =
        choice.zero_point_from == ZeroPointFrom::default_rule && choice.include_zero;
    for (std::size_t i = 0; i < n; ++i) {
        while (in_vectors && n - i >= 8 && i % at_once == 0) {
            const std::size_t m = std::min(at_once, n - i);
            if (!choose_ordinary<RuleOf<C, T>>(low + i, high + i, m, choice, scale + i,
                                               zero_point + i))
                break;
            i += m;
            if (i == n) return {};
        }
        Fault fault = choose_one<C>(low[i], high[i], choice, scale[i], zero_point[i]);
        if (fault == Fault::none && by_reciprocal(choice.convention) &&
            !std::isfinite(1 / scale[i]))
            fault = Fault::too_narrow;
        if (fault != Fault::none) return {fault, i};
    }
    return {};
}

template <class T>
Verdict choose_in(const void* low, const void* high, std::size_t n, const Choice& choice,
                  void* scale, std::int32_t* zero_point) noexcept {
    switch (choice.convention) {
#define ZEROPOINT_CONVENTION(name)                                                          \
    case Convention::name:                                                                  \
        static_assert(name::by_reciprocal == by_reciprocal(Convention::name));              \
        return choose_all<name>(static_cast<const T*>(low), static_cast<const T*>(high), n, \
                                choice, static_cast<T*>(scale), zero_point);
#include "zeropoint/conventions.def"
    }
    return {Fault::unknown, 0};
}

}  // namespace

Verdict choose(DType precision, const void* low, const void* high, std::size_t n,
               const Choice& choice, void* scale, std::int32_t* zero_point) noexcept {
    if (!is_known(choice.zero_point_from, rule_names)) return {Fault::unknown, 0};
    return precision == DType::f64 ? choose_in<double>(low, high, n, choice, scale, zero_point)
                                   : choose_in<float>(low, high, n, choice, scale, zero_point);
}

}  // namespace zeropoint::core
