// What error_stats adds up: errors, clipped codes, and how often each code is in use.
#pragma once

#include "loops/lanes.h"
#include "loops/offset.h"

namespace {

using zeropoint::core::ErrorSums;
using zeropoint::core::ErrorTile;
using zeropoint::core::Unclipped;

// GCC keeps running sums in registers only if they are vectors from the start, and needs to be told
// the instructions that widen, take a maximum, and multiply and add.
#if defined(ZP_HAS_LANES)
constexpr size_t vector_bytes = sizeof(Floats);
#else
constexpr size_t vector_bytes = 16;
#endif
constexpr size_t doubles = vector_bytes / sizeof(f64);
typedef f64 Doubles __attribute__((vector_size(vector_bytes)));
typedef u64 DoubleBits __attribute__((vector_size(vector_bytes)));
typedef f32 Singles __attribute__((vector_size(vector_bytes / 2)));

template <class V, class T>
inline V loaded(const T* x) {
    V v;
    __builtin_memcpy(&v, x, sizeof v);
    return v;
}
#if defined(ZP_HAS_LANES)
inline Doubles widened(Singles v) { return ZP_VECTOR(cvtps_pd)(v); }
inline Doubles larger(Doubles a, Doubles b) { return ZP_VECTOR(max_pd)(a, b); }
inline Doubles plus_product(Doubles sum, Doubles a, Doubles b) {
    return ZP_VECTOR(fmadd_pd)(a, b, sum);
}
#else
inline Doubles widened(Singles v) { return __builtin_convertvector(v, Doubles); }
inline Doubles larger(Doubles a, Doubles b) { return a > b ? a : b; }  // b if either is NaN
inline Doubles plus_product(Doubles sum, Doubles a, Doubles b) { return sum + a * b; }
#endif

// Lane by lane, for a vector's lanes of the chunk's.  Products are rounded before they are added;
// those of float32 are exact, so that one rounding less is the same.
struct Sums {
    Doubles worst{}, absolute{}, noise{}, signal{}, back{}, dot{};

