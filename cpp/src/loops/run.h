// How every loop goes over one run of contiguous elements: cache lines, early fetches, stores past
// the caches.  The headers in this folder are the parts of loops.cpp, and compiled with it once per
// ISA.
#pragma once

#include "scalar.h"
#include "types.h"

#if defined(__F16C__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

// The iterations are independent: input and output are disjoint, or one and the same array.
#if defined(__clang__)
#define ZP_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define ZP_INDEPENDENT _Pragma("GCC ivdep")
#else
#define ZP_INDEPENDENT
#endif

namespace {

using std::size_t;
using zeropoint::core::Job;

constexpr size_t line = 64;     // bytes of a cache line
constexpr size_t block = 64;    // elements done at once; a multiple of every vector's
constexpr size_t ahead = 2048;  // bytes: the hardware's own prefetchers stop at page ends and lag

inline void stream_line(char* to, const char* from) {
#if defined(__AVX512F__)
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), _mm512_load_si512(from));
#elif defined(__SSE2__)
    for (size_t i = 0; i < line; i += sizeof(__m128i))
        _mm_stream_si128(reinterpret_cast<__m128i*>(to + i),
                         _mm_load_si128(reinterpret_cast<const __m128i*>(from + i)));
#else
    __builtin_memcpy(to, from, line);
#endif
}

// y[i] = f(i) for a block of elements; f.block, where there is one, is faster.
template <class F, class Y>
inline auto fill(const F& f, size_t i, Y* y) -> decltype(f.block(i, y)) {
    f.block(i, y);
}
template <class F, class Y, class... None>
inline void fill(const F& f, size_t i, Y* y, None...) {
    ZP_INDEPENDENT
    for (size_t j = 0; j < block; ++j) y[j] = f(i + j);
}

template <class F, class Y>
inline void plain_run(const F& f, Y* y, size_t from, size_t to) {
    ZP_INDEPENDENT
    for (size_t i = from; i < to; ++i) y[i] = f(i);
}

// y[i] = f(i) for a whole run, where f(i) reads x[i].  Whole cache lines are written, past the
// caches if asked to, and what comes next is fetched early.
template <class X, class Y, class F>
inline void fill_run(const X* x, Y* y, size_t n, bool non_temporal, const F& f) {
    const size_t to_line = (line - reinterpret_cast<std::uintptr_t>(y) % line) % line / sizeof(Y);
    const bool is_long = n >= 16 * block;  // enough to pay for a ragged start
    size_t i = is_long ? to_line : 0;
    plain_run(f, y, 0, i);
    for (; i + block <= n; i += block) {
        for (size_t byte = 0; byte < block * sizeof(X); byte += line)
            __builtin_prefetch(reinterpret_cast<const char*>(x + i) + ahead + byte);
        if (non_temporal && is_long) {
            alignas(line) Y done[block];
            fill(f, i, done);
            for (size_t byte = 0; byte < sizeof done; byte += line)
                stream_line(reinterpret_cast<char*>(y + i) + byte,
                            reinterpret_cast<const char*>(done) + byte);
        } else {
            fill(f, i, y + i);
        }
    }
    plain_run(f, y, i, n);
}

}  // namespace
