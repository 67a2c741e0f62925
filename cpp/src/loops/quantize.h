// quantize, with and without a proof, and dequantize.
#pragma once

#include "loops/elements.h"
#include "loops/lanes.h"

#if defined(ZEROPOINT_BESIDE)
namespace zeropoint::core {
extern const Table ZEROPOINT_BESIDE;
}
#endif
#if defined(ZP_HAS_LANES) && defined(ZEROPOINT_BESIDE)
#define ZP_HAS_OTHERS
#endif

namespace {

using zeropoint::core::Op;
using zeropoint::core::Tag;

template <class Convention>
constexpr Tag tag_of = Tag::count;
#define ZEROPOINT_CONVENTION(name) \
    template <>                    \
    constexpr Tag tag_of<name> = Tag::name;
#include "zeropoint/conventions.def"

// Whether data of X have a plain loop here.
template <class X>
#if defined(ZP_HAS_OTHERS)
constexpr bool plainly = sizeof(X) == 8;
#else
constexpr bool plainly = true;
#endif

// ---- plain loops -----------------------------------------------------------------------------

// y[i] = f(x[i], scale, zero point), each element's own or that of the row.  Without `by_lines`
// there is no more code than that: in float64 the division decides the time, and stores past the
// caches gain little.
template <bool by_lines, class X, class T, class Y, class F>
inline void over_elements(const Job& job, Y*, const F& f) {
    const X* x = static_cast<const X*>(job.in);
    Y* y = static_cast<Y*>(job.out);
    const T* scale = static_cast<const T*>(job.scale);
    const T* zero = static_cast<const T*>(job.zero);
    const size_t n = job.cols;
    const auto run = [&](const auto& each) {
        if constexpr (by_lines)
            fill_run(x, y, n, job.non_temporal, each);
        else
            plain_run<X>(each, y, 0, n);
    };
    for (size_t row = 0; row < job.rows; ++row, x += n, y += n) {
        if (job.per_column) {
            run([=](size_t i) { return f(x[i], scale[i], zero[i]); });
        } else {
            const T s = scale[row], z = zero[row];
            run([=](size_t i) { return f(x[i], s, z); });
        }
    }
}

template <class X, class Convention>
ZP_APART void quantize_plainly(const Job& job) noexcept {
    const X low = static_cast<X>(job.low), high = static_cast<X>(job.high);
    over_elements<sizeof(X) == 4, X, X>(job, static_cast<u8*>(nullptr), [=](X x, X s, X z) {
        return code_of<Convention>(x, s, z, low, high);
    });
}

// A kernel of float32 for data in another type: `rows` at a time, or columns, through L1.
template <class X, class Y>
ZP_APART void through_f32(const Job& job, void (*kernel)(const Job&) noexcept) noexcept {
    constexpr size_t at_once = 4096;  // many rows, for what they share
    const size_t cols = job.cols < at_once ? job.cols : at_once;
    if (cols == 0) return;
    const size_t rows = cols < job.cols ? 1 : at_once / cols;
    f32 wide[at_once];
    for (size_t r = 0; r < job.rows; r += rows)
        for (size_t c = 0; c < job.cols; c += cols) {
            const size_t first = job.per_column ? c : r;
            Job part = job;
            part.rows = job.rows - r < rows ? job.rows - r : rows;
            part.cols = job.cols - c < cols ? job.cols - c : cols;
            part.scale = static_cast<const f32*>(job.scale) + first;
            part.zero = static_cast<const f32*>(job.zero) + first;
            part.in = static_cast<const X*>(job.in) + r * job.cols + c;
            part.out = wide;
            part.non_temporal = false;
            convert<X, f32>(part);
            void* const out = static_cast<Y*>(job.out) + r * job.cols + c;
            part.in = wide;
            if constexpr (sizeof(Y) == 1) part.out = out;
            kernel(part);
            if constexpr (sizeof(Y) == 1) continue;
            part.out = out;
            convert<f32, Y>(part);
        }
}

// ---- vectors ---------------------------------------------------------------------------------

#if defined(ZP_HAS_LANES)

// Beyond it every code is the last one, and its own code is too: of x, or by the reciprocal of the
// value before rounding.
template <bool by_reciprocal>
inline f32 highest(f32 s, f32 z, f32 high) {
    return by_reciprocal ? high - z : s * (high - z + 0.25f);
}

// From x to a value before rounding, scale and zero point being those of a vector of elements.
template <class Convention, bool by_reciprocal = Convention::by_reciprocal>
struct Way {
    Lanes::F s, inverse, top, z;
    ZP_WITHIN Lanes::F operator()(Lanes::F x) const {
        const Lanes::F v = Lanes::min(top, x), q = Lanes::mul(v, inverse);
        const Lanes::F quotient = Lanes::fma(Lanes::fnma(q, s, v), inverse, q);
        return Convention::rounds_the_sum ? Lanes::add(quotient, z) : quotient;
    }
};
template <class Convention>
struct Way<Convention, true> {
    Lanes::F s, inverse, top, z;
    ZP_WITHIN Lanes::F operator()(Lanes::F x) const {
        return Lanes::min(top, Lanes::mul(x, inverse));
    }
};
template <class Convention>
struct CertifiedWay {
    Lanes::F ch, cl, top, z;
    ZP_WITHIN Lanes::F operator()(Lanes::F x) const {
        const Lanes::F v = Lanes::min(top, x);
        const Lanes::F product = Lanes::fma(v, ch, Lanes::mul(v, cl));
        return Convention::rounds_the_sum ? Lanes::add(product, z) : product;
    }
};

// One way for a whole run; and one for each column.
template <class Each>
struct OfRow {
    Each way;
    Lanes::I words;  // the zero point
    OfRow(const Each& way_, f32 zero) : way(way_), words(Lanes::words(static_cast<i16>(zero))) {}
    template <class Part>
    ZP_WITHIN const Each& at(size_t, size_t, Part) const {
        return way;
    }
    template <class Part>
    ZP_WITHIN Lanes::I zero_words(size_t, size_t, size_t, Part) const {
        return words;
    }
};
template <class Convention>
struct OfColumns {
    const f32 *s, *inverse, *top, *z;
    template <class Part>
    ZP_WITHIN Way<Convention> at(size_t i, size_t k, Part part) const {
        return {Lanes::load(s + i, k, part), Lanes::load(inverse + i, k, part),
                Lanes::load(top + i, k, part), Lanes::load(z + i, k, part)};
    }
    template <class Part>
    ZP_WITHIN Lanes::I zero_words(size_t i, size_t k, size_t l, Part part) const {
        return Lanes::pack(Lanes::nearest(Lanes::load(z + i, k, part)),
                           Lanes::nearest(Lanes::load(z + i, l, part)));
    }
};

template <class Convention>
ZP_WITHIN Lanes::I nearest(Lanes::F w) {
    if constexpr (!Convention::halves_away) return Lanes::nearest(w);
    const Lanes::F half = Lanes::all(Format<f32>::below_half);
    return Lanes::truncated(Lanes::add(w, Lanes::with_sign_of(half, w)));
}

// From x to codes.  x is clipped above.  Below, and for NaN, packing saturates: INT32_MIN becomes
// the smallest word, then the smallest byte, and that becomes `low` where this is another.
template <class Convention, class X, class Ways>
struct Coder {
    const X* x;
    Ways ways;
    Lanes::I low;
    bool is_signed, clips;
    Coder(const X* x_, const Ways& ways_, i64 low_)
        : x(x_),
          ways(ways_),
          low(Lanes::bytes(static_cast<i8>(low_))),
          is_signed(low_ < 0),
          clips(low_ != 0 && low_ != -128) {}

