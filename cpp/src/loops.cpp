// One loop per operation.  This source is compiled once per ISA (see CMakeLists.txt) with
// ZEROPOINT_ISA set to its name; each object exports its table and nothing else.
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
using zeropoint::core::Kernel;
using zeropoint::core::Op;
using zeropoint::core::Table;
using zeropoint::core::Tag;

// ---- the elements of one run -----------------------------------------------------------------

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

// ---- vectors of float32, for the one thing that plain loops do slowly: packing codes ----------

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

// ---- quantize, dequantize --------------------------------------------------------------------

// One run with one scale and zero point.
template <class X, class Convention>
struct CodeOf {
    const X* x;
    X s, z, low, high;
    u8 operator()(size_t i) const { return code_of<Convention>(x[i], s, z, low, high); }
};
#if defined(ZP_HAS_LANES)
template <>
struct CodeOf<f32, torch> {
    const f32* x;
    f32 inverse, z, low, high;
    u8 operator()(size_t i) const { return code_of<torch>(x[i], inverse, z, low, high); }
    void block(size_t i, u8* q) const {
        const Lanes::F m = Lanes::all(inverse), top = Lanes::all(high - z);
        Packer<torch>(z, static_cast<i64>(low)).block_of(i, q, [&](size_t k) {
            return Lanes::min(top, Lanes::mul(Lanes::load(x + k), m));
        });
    }
};
#endif

template <class X, class Convention>
void quantize(const Job& job) noexcept {
    const X* x = static_cast<const X*>(job.in);
    u8* q = static_cast<u8*>(job.out);
    const X* scale = static_cast<const X*>(job.scale);
    const X* zero = static_cast<const X*>(job.zero);
    const X low = static_cast<X>(job.low), high = static_cast<X>(job.high);
    const size_t n = job.cols;
    for (size_t row = 0; row < job.rows; ++row, x += n, q += n) {
        if (job.per_column)
            fill_run(x, q, n, job.non_temporal, [=](size_t i) {
                return code_of<Convention>(x[i], scale[i], zero[i], low, high);
            });
        else
            fill_run(x, q, n, job.non_temporal,
                     CodeOf<X, Convention>{x, scale[row], zero[row], low, high});
    }
}

#if defined(ZP_HAS_FMA)
// One run whose quotients are products.
template <class Convention>
struct CodeByProduct {
    const f32* x;
    Multiplier m;
    Packer<Convention> packer;
    u8 operator()(size_t i) const { return code_of<Convention>(x[i], m); }
#if defined(ZP_HAS_LANES)
    void block(size_t i, u8* q) const {
        const Lanes::F top = Lanes::all(m.x_high), ch = Lanes::all(m.ch), cl = Lanes::all(m.cl);
        const Lanes::F z = Lanes::all(m.zero);
        packer.block_of(i, q, [&](size_t k) {
            const Lanes::F v = Lanes::min(top, Lanes::load(x + k));
            return before_rounding(Lanes::fma(v, ch, Lanes::mul(v, cl)), z);
        });
    }
    static Lanes::F before_rounding(Lanes::F v, Lanes::F z) {
        return Convention::rounds_the_sum ? Lanes::add(v, z) : v;
    }
#endif
};
#endif

// quantize for long runs of float32: job.scale points to a Multiplier per row.
template <class, class Convention>
void quantize_runs(const Job& job) noexcept {
    const f32* x = static_cast<const f32*>(job.in);
    u8* q = static_cast<u8*>(job.out);
    const Multiplier* multipliers = static_cast<const Multiplier*>(job.scale);
    const f32 low = static_cast<f32>(job.low), high = static_cast<f32>(job.high);
    const size_t n = job.cols;
    for (size_t row = 0; row < job.rows; ++row, x += n, q += n) {
        const Multiplier m = multipliers[row];
#if defined(ZP_HAS_FMA)
        if (m.certified) {
            fill_run(x, q, n, job.non_temporal, CodeByProduct<Convention>{x, m, {m.zero, job.low}});
            continue;
        }
#endif
        fill_run(x, q, n, job.non_temporal, CodeOf<f32, Convention>{x, m.scale, m.zero, low, high});
    }
}

