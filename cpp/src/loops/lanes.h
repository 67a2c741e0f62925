// Vectors of float32, for what plain loops do slowly: packing codes, float16, and runs or tails of
// a few elements.
#pragma once

#include "loops/run.h"

namespace {

#if defined(__AVX512BW__)
#define ZP_HAS_LANES
#define ZP_VECTOR(operation) _mm512_##operation
using Floats = __m512;
using Integers = __m512i;
using Halves = __m256i;  // as many elements of 16 bits
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define ZP_HAS_LANES
#define ZP_VECTOR(operation) _mm256_##operation
using Floats = __m256;
using Integers = __m256i;
using Halves = __m128i;
#endif

#if defined(ZP_HAS_LANES)

// Which elements of a group are read and written: all; the first half; the first ones, fewer than
// all.  No byte beyond them is touched.
struct All {};
struct Half {};
struct First {
    size_t n;
};

#if !defined(__AVX512BW__)
// Up to 8 bytes, in a word.
inline u64 few_bytes(const void* from, size_t n) {
    const auto* bytes = static_cast<const u8*>(from);
    u64 all = 0;
    u32 first = 0, last = 0;  // which overlap
    if (n == 8) {
        __builtin_memcpy(&all, bytes, 8);
    } else if (n >= 4) {
        __builtin_memcpy(&first, bytes, 4);
        __builtin_memcpy(&last, bytes + n - 4, 4);
        all = first | u64(last) << (8 * (n - 4));
    } else if (n > 0) {
        all = bytes[0] | u64(bytes[n / 2]) << (8 * (n / 2)) | u64(bytes[n - 1]) << (8 * (n - 1));
    }
    return all;
}

// Fewer than 32 bytes; memcpy would be a call.
inline void copy_few(void* to, const void* from, size_t n) {
    char* t = static_cast<char*>(to);
    const char* f = static_cast<const char*>(from);
    if (n & 16) __builtin_memcpy(t, f, 16), t += 16, f += 16;
    if (n & 8) __builtin_memcpy(t, f, 8), t += 8, f += 8;
    if (n & 4) __builtin_memcpy(t, f, 4), t += 4, f += 4;
    if (n & 2) __builtin_memcpy(t, f, 2), t += 2, f += 2;
    if (n & 1) *t = *f;
}
#endif

// Vectors k = 0, 1, ... of a group in memory.
struct Lanes {
    using F = Floats;
    using I = Integers;
    static constexpr size_t n = sizeof(F) / sizeof(f32);
    static constexpr size_t group = 4 * n;  // elements whose codes fill a vector
#if defined(__AVX512BW__)
    static constexpr bool masks = true;  // whether a part of a vector costs no more than all of it
#else
    static constexpr bool masks = false;
#endif

    static F all(f32 v) { return ZP_VECTOR(set1_ps)(v); }
    static F min(F a, F b) { return ZP_VECTOR(min_ps)(a, b); }  // b if either is NaN
    static F max(F a, F b) { return ZP_VECTOR(max_ps)(a, b); }  // b if either is NaN
    static F add(F a, F b) { return ZP_VECTOR(add_ps)(a, b); }
    static F sub(F a, F b) { return ZP_VECTOR(sub_ps)(a, b); }
    static F mul(F a, F b) { return ZP_VECTOR(mul_ps)(a, b); }
    static F fma(F a, F b, F c) { return ZP_VECTOR(fmadd_ps)(a, b, c); }
    static F fnma(F a, F b, F c) { return ZP_VECTOR(fnmadd_ps)(a, b, c); }  // c - a * b
    static F with_sign_of(F magnitude, F v) {
        return ZP_VECTOR(or_ps)(magnitude, ZP_VECTOR(and_ps)(v, all(-0.0f)));
    }
    static I nearest(F v) { return ZP_VECTOR(cvtps_epi32)(v); }  // INT32_MIN: NaN, overflow
    static I truncated(F v) { return ZP_VECTOR(cvttps_epi32)(v); }
    static F real(I v) { return ZP_VECTOR(cvtepi32_ps)(v); }

    template <class X>
    static F load(const X* x) {
        return load(x, 0, All{});
    }
    static void store(f32* y, F v) { store(y, 0, v, All{}); }
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