    template <class Count, class Part>
    ZP_WITHIN void operator()(size_t i, u8* q, Count, Part part) const {
        const Lanes::I a = words(i, 0, part), b = Count::count > 2 ? words(i, 2, part) : a;
        Lanes::I codes = is_signed ? Lanes::pack_i8(a, b) : Lanes::pack_u8(a, b);
        if (clips) codes = is_signed ? Lanes::max_i8(codes, low) : Lanes::max_u8(codes, low);
        Lanes::store(q, Lanes::in_order(codes), part);
    }
    template <class Part>
    ZP_WITHIN Lanes::I words(size_t i, size_t k, Part part) const {
        const Lanes::I w = Lanes::pack(rounded(i, k, part), rounded(i, k + 1, part));
        return Convention::rounds_the_sum ? w
                                          : Lanes::add_words(w, ways.zero_words(i, k, k + 1, part));
    }
    template <class Part>
    ZP_WITHIN Lanes::I rounded(size_t i, size_t k, Part part) const {
        return nearest<Convention>(ways.at(i, k, part)(Lanes::load(x + i, k, part)));
    }
};

// From x to the values of its codes.
template <class Convention, class X, class Ways>
struct Faker {
    const X* x;
    Ways ways;
    Lanes::F low;
    Faker(const X* x_, const Ways& ways_, i64 low_)
        : x(x_), ways(ways_), low(Lanes::all(static_cast<f32>(low_))) {}

