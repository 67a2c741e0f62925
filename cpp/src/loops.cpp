// One loop an operation.  This source is compiled once per ISA (see CMakeLists.txt) with
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
using zeropoint::Job;
using zeropoint::Kernel;
using zeropoint::Op;
using zeropoint::Table;
using zeropoint::Tag;

// ---- quantize, dequantize --------------------------------------------------------------------

template <class X, class Convention>
void quantize(const Job& job) noexcept {
    const X* x = static_cast<const X*>(job.in);
    u8* q = static_cast<u8*>(job.out);
    const X* scale = static_cast<const X*>(job.scale);
    const X* zero = static_cast<const X*>(job.zero);
    const X low = static_cast<X>(job.low), high = static_cast<X>(job.high);
    const size_t n = job.cols;
    for (size_t row = 0; row < job.rows; ++row, x += n, q += n) {
        if (job.per_column) {
            ZP_INDEPENDENT
            for (size_t i = 0; i < n; ++i)
                q[i] = code_of<Convention>(x[i], scale[i], zero[i], low, high);
        } else {
            const X s = scale[row], z = zero[row];
            ZP_INDEPENDENT
            for (size_t i = 0; i < n; ++i) q[i] = code_of<Convention>(x[i], s, z, low, high);
        }
    }
}

static_assert(sizeof(Multiplier) == zeropoint::multiplier_size, "what others allocate");

// quantize for long runs of float32: job.scale points to a Multiplier a row.
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
            ZP_INDEPENDENT
            for (size_t i = 0; i < n; ++i) q[i] = code_of<Convention>(x[i], m);
            continue;
        }
#endif
        ZP_INDEPENDENT
        for (size_t i = 0; i < n; ++i) q[i] = code_of<Convention>(x[i], m.scale, m.zero, low, high);
    }
}

// Fills job.out, a Multiplier a row, from scale and zero point.
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
            ZP_INDEPENDENT
            for (size_t i = 0; i < n; ++i) x[i] = value_of(q[i], scale[i], zero[i]);
        } else {
            const X s = scale[row], z = zero[row];
            ZP_INDEPENDENT
            for (size_t i = 0; i < n; ++i) x[i] = value_of(q[i], s, z);
        }
    }
}

// ---- convert ---------------------------------------------------------------------------------

// What an instruction converts faster than a plain loop: the elements done, the rest is the loop's.
template <class From, class To>
struct Bulk {
    static size_t convert(const From*, To*, size_t) { return 0; }
};

#if defined(__F16C__)
template <>
struct Bulk<f16, f32> {
    static size_t convert(const f16* x, f32* y, size_t n) {
        size_t i = 0;
#if defined(__AVX512F__)
        for (; i + 16 <= n; i += 16)
            _mm512_storeu_ps(
                y + i,
                _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i))));