    void add(const f32* x, const f32* y, f64) {  // no square overflows, so there is no unit
        const Doubles a = widened(loaded<Singles>(x)), b = widened(loaded<Singles>(y));
        add_error(b - a);
        signal = plus_product(signal, a, a);
        back = plus_product(back, b, b);
        dot = plus_product(dot, a, b);
    }
    void add(const f64* x, const f64* y, f64 inverse) {
        const Doubles a = loaded<Doubles>(x) * inverse, b = loaded<Doubles>(y) * inverse;
        add_error(b - a);
        signal += a * a;
        back += b * b;
        dot += a * b;
    }

private:
    void add_error(Doubles e) {
        const Doubles magnitude = (Doubles)((DoubleBits)e & ~(u64(1) << 63));
        worst = larger(magnitude, worst);
        absolute += magnitude;
        noise += e * e;
    }
};

// The lanes by pairs.
template <class Join>
inline f64 joined(f64* lanes, const Join& join) {
    for (size_t n = ErrorSums::lanes / 2; n > 0; n /= 2)
        for (size_t j = 0; j < n; ++j) lanes[j] = join(lanes[2 * j], lanes[2 * j + 1]);
    return lanes[0];
}

template <class T, class>
void errors(const Job& job) noexcept {
    constexpr size_t lanes = ErrorSums::lanes;
    ErrorTile& tile = *static_cast<ErrorTile*>(job.state[0]);
    const T* x = static_cast<const T*>(job.in);
    const T* y = static_cast<const T*>(tile.back);
    const f64 inverse = tile.inverse_unit;
    const size_t n = job.cols, whole = n / lanes * lanes;
    T rest[2][lanes] = {};  // zeros add nothing
    for (size_t i = whole; i < n; ++i) rest[0][i - whole] = x[i], rest[1][i - whole] = y[i];
    f64 found[6][lanes];
    for (size_t j = 0; j < lanes; j += doubles) {
        Sums sums;
        for (size_t i = j; i < whole; i += lanes) sums.add(x + i, y + i, inverse);
        sums.add(rest[0] + j, rest[1] + j, inverse);
        __builtin_memcpy(found[0] + j, &sums.worst, vector_bytes);
        __builtin_memcpy(found[1] + j, &sums.absolute, vector_bytes);
        __builtin_memcpy(found[2] + j, &sums.noise, vector_bytes);
        __builtin_memcpy(found[3] + j, &sums.signal, vector_bytes);
        __builtin_memcpy(found[4] + j, &sums.back, vector_bytes);
        __builtin_memcpy(found[5] + j, &sums.dot, vector_bytes);
    }
    const auto sum = [](f64 a, f64 b) { return a + b; };
    const auto larger = [](f64 a, f64 b) { return b > a ? b : a; };
    tile.sums = {joined(found[0], larger), joined(found[1], sum), joined(found[2], sum),
                 joined(found[3], sum),    joined(found[4], sum), joined(found[5], sum)};
}

// Places first, which are vectors, and then the counts, which are stores.  Zeros, of which some
// data have many in a row, go to spare places in turn: an increment waits for the one before it if
// both are of the same place.
template <class T, class>
void tally(const Job& job) noexcept {
    ErrorTile& tile = *static_cast<ErrorTile*>(job.state[0]);
    const T* x = static_cast<const T*>(job.in);
    const size_t n = job.cols;
    const u8* codes = tile.codes;
    const u32* rows = tile.rows;
    const u32 spare = tile.spare;
    u32 places[ErrorSums::chunk], zeros = 0;
    for (size_t i = 0; i < n; ++i) {
        const u32 place = rows[i] + codes[i];
        const u32 no_place = spare + static_cast<u32>(i) % ErrorTile::spares;
        places[i] = x[i] == 0 ? no_place : place;
        zeros |= x[i] == 0;
    }
    u32* counts = tile.counts;
    for (size_t i = 0; i < n; ++i) ++counts[places[i]];
    if (!zeros) return;
    for (size_t i = 0; i < n; ++i)
        if (x[i] == 0) tile.zeros[codes[i]] = 1;
}

// The fewest codes that have nine of ten elements: _reference.fewest, without sorting.
template <class Count, class>
void fewest(const Job& job) noexcept {
    constexpr size_t codes = 256;
    const Count* counts = static_cast<const Count*>(job.in);
    Count total = 0, high = 0, low = 1;
    for (size_t k = 0; k < codes; ++k) {
        total += counts[k];
        high = counts[k] > high ? counts[k] : high;
    }
    *static_cast<i64*>(job.state[0]) = static_cast<i64>(total);
    i64& most = *static_cast<i64*>(job.state[1]);
    most = 0;
    if (total == 0) return;
    const f64 wanted = 0.9 * static_cast<f64>(total);
    Count enough = static_cast<Count>(wanted);
    if (static_cast<f64>(enough) < wanted) ++enough;
    const auto elements = [counts](Count least) {  // of codes that have so many at least
        Count found = 0;
        for (size_t k = 0; k < codes; ++k) found += counts[k] >= least ? counts[k] : 0;
        return found;
    };
    // the largest count such that all that are not smaller are enough
    while (low < high) {
        const Count middle = low + (high - low + 1) / 2;
        if (elements(middle) >= enough)
            low = middle;
        else
            high = middle - 1;
    }
    Count larger = 0, have = 0;  // not enough
    for (size_t k = 0; k < codes; ++k) {
        larger += counts[k] > low;
        have += counts[k] > low ? counts[k] : 0;
    }
    most = static_cast<i64>(larger + (enough - have + low - 1) / low);
}

// The smallest T for which `is_so` holds, which holds for all larger ones too; by halving.  A NaN
// where it holds for none, and before it comes a NaN too where it holds for all.
template <class T>
struct Ordered {
    using Bits = typename Format<T>::Bits;
    static T at(i64 k) {  // numbers in order, 0 at 0
        const T magnitude = bits_as<T>(static_cast<Bits>(k < 0 ? -k : k));
        return k < 0 ? -magnitude : magnitude;
    }
    template <class Is>
    static i64 smallest(const Is& is_so) {
        const i64 infinity = static_cast<i64>(bits(static_cast<T>(__builtin_inf())));
        i64 low = -infinity, high = infinity + 1;
        while (low < high) {
            const i64 middle = (low >> 1) + (high >> 1) + (low & high & 1);
            if (is_so(at(middle)))
                high = middle;
            else
                low = middle + 1;
        }
        return low;
    }
};

// Codes rise with x, so that two numbers tell which are not clipped.
template <class Arithmetic, class X>
ZP_APART void find(Unclipped& found, const Arithmetic& by, X s, X z) {
    const i64 first =
        Ordered<X>::smallest([=](X x) { return by.one_beyond(x, s, z) >= by.bound(by.first, z); });
    const i64 beyond =
        Ordered<X>::smallest([=](X x) { return by.one_beyond(x, s, z) > by.bound(by.last, z); });
    found = {true, Ordered<X>::at(first), Ordered<X>::at(beyond - 1)};
}

template <class Arithmetic, class X>
inline void count_clipped(const Job& job, const Arithmetic& by) {
    const X* x = static_cast<const X*>(job.in);
    const X* scale = static_cast<const X*>(job.scale);
    const X* zero = static_cast<const X*>(job.zero);
    const size_t n = job.cols;
    i64 found = 0;
    for (size_t row = 0; row < job.rows; ++row, x += n) {
        u32 here = 0;  // tiles are small
        if (auto* unclipped = static_cast<Unclipped*>(job.state[1])) {
            if (!unclipped->known) find(*unclipped, by, scale[0], zero[0]);
            const X first = static_cast<X>(unclipped->first),
                    last = static_cast<X>(unclipped->last);
            for (size_t i = 0; i < n; ++i) here += !(x[i] >= first) | !(x[i] <= last);
        } else if (job.per_column) {
            for (size_t i = 0; i < n; ++i) here += by.is_clipped(x[i], scale[i], zero[i]);
        } else {
            for (size_t i = 0; i < n; ++i) here += by.is_clipped(x[i], scale[row], zero[row]);
        }
        found += here;
    }
    *static_cast<i64*>(job.state[0]) += found;
}

// A convention for one range of codes.
template <class Convention, class X>
struct ByConvention {
    X first, last;
    static X bound(X limit, X z) { return Convention::bound(limit, z); }
    X one_beyond(X x, X s, X z) const { return ::one_beyond<Convention>(x, s, z, first, last); }
    bool is_clipped(X x, X s, X z) const { return ::is_clipped<Convention>(x, s, z, first, last); }
};

template <class X, class Convention>
void clipped(const Job& job) noexcept {
    const ByConvention<Convention, X> by{static_cast<X>(job.low), static_cast<X>(job.high)};
    count_clipped<ByConvention<Convention, X>, X>(job, by);
}

template <class X, class>
void clipped_offset(const Job& job) noexcept {
    count_clipped<ByOffset<X>, X>(job, ByOffset<X>(form_of(job)));
}

}  // namespace
