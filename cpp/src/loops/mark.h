// NaN and the code that stands for it, in what another kernel has written.
#pragma once

#include "loops/run.h"

namespace {

// The bits of Inf; what is above them, but for the sign, is NaN.
template <class X>
constexpr u64 infinity_of = 0;
template <>
constexpr u64 infinity_of<f16> = 0x7C00;
template <>
constexpr u64 infinity_of<bf16> = 0x7F80;
template <>
constexpr u64 infinity_of<f32> = 0x7F800000;
template <>
constexpr u64 infinity_of<f64> = 0x7FF0000000000000;

template <size_t size>
struct Unsigned;
template <>
struct Unsigned<2> {
    using Bits = u16;
};
template <>
struct Unsigned<4> {
    using Bits = u32;
};
template <>
struct Unsigned<8> {
    using Bits = u64;
};

// How NaN is told from other numbers, and what is written in its place: codes of data ...
template <class X, class Y>
struct Marks {
    using Bits = typename Unsigned<sizeof(X)>::Bits;
    u8 with;
    explicit Marks(i64 code) : with(static_cast<u8>(code)) {}
    static constexpr Bits magnitude = static_cast<Bits>(~Bits(0)) >> 1;
    bool operator()(const X& x) const {
        return (bits_as<Bits>(x) & magnitude) > static_cast<Bits>(infinity_of<X>);
    }
};
// ... or values of codes.
template <class Y>
struct Marks<u8, Y> {
    u8 code;
    Y with = static_cast<Y>(__builtin_nan(""));
    explicit Marks(i64 code_) : code(static_cast<u8>(code_)) {}
    bool operator()(u8 q) const { return q == code; }
};

// job.low is the code.
template <class X, class Y>
void mark(const Job& job) noexcept {
    const X* x = static_cast<const X*>(job.in);
    Y* y = static_cast<Y*>(job.out);
    const Marks<X, Y> marked(job.low);
    const auto with = marked.with;
    const size_t n = job.rows * job.cols;
    size_t i = 0;
    for (; i + block <= n; i += block) {
        u32 any = 0;
        for (size_t j = 0; j < block; ++j) any |= marked(x[i + j]);
        if (!any) continue;
        ZP_INDEPENDENT
        for (size_t j = 0; j < block; ++j) y[i + j] = marked(x[i + j]) ? with : y[i + j];
    }
    for (; i < n; ++i) {
        if (marked(x[i])) y[i] = with;
        ZP_ONE_BY_ONE;
    }
}

}  // namespace