#endif
        for (; i + 8 <= n; i += 8)
            _mm256_storeu_ps(
                y + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i))));
        return i;
    }
};
template <>
struct Bulk<f32, f16> {
    static size_t convert(const f32* x, f16* y, size_t n) {
        size_t i = 0;
#if defined(__AVX512F__)
        for (; i + 16 <= n; i += 16)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i),
                                _mm512_cvtps_ph(_mm512_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
#endif
        for (; i + 8 <= n; i += 8)
            _mm_storeu_si128(reinterpret_cast<__m128i*>(y + i),
                             _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
        return i;
    }
};
#endif

template <class From, class To>
void convert(const Job& job) noexcept {
    const From* x = static_cast<const From*>(job.in);
    To* y = static_cast<To*>(job.out);
    const size_t n = job.rows * job.cols;
    size_t i = Bulk<From, To>::convert(x, y, n);
    ZP_INDEPENDENT
    for (; i < n; ++i) y[i] = Convert<To, From>::of(x[i]);
}

// ---- saturate, round -------------------------------------------------------------------------

template <class T, class>
void saturate(const Job& job) noexcept {
    const T* x = static_cast<const T*>(job.in);
    T* y = static_cast<T*>(job.out);
    const T low = static_cast<T>(job.low), high = static_cast<T>(job.high);
    const size_t n = job.rows * job.cols;
    ZP_INDEPENDENT
    for (size_t i = 0; i < n; ++i) y[i] = saturated(x[i], low, high);
}

template <class T, class Rule>
void round(const Job& job) noexcept {
    const T* x = static_cast<const T*>(job.in);
    T* y = static_cast<T*>(job.out);
    const size_t n = job.rows * job.cols;
    ZP_INDEPENDENT
    for (size_t i = 0; i < n; ++i) y[i] = rounded<T, Rule>(x[i]);
}

// ---- min_max ---------------------------------------------------------------------------------

// A NaN or an Inf makes both results NaN, and they stay so: a NaN minimum fails every comparison.
template <class T>
inline void include(T v, T& low, T& high, T& spoilt) {
    low = v < low ? v : low;
    high = v > high ? v : high;
    spoilt += v - v;  // 0 for every finite v, else NaN
}

// One running minimum is a chain of dependent instructions; many are vectors.
template <class T>
void min_max_row(const T* x, size_t n, T& low, T& high) {
    constexpr size_t lanes = 32;
    T lows[lanes], highs[lanes], spoilts[lanes], spoilt = 0;
    size_t i = 0;
    if (n >= lanes) {
        for (size_t j = 0; j < lanes; ++j) lows[j] = highs[j] = x[j], spoilts[j] = x[j] - x[j];
        for (i = lanes; i + lanes <= n; i += lanes)
            for (size_t j = 0; j < lanes; ++j) include(x[i + j], lows[j], highs[j], spoilts[j]);
        for (size_t j = 0; j < lanes; ++j) {
            low = lows[j] < low ? lows[j] : low;
            high = highs[j] > high ? highs[j] : high;
            spoilt += spoilts[j];
        }
    }
    for (; i < n; ++i) include(x[i], low, high, spoilt);
    low += spoilt;
    high += spoilt;
}

template <class T, class>
void min_max(const Job& job) noexcept {
    const T* x = static_cast<const T*>(job.in);
    T* low = static_cast<T*>(job.scale);
    T* high = static_cast<T*>(job.zero);
    const size_t n = job.cols;
    for (size_t row = 0; row < job.rows; ++row, x += n) {
        if (job.per_column) {
            ZP_INDEPENDENT
            for (size_t i = 0; i < n; ++i) {
                const T v = x[i], spoilt = v - v;
                low[i] = (v < low[i] ? v : low[i]) + spoilt;
                high[i] = (v > high[i] ? v : high[i]) + spoilt;
            }
        } else {
            min_max_row(x, n, low[row], high[row]);
        }
    }
}

// ---- stream ----------------------------------------------------------------------------------

// Whole cache lines are written past the caches, so that they are not read first; the ragged ends
// as usual.  The caller fences.
template <class T, class>
void stream(const Job& job) noexcept {
    const char* from = static_cast<const char*>(job.in);
    char* to = static_cast<char*>(job.out);
    size_t n = job.rows * job.cols * sizeof(T);
#if defined(__SSE2__)
    constexpr size_t line = 64;
    size_t head = (line - reinterpret_cast<std::uintptr_t>(to) % line) % line;
    head = head < n ? head : n;
    __builtin_memcpy(to, from, head);
    from += head, to += head, n -= head;
    for (; n >= line; n -= line, from += line, to += line) {
#if defined(__AVX512F__)
        _mm512_stream_si512(reinterpret_cast<__m512i*>(to), _mm512_loadu_si512(from));
#else
        for (size_t i = 0; i < line; i += sizeof(__m128i))
            _mm_stream_si128(reinterpret_cast<__m128i*>(to + i),
                             _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
#endif
    }
#endif
    __builtin_memcpy(to, from, n);
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

}  // namespace

#define ZP_JOIN2(a, b) a##b
#define ZP_JOIN(a, b) ZP_JOIN2(a, b)
namespace zeropoint {
extern const Table ZP_JOIN(table_, ZEROPOINT_ISA);
const Table ZP_JOIN(table_, ZEROPOINT_ISA) = make_table();
}  // namespace zeropoint