    template <class Count, class Part>
    ZP_WITHIN void operator()(size_t i, X* y, Count, Part part) const {
        for (size_t k = 0; k < Count::count; ++k) {
            const auto& way = ways.at(i, k, part);
            const Lanes::F r = Lanes::real(nearest<Convention>(way(Lanes::load(x + i, k, part))));
            const Lanes::F steps = Convention::rounds_the_sum
                                       ? Lanes::sub(Lanes::max(r, low), way.z)
                                       : Lanes::max(r, Lanes::sub(low, way.z));
            Lanes::store(y, k, Lanes::mul(steps, way.s), part);
        }
    }
};

// What makes a Coder or a Faker (`Made`) for each row ...
template <template <class, class, class> class Made, class Convention, class X>
struct RowsOf {
    const f32 *scale, *zero;
    i64 low;
    f32 high;
    bool inverted;  // 1 / scale stands in place of scale
    ZP_WITHIN auto at(size_t row, const X* x) const {
        const f32 s = scale[row], z = zero[row];
        const f32 top = highest<Convention::by_reciprocal>(s, z, high);
        using Ways = OfRow<Way<Convention>>;
        const Way<Convention> way{Lanes::all(s), Lanes::all(inverted ? s : 1 / s), Lanes::all(top),
                                  Lanes::all(z)};
        return Made<Convention, X, Ways>(x, Ways(way, z), low);
    }
};
template <class Convention>
struct CertifiedRow {
    const Multiplier& m;
    i64 low;
    ZP_WITHIN auto at(size_t, const f32* x) const {
        using Ways = OfRow<CertifiedWay<Convention>>;
        const CertifiedWay<Convention> way{Lanes::all(m.ch), Lanes::all(m.cl), Lanes::all(m.x_high),
                                           Lanes::all(m.zero)};
        return Coder<Convention, f32, Ways>(x, Ways(way, m.zero), low);
    }
};
// ... or one for all rows, with parameters by the column.
template <template <class, class, class> class Made, class Convention>
struct ColumnsOf {
    OfColumns<Convention> ways;
    i64 low;
    ZP_WITHIN auto at(size_t, const f32* x) const {
        return Made<Convention, f32, OfColumns<Convention>>(x, ways, low);
    }
};

ZP_APART bool are_ordinary(const Job& job) {
    const f32* scale = static_cast<const f32*>(job.scale);
    const f32* zero = static_cast<const f32*>(job.zero);
    const size_t n = job.per_column ? job.cols : job.rows;
    u32 strange = 0;
    ZP_INDEPENDENT
    for (size_t i = 0; i < n; ++i) strange |= u32(!is_ordinary(scale[i], zero[i]));
    return !strange;
}

template <bool by_reciprocal>
ZP_APART void prepare(size_t n, const f32* scale, const f32* zero, f32 high, bool inverted,
                      f32* inverse, f32* top) {
    if (inverted)
        for (size_t i = 0; i < n; ++i) inverse[i] = scale[i];
    else
        for (size_t i = 0; i < n; ++i) inverse[i] = 1 / scale[i];
    for (size_t i = 0; i < n; ++i) top[i] = highest<by_reciprocal>(scale[i], zero[i], high);
}

template <template <class, class, class> class Made, class Convention, class Y>
inline void by_columns(const Job& job, bool inverted) {
    constexpr size_t at_once = 1024;  // columns, whose reciprocals all rows share
    f32 inverse[at_once], top[at_once];
    for (size_t c = 0; c < job.cols; c += at_once) {
        const f32* scale = static_cast<const f32*>(job.scale) + c;
        const f32* zero = static_cast<const f32*>(job.zero) + c;
        const size_t cols = job.cols - c < at_once ? job.cols - c : at_once;
        prepare<Convention::by_reciprocal>(cols, scale, zero, static_cast<f32>(job.high), inverted,
                                           inverse, top);
        over_rows(ColumnsOf<Made, Convention>{{scale, inverse, top, zero}, job.low},
                  static_cast<const f32*>(job.in) + c, static_cast<Y*>(job.out) + c, job.rows, cols,
                  job.cols, job.non_temporal);
    }
}

// False, and nothing done, where a scale or zero point is not ordinary.
template <template <class, class, class> class Made, class Convention, class X, class Y>
inline bool by_lanes(const Job& job, bool inverted) {
    if (!are_ordinary(job)) return false;
    if constexpr (sizeof(X) == 4)
        if (job.per_column) {
            by_columns<Made, Convention, Y>(job, inverted);
            return true;
        }
    over_rows(RowsOf<Made, Convention, X>{static_cast<const f32*>(job.scale),
                                          static_cast<const f32*>(job.zero), job.low,
                                          static_cast<f32>(job.high), inverted},
              static_cast<const X*>(job.in), static_cast<Y*>(job.out), job.rows, job.cols, job.cols,
              job.non_temporal);
    return true;
}
#endif

// ---- the kernels -----------------------------------------------------------------------------

template <class X>
constexpr bool is_narrow = sizeof(X) == 2;

#if defined(ZP_HAS_OTHERS)
// Scales and zero points that hardly anyone has: the one plain loop for them is the baseline's.
template <class Convention>
void by_others(Op op, const Job& job) {
    zeropoint::core::ZEROPOINT_BESIDE.at(op, Tag::f32, tag_of<Convention>)(job);
}
#endif

template <class X, class Convention>
void quantize(const Job& job) noexcept {
#if defined(ZP_HAS_LANES)
    // no engine quantizes narrow floats with halves away from zero: they may take the longer way
    if constexpr (sizeof(X) <= 4 && !(is_narrow<X> && Convention::halves_away)) {
        const bool fits = !is_narrow<X> || !job.per_column;
        if (fits && by_lanes<Coder, Convention, X, u8>(job, Convention::by_reciprocal)) return;
    }
#endif
#if defined(ZP_HAS_OTHERS)
    if constexpr (sizeof(X) == 4) return by_others<Convention>(Op::quantize, job);
#endif
    if constexpr (is_narrow<X>)
        through_f32<X, u8>(job, quantize<f32, Convention>);
    else if constexpr (plainly<X>)
        quantize_plainly<X, Convention>(job);
}

// quantize for long runs of float32: job.scale points to a Multiplier per row.
template <class, class Convention>
void quantize_runs(const Job& job) noexcept {
    const f32* x = static_cast<const f32*>(job.in);
    u8* q = static_cast<u8*>(job.out);
    const Multiplier* multipliers = static_cast<const Multiplier*>(job.scale);
    const size_t n = job.cols;
    for (size_t row = 0; row < job.rows; ++row, x += n, q += n) {
        const Multiplier& m = multipliers[row];
#if defined(ZP_HAS_LANES)
        if (m.certified) {
            over_rows(CertifiedRow<Convention>{m, job.low}, x, q, 1, n, n, job.non_temporal);
            continue;
        }
#elif defined(ZP_HAS_FMA)
        if (m.certified) {
            fill_run(x, q, n, job.non_temporal,
                     [=](size_t i) { return code_of<Convention>(x[i], m); });
            continue;
        }
#endif
        Job divided = job;
        divided.in = x;
        divided.out = q;
        divided.rows = 1;
        divided.scale = &m.scale;
        divided.zero = &m.zero;
        quantize<f32, Convention>(divided);
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

// From codes to their values.
template <class Q, class X>
struct ValueOf {
    const Q* q;
    X s, z;
    X operator()(size_t i) const { return value_of(q[i], s, z); }
};
#if defined(ZP_HAS_LANES)
struct Line {
    Lanes::F s, z;
};
struct LineOfRow {
    Line line;
    template <class Part>
    ZP_WITHIN const Line& at(size_t, size_t, Part) const {
        return line;
    }
};
struct LineOfColumns {
    const f32 *s, *z;
    template <class Part>
    ZP_WITHIN Line at(size_t i, size_t k, Part part) const {
        return {Lanes::load(s + i, k, part), Lanes::load(z + i, k, part)};
    }
};
template <class Q, class Lines>
struct Valuer {
    const Q* q;
    Lines lines;
    template <class Count, class Part>
    ZP_WITHIN void operator()(size_t i, f32* x, Count, Part part) const {
        for (size_t k = 0; k < Count::count; ++k) {
            const auto& line = lines.at(i, k, part);
            const Lanes::F steps = Lanes::sub(Lanes::load(q + i, k, part), line.z);
            Lanes::store(x, k, Lanes::mul(steps, line.s), part);
        }
    }
};
template <class Q>
struct ValuesOfRows {
    const f32 *scale, *zero;
    ZP_WITHIN auto at(size_t row, const Q* q) const {
        return Valuer<Q, LineOfRow>{q, {{Lanes::all(scale[row]), Lanes::all(zero[row])}}};
    }
};
template <class Q>
struct ValuesOfColumns {
    const f32 *scale, *zero;
    ZP_WITHIN auto at(size_t, const Q* q) const {
        return Valuer<Q, LineOfColumns>{q, {scale, zero}};
    }
};
#endif

template <class Q, class X>
void dequantize(const Job& job) noexcept {
    const Q* q = static_cast<const Q*>(job.in);
    X* x = static_cast<X*>(job.out);
    const X* scale = static_cast<const X*>(job.scale);
    const X* zero = static_cast<const X*>(job.zero);
    const size_t rows = job.rows, n = job.cols;
#if defined(ZP_HAS_LANES)
    if constexpr (sizeof(X) == 4) {
        if (job.per_column)
            over_rows(ValuesOfColumns<Q>{scale, zero}, q, x, rows, n, n, job.non_temporal);
        else
            over_rows(ValuesOfRows<Q>{scale, zero}, q, x, rows, n, n, job.non_temporal);
        return;
    }
#endif
    for (size_t row = 0; row < rows; ++row, x += n, q += n) {
        if (job.per_column) {
            fill_run(q, x, n, job.non_temporal,
                     [=](size_t i) { return value_of(q[i], scale[i], zero[i]); });
        } else {
            fill_run(q, x, n, job.non_temporal, ValueOf<Q, X>{q, scale[row], zero[row]});
        }
    }
}

// fake_quantize in float32, narrower data too; scale and zero point as dequantize has them.
template <class Convention>
ZP_APART void fake_quantize_plainly(const Job& job) noexcept {
    const f32 low = static_cast<f32>(job.low), high = static_cast<f32>(job.high);
    over_elements<true, f32, f32>(job, static_cast<f32*>(nullptr), [=](f32 x, f32 s, f32 z) {
        const f32 divisor = Convention::by_reciprocal ? 1 / s : s;
        return faked<Convention>(x, divisor, s, z, low, high);
    });
}

template <class X, class Convention>
void fake_quantize(const Job& job) noexcept {
#if defined(ZP_HAS_LANES)
    if constexpr (!is_narrow<X>)
        if (by_lanes<Faker, Convention, X, X>(job, false)) return;
#endif
#if defined(ZP_HAS_OTHERS)
    if constexpr (!is_narrow<X>) return by_others<Convention>(Op::fake_quantize, job);
#endif
    if constexpr (is_narrow<X>)
        through_f32<X, X>(job, fake_quantize<f32, Convention>);
    else if constexpr (plainly<X>)
        fake_quantize_plainly<Convention>(job);
}

}  // namespace