// Fills job.out, a Multiplier per row, from scale and zero point.
template <class, class Convention>
void certify(const Job& job) noexcept {
    Multiplier* multipliers = static_cast<Multiplier*>(job.out);
    const f32* scale = static_cast<const f32*>(job.scale);
    const f32* zero = static_cast<const f32*>(job.zero);
    for (size_t row = 0; row < job.rows; ++row) {
#if defined(ZP_HAS_FMA)
        multipliers[row] = certify<Convention>(scale[row], zero[row], static_cast<f32>(job.low),
                                               static_cast<f32>(job.high));
#else
        multipliers[row] = Multiplier{scale[row], zero[row], 0, 0, 0, 0, 0};
#endif
    }
}

template <class Q, class X>
void dequantize(const Job& job) noexcept {
    const Q* q = static_cast<const Q*>(job.in);
    X* x = static_cast<X*>(job.out);
    const X* scale = static_cast<const X*>(job.scale);
    const X* zero = static_cast<const X*>(job.zero);
    const size_t n = job.cols;
    for (size_t row = 0; row < job.rows; ++row, x += n, q += n) {
        if (job.per_column) {
            fill_run(q, x, n, job.non_temporal,
                     [=](size_t i) { return value_of(q[i], scale[i], zero[i]); });
        } else {
            const X s = scale[row], z = zero[row];
            fill_run(q, x, n, job.non_temporal, [=](size_t i) { return value_of(q[i], s, z); });
        }
    }
}

// ---- convert ---------------------------------------------------------------------------------

template <class From, class To>
struct ConvertTo {
    const From* x;
    To operator()(size_t i) const { return Convert<To, From>::of(x[i]); }
};

#if defined(__F16C__)  // float16 has instructions that plain loops are not made into
template <>
struct ConvertTo<f16, f32> {
    const f16* x;
    f32 operator()(size_t i) const { return Convert<f32, f16>::of(x[i]); }
    void block(size_t i, f32* y) const {
        const auto* from = reinterpret_cast<const __m128i*>(x + i);
        for (size_t j = 0; j < ::block / 8; ++j)
            _mm256_storeu_ps(y + 8 * j, _mm256_cvtph_ps(_mm_loadu_si128(from + j)));
    }
};
template <>
struct ConvertTo<f32, f16> {
    const f32* x;
    f16 operator()(size_t i) const { return Convert<f16, f32>::of(x[i]); }
    void block(size_t i, f16* y) const {
        auto* to = reinterpret_cast<__m128i*>(y);
        for (size_t j = 0; j < ::block / 8; ++j)
            _mm_storeu_si128(
                to + j, _mm256_cvtps_ph(_mm256_loadu_ps(x + i + 8 * j), _MM_FROUND_TO_NEAREST_INT));
    }
};
#endif

template <class From, class To>
void convert(const Job& job) noexcept {
    const From* x = static_cast<const From*>(job.in);
    To* y = static_cast<To*>(job.out);
    fill_run(x, y, job.rows * job.cols, job.non_temporal, ConvertTo<From, To>{x});
}

// ---- saturate, round -------------------------------------------------------------------------

template <class T, class>
void saturate(const Job& job) noexcept {
    const T* x = static_cast<const T*>(job.in);
    T* y = static_cast<T*>(job.out);
    const T low = static_cast<T>(job.low), high = static_cast<T>(job.high);
    const size_t n = job.rows * job.cols;
    fill_run(x, y, n, job.non_temporal, [=](size_t i) { return saturated(x[i], low, high); });
}

template <class T, class Rule>
void round(const Job& job) noexcept {
    const T* x = static_cast<const T*>(job.in);
    T* y = static_cast<T*>(job.out);
    const size_t n = job.rows * job.cols;
    fill_run(x, y, n, job.non_temporal, [=](size_t i) { return rounded<T, Rule>(x[i]); });
}

// ---- min_max ---------------------------------------------------------------------------------

// A NaN or an Inf makes both results NaN, and they stay so: a NaN minimum fails every comparison.
template <class T>
inline void include(T v, T& low, T& high, T& nonfinite) {
    low = v < low ? v : low;
    high = v > high ? v : high;
    nonfinite += v - v;  // +0 for every finite v, else NaN; added in the end, it makes -0 +0
}

