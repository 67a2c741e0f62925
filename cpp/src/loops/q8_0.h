// The blocks of GGUF's Q8_0: a scale in float16, then 32 codes, to and from data of that many
// elements.  An element of these jobs is a block.
#pragma once

#include "loops/elements.h"
#include "loops/quantize.h"

namespace {

constexpr size_t q8_0_elements = 32, q8_0_bytes = 34;
constexpr size_t q8_0_at_once = 64;  // blocks, whose scales are computed together

// The largest magnitude, whose bits are also the largest; Inf and NaN are above all numbers.
template <class X>
ZP_WITHIN f32 peak_of(const X* x) {
    using Bits = decltype(bits(*x));
    constexpr Bits magnitude = static_cast<Bits>(~Bits(0)) >> 1;
    Bits peak = 0;
    for (size_t j = 0; j < q8_0_elements; ++j) {
        const Bits b = bits(x[j]) & magnitude;
        peak = b > peak ? b : peak;
    }
    return Convert<f32, X>::of(bits_as<X>(peak));
}

#if defined(ZP_HAS_LANES)
constexpr All part_of(Vectors<4>) { return {}; }
constexpr Half part_of(Vectors<2>) { return {}; }
#endif

// q = the codes of a block, for the reciprocal of its scale.
template <class X>
ZP_WITHIN void q8_0_codes(const X* x, u8* q, f32 inverse) {
#if defined(ZP_HAS_LANES)
    using Ways = OfRow<Way<ggml>>;
    const Lanes::F unused{};
    const Ways ways({unused, Lanes::all(inverse), Lanes::all(127), unused}, 0);
    constexpr Vectors<q8_0_elements / Lanes::n> vectors;
    Coder<ggml, X, Ways>(x, ways, -127)(0, q, vectors, part_of(vectors));
#else
    for (size_t j = 0; j < q8_0_elements; ++j)
        q[j] = code_of<ggml>(Convert<f32, X>::of(x[j]), inverse, 0.0f, -127.0f, 127.0f);
#endif
}

constexpr bool is_finite(f16 v) { return (v.bits & 0x7C00) != 0x7C00; }

// In both job.state[0] is a u32 that becomes 1 where a stored scale is not finite: float16 cannot
// hold it, or x was NaN or Inf.
template <class X, class>
void to_q8_0(const Job& job) noexcept {
    const X* x = static_cast<const X*>(job.in);
    u8* to = static_cast<u8*>(job.out);
    u32 strange = 0;
    f32 scale[q8_0_at_once], inverse[q8_0_at_once];
    f16 stored[q8_0_at_once];
    size_t left = job.rows * job.cols;
    while (left > 0) {
        const size_t n = left < q8_0_at_once ? left : q8_0_at_once;
        for (size_t b = 0; b < n; ++b) {
            const X* const block = x + b * q8_0_elements;
            fetch_ahead<q8_0_elements * sizeof(X)>(block);
            scale[b] = peak_of(block);
        }
        for (size_t b = 0; b < n; ++b) {
            scale[b] /= 127;
            const f32 reciprocal = 1 / scale[b];
            inverse[b] = reciprocal <= 0x1.fffffep127f ? reciprocal : 0;  // 0 for Inf, and for NaN
        }
        Job part;
        part.in = scale;
        part.out = stored;
        part.rows = 1;
        part.cols = n;
        convert<f32, f16>(part);
        for (size_t b = 0; b < n; ++b, x += q8_0_elements, to += q8_0_bytes) {
            strange |= u32(!is_finite(stored[b]));
            to[0] = static_cast<u8>(stored[b].bits);
            to[1] = static_cast<u8>(stored[b].bits >> 8);
            q8_0_codes(x, to + 2, inverse[b]);
        }
        left -= n;
    }
    *static_cast<u32*>(job.state[0]) |= strange;
}

template <class, class Y>
void from_q8_0(const Job& job) noexcept {
    const u8* from = static_cast<const u8*>(job.in);
    Y* y = static_cast<Y*>(job.out);
    f32 wide[q8_0_at_once * q8_0_elements];
    u32 strange = 0;
    size_t left = job.rows * job.cols;
    while (left > 0) {
        const size_t n = left < q8_0_at_once ? left : q8_0_at_once;
        f32* to = wide;
        if constexpr (sizeof(Y) == 4) to = y;
        for (size_t b = 0; b < n; ++b, from += q8_0_bytes, to += q8_0_elements) {
            fetch_ahead<line>(from);
            const f16 stored{static_cast<u16>(from[0] | from[1] << 8)};
            const f32 scale = Convert<f32, f16>::of(stored);
            strange |= u32(!is_finite(stored));
            const i8* const q = reinterpret_cast<const i8*>(from + 2);
#if defined(ZP_HAS_LANES)
            const Valuer<i8, LineOfRow> value{q, {{Lanes::all(scale), Lanes::all(0)}}};
            value(0, to, Vectors<q8_0_elements / Lanes::n>{}, All{});
#else
            for (size_t j = 0; j < q8_0_elements; ++j) to[j] = value_of(q[j], scale, 0.0f);
#endif
        }
        if constexpr (sizeof(Y) != 4) {
            Job part;
            part.in = wide;
            part.out = y;
            part.rows = 1;
            part.cols = n * q8_0_elements;
            convert<f32, Y>(part);
        }
        y += n * q8_0_elements;
        left -= n;
    }
    *static_cast<u32*>(job.state[0]) |= strange;
}

}  // namespace
