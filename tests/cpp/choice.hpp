// What holds for any answer of core::choose.  The answers themselves are compared with the
// reference in tests/test_choice.py, and their digests between machines.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>

#include "call.hpp"

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
    const Chosen<T> got = chosen_by_core(low, high, c);
    const bool finite = std::isfinite(low) && std::isfinite(high);
    const bool constant = finite && low == high && !c.include_zero && !c.symmetric;
    if ((got.fault == core::Fault::not_finite) != !finite ||
        (got.fault == core::Fault::constant) != constant)
        return describe(got);
    if (got.fault != core::Fault::none) return "";
    if (!(got.scale > 0 && std::isfinite(got.scale))) return "the scale is no positive number";
    if (!c.include_zero) return "";
    const double z = got.zero_point, s = got.scale;
    if (z < c.qmin || z > c.qmax) return "0 has no code";
    for (const double end : {low, high}) {  // half a step, and the rounding of the scale
        const double code = std::nearbyint(end / s) + z;
        const double steps = std::max<double>(c.qmin, std::min<double>(c.qmax, code)) - z;
        if (std::abs(steps - end / s) > 0.5 + 1e-4) return "an end lies beyond the codes";
    }
    return "";
}

}  // namespace test
