// quantize, with and without a division, and dequantize.
#pragma once

#include "loops/lanes.h"

namespace {

// One run with one scale and zero point.
template <class X, class Convention>
struct CodeOf {
    const X* x;
    X s, z, low, high;
    u8 operator()(size_t i) const { return code_of<Convention>(x[i], s, z, low, high); }
};
#if defined(ZP_HAS_LANES)
template <>
struct CodeOf<f32, torch> {
    const f32* x;
    f32 inverse, z, low, high;
    u8 operator()(size_t i) const { return code_of<torch>(x[i], inverse, z, low, high); }
    void block(size_t i, u8* q) const {
        const Lanes::F m = Lanes::all(inverse), top = Lanes::all(high - z);
        Packer<torch>(z, static_cast<i64>(low)).block_of(i, q, [&](size_t k) {
            return Lanes::min(top, Lanes::mul(Lanes::load(x + k), m));
        });
    }
};
#endif

template <class X, class Convention>
void quantize(const Job& job) noexcept {
    const X* x = static_cast<const X*>(job.in);
    u8* q = static_cast<u8*>(job.out);
    const X* scale = static_cast<const X*>(job.scale);
    const X* zero = static_cast<const X*>(job.zero);
    const X low = static_cast<X>(job.low), high = static_cast<X>(job.high);
    const size_t n = job.cols;
    for (size_t row = 0; row < job.rows; ++row, x += n, q += n) {
        if (job.per_column)
            fill_run(x, q, n, job.non_temporal, [=](size_t i) {
                return code_of<Convention>(x[i], scale[i], zero[i], low, high);
            });
        else
            fill_run(x, q, n, job.non_temporal,
                     CodeOf<X, Convention>{x, scale[row], zero[row], low, high});
    }
}

#if defined(ZP_HAS_FMA)
// One run whose quotients are products.
template <class Convention>
struct CodeByProduct {
    const f32* x;
    Multiplier m;
    Packer<Convention> packer;
    u8 operator()(size_t i) const { return code_of<Convention>(x[i], m); }
#if defined(ZP_HAS_LANES)
    void block(size_t i, u8* q) const {
        const Lanes::F top = Lanes::all(m.x_high), ch = Lanes::all(m.ch), cl = Lanes::all(m.cl);
        const Lanes::F z = Lanes::all(m.zero);
        packer.block_of(i, q, [&](size_t k) {
            const Lanes::F v = Lanes::min(top, Lanes::load(x + k));
            return before_rounding(Lanes::fma(v, ch, Lanes::mul(v, cl)), z);
        });
    }
    static Lanes::F before_rounding(Lanes::F v, Lanes::F z) {
        return Convention::rounds_the_sum ? Lanes::add(v, z) : v;
    }
#endif
};
#endif

// quantize for long runs of float32: job.scale points to a Multiplier per row.
template <class, class Convention>
void quantize_runs(const Job& job) noexcept {
    const f32* x = static_cast<const f32*>(job.in);
    u8* q = static_cast<u8*>(job.out);
    const Multiplier* multipliers = static_cast<const Multiplier*>(job.scale);
    const f32 low = static_cast<f32>(job.low), high = static_cast<f32>(job.high);
    const size_t n = job.cols;
    for (size_t row = 0; row < job.rows; ++row, x += n, q += n) {
        const Multiplier m = multipliers[row];
#if defined(ZP_HAS_FMA)
        if (m.certified) {
            fill_run(x, q, n, job.non_temporal, CodeByProduct<Convention>{x, m, {m.zero, job.low}});
            continue;
        }
#endif
        fill_run(x, q, n, job.non_temporal, CodeOf<f32, Convention>{x, m.scale, m.zero, low, high});
    }
}

// Fills job.out, a Multiplier per row, from scale and zero point.
template <class, class Convention>
void certify(const Job& job) noexcept {
    Multiplier* multipliers = static_cast<Multiplier*>(job.out);
    const f32* scale = static_cast<const f32*>(job.scale);
    const f32* zero = static_cast<const f32*>(job.zero);
    for (size_t row = 0; row < job.rows; ++row) {
#if defined(ZP_HAS_FMA)
        multipliers[row] = certify<Convention>(scale[row], zero[row], static_cast<f32>(job.low),
                                               static_cast<f32>(job.high));
#else
        multipliers[row] = Multiplier{scale[row], zero[row], 0, 0, 0, 0, 0};
#endif
    }
}

template <class Q, class X>
void dequantize(const Job& job) noexcept {
    const Q* q = static_cast<const Q*>(job.in);
    X* x = static_cast<X*>(job.out);
    const X* scale = static_cast<const X*>(job.scale);
    const X* zero = static_cast<const X*>(job.zero);
    const size_t n = job.cols;
    for (size_t row = 0; row < job.rows; ++row, x += n, q += n) {
        if (job.per_column) {
            fill_run(q, x, n, job.non_temporal,
                     [=](size_t i) { return value_of(q[i], scale[i], zero[i]); });
        } else {
            const X s = scale[row], z = zero[row];
            fill_run(q, x, n, job.non_temporal, [=](size_t i) { return value_of(q[i], s, z); });
        }
    }
}

}  // namespace