    // packing works within 128 bits; `in_order` in the end
    static I words(i16 v) { return ZP_VECTOR(set1_epi16)(v); }
    static I bytes(i8 v) { return ZP_VECTOR(set1_epi8)(v); }
    static I pack(I a, I b) { return ZP_VECTOR(packs_epi32)(a, b); }
    static I add_words(I a, I b) { return ZP_VECTOR(adds_epi16)(a, b); }
    static I pack_u8(I a, I b) { return ZP_VECTOR(packus_epi16)(a, b); }
    static I pack_i8(I a, I b) { return ZP_VECTOR(packs_epi16)(a, b); }
    static I add_bytes(I a, I b) { return ZP_VECTOR(add_epi8)(a, b); }
    static I max_u8(I a, I b) { return ZP_VECTOR(max_epu8)(a, b); }
    static I max_i8(I a, I b) { return ZP_VECTOR(max_epi8)(a, b); }

#if defined(__AVX512BW__)
    static I in_order(I v) {
        const I order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        return _mm512_permutexvar_epi32(order, v);
    }
    static u64 mask(First first) { return ~(~u64(0) << first.n); }
    static __mmask16 mask(size_t k, First first) {
        return static_cast<__mmask16>(mask(first) >> (k * n));
    }

    template <class Part>
    static F load(const f32* x, size_t k, Part) {
        return _mm512_loadu_ps(x + k * n);
    }
    static F load(const f32* x, size_t k, First first) {
        return _mm512_maskz_loadu_ps(mask(k, first), x + k * n);
    }
    template <class Part>
    static Halves words_at(const void* x, size_t k, Part) {
        return _mm256_loadu_si256(static_cast<const Halves*>(x) + k);
    }
    static Halves words_at(const void* x, size_t k, First first) {
        return _mm256_maskz_loadu_epi16(mask(k, first), static_cast<const Halves*>(x) + k);
    }
    template <class Part>
    static __m128i bytes_at(const void* q, size_t k, Part) {
        return _mm_loadu_si128(static_cast<const __m128i*>(q) + k);
    }
    static __m128i bytes_at(const void* q, size_t k, First first) {
        return _mm_maskz_loadu_epi8(mask(k, first), static_cast<const __m128i*>(q) + k);
    }

