// Minimum and maximum.
#pragma once

#include "loops/elements.h"
#include "loops/lanes.h"

namespace {

// `so_far`, and NaN once a v was NaN or Inf.
template <class T>
inline T with_nonfinite(T v, T so_far) {
    return so_far + (v - v);
}
#if defined(ZP_HAS_FMA)
inline f32 with_nonfinite(f32 v, f32 so_far) { return __builtin_fmaf(v, 0.0f, so_far); }
inline f64 with_nonfinite(f64 v, f64 so_far) { return __builtin_fma(v, 0.0, so_far); }
#endif

// A NaN or an Inf makes both results NaN, and they stay so: a NaN minimum fails every comparison.
template <class T>
inline void include(T v, T& low, T& high, T& nonfinite) {
    low = v < low ? v : low;
    high = v > high ? v : high;
    nonfinite = with_nonfinite(v, nonfinite);  // +0 or NaN; added in the end, it makes -0 +0
}

// Where each of n lanes has found something: the upper half onto the lower, and so on to the first.
template <size_t n, class T>
inline void fold_lanes(T (&lows)[n], T (&highs)[n], T (&nonfinites)[n]) {
    for (size_t half = n / 2; half > 0; half /= 2)
        for (size_t j = 0; j < half; ++j) {
            lows[j] = lows[j + half] < lows[j] ? lows[j + half] : lows[j];
            highs[j] = highs[j + half] > highs[j] ? highs[j + half] : highs[j];
            nonfinites[j] += nonfinites[j + half];
        }
}

// One running minimum is a chain of dependent instructions; many are vectors.
template <class X, class T>
void min_max_row(const X* x, size_t n, T& low, T& high) {
    using Value = ConvertTo<X, T>;
    constexpr size_t lanes = 32;
    const Value value{x};
    T lows[lanes], highs[lanes], nonfinites[lanes], nonfinite = 0;
    size_t i = 0;
    if (n >= lanes) {
        for (size_t j = 0; j < lanes; ++j) {
            lows[j] = highs[j] = value(j);
            nonfinites[j] = with_nonfinite(value(j), T(0));
        }
        for (i = lanes; i + lanes <= n; i += lanes) {
            for (size_t byte = 0; byte < lanes * sizeof(X); byte += line)
                __builtin_prefetch(reinterpret_cast<const char*>(x + i) + ahead + byte);
            for (size_t j = 0; j < lanes; ++j)
                include(value(i + j), lows[j], highs[j], nonfinites[j]);
        }
        fold_lanes(lows, highs, nonfinites);
        low = lows[0] < low ? lows[0] : low;
        high = highs[0] > high ? highs[0] : high;
        nonfinite = nonfinites[0];
    }
    for (; i < n; ++i) include(value(i), low, high, nonfinite);
    low += nonfinite;
    high += nonfinite;
}

template <class X, class T>
void min_max_rows(const X* x, size_t rows, size_t n, T* low, T* high) {
    for (size_t row = 0; row < rows; ++row) min_max_row(x + row * n, n, low[row], high[row]);
}

// `together` rows at once, for fewer loads and stores of what was found.
template <size_t together, class X, class T>
void min_max_columns(const X* x, size_t n, T* low, T* high) {
    ZP_INDEPENDENT
    for (size_t i = 0; i < n; ++i) {
        T l = low[i], h = high[i], nonfinite = 0;
        ZP_UNROLLED(16)
        for (size_t row = 0; row < together; ++row)
            include(ConvertTo<X, T>{x + row * n}(i), l, h, nonfinite);
        low[i] = l + nonfinite;
        high[i] = h + nonfinite;
    }
}

#if defined(ZP_HAS_LANES)
// The same with vectors by hand, for what the compiler makes of the above: a row's lanes are folded
// one by one, which takes longer than a short row itself, and float16 is widened bit by bit.
struct Found {
    Lanes::F low, high, nonfinite;

