// Scale and zero point for data that lie in [low, high].

#include <algorithm>
#include <cmath>
#include <limits>

#include "fpstate.h"
#include "zeropoint/core.hpp"

namespace zeropoint::core {

namespace {

template <class T>
bool is_normal(T scale) {
    return scale >= std::numeric_limits<T>::min() && scale <= std::numeric_limits<T>::max();
}

template <class T>
T clip(T v, int low, int high) {
    return std::min(std::max(v, static_cast<T>(low)), static_cast<T>(high));
}

double half_away(double v) {  // |v| is small, or clipped next
    const double whole = std::trunc(v);
    return std::abs(v - whole) >= 0.5 ? whole + std::copysign(1.0, v) : whole;
}

// TFLite's ChooseQuantizationParams: float64, from the end with the smaller error bound.
double tflite_zero_point(double low, double high, const Choice& c) {
    const double s = (high - low) / (static_cast<double>(c.qmax) - static_cast<double>(c.qmin));
    const double from_min = c.qmin - low / s, from_max = c.qmax - high / s;
    const bool use_min =
        std::abs(c.qmin) + std::abs(low / s) < std::abs(c.qmax) + std::abs(high / s);
    return clip(half_away(use_min ? from_min : from_max), c.qmin, c.qmax);
}

template <class T>
bool choose_one(T low, T high, const Choice& c, T& scale, std::int32_t& zero_point) noexcept {
    if (!(std::isfinite(low) && std::isfinite(high))) return false;
    if (c.symmetric) {
        const int ends = c.qmin + c.qmax + 1;
        const int centre = ends / 2 - (ends % 2 < 0 ? 1 : 0);  // rounded down, not towards 0
        const int reach = std::min(c.qmax - centre, centre - c.qmin);
        const T peak = std::max(std::abs(low), std::abs(high));
        scale = peak == 0 ? 1 : peak / static_cast<T>(reach);
        zero_point = centre;
        return is_normal(scale);
    }
    if (c.include_zero) {
        low = std::min(low, T(0));
        high = std::max(high, T(0));
    } else if (low == high) {
        return false;
    }
    const bool own = c.rule == Rule::own;
    const bool own_tflite = own && c.convention == Convention::tflite;
    if (own_tflite)
        scale = static_cast<T>((static_cast<double>(high) - static_cast<double>(low)) /
                               (c.qmax - c.qmin));
    else
        scale = (high - low) / static_cast<T>(c.qmax - c.qmin);
    if (low < high && !is_normal(scale)) return false;
    if (own && c.convention == Convention::torch) scale = std::max(scale, static_cast<T>(0x1p-23));
    if (scale == 0) {  // all zeros
        scale = 1;
        zero_point = std::min(std::max(0, c.qmin), c.qmax);
        return true;
    }
    const T from_min = static_cast<T>(c.qmin) - std::nearbyint(low / scale);
    T z = from_min;
    if (c.rule == Rule::max)
        z = static_cast<T>(c.qmax) - std::nearbyint(high / scale);
    else if (own_tflite)
        z = static_cast<T>(tflite_zero_point(low, high, c));
    else if (own && c.convention == Convention::onnx)
        z = clip(std::nearbyint(static_cast<T>(c.qmin) - low / scale), c.qmin, c.qmax);
    else if (own && c.convention == Convention::torch)
        z = clip(from_min, c.qmin, c.qmax);
    if (!(z >= -2147483648.0 && z < 2147483648.0)) return false;
    zero_point = static_cast<std::int32_t>(z);
    return true;
}

template <class T>
bool choose_all(const void* low, const void* high, std::size_t n, const Choice& choice, void* scale,
                std::int32_t* zero_point) noexcept {
    const FpGuard guard;
    for (std::size_t i = 0; i < n; ++i)
        if (!choose_one(static_cast<const T*>(low)[i], static_cast<const T*>(high)[i], choice,
                        static_cast<T*>(scale)[i], zero_point[i]))
            return false;
    return true;
}

}  // namespace

bool choose(DType precision, const void* low, const void* high, std::size_t n, const Choice& choice,
            void* scale, std::int32_t* zero_point) noexcept {
    return precision == DType::f64 ? choose_all<double>(low, high, n, choice, scale, zero_point)
                                   : choose_all<float>(low, high, n, choice, scale, zero_point);
}

}  // namespace zeropoint::core
