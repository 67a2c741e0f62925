// The blocks of GGUF's Q8_0: a scale in float16, then 32 codes, to and from data of that many
// elements.  An element of these jobs is a block.
#pragma once

#include "loops/elements.h"
#include "loops/quantize.h"

namespace {

constexpr size_t q8_0_elements = 32, q8_0_bytes = 34;
constexpr size_t q8_0_at_once = 64;  // blocks, whose scales are computed together

// The largest magnitude, whose bits are also the largest; Inf and NaN are above all numbers.
ZP_WITHIN f32 peak_of(const f32* x) {
    constexpr u32 magnitude = ~u32(0) >> 1;
    u32 peak = 0;
    for (size_t j = 0; j < q8_0_elements; ++j) {
        const u32 b = bits(x[j]) & magnitude;
        peak = b > peak ? b : peak;
    }
    return bits_as<f32>(peak);
}

#if defined(ZP_HAS_LANES)
constexpr All part_of(Vectors<4>) { return {}; }
constexpr Half part_of(Vectors<2>) { return {}; }
#endif

// q = the codes of a block, for the reciprocal of its scale.
ZP_WITHIN void q8_0_codes(const f32* x, u8* q, f32 inverse) {
#if defined(ZP_HAS_LANES)
    using Ways = OfRow<Way<ggml>>;
    const Lanes::F unused{};
    const Ways ways({unused, Lanes::all(inverse), Lanes::all(127), unused}, 0);
    constexpr Vectors<q8_0_elements / Lanes::n> vectors;
    Coder<ggml, f32, Ways>(x, ways, -127)(0, q, vectors, part_of(vectors));
#else
    for (size_t j = 0; j < q8_0_elements; ++j)
        q[j] = code_of<ggml>(x[j], inverse, 0.0f, -127.0f, 127.0f);
#endif
}

template <class From, class To>
inline void convert_some(const From* x, To* y, size_t n) {
    Job part;
    part.in = x;
    part.out = y;
    part.rows = 1;
    part.cols = n;
    convert<From, To>(part);
}

constexpr bool is_finite(f16 v) { return (v.bits & 0x7C00) != 0x7C00; }

// Up to q8_0_at_once blocks; whether a stored scale is not finite: float16 cannot hold it, or x was
// NaN or Inf.
ZP_APART bool blocks_of(const f32* x, u8* to, size_t n) {
    f32 scale[q8_0_at_once], inverse[q8_0_at_once];
    f16 stored[q8_0_at_once];
    bool strange = false;
    for (size_t b = 0; b < n; ++b) {
        const f32* const block = x + b * q8_0_elements;
        fetch_ahead<q8_0_elements * sizeof(f32)>(block);
        scale[b] = peak_of(block);
    }
    for (size_t b = 0; b < n; ++b) {
        scale[b] /= 127;
        const f32 reciprocal = 1 / scale[b];
        inverse[b] = reciprocal <= 0x1.fffffep127f ? reciprocal : 0;  // 0 for Inf, and for NaN
    }
    convert_some(scale, stored, n);
    for (size_t b = 0; b < n; ++b, x += q8_0_elements, to += q8_0_bytes) {
        strange |= !is_finite(stored[b]);
        to[0] = static_cast<u8>(stored[b].bits);
        to[1] = static_cast<u8>(stored[b].bits >> 8);
        q8_0_codes(x, to + 2, inverse[b]);
    }
    return strange;
}
ZP_APART bool values_of(const u8* from, f32* x, size_t n) {
    bool strange = false;
    for (size_t b = 0; b < n; ++b, from += q8_0_bytes, x += q8_0_elements) {
        fetch_ahead<line>(from);
        const f16 stored{static_cast<u16>(from[0] | from[1] << 8)};
        const f32 scale = Convert<f32, f16>::of(stored);
        strange |= !is_finite(stored);
        const i8* const q = reinterpret_cast<const i8*>(from + 2);
#if defined(ZP_HAS_LANES)
        const Valuer<i8, LineOfRow> value{q, {{Lanes::all(scale), Lanes::all(0)}}};
        value(0, x, Vectors<q8_0_elements / Lanes::n>{}, All{});
#else
        for (size_t j = 0; j < q8_0_elements; ++j) x[j] = value_of(q[j], scale, 0.0f);
#endif
    }
    return strange;
}

// In both job.state[0] is a u32 that becomes 1 where a stored scale is not finite.
template <class X, class>
void to_q8_0(const Job& job) noexcept {
    const X* x = static_cast<const X*>(job.in);
    u8* to = static_cast<u8*>(job.out);
    u32& strange = *static_cast<u32*>(job.state[0]);
    const size_t count = job.rows * job.cols;
    for (size_t b = 0; b < count; b += q8_0_at_once) {
        const size_t n = count - b < q8_0_at_once ? count - b : q8_0_at_once;
        if constexpr (sizeof(X) == 4) {
            strange |= blocks_of(x, to, n);
        } else {
            alignas(line) f32 wide[q8_0_at_once * q8_0_elements];
            convert_some(x, wide, n * q8_0_elements);
            strange |= blocks_of(wide, to, n);
        }
        x += n * q8_0_elements;
        to += n * q8_0_bytes;
    }
}

template <class, class Y>
void from_q8_0(const Job& job) noexcept {
    const u8* from = static_cast<const u8*>(job.in);
    Y* y = static_cast<Y*>(job.out);
    u32& strange = *static_cast<u32*>(job.state[0]);
    const size_t count = job.rows * job.cols;
    for (size_t b = 0; b < count; b += q8_0_at_once) {
        const size_t n = count - b < q8_0_at_once ? count - b : q8_0_at_once;
        if constexpr (sizeof(Y) == 4) {
            strange |= values_of(from, y, n);
        } else {
            alignas(line) f32 wide[q8_0_at_once * q8_0_elements];
            strange |= values_of(from, wide, n);
            convert_some(wide, y, n * q8_0_elements);
        }
        from += n * q8_0_bytes;
        y += n * q8_0_elements;
    }
}

}  // namespace
