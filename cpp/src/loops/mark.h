// NaN and the code that stands for it, in what another kernel has written.
#pragma once

#include "loops/run.h"

namespace {

// What NaN is among data, as a mask of the elements' own width: those compare and join in vectors.
// The halves are compared as integers, whose Inf has these bits.
template <class X, class SameWidth>
struct RealNan {
    using Mask = SameWidth;
    static Mask is(X x) { return x != x ? Mask(-1) : Mask(0); }
};
template <i16 infinity>
struct HalfNan {
    using Mask = i16;
    template <class X>
    static Mask is(X x) {
        return static_cast<i16>(x.bits & 0x7FFF) > infinity ? Mask(-1) : Mask(0);
    }
};
template <class X>
struct Nan;
template <>
struct Nan<f32> : RealNan<f32, i32> {};
template <>
struct Nan<f64> : RealNan<f64, i64> {};
template <>
struct Nan<f16> : HalfNan<0x7C00> {};
template <>
struct Nan<bf16> : HalfNan<0x7F80> {};

// Whether a block of codes holds one.
inline bool holds(const u8* q, u8 code) {
    u8 any = 0;
    for (size_t j = 0; j < block; ++j) any |= q[j] == code ? 0xFF : 0;
    return any;
}

// NaN have got the code job.high, as others may have, and get job.low.
template <class X>
inline void mark_codes(const Job& job) {
    const X* x = static_cast<const X*>(job.in);
    u8* q = static_cast<u8*>(job.out);
    const u8 with = static_cast<u8>(job.low), first = static_cast<u8>(job.high);
    const size_t n = job.rows * job.cols;
    size_t i = 0;
    for (; i + block <= n; i += block) {
        if (!holds(q + i, first)) continue;
        typename Nan<X>::Mask any = 0;
        for (size_t j = 0; j < block; ++j) any |= Nan<X>::is(x[i + j]);
        if (!any) continue;
        ZP_INDEPENDENT
        for (size_t j = 0; j < block; ++j) q[i + j] = Nan<X>::is(x[i + j]) ? with : q[i + j];
    }
    for (; i < n; ++i) {
        if (Nan<X>::is(x[i])) q[i] = with;
        ZP_ONE_BY_ONE;
    }
}

// The values of the code job.low are NaN.
template <class X>
inline void mark_values(const Job& job) {
    const u8* q = static_cast<const u8*>(job.in);
    X* x = static_cast<X*>(job.out);
    const X with = static_cast<X>(__builtin_nan(""));
    const u8 code = static_cast<u8>(job.low);
    const size_t n = job.rows * job.cols;
    size_t i = 0;
    for (; i + block <= n; i += block) {
        if (!holds(q + i, code)) continue;
        ZP_INDEPENDENT
        for (size_t j = 0; j < block; ++j) x[i + j] = q[i + j] == code ? with : x[i + j];
    }
    for (; i < n; ++i) {
        if (q[i] == code) x[i] = with;
        ZP_ONE_BY_ONE;
    }
}

template <class A, class B>
void mark(const Job& job) noexcept {
    if constexpr (sizeof(A) == 1)
        mark_values<B>(job);
    else
        mark_codes<A>(job);
}

}  // namespace
