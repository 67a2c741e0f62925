// Minimum and maximum.
#pragma once

#include "loops/run.h"

namespace {

// A NaN or an Inf makes both results NaN, and they stay so: a NaN minimum fails every comparison.
template <class T>
inline void include(T v, T& low, T& high, T& nonfinite) {
    low = v < low ? v : low;
    high = v > high ? v : high;
    nonfinite += v - v;  // +0 for every finite v, else NaN; added in the end, it makes -0 +0
}

// One running minimum is a chain of dependent instructions; many are vectors.
template <class T>
void min_max_row(const T* x, size_t n, T& low, T& high) {
    constexpr size_t lanes = 32;
    T lows[lanes], highs[lanes], nonfinites[lanes], nonfinite = 0;
    size_t i = 0;
    if (n >= lanes) {
        for (size_t j = 0; j < lanes; ++j) lows[j] = highs[j] = x[j], nonfinites[j] = x[j] - x[j];
        for (i = lanes; i + lanes <= n; i += lanes) {
            for (size_t byte = 0; byte < lanes * sizeof(T); byte += line)
                __builtin_prefetch(reinterpret_cast<const char*>(x + i) + ahead + byte);
            for (size_t j = 0; j < lanes; ++j) include(x[i + j], lows[j], highs[j], nonfinites[j]);
        }
        for (size_t j = 0; j < lanes; ++j) {
            low = lows[j] < low ? lows[j] : low;
            high = highs[j] > high ? highs[j] : high;
            nonfinite += nonfinites[j];
        }
    }
    for (; i < n; ++i) include(x[i], low, high, nonfinite);
    low += nonfinite;
    high += nonfinite;
}

template <class T, class>
void min_max(const Job& job) noexcept {
    const T* x = static_cast<const T*>(job.in);
    T* low = static_cast<T*>(job.state[0]);
    T* high = static_cast<T*>(job.state[1]);
    const size_t n = job.cols;
    for (size_t row = 0; row < job.rows; ++row, x += n) {
        if (job.per_column) {
            ZP_INDEPENDENT
            for (size_t i = 0; i < n; ++i) {
                const T v = x[i], nonfinite = v - v;
                low[i] = (v < low[i] ? v : low[i]) + nonfinite;
                high[i] = (v > high[i] ? v : high[i]) + nonfinite;
            }
        } else {
            min_max_row(x, n, low[row], high[row]);
        }
    }
}

}  // namespace
