// Element by element with no parameters: convert, saturate, round.
#pragma once

#include "loops/run.h"

namespace {

template <class From, class To>
struct ConvertTo {
    const From* x;
    To operator()(size_t i) const { return Convert<To, From>::of(x[i]); }
};

#if defined(__F16C__)  // float16 has instructions that plain loops are not made into
template <>
struct ConvertTo<f16, f32> {
    const f16* x;
    f32 operator()(size_t i) const { return Convert<f32, f16>::of(x[i]); }
    void block(size_t i, f32* y) const {
        const auto* from = reinterpret_cast<const __m128i*>(x + i);
        for (size_t j = 0; j < ::block / 8; ++j)
            _mm256_storeu_ps(y + 8 * j, _mm256_cvtph_ps(_mm_loadu_si128(from + j)));
    }
};
template <>
struct ConvertTo<f32, f16> {
    const f32* x;
    f16 operator()(size_t i) const { return Convert<f16, f32>::of(x[i]); }
    void block(size_t i, f16* y) const {
        auto* to = reinterpret_cast<__m128i*>(y);
        for (size_t j = 0; j < ::block / 8; ++j)
            _mm_storeu_si128(
                to + j, _mm256_cvtps_ph(_mm256_loadu_ps(x + i + 8 * j), _MM_FROUND_TO_NEAREST_INT));
    }
};
#endif

template <class From, class To>
void convert(const Job& job) noexcept {
    const From* x = static_cast<const From*>(job.in);
    To* y = static_cast<To*>(job.out);
    fill_run(x, y, job.rows * job.cols, job.non_temporal, ConvertTo<From, To>{x});
}

// ---- saturate, round -------------------------------------------------------------------------

template <class T, class>
void saturate(const Job& job) noexcept {
    const T* x = static_cast<const T*>(job.in);
    T* y = static_cast<T*>(job.out);
    const T low = static_cast<T>(job.low), high = static_cast<T>(job.high);
    const size_t n = job.rows * job.cols;
    fill_run(x, y, n, job.non_temporal, [=](size_t i) { return saturated(x[i], low, high); });
}

template <class T, class Rule>
void round(const Job& job) noexcept {
    const T* x = static_cast<const T*>(job.in);
    T* y = static_cast<T*>(job.out);
    const size_t n = job.rows * job.cols;
    fill_run(x, y, n, job.non_temporal, [=](size_t i) { return rounded<T, Rule>(x[i]); });
}

}  // namespace
