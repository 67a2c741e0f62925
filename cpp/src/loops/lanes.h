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
    static void store(f32* y, F v) { ZP_VECTOR(storeu_ps)(y, v); }
#if defined(__AVX512BW__)
    static F load(const f16* x) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
    }
    static F load(const bf16* x) {
        const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
    }
#else
    static F load(const f16* x) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
    }
    static F load(const bf16* x) {
        const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
    }
#endif
    // The first m < n elements, and in the other lanes x[0].
    template <class X>
    static F first(const X* x, size_t m) {
        alignas(line) f32 room[n];
        for (size_t j = 0; j < n; ++j) room[j] = Convert<f32, X>::of(x[j < m ? j : 0]);
        return load(room);
    }
#if defined(__AVX512BW__)
    static F first(const f32* x, size_t m) {
        return _mm512_mask_loadu_ps(all(x[0]), static_cast<__mmask16>((1u << m) - 1), x);
    }
    static bool any_nan(F v) { return _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q) != 0; }
#else
    static bool any_nan(F v) { return _mm256_movemask_ps(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)) != 0; }
#endif
    static F all(f32 v) { return ZP_VECTOR(set1_ps)(v); }
    static F min(F a, F b) { return ZP_VECTOR(min_ps)(a, b); }  // b if either is NaN
    static F max(F a, F b) { return ZP_VECTOR(max_ps)(a, b); }
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
