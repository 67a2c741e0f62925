// Elements of any kind moved between memory in any layout and rows that lie side by side: gathered,
// scattered, transposed, their bytes swapped.  Only the rows that lie side by side are aligned.
#pragma once

#include "loops/run.h"

namespace {

template <class T>
inline T load(const char* from) {
    T v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}
template <class T>
inline void store(char* to, T v) {
    __builtin_memcpy(to, &v, sizeof v);
}

// ---- one element after the other ---------------------------------------------------------------

template <i64 value>
struct Constant {
    operator i64() const { return value; }
};

// Calls move(step) with the bytes from element to element; as a constant where it is one of the
// common ones, because these loops become shuffles.
template <class T, class Move>
inline void with_step(i64 step, const Move& move) {
    constexpr i64 size = sizeof(T);
    switch (step) {
        case size:
            return move(Constant<size>());
        case 2 * size:
            return move(Constant<2 * size>());
        case 3 * size:
            return move(Constant<3 * size>());
        case 4 * size:
            return move(Constant<4 * size>());
        case -size:
            return move(Constant<-size>());
        default:
            return move(step);
    }
}

template <class T>
inline void gather_run(const char* from, i64 step, char* to, size_t n) {
    with_step<T>(step, [=](auto bytes) {
        ZP_INDEPENDENT
        for (size_t i = 0; i < n; ++i)
            store(to + i * sizeof(T), load<T>(from + static_cast<i64>(i) * bytes));
    });
}

// The same of many; where they are dense, what comes next is fetched early.
template <class T>
inline void gather_long_run(const char* from, i64 step, char* to, size_t n) {
    constexpr size_t at_once = 256;
    const i64 distance = i64(at_once) * step;
    const size_t bytes = static_cast<size_t>(distance < 0 ? -distance : distance);
    if (bytes <= 4 * at_once * sizeof(T))
        for (; n >= at_once; n -= at_once, from += distance, to += at_once * sizeof(T)) {
            const char* next = from + 2 * distance - (distance < 0 ? static_cast<i64>(bytes) : 0);
            for (size_t k = 0; k < bytes; k += line) __builtin_prefetch(next + k);
            gather_run<T>(from, step, to, at_once);
        }
    gather_run<T>(from, step, to, n);
}

template <class T>
inline void scatter_run(const char* from, char* to, i64 step, size_t n) {
    with_step<T>(step, [=](auto bytes) {
        ZP_INDEPENDENT
        for (size_t i = 0; i < n; ++i)
            store(to + static_cast<i64>(i) * bytes, load<T>(from + i * sizeof(T)));
    });
}

constexpr size_t short_row = 32;  // bytes: shorter rows are copied as if they were as long

// Rows x cols elements, job.low bytes apart in rows that are job.high bytes apart, to contiguous
// ones; `scatter` is the way back.
template <class T, class>
void gather(const Job& job) noexcept {
    const char* from = static_cast<const char*>(job.in);
    char* to = static_cast<char*>(job.out);
    const size_t length = job.cols * sizeof(T);  // of a row side by side
    size_t r = 0;
    const bool close = job.high >= static_cast<i64>(length) && job.high <= static_cast<i64>(line);
    if (job.low == sizeof(T) && length < short_row && close) {
        // what is copied too much is of the next row, or lies before it; so not from the last ones:
        // rows that do not overlap take at least as many bytes as their elements do side by side
        for (; (job.rows - r) * length >= 2 * short_row; ++r, from += job.high, to += length)
            __builtin_memcpy(to, from, short_row);
    } else if (job.cols < 8 && job.cols < job.rows) {  // a loop over each column instead
        for (size_t c = 0; c < job.cols; ++c, from += job.low, to += sizeof(T))
            for (r = 0; r < job.rows; ++r)
                store(to + r * length, load<T>(from + static_cast<i64>(r) * job.high));
        return;
    }
    for (; r < job.rows; ++r, from += job.high, to += length)
        gather_long_run<T>(from, job.low, to, job.cols);
}

template <class T, class>
void scatter(const Job& job) noexcept {
    const char* from = static_cast<const char*>(job.in);
    char* to = static_cast<char*>(job.out);
    if (job.cols < 8 && job.cols < job.rows) {
        for (size_t c = 0; c < job.cols; ++c, from += sizeof(T), to += job.low)
            for (size_t r = 0; r < job.rows; ++r)
                store(to + static_cast<i64>(r) * job.high,
                      load<T>(from + r * job.cols * sizeof(T)));
        return;
    }
    for (size_t r = 0; r < job.rows; ++r, from += job.cols * sizeof(T), to += job.high)
        scatter_run<T>(from, to, job.low, job.cols);
}

// ---- the other byte order ----------------------------------------------------------------------

inline u16 swapped(u16 v) { return static_cast<u16>(v << 8 | v >> 8); }
inline u32 swapped(u32 v) {
    v = (v & 0x00FF00FF) << 8 | (v >> 8 & 0x00FF00FF);
    return v << 16 | v >> 16;
}
inline u64 swapped(u64 v) {
    return static_cast<u64>(swapped(static_cast<u32>(v))) << 32 |
           swapped(static_cast<u32>(v >> 32));
}

// job.in need not be aligned.
template <class T, class>
void swap_bytes(const Job& job) noexcept {
    const char* from = static_cast<const char*>(job.in);
    T* to = static_cast<T*>(job.out);
    fill_run(static_cast<const T*>(job.in), to, job.rows * job.cols, false,
             [=](size_t i) { return swapped(load<T>(from + i * sizeof(T))); });
}

// ---- transposition -----------------------------------------------------------------------------

constexpr size_t vector = 16;  // bytes: what the instructions of every ISA take

#if defined(__clang__)
#define ZP_SHUFFLE(V, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define ZP_SHUFFLE(V, a, b, ...) __builtin_shuffle(a, b, V{__VA_ARGS__})
#endif

// The elements of the first, or of the last halves of two vectors in turn: one instruction.
template <class T>
struct Zip;
template <>
struct Zip<u8> {
    typedef u8 V __attribute__((vector_size(vector)));
    static V low(V a, V b) {
        return ZP_SHUFFLE(V, a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    }
    static V high(V a, V b) {
        return ZP_SHUFFLE(V, a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
};
template <>
struct Zip<u16> {
    typedef u16 V __attribute__((vector_size(vector)));
    static V low(V a, V b) { return ZP_SHUFFLE(V, a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
    static V high(V a, V b) { return ZP_SHUFFLE(V, a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
};
template <>
struct Zip<u32> {
    typedef u32 V __attribute__((vector_size(vector)));
    static V low(V a, V b) { return ZP_SHUFFLE(V, a, b, 0, 4, 1, 5); }
    static V high(V a, V b) { return ZP_SHUFFLE(V, a, b, 2, 6, 3, 7); }
};
template <>
struct Zip<u64> {
    typedef u64 V __attribute__((vector_size(vector)));
    static V low(V a, V b) { return ZP_SHUFFLE(V, a, b, 0, 2); }
    static V high(V a, V b) { return ZP_SHUFFLE(V, a, b, 1, 3); }
};

// n x n elements.  To deal the rows out like two halves of a pack of cards log2(n) times is to
// transpose them.
template <class T>
inline void transpose_block(const char* from, i64 from_row, size_t rows, char* to, i64 to_row,
                            size_t cols) {
    using Z = Zip<T>;
    constexpr size_t n = vector / sizeof(T);
    typename Z::V v[n], w[n];
    for (size_t k = 0; k < n; ++k)
        v[k] = load<typename Z::V>(from + static_cast<i64>(k < rows ? k : rows - 1) * from_row);
    for (size_t half = 1; half < n; half *= 2) {
        for (size_t k = 0; k < n / 2; ++k) {
            w[2 * k] = Z::low(v[k], v[k + n / 2]);
            w[2 * k + 1] = Z::high(v[k], v[k + n / 2]);
        }
        for (size_t k = 0; k < n; ++k) v[k] = w[k];
    }
    for (size_t k = 0; k < n; ++k)
        if (k < cols) store(to + static_cast<i64>(k) * to_row, v[k]);
}

template <class T>
inline void transpose_blocks(const char* from, i64 from_row, size_t rows, char* to, i64 to_row,
                             size_t cols) {
    constexpr size_t n = vector / sizeof(T);
    // the last block goes over some of what the one before it has done
    const auto all = [=](auto height, auto width) {
        for (size_t c = 0; c < cols; c += n) {
            const size_t col = cols < n ? 0 : c + n <= cols ? c : cols - n;
            for (size_t r = 0; r < rows; r += n) {
                const size_t row = rows < n ? 0 : r + n <= rows ? r : rows - n;
                const char* block = from + static_cast<i64>(row) * from_row + col * sizeof(T);
                char* done = to + static_cast<i64>(col) * to_row + row * sizeof(T);
                transpose_block<T>(block, from_row, static_cast<size_t>(height), done, to_row,
                                   static_cast<size_t>(width));
            }
        }
    };
    if (rows >= n && cols >= n)
        all(Constant<n>(), Constant<n>());
    else
        all(rows, cols);
}

template <class T, size_t rows>
inline void interleave(const char* from, i64 from_row, char* to, i64 to_row, size_t cols) {
    const auto all = [=](auto step) {
        ZP_INDEPENDENT
        for (size_t c = 0; c < cols; ++c)
            for (size_t r = 0; r < rows; ++r)
                store(to + static_cast<i64>(c) * step + r * sizeof(T),
                      load<T>(from + static_cast<i64>(r) * from_row + c * sizeof(T)));
    };
    if (to_row == rows * sizeof(T))
        all(Constant<rows * sizeof(T)>());
    else
        all(to_row);
}

// job.rows rows of job.cols elements, job.low bytes apart, to job.cols rows of job.rows elements,
// job.high bytes apart.  Rows shorter than a vector are read and written as if they were as long:
// upwards, so that the next row comes after what is too much.
template <class T, class>
void transpose(const Job& job) noexcept {
    const char* from = static_cast<const char*>(job.in);
    char* to = static_cast<char*>(job.out);
    if (job.cols <= 4 && sizeof(T) >= 4) {
        for (size_t c = 0; c < job.cols; ++c, from += sizeof(T), to += job.high)
            gather_run<T>(from, job.low, to, job.rows);
        return;
    }
    switch (job.rows) {
        case 1:
            return interleave<T, 1>(from, job.low, to, job.high, job.cols);
        case 2:
            return interleave<T, 2>(from, job.low, to, job.high, job.cols);
        case 3:
            return interleave<T, 3>(from, job.low, to, job.high, job.cols);
        case 4:
            return interleave<T, 4>(from, job.low, to, job.high, job.cols);
        default:
            return transpose_blocks<T>(from, job.low, job.rows, to, job.high, job.cols);
    }
}

}  // namespace
