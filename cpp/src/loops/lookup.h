// Bytes replaced by what a table of 256 bytes has for each of them.
#pragma once

#include "loops/run.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

constexpr size_t entries = 256;  // of a table, in bytes

// Bytes of so many channels in turn, a table each: some KiB at a time, and of them channel by
// channel.
ZP_APART void look_up_each(const u8* x, u8* y, size_t n, const u8* tables, size_t channels) {
    constexpr size_t some = 8192;
    const size_t at_once = channels < some ? some / channels * channels : channels;
    for (size_t i = 0, end = 0; i < n; i = end) {
        end = n - i < at_once ? n : i + at_once;
        for (size_t c = 0; c < channels; ++c) {
            const u8* table = tables + c * entries;
            ZP_UNROLLED(4)
            for (size_t k = i + c; k < end; k += channels) y[k] = table[x[k]];
        }
    }
}

// A vector of bytes, a table in registers or beside them, and `worth`: bytes that pay for its
// making.
#if defined(__AVX512VBMI__)
#define ZP_HAS_FINDER
using Bytes = __m512i;
using Mask = __mmask64;
struct Finder {
    static constexpr size_t worth = 64;
    Bytes quarters[4];
    void open(const u8* table) {
        for (size_t k = 0; k < 4; ++k) quarters[k] = _mm512_loadu_si512(table + 64 * k);
    }
    // one permutation a quarter, which looks at six bits: the ports have no more for the two of a
    // half in one instruction
    Bytes operator()(Bytes v) const {
        const Mask odd = _mm512_movepi8_mask(_mm512_add_epi8(v, v));
        const auto half = [&](Bytes even, Bytes other) {
            return _mm512_mask_permutexvar_epi8(_mm512_permutexvar_epi8(v, even), odd, v, other);
        };
        const Bytes low = half(quarters[0], quarters[1]), high = half(quarters[2], quarters[3]);
        return _mm512_mask_blend_epi8(_mm512_movepi8_mask(v), low, high);
    }
};
inline Mask mask_of(Bytes v) { return _mm512_movepi8_mask(v); }
inline Bytes blend(Mask m, Bytes a, Bytes b) { return _mm512_mask_blend_epi8(m, b, a); }
inline void stream(u8* y, Bytes v) { _mm512_stream_si512(reinterpret_cast<Bytes*>(y), v); }
#elif defined(__AVX2__) && defined(__F16C__)
#define ZP_HAS_FINDER
using Bytes = __m256i;
using Mask = __m256i;
// A shuffle has the entry of four bits, or 0 where bit 7 is set.  The sixteen parts of a table lie
// here as differences from the one before: with 16 taken off at each, with saturation, the code is
// at or above 0 in all parts up to its own, whose sum is the entry.  From 128 on it begins anew.
struct Finder {
    static constexpr size_t worth = 256;
    Bytes parts[16];
    ZP_APART void open(const u8* table) {
        const auto part = [&](size_t k) {
            return _mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * k));
        };
        for (size_t k = 0; k < 16; ++k)
            parts[k] =
                _mm256_broadcastsi128_si256(k % 8 ? _mm_xor_si128(part(k), part(k - 1)) : part(k));
    }
    ZP_APART Bytes operator()(Bytes low) const {
        Bytes high = _mm256_xor_si256(low, _mm256_set1_epi8(-128)), found{};
        for (size_t k = 0; k < 8; ++k) {
            found = _mm256_xor_si256(found, _mm256_shuffle_epi8(parts[k], low));
            found = _mm256_xor_si256(found, _mm256_shuffle_epi8(parts[k + 8], high));
            low = _mm256_subs_epi8(low, _mm256_set1_epi8(16));
            high = _mm256_subs_epi8(high, _mm256_set1_epi8(16));
        }
        return found;
    }
};
inline Mask mask_of(Bytes v) { return v; }
inline Bytes blend(Mask m, Bytes a, Bytes b) { return _mm256_blendv_epi8(b, a, m); }
inline void stream(u8* y, Bytes v) { _mm256_stream_si256(reinterpret_cast<Bytes*>(y), v); }
#elif defined(__aarch64__)
#define ZP_HAS_FINDER
using Bytes = uint8x16_t;
using Mask = uint8x16_t;
struct Finder {
    static constexpr size_t worth = 32;
    uint8x16x4_t quarters[4];
    void open(const u8* table) {
        for (size_t k = 0; k < 4; ++k) quarters[k] = vld1q_u8_x4(table + 64 * k);
    }
    Bytes operator()(Bytes v) const {
        Bytes found = vqtbl4q_u8(quarters[0], v);
        for (size_t k = 1; k < 4; ++k)
            found =
                vqtbx4q_u8(found, quarters[k], vsubq_u8(v, vdupq_n_u8(static_cast<u8>(64 * k))));
        return found;
    }
};
inline Mask mask_of(Bytes v) { return v; }
inline Bytes blend(Mask m, Bytes a, Bytes b) { return vbslq_u8(m, a, b); }
inline void stream(u8* y, Bytes v) { vst1q_u8(y, v); }
#endif

