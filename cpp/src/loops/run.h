// How a plain loop goes over one run of contiguous elements: cache lines, early fetches, stores
// past the caches.  The headers in this folder are the parts of loops.cpp, and compiled with it
// once per ISA.
#pragma once

#include "scalar.h"
#include "types.h"

#if defined(__F16C__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

// The iterations are independent: input and output are disjoint, or one and the same array.
#if defined(__clang__)  // clang-cl, too, which is no __GNUC__
#define ZP_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define ZP_INDEPENDENT _Pragma("GCC ivdep")
#else
#error "zeropoint: the loops need the vector types of GCC and Clang; on Windows use clang-cl"
#endif

// What is called once a run at most, and would otherwise stand in many places; and what is a part
// of a loop, whatever the compiler thinks of its size.
#if defined(__clang__)
#define ZP_APART __attribute__((noinline, unused))
#define ZP_WITHIN __attribute__((always_inline)) inline
#else
#define ZP_APART __attribute__((noinline, noclone, unused))
#define ZP_WITHIN __attribute__((always_inline)) inline
#endif

// A loop of a few rounds within one that is to be made into vectors.
#if !defined(__clang__)
#define ZP_PRAGMA(text) _Pragma(#text)
#define ZP_UNROLLED(times) ZP_PRAGMA(GCC unroll times)
#else
#define ZP_UNROLLED(times)
#endif

// In a loop that is not to be made into vectors.
#define ZP_ONE_BY_ONE __asm__ volatile("")

namespace {

using std::size_t;
using zeropoint::core::Job;

constexpr size_t line = 64;     // bytes of a cache line
constexpr size_t block = 64;    // elements done at once; a multiple of every vector's
constexpr size_t ahead = 2048;  // bytes: the hardware's own prefetchers stop at page ends and lag

// From here on a run pays for a ragged start, after which whole cache lines are written.
constexpr size_t long_run = 16 * block;

template <class Y>
inline size_t elements_to_line(const Y* y) {
    return (line - reinterpret_cast<std::uintptr_t>(y) % line) % line / sizeof(Y);
}

// Of addresses and not of pointers, which must not leave their array.
template <size_t bytes, class X>
inline void fetch_ahead(const X* x) {
    const auto from = reinterpret_cast<std::uintptr_t>(x) + ahead;
    for (size_t byte = 0; byte < bytes; byte += line)
        __builtin_prefetch(reinterpret_cast<const void*>(from + byte));
}

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

// Any number of elements, made from those of X.
template <class X, class F, class Y>
ZP_APART void plain_run(const F& function, Y* y, size_t i, size_t end) {
    const F f = function;           // which y, a pointer to bytes, could else alias
    if constexpr (sizeof(X) > 4) {  // from 64 doubles, vectors of bytes, the code is too much
        constexpr size_t step = 32;
        for (; i + step <= end; i += step) {
            ZP_INDEPENDENT
            for (size_t j = 0; j < step; ++j) y[i + j] = f(i + j);
        }
        for (; i < end; ++i) {
            y[i] = f(i);
            ZP_ONE_BY_ONE;
        }
        return;
    }
    ZP_INDEPENDENT
    for (size_t j = i; j < end; ++j) y[j] = f(j);
}

// y[i] = f(i) for a whole run, where f(i) reads x[i].  Whole cache lines are written, past the
// caches if asked to, and what comes next is fetched early.
template <class X, class Y, class F>
inline void fill_run(const X* x, Y* y, size_t n, bool non_temporal, const F& f) {
    const bool is_long = n >= long_run, streams = non_temporal && is_long;
    size_t i = is_long ? elements_to_line(y) : 0;
    if (i > 0) plain_run<X>(f, y, 0, i);
    alignas(line) Y done[block];
    for (; i + block <= n; i += block) {
        fetch_ahead<block * sizeof(X)>(x + i);
        fill(f, i, streams ? done : y + i);
        if (!streams) continue;
        for (size_t byte = 0; byte < sizeof done; byte += line)
            stream_line(reinterpret_cast<char*>(y + i) + byte,
                        reinterpret_cast<const char*>(done) + byte);
    }
    if (i < n) plain_run<X>(f, y, i, n);
}

}  // namespace