// One running minimum is a chain of dependent instructions; many are vectors.
template <class T>
void min_max_row(const T* x, size_t n, T& low, T& high) {
    constexpr size_t lanes = 32;
    T lows[lanes], highs[lanes], nonfinites[lanes], nonfinite = 0;
    size_t i = 0;
    if (n >= lanes) {
        for (size_t j = 0; j < lanes; ++j) lows[j] = highs[j] = x[j], nonfinites[j] = x[j] - x[j];
        for (i = lanes; i + lanes <= n; i += lanes) {
            for (size_t byte = 0; byte < lanes * sizeof(T); byte += line)
                __builtin_prefetch(reinterpret_cast<const char*>(x + i) + ahead + byte);
            for (size_t j = 0; j < lanes; ++j) include(x[i + j], lows[j], highs[j], nonfinites[j]);
        }
        for (size_t j = 0; j < lanes; ++j) {
            low = lows[j] < low ? lows[j] : low;
            high = highs[j] > high ? highs[j] : high;
            nonfinite += nonfinites[j];
        }
    }
    for (; i < n; ++i) include(x[i], low, high, nonfinite);
    low += nonfinite;
    high += nonfinite;
}

template <class T, class>
void min_max(const Job& job) noexcept {
    const T* x = static_cast<const T*>(job.in);
    T* low = static_cast<T*>(job.state[0]);
    T* high = static_cast<T*>(job.state[1]);
    const size_t n = job.cols;
    for (size_t row = 0; row < job.rows; ++row, x += n) {
        if (job.per_column) {
            ZP_INDEPENDENT
            for (size_t i = 0; i < n; ++i) {
                const T v = x[i], nonfinite = v - v;
                low[i] = (v < low[i] ? v : low[i]) + nonfinite;
                high[i] = (v > high[i] ? v : high[i]) + nonfinite;
            }
        } else {
            min_max_row(x, n, low[row], high[row]);
        }
    }
}

// ---- histogram -------------------------------------------------------------------------------

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

constexpr Table make_table() {
    Table table{};
#if defined(ZP_HAS_FMA)
    table.multiplies = true;
#endif
#define ZP_KERNEL(op, a, b)                                                                       \
    table.kernels[static_cast<int>(Op::op)][static_cast<int>(Tag::a)][static_cast<int>(Tag::b)] = \
        &op<a, b>;
#include "kernels.def"
#undef ZP_KERNEL
    return table;
}

constexpr bool has_kernel(Op op, Tag a, Tag b) {
#define ZP_KERNEL(op_, a_, b_) \
    if (op == Op::op_ && a == Tag::a_ && b == Tag::b_) return true;
#include "kernels.def"
#undef ZP_KERNEL
    return false;
}

// Every convention can quantize; the other kernels may be null, and callers check.
#define ZEROPOINT_CONVENTION(name)                                   \
    static_assert(has_kernel(Op::quantize, Tag::f32, Tag::name) &&   \
                      has_kernel(Op::quantize, Tag::f64, Tag::name), \
                  #name " lacks a row of quantize in kernels.def");
#include "zeropoint/conventions.def"
#undef ZEROPOINT_CONVENTION

// Narrow floats are widened to f32, and rounded once from f32 and f64.
constexpr bool converts_narrow_floats() {
    for (int i = 0; i < static_cast<int>(Tag::f32); ++i) {
        const Tag t = static_cast<Tag>(i);
        if (!has_kernel(Op::convert, t, Tag::f32) || !has_kernel(Op::convert, Tag::f32, t) ||
            !has_kernel(Op::convert, Tag::f64, t) || !has_kernel(Op::histogram, t, Tag::f32))
            return false;
    }
    return true;
}
static_assert(converts_narrow_floats(), "a float lacks a row of convert or of histogram");

}  // namespace

#define ZP_JOIN2(a, b) a##b
#define ZP_JOIN(a, b) ZP_JOIN2(a, b)
namespace zeropoint::core {
extern const Table ZP_JOIN(table_, ZEROPOINT_ISA);
const Table ZP_JOIN(table_, ZEROPOINT_ISA) = make_table();
}  // namespace zeropoint::core