    template <class Part>
    static void store(f32* y, size_t k, F v, Part) {
        _mm512_storeu_ps(y + k * n, v);
    }
    static void store(f32* y, size_t k, F v, First first) {
        _mm512_mask_storeu_ps(y + k * n, mask(k, first), v);
    }
    template <class Part>
    static void store(u8* q, I codes, Part) {
        _mm512_storeu_si512(q, codes);
    }
    static void store(u8* q, I codes, Half) {
        _mm256_storeu_si256(reinterpret_cast<Halves*>(q), _mm512_castsi512_si256(codes));
    }
    static void store(u8* q, I codes, First first) {
        _mm512_mask_storeu_epi8(q, mask(first), codes);
    }
#else
    static I in_order(I v) {
        return _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    }
    static size_t count(size_t k, First first) {
        const size_t before = k * n, left = first.n > before ? first.n - before : 0;
        return left < n ? left : n;
    }
    static I mask(size_t k, First first) {
        const I wanted = _mm256_set1_epi32(static_cast<int>(count(k, first)));
        return _mm256_cmpgt_epi32(wanted, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }

    template <class Part>
    static F load(const f32* x, size_t k, Part) {
        return _mm256_loadu_ps(x + k * n);
    }
    static F load(const f32* x, size_t k, First first) {
        return _mm256_maskload_ps(x + k * n, mask(k, first));
    }
    template <class Part>
    static Halves words_at(const void* x, size_t k, Part) {
        return _mm_loadu_si128(static_cast<const Halves*>(x) + k);
    }
    static Halves words_at(const void* x, size_t k, First first) {
        const size_t bytes = 2 * count(k, first);
        const auto* from = static_cast<const u64*>(x) + 2 * k;
        return _mm_set_epi64x(static_cast<i64>(bytes > 8 ? few_bytes(from + 1, bytes - 8) : 0),
                              static_cast<i64>(few_bytes(from, bytes > 8 ? 8 : bytes)));
    }
    template <class Part>
    static __m128i bytes_at(const void* q, size_t k, Part) {
        return _mm_loadu_si64(static_cast<const u64*>(q) + k);
    }
    static __m128i bytes_at(const void* q, size_t k, First first) {
        const u64 found = few_bytes(static_cast<const u64*>(q) + k, count(k, first));
        return _mm_cvtsi64_si128(static_cast<i64>(found));
    }

    template <class Part>
    static void store(f32* y, size_t k, F v, Part) {
        _mm256_storeu_ps(y + k * n, v);
    }
    static void store(f32* y, size_t k, F v, First first) {
        _mm256_maskstore_ps(y + k * n, mask(k, first), v);
    }
    template <class Part>
    static void store(u8* q, I codes, Part) {
        _mm256_storeu_si256(reinterpret_cast<I*>(q), codes);
    }
    static void store(u8* q, I codes, Half) {
        _mm_storeu_si128(reinterpret_cast<Halves*>(q), _mm256_castsi256_si128(codes));
    }
    static void store(u8* q, I codes, First first) { copy_few(q, &codes, first.n); }
#endif

    // Whole vectors, past the caches; both are aligned.
    static void stream(void* to, const void* from, size_t bytes) {
        for (size_t k = 0; k < bytes / sizeof(I); ++k)
#if defined(__AVX512BW__)
            _mm512_stream_si512(static_cast<I*>(to) + k,
                                _mm512_load_si512(static_cast<const I*>(from) + k));
#else
            _mm256_stream_si256(static_cast<I*>(to) + k,
                                _mm256_load_si256(static_cast<const I*>(from) + k));
#endif
    }

    template <class Part>
    static F load(const f16* x, size_t k, Part part) {
        return ZP_VECTOR(cvtph_ps)(words_at(x, k, part));
    }
    template <class Part>
    static F load(const bf16* x, size_t k, Part part) {
        return bits_as<F>(
            ZP_VECTOR(slli_epi32)(ZP_VECTOR(cvtepu16_epi32)(words_at(x, k, part)), 16));
    }
    template <class Part>
    static F load(const u8* q, size_t k, Part part) {
        return real(ZP_VECTOR(cvtepu8_epi32)(bytes_at(q, k, part)));
    }
    template <class Part>
    static F load(const i8* q, size_t k, Part part) {
        return real(ZP_VECTOR(cvtepi8_epi32)(bytes_at(q, k, part)));
    }
};

template <size_t n>
struct Vectors {
    static constexpr size_t count = n;
};

// Of rows of contiguous elements: rows.at(row, x) makes the function f that does, with what the row
// needs in registers, the elements of a group, or the first `vectors` of it: f(i, y + i, vectors,
// part).

// Elements [i, end) of each of `count` rows.
template <class Rows, class X, class Y>
ZP_APART void short_rows(const Rows& rows, const X* x, Y* y, size_t row, size_t count,
                         size_t stride, size_t from, size_t end) {
    for (const size_t last = row + count; row < last; ++row, x += stride, y += stride) {
        const auto f = rows.at(row, x);
        size_t i = from;
        for (; i + Lanes::group <= end; i += Lanes::group) {
            fetch_ahead<Lanes::group * sizeof(X)>(x + i);
            f(i, y + i, Vectors<4>{}, All{});
        }
        const First rest{end - i};
        fetch_ahead<Lanes::group * sizeof(X) / 2>(x + i);
        if (rest.n > 2 * Lanes::n)
            f(i, y + i, Vectors<4>{}, rest);
        else if (!Lanes::masks && rest.n == 2 * Lanes::n)
            f(i, y + i, Vectors<2>{}, Half{});
        else if (rest.n > 0)
            f(i, y + i, Vectors<2>{}, rest);
    }
}

// One row, as fill_run does it for plain loops.
template <class Rows, class X, class Y>
ZP_APART void long_row(const Rows& rows, const X* x, Y* y, size_t row, size_t n,
                       bool non_temporal) {
    // the wider of the two is aligned, unless it is written past the caches
    const bool by_input = sizeof(X) > sizeof(Y) && !non_temporal;
    const size_t start = by_input ? elements_to_line(x) : elements_to_line(y);
    if (start > 0) short_rows(rows, x, y, row, 1, n, 0, start);
    const auto f = rows.at(row, x);
    size_t i = start;
    // results that go past the caches take the way through one line or some of them, where they are
    // still when they are read again: memory takes longer, and a second loop would double the code
    alignas(line) Y done[Lanes::group];
    for (; i + Lanes::group <= n; i += Lanes::group) {
        fetch_ahead<Lanes::group * sizeof(X)>(x + i);
        f(i, non_temporal ? done : y + i, Vectors<4>{}, All{});
        if (non_temporal) Lanes::stream(y + i, done, sizeof done);
    }
    if (i < n) short_rows(rows, x, y, row, 1, n, i, n);
}

// `count` rows of n elements, `stride` apart.
template <class Rows, class X, class Y>
inline void over_rows(const Rows& rows, const X* x, Y* y, size_t count, size_t n, size_t stride,
                      bool non_temporal) {
    if (n < long_run) return short_rows(rows, x, y, 0, count, stride, 0, n);
    for (size_t row = 0; row < count; ++row, x += stride, y += stride)
        long_row(rows, x, y, row, n, non_temporal);
}
#endif

}  // namespace
