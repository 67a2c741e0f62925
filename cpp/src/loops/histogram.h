// The histogram of the observers.
#pragma once

#include "loops/elements.h"
#include "loops/min_max.h"

namespace {

using zeropoint::core::Histogram;

constexpr size_t bins = Histogram::bins;
constexpr size_t spare = 32;           // places for zeros, see Scanner
constexpr size_t turn = 4000 * block;  // elements after which no count of 16 bits has overflowed
constexpr size_t worth_tables = 4096;  // elements that pay for the clearing and adding of tables

// Where x is counted: its bin's number modulo `bins`.
template <class T>
inline u16 place_of(T x, T inverse) {
    return static_cast<u16>(bin_of(x, inverse) & static_cast<i32>(bins - 1));
}

template <class X, class T>
inline const T* widened(const X* x, size_t n, T* room) {
    fill_run(x, room, n, false, ConvertTo<X, T>{x});
    return room;
}
template <class T>
inline const T* widened(const T* x, size_t, T*) {
    return x;
}

// Scans blocks: where their elements are counted, and minimum and maximum so far.
// Zeros, of which some data have many in a row, go to `spare` places in turn, because an increment
// waits for the one before it if both are of the same place.
template <class X, class T>
class Scanner {
public:
    Scanner(const Histogram& h) : inverse_(inverse_width<T>(h.exponent)) {
        for (size_t j = 0; j < spare; ++j) {
            lows_[j] = static_cast<T>(h.low);
            highs_[j] = static_cast<T>(h.high);
            nonfinites_[j] = 0;
        }
    }
    void scan(const X* x, u16* places) {
        alignas(line) T room[block];
        const T* y = widened(x, block, room);
        for (size_t i = 0; i < block; i += spare)
            for (size_t j = 0; j < spare; ++j) {
                const T v = y[i + j];
                include(v, lows_[j], highs_[j], nonfinites_[j]);
                places[i + j] = v == 0 ? static_cast<u16>(bins + j) : place_of(v, inverse_);
            }
    }
    void finish(Histogram& h) const {
        for (size_t j = 0; j < spare; ++j) {
            h.low = (lows_[j] < h.low ? lows_[j] : h.low) + nonfinites_[j];
            h.high = (highs_[j] > h.high ? highs_[j] : h.high) + nonfinites_[j];
        }
    }

private:
    T inverse_;
    T lows_[spare], highs_[spare], nonfinites_[spare];
};

// Four tables in turn, for the same reason; of 16 bits, so that they stay in the first cache.
using Tables = u16[4][bins + spare];

inline void count_block(const u16* places, Tables& tables) {
    for (size_t i = 0; i < block; i += 4) {
        ++tables[0][places[i]];
        ++tables[1][places[i + 1]];
        ++tables[2][places[i + 2]];
        ++tables[3][places[i + 3]];
    }
}

inline void add(const Tables& tables, Histogram& h) {
    ZP_INDEPENDENT
    for (size_t k = 0; k < bins; ++k)
        h.counts[k] += u32(tables[0][k]) + tables[1][k] + tables[2][k] + tables[3][k];
    for (size_t k = bins; k < bins + spare; ++k)
        h.counts[0] += u32(tables[0][k]) + tables[1][k] + tables[2][k] + tables[3][k];
}

// Whole blocks.  One is counted, which is stores, while the next is scanned, which is arithmetic.
template <class X, class T>
void histogram_blocks(const X* x, size_t n, Histogram& h) {
    Scanner<X, T> scanner(h);
    alignas(line) u16 places[2][block];
    alignas(line) Tables tables;
    for (size_t start = 0; start < n; start += turn) {
        const size_t end = n - start < turn ? n : start + turn;
        __builtin_memset(tables, 0, sizeof tables);
        scanner.scan(x + start, places[0]);
        for (size_t i = start, now = 0; i < end; i += block, now ^= 1) {
            for (size_t byte = 0; byte < block * sizeof(X); byte += line)
                __builtin_prefetch(reinterpret_cast<const char*>(x + i) + ahead + byte);
            if (i + block < end) scanner.scan(x + i + block, places[now ^ 1]);
            count_block(places[now], tables);
        }
        add(tables, h);
    }
    scanner.finish(h);
}

template <class X, class T>
void histogram_row(const X* x, size_t n, Histogram& h) {
    size_t i = 0;
    if (n >= worth_tables) {
        i = n / block * block;
        histogram_blocks<X, T>(x, i, h);
    }
    const T inverse = inverse_width<T>(h.exponent);
    T low = static_cast<T>(h.low), high = static_cast<T>(h.high);
    constexpr size_t batch = 8 * block;
    T room[batch];
    u16 places[batch];
    for (; i < n; i += batch) {
        const size_t m = n - i < batch ? n - i : batch;
        const T* y = widened(x + i, m, room);
        min_max_row(y, m, low, high);
        ZP_INDEPENDENT
        for (size_t j = 0; j < m; ++j) places[j] = place_of(y[j], inverse);
        for (size_t j = 0; j < m; ++j) ++h.counts[places[j]];
    }
    h.low = low;
    h.high = high;
}

// A histogram per column: few columns at a time, so that their histograms stay in the cache.
template <class X, class T>
void histogram_columns(const X* x, size_t rows, size_t stride, size_t cols, Histogram* h) {
    T inverses[block], lows[block], highs[block], room[block];
    u16 places[block];
    for (size_t i = 0; i < cols; ++i) {
        inverses[i] = inverse_width<T>(h[i].exponent);
        lows[i] = static_cast<T>(h[i].low);
        highs[i] = static_cast<T>(h[i].high);
    }
    for (size_t row = 0; row < rows; ++row, x += stride) {
        const T* y = widened(x, cols, room);
        ZP_INDEPENDENT
        for (size_t i = 0; i < cols; ++i) {
            const T v = y[i], nonfinite = v - v;
            lows[i] = (v < lows[i] ? v : lows[i]) + nonfinite;
            highs[i] = (v > highs[i] ? v : highs[i]) + nonfinite;
            places[i] = place_of(v, inverses[i]);
        }
        for (size_t i = 0; i < cols; ++i) ++h[i].counts[places[i]];
    }
    for (size_t i = 0; i < cols; ++i) h[i].low = lows[i], h[i].high = highs[i];
}

template <class X, class T>
void histogram(const Job& job) noexcept {
    const X* x = static_cast<const X*>(job.in);
    Histogram* h = static_cast<Histogram*>(job.state[0]);
    const size_t n = job.cols;
    if (!job.per_column)
        for (size_t row = 0; row < job.rows; ++row) histogram_row<X, T>(x + row * n, n, h[row]);
    else
        for (size_t i = 0; i < n; i += block)
            histogram_columns<X, T>(x + i, job.rows, n, n - i < block ? n - i : block, h + i);
}

}  // namespace