#if defined(ZP_HAS_FINDER)

constexpr size_t width = sizeof(Bytes);

inline Bytes load_bytes(const u8* x) {
    Bytes v;
    __builtin_memcpy(&v, x, width);
    return v;
}
inline void store_bytes(u8* y, Bytes v) { __builtin_memcpy(y, &v, width); }

// Each group of four bytes turned by k, up to four.
ZP_WITHIN Bytes turned(Bytes v, size_t k) {
    typedef u32 Groups __attribute__((vector_size(width)));
    const auto groups = reinterpret_cast<Groups>(v);
    return k % 4 ? reinterpret_cast<Bytes>(groups >> 8 * k | groups << (32 - 8 * k)) : v;
}

// Of so many bytes one is 0xFF.
template <size_t channels>
struct Places {
    u8 bytes[width + channels] = {};
    constexpr Places() {
        for (size_t i = 0; i < sizeof bytes; i += channels) bytes[i] = 0xFF;
    }
};
template <size_t channels>
constexpr Places<channels> places{};

// Whole groups of n bytes of channels in turn, as many vectors at a time; x may be y.  A channel
// has other places in each of these, in those of four channels once they are turned; so its bytes
// are put together by blends, and taken apart by the same.
template <size_t channels>
ZP_APART void look_up_groups(const u8* x, u8* y, size_t n, const Finder* __restrict of,
                             bool streams) {
    constexpr size_t bytes = channels * width;
    constexpr bool turns = channels % 2 == 0;
    Mask every[channels];
    for (size_t c = 0; c < channels; ++c)
        every[c] = mask_of(load_bytes(places<channels>.bytes + (channels - c) % channels));
    const auto at = [&](size_t c, size_t k) {  // where channel c lies in vector k
        return every[(c + channels * width - (turns ? 1 : width) * k) % channels];
    };
    for (; n >= bytes; n -= bytes, x += bytes, y += bytes) {
        fetch_ahead<bytes>(x);
        Bytes v[channels], found[channels];
        ZP_UNROLLED(16)
        for (size_t k = 0; k < channels; ++k) {
            v[k] = load_bytes(x + k * width);
            if (turns) v[k] = turned(v[k], k);
        }
        ZP_UNROLLED(16)
        for (size_t c = 0; c < channels; ++c) {
            Bytes one = v[0];
            ZP_UNROLLED(16)
            for (size_t k = 1; k < channels; ++k) one = blend(at(c, k), v[k], one);
            found[c] = of[c](one);
        }
        ZP_UNROLLED(16)
        for (size_t k = 0; k < channels; ++k) {
            Bytes all = found[0];
            ZP_UNROLLED(16)
            for (size_t c = 1; c < channels; ++c) all = blend(at(c, k), found[c], all);
            if (turns) all = turned(all, channels - k);
            streams ? stream(y + k * width, all) : store_bytes(y + k * width, all);
        }
    }
}

// n bytes of channels in turn; two are four, whose tables repeat.  The first and the last group
// share bytes with others, and are put aside before any is written: x may be y.
inline void look_up_run(const u8* x, u8* y, size_t n, const u8* tables, size_t given,
                        bool non_temporal) {
    constexpr size_t most = 4;
    const size_t channels = given == 2 ? most : given, bytes = channels * width;
    if (given > most || n < channels * Finder::worth) return look_up_each(x, y, n, tables, given);
    Finder of[most];
    Bytes first[most], last[most];
    ZP_UNROLLED(1)  // which is the smaller code
    for (size_t c = 0; c < channels; ++c) {
        of[c].open(tables + c % given * entries);
        first[c] = load_bytes(x + c * width);
        last[c] = load_bytes(x + n - bytes + c * width);
    }
    size_t start = (width - reinterpret_cast<std::uintptr_t>(y) % width) % width;
    while (start < bytes && start % given) start += width;
    const bool aligned = start < bytes;
    if (!aligned) start = 0;
    const auto groups = channels == 1   ? look_up_groups<1>
                        : channels == 3 ? look_up_groups<3>
                                        : look_up_groups<4>;
    groups(x + start, y + start, n - start, of, aligned && non_temporal);
    groups(reinterpret_cast<const u8*>(first), y, bytes, of, false);
    groups(reinterpret_cast<const u8*>(last), y + n - bytes, bytes, of, false);
}
#else
inline void look_up_run(const u8* x, u8* y, size_t n, const u8* tables, size_t given, bool) {
    look_up_each(x, y, n, tables, given);
}
#endif

// job.scale: a table for each row, or for each column.
template <class, class>
void lookup(const Job& job) noexcept {
    const u8* x = static_cast<const u8*>(job.in);
    u8* y = static_cast<u8*>(job.out);
    const u8* tables = static_cast<const u8*>(job.scale);
    const size_t n = job.rows * job.cols, run = job.per_column ? n : job.cols;
    for (size_t i = 0; i < n; i += run, tables += entries)
        look_up_run(x + i, y + i, run, tables, job.per_column ? job.cols : 1, job.non_temporal);
}

}  // namespace