    static Found of(Lanes::F v) { return {v, v, Lanes::fma(v, Lanes::all(0), Lanes::all(0))}; }
    void include(Lanes::F v) {
        low = Lanes::min(v, low);
        high = Lanes::max(v, high);
        nonfinite = Lanes::fma(v, Lanes::all(0), nonfinite);
    }
    void include(const Found& other) {
        low = Lanes::min(other.low, low);
        high = Lanes::max(other.high, high);
        nonfinite = Lanes::add(other.nonfinite, nonfinite);
    }
};

// What a row of n > 0 elements holds.  Its last vector overlaps the one before it.
template <class X>
inline Found found_in(const X* x, size_t n) {
    constexpr size_t w = Lanes::n;
    if (n < w) return Found::of(Lanes::first(x, n));
    Found a = Found::of(Lanes::load(x)), b = Found::of(Lanes::load(x + n - w));
    size_t i = w;
    for (; i + 2 * w < n; i += 2 * w) {
        a.include(Lanes::load(x + i));
        b.include(Lanes::load(x + i + w));
    }
    if (i + w < n) a.include(Lanes::load(x + i));
    a.include(b);
    return a;
}

// The same for long rows: more at a time, fetched early.
template <class X>
inline Found found_in_long(const X* x, size_t n) {
    constexpr size_t w = Lanes::n, together = 4;
    Found found[together];
    for (size_t k = 0; k < together; ++k) found[k] = Found::of(Lanes::load(x + k * w));
    size_t i = together * w;
    for (; i + together * w <= n; i += together * w) {
        for (size_t byte = 0; byte < together * w * sizeof(X); byte += line)
            __builtin_prefetch(reinterpret_cast<const char*>(x + i) + ahead + byte);
        for (size_t k = 0; k < together; ++k) found[k].include(Lanes::load(x + i + k * w));
    }
    found[0].include(found[1]);
    found[2].include(found[3]);
    found[0].include(found[2]);
    if (i < n) found[0].include(found_in(x + i, n - i));
    return found[0];
}

template <class X>
void min_max_row(const X* x, size_t n, f32& low, f32& high) {
    if (n == 0) return;
    const Found found = n < 16 * Lanes::n ? found_in(x, n) : found_in_long(x, n);
    alignas(line) f32 lows[Lanes::n], highs[Lanes::n], nonfinites[Lanes::n];
    Lanes::store(lows, found.low);
    Lanes::store(highs, found.high);
    Lanes::store(nonfinites, found.nonfinite);
    fold_lanes(lows, highs, nonfinites);
    low = (lows[0] < low ? lows[0] : low) + nonfinites[0];
    high = (highs[0] > high ? highs[0] : high) + nonfinites[0];
}

// Minima and maxima in lanes that belong to several rows.
struct Extremes {
    Lanes::F low, high;
};

// Two into one: with the lanes of both sorted into two halves by First and Second.
template <class Sort>
inline Extremes folded(const Extremes& a, const Extremes& b) {
    return {Lanes::min(Sort::first(a.low, b.low), Sort::second(a.low, b.low)),
            Lanes::max(Sort::first(a.high, b.high), Sort::second(a.high, b.high))};
}
struct ByLane {
    static Lanes::F first(Lanes::F a, Lanes::F b) { return ZP_VECTOR(unpacklo_ps)(a, b); }
    static Lanes::F second(Lanes::F a, Lanes::F b) { return ZP_VECTOR(unpackhi_ps)(a, b); }
};
struct ByTwo {
    static Lanes::F first(Lanes::F a, Lanes::F b) {
        return ZP_VECTOR(castpd_ps)(
            ZP_VECTOR(unpacklo_pd)(ZP_VECTOR(castps_pd)(a), ZP_VECTOR(castps_pd)(b)));
    }
    static Lanes::F second(Lanes::F a, Lanes::F b) {
        return ZP_VECTOR(castpd_ps)(
            ZP_VECTOR(unpackhi_pd)(ZP_VECTOR(castps_pd)(a), ZP_VECTOR(castps_pd)(b)));
    }
};
struct ByFour {
#if defined(__AVX512BW__)
    static Lanes::F first(Lanes::F a, Lanes::F b) { return _mm512_shuffle_f32x4(a, b, 0x88); }
    static Lanes::F second(Lanes::F a, Lanes::F b) { return _mm512_shuffle_f32x4(a, b, 0xDD); }
#else
    static Lanes::F first(Lanes::F a, Lanes::F b) { return _mm256_permute2f128_ps(a, b, 0x20); }
    static Lanes::F second(Lanes::F a, Lanes::F b) { return _mm256_permute2f128_ps(a, b, 0x31); }
#endif
};

// Up to as many rows as a vector has lanes: lane j of what is found is row j's, or the last row's.
template <bool full, class X>
inline void min_max_short_rows(const X* x, size_t rows, size_t n, f32* low, f32* high) {
    constexpr size_t quads = Lanes::n / 4;
    Extremes found[quads];
    Lanes::F nonfinite = Lanes::all(0);
    for (size_t k = 0; k < quads; ++k) {
        if (!full && 4 * k >= rows) {
            found[k] = found[0];
            continue;
        }
        Extremes four[4];
        for (size_t j = 0; j < 4; ++j) {
            const size_t row = full || 4 * k + j < rows ? 4 * k + j : rows - 1;
            const X* y = x + row * n;
            for (size_t byte = 0; byte < n * sizeof(X); byte += line)
                __builtin_prefetch(reinterpret_cast<const char*>(y) + ahead + byte);
            const Found in_row = found_in(y, n);
            four[j] = {in_row.low, in_row.high};
            nonfinite = Lanes::add(nonfinite, in_row.nonfinite);
        }
        found[k] =
            folded<ByTwo>(folded<ByLane>(four[0], four[1]), folded<ByLane>(four[2], four[3]));
    }
    if (Lanes::any_nan(nonfinite)) {  // in which of the rows?
        for (size_t row = 0; row < rows; ++row) min_max_row(x + row * n, n, low[row], high[row]);
        return;
    }
    for (size_t left = quads / 2; left > 0; left /= 2)
        for (size_t k = 0; k < left; ++k) found[k] = folded<ByFour>(found[2 * k], found[2 * k + 1]);
    const Lanes::F zero = Lanes::all(0);
    Lanes::F l = Lanes::add(found[0].low, zero), h = Lanes::add(found[0].high, zero);
    if (full) {  // a NaN of before stays: it is the second operand
        Lanes::store(low, Lanes::min(l, Lanes::load(low)));
        Lanes::store(high, Lanes::max(h, Lanes::load(high)));
        return;
    }
    alignas(line) f32 lows[Lanes::n], highs[Lanes::n];
    Lanes::store(lows, l);
    Lanes::store(highs, h);
    for (size_t row = 0; row < rows; ++row) {
        low[row] = lows[row] < low[row] ? lows[row] : low[row];
        high[row] = highs[row] > high[row] ? highs[row] : high[row];
    }
}

template <class X>
void min_max_rows(const X* x, size_t rows, size_t n, f32* low, f32* high) {
    size_t row = 0;
    if (n > 0 && n < 64 * Lanes::n) {
        for (; row + Lanes::n <= rows; row += Lanes::n)
            min_max_short_rows<true>(x + row * n, Lanes::n, n, low + row, high + row);
        if (rows - row > 2) {
            min_max_short_rows<false>(x + row * n, rows - row, n, low + row, high + row);
            return;
        }
    }
    for (; row < rows; ++row) min_max_row(x + row * n, n, low[row], high[row]);
}
#endif

template <class X, class T>
void min_max(const Job& job) noexcept {
    const X* x = static_cast<const X*>(job.in);
    T* low = static_cast<T*>(job.state[0]);
    T* high = static_cast<T*>(job.state[1]);
    const size_t n = job.cols;
    if (!job.per_column) return min_max_rows(x, job.rows, n, low, high);
    constexpr size_t together = 4;
    size_t row = 0;
    for (; row + together <= job.rows; row += together)
        min_max_columns<together>(x + row * n, n, low, high);
    for (; row < job.rows; ++row) min_max_columns<1>(x + row * n, n, low, high);
}

// ---- without NaN -----------------------------------------------------------------------------

// A NaN fails both comparisons.  Inf is an end as any other; + 0 in the end makes -0 +0.
template <class T>
inline void include_present(const T& v, T& low, T& high) {
    low = v < low ? v : low;
    high = v > high ? v : high;
}

#if defined(ZP_HAS_LANES)
constexpr size_t present_bytes = sizeof(Floats);
#else
constexpr size_t present_bytes = 16;
#endif

template <class T>
ZP_APART void present_in_row(const T* x, size_t n, T& low, T& high) {
    typedef T V __attribute__((vector_size(present_bytes)));
    constexpr size_t w = sizeof(V) / sizeof(T), together = 4;
    size_t i = 0;
    if (n >= w) {
        V lows[together], highs[together], v;
        for (size_t k = 0; k < together; ++k) lows[k] = V{} + low, highs[k] = V{} + high;
        for (; i + together * w <= n; i += together * w) {
            fetch_ahead<sizeof lows>(x + i);
            for (size_t k = 0; k < together; ++k) {
                __builtin_memcpy(&v, x + i + k * w, sizeof v);
                include_present(v, lows[k], highs[k]);
            }
        }
        for (; i + w <= n; i += w) {
            __builtin_memcpy(&v, x + i, sizeof v);
            include_present(v, lows[0], highs[0]);
        }
        for (size_t k = 1; k < together; ++k) {
            lows[0] = lows[k] < lows[0] ? lows[k] : lows[0];
            highs[0] = highs[k] > highs[0] ? highs[k] : highs[0];
        }
        for (size_t j = 0; j < w; ++j) {
            low = lows[0][j] < low ? lows[0][j] : low;
            high = highs[0][j] > high ? highs[0][j] : high;
        }
    }
    for (; i < n; ++i) {
        include_present(x[i], low, high);
        ZP_ONE_BY_ONE;
    }
    low += 0;
    high += 0;
}

template <size_t together, class T>
ZP_APART void present_in_columns(const T* x, size_t n, T* low, T* high) {
    ZP_INDEPENDENT
    for (size_t i = 0; i < n; ++i) {
        T l = low[i], h = high[i];
        ZP_UNROLLED(16)
        for (size_t row = 0; row < together; ++row) include_present(x[row * n + i], l, h);
        low[i] = l + 0;
        high[i] = h + 0;
    }
}

template <class T, class>
void min_max_present(const Job& job) noexcept {
    const T* x = static_cast<const T*>(job.in);
    T* low = static_cast<T*>(job.state[0]);
    T* high = static_cast<T*>(job.state[1]);
    const size_t n = job.cols;
    size_t row = 0;
    if (!job.per_column) {
        for (; row < job.rows; ++row) present_in_row(x + row * n, n, low[row], high[row]);
        return;
    }
    constexpr size_t together = 4;
    for (; row + together <= job.rows; row += together)
        present_in_columns<together>(x + row * n, n, low, high);
    for (; row < job.rows; ++row) present_in_columns<1>(x + row * n, n, low, high);
}

}  // namespace
