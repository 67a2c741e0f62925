// Vectors of float32, for the one thing that plain loops do slowly: packing codes.
#pragma once

#include "loops/run.h"

namespace {

#if defined(__AVX512BW__)
#define ZP_HAS_LANES
#define ZP_VECTOR(operation) _mm512_##operation
using Floats = __m512;
using Integers = __m512i;
#elif defined(__AVX2__) && defined(__FMA__)
#define ZP_HAS_LANES
#define ZP_VECTOR(operation) _mm256_##operation
using Floats = __m256;
using Integers = __m256i;
#endif

#if defined(ZP_HAS_LANES)
struct Lanes {
    using F = Floats;
    using I = Integers;
    static constexpr size_t n = sizeof(F) / sizeof(f32);
    static F load(const f32* x) { return ZP_VECTOR(loadu_ps)(x); }
    static F all(f32 v) { return ZP_VECTOR(set1_ps)(v); }
    static F min(F a, F b) { return ZP_VECTOR(min_ps)(a, b); }  // b if either is NaN
    static F add(F a, F b) { return ZP_VECTOR(add_ps)(a, b); }
    static F mul(F a, F b) { return ZP_VECTOR(mul_ps)(a, b); }
    static F fma(F a, F b, F c) { return ZP_VECTOR(fmadd_ps)(a, b, c); }
    static F with_sign_of(F magnitude, F v) {
        return ZP_VECTOR(or_ps)(magnitude, ZP_VECTOR(and_ps)(v, all(-0.0f)));
    }
    static I nearest(F v) { return ZP_VECTOR(cvtps_epi32)(v); }  // INT32_MIN: NaN, overflow
    static I truncated(F v) { return ZP_VECTOR(cvttps_epi32)(v); }
    static I words(i16 v) { return ZP_VECTOR(set1_epi16)(v); }
    static I bytes(i8 v) { return ZP_VECTOR(set1_epi8)(v); }
    static I pack(I a, I b) { return ZP_VECTOR(packs_epi32)(a, b); }
    static I add_words(I a, I b) { return ZP_VECTOR(adds_epi16)(a, b); }
    static I pack_u8(I a, I b) { return ZP_VECTOR(packus_epi16)(a, b); }
    static I pack_i8(I a, I b) { return ZP_VECTOR(packs_epi16)(a, b); }
    static I max_u8(I a, I b) { return ZP_VECTOR(max_epu8)(a, b); }
    static I max_i8(I a, I b) { return ZP_VECTOR(max_epi8)(a, b); }
    static void store(u8* q, I v) {  // packing works within 128 bits, so the order is fixed here
#if defined(__AVX512BW__)
        const I order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        _mm512_storeu_si512(q, _mm512_permutexvar_epi32(order, v));
#else
        const I order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        _mm256_storeu_si256(reinterpret_cast<I*>(q), _mm256_permutevar8x32_epi32(v, order));
#endif
    }
};

// The tail of every convention, from values before rounding to bytes.  The caller has clipped them
// above.  Below, for NaN, and where the product with -Inf is NaN, packing saturates: INT32_MIN
// becomes the smallest word, then the smallest byte, and that becomes `low`.
template <class Convention>
struct Packer {
    Packer(f32 zero, i64 low)
        : is_signed(low < 0),
          z(Lanes::words(Convention::rounds_the_sum ? i16(0) : static_cast<i16>(zero))),
          low_byte(Lanes::bytes(static_cast<i8>(low))) {}

    template <class Value>  // Value(i): Lanes::n values before rounding, from element i on
    void block_of(size_t i, u8* q, const Value& value) const {
        for (size_t done = 0; done < block; done += 4 * Lanes::n) {
            Lanes::I r[4];
            for (size_t k = 0; k < 4; ++k) r[k] = integers(value(i + done + k * Lanes::n));
            const Lanes::I a = with_zero(Lanes::pack(r[0], r[1]));
            const Lanes::I b = with_zero(Lanes::pack(r[2], r[3]));
            Lanes::store(q + done, is_signed ? Lanes::max_i8(Lanes::pack_i8(a, b), low_byte)
                                             : Lanes::max_u8(Lanes::pack_u8(a, b), low_byte));
        }
    }

private:
    Lanes::I with_zero(Lanes::I words) const {
        if constexpr (Convention::rounds_the_sum)
            return words;
        else
            return Lanes::add_words(words, z);
    }
    static Lanes::I integers(Lanes::F w) {
        if constexpr (!Convention::halves_away) return Lanes::nearest(w);
        const Lanes::F half = Lanes::all(Format<f32>::below_half);
        return Lanes::truncated(Lanes::add(w, Lanes::with_sign_of(half, w)));
    }
    bool is_signed;
    Lanes::I z;  // for the conventions that add it after rounding
    Lanes::I low_byte;
};
#else
template <class>
struct Packer {
    Packer(f32, i64) {}
};
#endif

}  // namespace
