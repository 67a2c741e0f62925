// What core::choose must give: the formulas in plain arithmetic, with exact sums where that
// overflows or underflows, and what holds for any answer.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>

#include "call.hpp"
#include "naive.hpp"

namespace test {

template <class T>
struct Chosen {
    core::Fault fault;
    T scale;
    std::int32_t zero_point;
};

template <class T>
Chosen<T> chosen_by_core(T low, T high, const core::Choice& choice) {
    Chosen<T> got{};
    const DType precision = sizeof(T) == sizeof(float) ? DType::f32 : DType::f64;
    got.fault = core::choose(precision, &low, &high, 1, choice, &got.scale, &got.zero_point).fault;
    return got;
}

namespace naive {

/// A sum of doubles times small integers, exactly: a whole number of units of 2^-1074, the smallest
/// double, in digits of 32 bits, the lowest first.
class Exact {
public:
    void add(double v, int times) {
        int exponent;
        const double fraction = std::frexp(v, &exponent);
        auto whole = static_cast<std::int64_t>(std::ldexp(fraction, 53)) * times;  // below 2^62
        int shift = exponent - 53 + 1074;
        for (; shift < 0; ++shift) whole /= 2;  // a subnormal: the bits are 0
        const std::int64_t low = (whole & mask) << shift % 32;
        const std::int64_t high = (whole >> 32) * (std::int64_t(1) << shift % 32);
        const auto digit = static_cast<std::size_t>(shift / 32);
        digits_[digit] += low & mask;
        digits_[digit + 1] += (low >> 32) + (high & mask);
        digits_[digit + 2] += high >> 32;
    }
    bool is_negative() const {
        std::int64_t carry = 0;
        for (const std::int64_t digit : digits_) carry = (carry + digit) >> 32;
        return carry < 0;
    }

private:
    static constexpr std::int64_t mask = 0xFFFFFFFF;
    std::int64_t digits_[70] = {};
};

/// The smallest T that is >= (high - low) / steps, exactly; Inf if there is none.
template <class T>
T smallest_scale(T low, T high, int steps) {
    using Bits = std::conditional_t<sizeof(T) == sizeof(float), std::uint32_t, std::uint64_t>;
    const auto number = [](Bits bits) {
        T v;
        std::memcpy(&v, &bits, sizeof v);
        return v;
    };
    const T infinity = std::numeric_limits<T>::infinity();
    Bits first = 0, last;  // positive numbers stand in the order of their bits
    std::memcpy(&last, &infinity, sizeof last);
    while (first < last) {
        const Bits middle = first + (last - first) / 2;
        Exact beyond;
        beyond.add(number(middle), steps);
        beyond.add(high, -1);
        beyond.add(low, 1);
        if (beyond.is_negative())
            first = middle + 1;
        else
            last = middle;
    }
    return number(first);
}

template <class T>
bool is_normal(T v) {
    return std::fpclassify(v) == FP_NORMAL;
}

/// The size of a step, evaluated in Precision.
template <class Precision, class T>
T step(T low, T high, int steps) {
    if (low == high) return 0;
    const Precision range = static_cast<Precision>(high) - static_cast<Precision>(low);
    const T s = static_cast<T>(range / static_cast<Precision>(steps));
    return is_normal(s) ? s : smallest_scale(low, high, steps);
}

template <class T>
T clip_to_codes(T v, const core::Choice& c) {
    return std::max(static_cast<T>(c.qmin), std::min(static_cast<T>(c.qmax), v));
}

// TFLite's ChooseQuantizationParams, from the end with the smaller error bound.
template <class T>
double tflite_zero_point(T low, T high, T scale, const core::Choice& c) {
    const double l = low, h = high, exact = (h - l) / (c.qmax - c.qmin);
    const double s = std::isfinite(exact) && is_normal(scale) ? exact : scale;
    const bool from_min = std::abs(c.qmin) + std::abs(l / s) < std::abs(c.qmax) + std::abs(h / s);
    return clip_to_codes(std::round(from_min ? c.qmin - l / s : c.qmax - h / s), c);
}

// How far the ends of the range move there and back.
template <class T>
double error_of_ends(T low, T high, T s, T z, const core::Choice& c) {
    Call call;
    call.convention = c.convention;
    call.qmin = c.qmin;
    call.qmax = c.qmax;
    double worst = 0;
    for (const T end : {low, high}) {
        const T back = (static_cast<T>(code<T>(call, end, s, z)) - z) * s;
        worst = std::max(worst, std::abs(static_cast<double>(back) - static_cast<double>(end)));
    }
    return worst;
}

template <class T>
core::Fault usable(T scale, const core::Choice& c) {
    const bool multiplied = c.convention == Convention::torch;  // by 1/scale
    return multiplied && !std::isfinite(1 / scale) ? core::Fault::too_narrow : core::Fault::none;
}

template <class T>
Chosen<T> chosen(T low, T high, const core::Choice& c) {
    using core::Fault;
    if (!std::isfinite(low) || !std::isfinite(high)) return {Fault::not_finite, 0, 0};
    if (c.symmetric) {
        const int z = static_cast<int>(std::floor((c.qmin + c.qmax + 1) / 2.0));
        const T peak = std::max(std::abs(low), std::abs(high));
        const T s = peak == 0 ? 1 : step<T>(T(0), peak, std::min(c.qmax - z, z - c.qmin));
        return {std::isfinite(s) ? usable(s, c) : Fault::too_wide, s, z};
    }
    if (c.include_zero) {
        low = std::min(low, T(0));
        high = std::max(high, T(0));
    }
    if (low == high && !c.include_zero) return {Fault::constant, 0, 0};
    const bool by_default = c.zero_point_from == core::ZeroPointFrom::default_rule;
    const Convention rule_of = by_default ? c.convention : Convention::numpy;
    const int steps = c.qmax - c.qmin;
    T s =
        rule_of == Convention::tflite ? step<double>(low, high, steps) : step<T>(low, high, steps);
    if (!std::isfinite(s)) return {Fault::too_wide, 0, 0};
    if (rule_of == Convention::torch) s = std::max(s, static_cast<T>(std::ldexp(1.0, -23)));
    if (s == 0) return {Fault::none, 1, static_cast<int>(clip_to_codes<T>(0, c))};
    const T first = static_cast<T>(c.qmin), last = static_cast<T>(c.qmax);
    const T from_min = first - std::nearbyint(low / s), from_max = last - std::nearbyint(high / s);
    T z = from_min;
    if (c.zero_point_from == core::ZeroPointFrom::max) z = from_max;
    if (c.zero_point_from == core::ZeroPointFrom::least_error &&
        error_of_ends(low, high, s, from_max, c) < error_of_ends(low, high, s, from_min, c))
        z = from_max;
    if (rule_of == Convention::onnx) z = clip_to_codes(std::nearbyint(first - low / s), c);
    if (rule_of == Convention::torch) z = clip_to_codes(z, c);
    if (rule_of == Convention::tflite) z = static_cast<T>(tflite_zero_point(low, high, s, c));
    if (!(z >= -2147483648.0 && z < 2147483648.0)) return {Fault::far_from_zero, 0, 0};
    return {usable(s, c), s, static_cast<std::int32_t>(z)};
}

}  // namespace naive

/// A number with all its bits.
inline std::string exactly(double v) {
    char text[40];
    std::snprintf(text, sizeof text, "%a", v);
    return text;
}

inline std::string describe(const core::Choice& c) {
    constexpr const char* rules[] = {"default", "max", "min", "least_error"};
    return std::string("rule ") + rules[static_cast<int>(c.zero_point_from)] + " of " +
           name(c.convention) + (c.include_zero ? "" : ", without 0") +
           (c.symmetric ? ", symmetric" : "") + ", codes " + std::to_string(c.qmin) + ".." +
           std::to_string(c.qmax);
}

template <class T>
std::string describe(const Chosen<T>& chosen) {
    constexpr const char* faults[] = {"",         "not finite", "constant",
                                      "too wide", "too narrow", "far from zero"};
    if (chosen.fault != core::Fault::none) return faults[static_cast<int>(chosen.fault)];
    return "scale " + exactly(chosen.scale) + " zero point " + std::to_string(chosen.zero_point);
}

/// What is wrong with the core's choice for data in [low, high]; empty if nothing is.
template <class T>
std::string problem_of_choice(T low, T high, const core::Choice& c) {
    const Chosen<T> got = chosen_by_core(low, high, c), expected = naive::chosen(low, high, c);
    if (describe(got) != describe(expected))
        return describe(got) + " in place of " + describe(expected);
    if (got.fault != core::Fault::none) return "";
    if (!(got.scale > 0 && std::isfinite(got.scale))) return "the scale is no positive number";
    if (!c.include_zero) return "";
    const double z = got.zero_point, s = got.scale;
    if (z < c.qmin || z > c.qmax) return "0 has no code";
    for (const double end : {low, high}) {  // half a step, and the rounding of the scale
        const double steps = naive::clip_to_codes(std::nearbyint(end / s) + z, c) - z;
        if (std::abs(steps - end / s) > 0.5 + 1e-4) return "an end lies beyond the codes";
    }
    return "";
}

}  // namespace test
