// quantize and dequantize where there is a real offset in place of the zero point.  What differs
// between the conventions is the same for all elements: a branch every few vectors, which costs
// next to nothing, where a loop for each convention would cost much code.
#pragma once

#include "loops/quantize.h"

namespace {

inline const zeropoint::core::OffsetForm& form_of(const Job& job) {
    return *static_cast<const zeropoint::core::OffsetForm*>(job.context);
}

template <bool is>
struct Truth {
    static constexpr bool value = is;
};

// ---- plain loops -----------------------------------------------------------------------------

template <class T>
ZP_APART void quantize_offset_plainly(const Job& job) noexcept {
    const ByOffset<T> by(form_of(job));
    over_elements<false, T, T>(job, static_cast<u8*>(nullptr),
                               [by](T x, T s, T o) { return by.code(x, s, o); });
}

// Calls f with two constants: whether there is a division, and whether to round once.
template <class T, class F>
inline void by_kind(const ByOffset<T>& by, const F& f) {
    if constexpr (sizeof(T) == sizeof(f32))
        if (by.once) return f(Truth<true>(), Truth<true>());
    by.divisor != 1 ? f(Truth<true>(), Truth<false>()) : f(Truth<false>(), Truth<false>());
}

// Codes of int8 are read as those of uint8, with the bit that makes them negative turned over, and
// so 128 is what all are more by: one loop for both.
template <class T>
ZP_APART void dequantize_offset_plainly(const Job& job, bool is_signed) noexcept {
    const ByOffset<T> by(form_of(job));
    const T shift = is_signed ? by.shift + 128 : by.shift;
    const u8 flip = is_signed ? 128 : 0;
    by_kind(by, [&](auto divides, auto once) {
        over_elements<false, u8, T>(job, static_cast<T*>(nullptr), [=](u8 q, T s, T o) {
            const T counted = static_cast<T>(static_cast<u8>(q ^ flip)) - shift;
            return by.template value<decltype(divides)::value, decltype(once)::value>(counted, s,
                                                                                      o);
        });
    });
}

// ---- vectors ---------------------------------------------------------------------------------

#if defined(ZP_HAS_LANES)

// Whether a flag is set, asked again for each group, so that the loop is not made twice.
ZP_WITHIN bool now(bool flag) {
    __asm__ volatile("" : "+q"(flag));
    return flag;
}

// Whether the quotients can do without the division: see is_ordinary above.  An offset need not be
// ordinary: where x - o overflows, the code is the first or the last, as of all that is far from o.
// Nor need a scale of 0, or the Inf in place of a span of 0: with them every quotient is NaN, whose
// code is the first, and the value of any code is the offset.
ZP_APART bool are_ordinary_scales(const Job& job) {
    const f32* scale = static_cast<const f32*>(job.scale);
    const size_t n = job.per_column ? job.cols : job.rows;
    u32 strange = 0;
    ZP_INDEPENDENT
    for (size_t i = 0; i < n; ++i) {
        const bool empty = scale[i] == 0 || scale[i] > 0x1.fffffep127f;
        strange |= u32(!(empty || is_ordinary(scale[i], 0)));
    }
    return !strange;
}

ZP_APART void prepare_offsets(size_t n, const f32* scale, f32 reach, f32* inverse, f32* top) {
    for (size_t i = 0; i < n; ++i) {
        inverse[i] = 1 / scale[i];
        top[i] = scale[i] * reach;
    }
}

// From x to the quotient, not beyond the last code.
struct OffsetWay {
    Lanes::F s, inverse, top, o;
    ZP_WITHIN Lanes::F operator()(Lanes::F x) const {
        const Lanes::F v = Lanes::min(top, Lanes::sub(x, o)), q = Lanes::mul(v, inverse);
        return Lanes::fma(Lanes::fnma(q, s, v), inverse, q);
    }
};
struct OffsetWayOfRow {
    OffsetWay way;
    template <class Part>
    ZP_WITHIN const OffsetWay& at(size_t, size_t, Part) const {
        return way;
    }
};
struct OffsetWaysOfColumns {
    const f32 *s, *inverse, *top, *o;
    template <class Part>
    ZP_WITHIN OffsetWay at(size_t i, size_t k, Part part) const {
        return {Lanes::load(s + i, k, part), Lanes::load(inverse + i, k, part),
                Lanes::load(top + i, k, part), Lanes::load(o + i, k, part)};
    }
};

// What is rounded, of the first vectors of a group.
template <class Ways, class Part, size_t n>
ZP_WITHIN void before_rounding(const Ways& ways, const f32* x, size_t i, Part part, bool multiplies,
                               Lanes::F steps, Lanes::F (&w)[n]) {
    for (size_t k = 0; k < n; ++k) w[k] = ways.at(i, k, part)(Lanes::load(x + i, k, part));
    if (now(multiplies))
        for (size_t k = 0; k < n; ++k) w[k] = Lanes::mul(w[k], steps);
}

// From x to codes; below the first, and for NaN, packing saturates, as in Coder.  What is truncated
// is counted from 0: the byte is that, and the word is added.
template <class Ways>
struct OffsetCoder {
    const f32* x;
    Ways ways;
    Lanes::F steps;
    Lanes::I low, word;
    bool multiplies, truncates, is_signed, clips;
    OffsetCoder(const f32* x_, const Ways& ways_, const ByOffset<f32>& by, i64 low_)
        : x(x_),
          ways(ways_),
          steps(Lanes::all(by.steps)),
          low(Lanes::bytes(static_cast<i8>(low_))),
          word(Lanes::bytes(static_cast<i8>(by.word))),
          multiplies(by.steps != 1),
          truncates(by.down != 0),
          is_signed(low_ < 0),
          clips(low_ != 0 && low_ != -128) {}

    template <class Count, class Part>
    ZP_WITHIN void operator()(size_t i, u8* q, Count, Part part) const {
        constexpr size_t n = Count::count;
        Lanes::F w[n];
        before_rounding(ways, x, i, part, multiplies, steps, w);
        Lanes::I codes;
        if (now(truncates)) {
            const Lanes::I a = Lanes::pack(Lanes::truncated(w[0]), Lanes::truncated(w[1]));
            const Lanes::I b =
                n > 2 ? Lanes::pack(Lanes::truncated(w[n - 2]), Lanes::truncated(w[n - 1])) : a;
            codes = Lanes::add_bytes(Lanes::pack_u8(a, b), word);
        } else {
            const Lanes::I a = Lanes::pack(Lanes::nearest(w[0]), Lanes::nearest(w[1]));
            const Lanes::I b =
                n > 2 ? Lanes::pack(Lanes::nearest(w[n - 2]), Lanes::nearest(w[n - 1])) : a;
            codes = is_signed ? Lanes::pack_i8(a, b) : Lanes::pack_u8(a, b);
            if (clips) codes = is_signed ? Lanes::max_i8(codes, low) : Lanes::max_u8(codes, low);
        }
        Lanes::store(q, Lanes::in_order(codes), part);
    }
};

// From codes, less the shift, to values.
//
// The quotient is a product with the reciprocal in two terms (see above), which is the same for all
// divisors from 1 to 255 and all steps of any byte: numbers so few that each has been tried.
struct OffsetValues {
    Lanes::F inverse, more;
    bool divides, once;
    explicit OffsetValues(const ByOffset<f32>& by)
        : inverse(Lanes::all(1 / by.divisor)),
          more(
              Lanes::all(static_cast<f32>(1 / static_cast<f64>(by.divisor) - f64(1 / by.divisor)))),
          divides(by.divisor != 1),
          once(by.once) {}
    template <class Lines, class Part, size_t n>
    ZP_WITHIN void operator()(Lanes::F (&t)[n], const Lines& lines, size_t i, f32* y,
                              Part part) const {
        if (now(divides))
            for (size_t k = 0; k < n; ++k) t[k] = Lanes::fma(t[k], inverse, Lanes::mul(t[k], more));
        const bool is_once = now(once);
        for (size_t k = 0; k < n; ++k) {
            const auto& line = lines.at(i, k, part);
            Lanes::F v;
            if (is_once)
                v = Lanes::fma(t[k], line.s, line.o);
            else
                v = Lanes::add(Lanes::mul(t[k], line.s), line.o);
            Lanes::store(y, k, v, part);
        }
    }
};

#if defined(__AVX512BW__)
// From x to the values of its codes: what narrower vectors do no faster than by way of the codes.
template <class Ways>
struct OffsetFaker {
    const f32* x;
    Ways ways;
    Lanes::F steps, first, shift;
    OffsetValues values;
    bool multiplies, truncates;
    OffsetFaker(const f32* x_, const Ways& ways_, const ByOffset<f32>& by, i64)
        : x(x_),
          ways(ways_),
          steps(Lanes::all(by.steps)),
          first(Lanes::all(by.first)),
          shift(Lanes::all(by.counted_shift)),
          values(by),
          multiplies(by.steps != 1),
          truncates(by.down != 0) {}

    template <class Count, class Part>
    ZP_WITHIN void operator()(size_t i, f32* y, Count, Part part) const {
        Lanes::F w[Count::count];
        before_rounding(ways, x, i, part, multiplies, steps, w);
        if (now(truncates))
            for (Lanes::F& v : w) v = Lanes::real(Lanes::truncated(v));
        else
            for (Lanes::F& v : w) v = Lanes::real(Lanes::nearest(v));
        for (Lanes::F& v : w) v = Lanes::sub(Lanes::max(v, first), shift);
        values(w, ways, i, y, part);
    }
};
#endif

template <template <class> class Made>
struct OffsetRows {
    const Job& job;
    const ByOffset<f32>& by;
    f32 reach;
    ZP_WITHIN auto at(size_t row, const f32* x) const {
        const f32 s = static_cast<const f32*>(job.scale)[row];
        const f32 o = static_cast<const f32*>(job.zero)[row];
        const OffsetWay way{Lanes::all(s), Lanes::all(1 / s), Lanes::all(s * reach), Lanes::all(o)};
        return Made<OffsetWayOfRow>(x, {way}, by, job.low);
    }
};
template <template <class> class Made>
struct OffsetColumns {
    OffsetWaysOfColumns ways;
    const ByOffset<f32>& by;
    i64 low;
    ZP_WITHIN auto at(size_t, const f32* x) const {
        return Made<OffsetWaysOfColumns>(x, ways, by, low);
    }
};

// False, and nothing done, where a scale is not ordinary.
template <template <class> class Made, class Y>
inline bool offsets_by_lanes(const Job& job) {
    if (!are_ordinary_scales(job)) return false;
    const ByOffset<f32> by(form_of(job));
    const f32 reach = static_cast<f32>(form_of(job).reach);
    const f32* x = static_cast<const f32*>(job.in);
    Y* y = static_cast<Y*>(job.out);
    if (!job.per_column) {
        over_rows(OffsetRows<Made>{job, by, reach}, x, y, job.rows, job.cols, job.cols,
                  job.non_temporal);
        return true;
    }
    constexpr size_t at_once = 1024;  // columns, whose reciprocals all rows share
    f32 inverse[at_once], top[at_once];
    for (size_t c = 0; c < job.cols; c += at_once) {
        const f32* scale = static_cast<const f32*>(job.scale) + c;
        const f32* offset = static_cast<const f32*>(job.zero) + c;
        const size_t cols = job.cols - c < at_once ? job.cols - c : at_once;
        prepare_offsets(cols, scale, reach, inverse, top);
        over_rows(OffsetColumns<Made>{{scale, inverse, top, offset}, by, job.low}, x + c, y + c,
                  job.rows, cols, job.cols, job.non_temporal);
    }
    return true;
}

struct OffsetLine {
    Lanes::F s, o;
};
struct OffsetLineOfRow {
    OffsetLine line;
    template <class Part>
    ZP_WITHIN const OffsetLine& at(size_t, size_t, Part) const {
        return line;
    }
};
struct OffsetLinesOfColumns {
    const f32 *s, *o;
    template <class Part>
    ZP_WITHIN OffsetLine at(size_t i, size_t k, Part part) const {
        return {Lanes::load(s + i, k, part), Lanes::load(o + i, k, part)};
    }
};
template <class Lines>
struct OffsetValuer {
    const u8* q;
    Lines lines;
    Lanes::F shift;
    OffsetValues values;
    bool is_signed;
    template <class Count, class Part>
    ZP_WITHIN void operator()(size_t i, f32* x, Count, Part part) const {
        Lanes::F t[Count::count];
        if (now(is_signed))
            for (size_t k = 0; k < Count::count; ++k)
                t[k] = Lanes::load(reinterpret_cast<const i8*>(q) + i, k, part);
        else
            for (size_t k = 0; k < Count::count; ++k) t[k] = Lanes::load(q + i, k, part);
        for (Lanes::F& v : t) v = Lanes::sub(v, shift);
        values(t, lines, i, x, part);
    }
};
struct OffsetValuerParts {
    const f32 *scale, *offset;
    const ByOffset<f32>& by;
    bool is_signed;
    template <class Lines>
    ZP_WITHIN auto with(const u8* q, const Lines& lines) const {
        return OffsetValuer<Lines>{q, lines, Lanes::all(by.shift), OffsetValues(by), is_signed};
    }
};
struct OffsetValuesOfRows : OffsetValuerParts {
    ZP_WITHIN auto at(size_t row, const u8* q) const {
        return with(q, OffsetLineOfRow{{Lanes::all(scale[row]), Lanes::all(offset[row])}});
    }
};
struct OffsetValuesOfColumns : OffsetValuerParts {
    ZP_WITHIN auto at(size_t, const u8* q) const {
        return with(q, OffsetLinesOfColumns{scale, offset});
    }
};

ZP_APART void dequantize_by_lanes(const Job& job, bool is_signed) {
    const ByOffset<f32> by(form_of(job));
    const OffsetValuerParts parts{static_cast<const f32*>(job.scale),
                                  static_cast<const f32*>(job.zero), by, is_signed};
    const u8* q = static_cast<const u8*>(job.in);
    f32* x = static_cast<f32*>(job.out);
    if (job.per_column)
        over_rows(OffsetValuesOfColumns{parts}, q, x, job.rows, job.cols, job.cols,
                  job.non_temporal);
    else
        over_rows(OffsetValuesOfRows{parts}, q, x, job.rows, job.cols, job.cols, job.non_temporal);
}
#endif

// ---- the kernels -----------------------------------------------------------------------------

#if defined(ZP_HAS_OTHERS)
inline void by_other_loop(Op op, const Job& job) {
    zeropoint::core::ZEROPOINT_BESIDE.at(op, Tag::f32, Tag::f32)(job);
}
#endif

template <class X, class>
void quantize_offset(const Job& job) noexcept {
#if defined(ZP_HAS_LANES)
    if constexpr (sizeof(X) == 4)
        if (offsets_by_lanes<OffsetCoder, u8>(job)) return;
#endif
#if defined(ZP_HAS_OTHERS)
    if constexpr (sizeof(X) == 4) return by_other_loop(Op::quantize_offset, job);
#endif
    if constexpr (plainly<X>) quantize_offset_plainly<X>(job);
}

template <class Q, class X>
void dequantize_offset(const Job& job) noexcept {
    constexpr bool is_signed = Q(-1) < Q(0);
#if defined(ZP_HAS_LANES)
    if constexpr (sizeof(X) == 4) return dequantize_by_lanes(job, is_signed);
#endif
    if constexpr (plainly<X>) dequantize_offset_plainly<X>(job, is_signed);
}

// By way of the codes, as many at a time as stay in the first cache.  A scale of 0 divides as it
// is: the value of any code is the offset.
template <class X, class>
void fake_quantize_offset(const Job& job) noexcept {
#if defined(__AVX512BW__)
    if (offsets_by_lanes<OffsetFaker, X>(job)) return;
#endif
    constexpr size_t at_once = 4096;
    u8 codes[at_once];
    const size_t cols = job.cols < at_once ? job.cols : at_once;
    if (cols == 0) return;
    const size_t rows = cols < job.cols ? 1 : at_once / cols;
    for (size_t r = 0; r < job.rows; r += rows)
        for (size_t c = 0; c < job.cols; c += cols) {
            const size_t element = r * job.cols + c, first = job.per_column ? c : r;
            Job part = job;
            part.rows = job.rows - r < rows ? job.rows - r : rows;
            part.cols = job.cols - c < cols ? job.cols - c : cols;
            part.scale = static_cast<const X*>(job.scale) + first;
            part.zero = static_cast<const X*>(job.zero) + first;
            part.in = static_cast<const X*>(job.in) + element;
            part.out = codes;
            part.non_temporal = false;
            quantize_offset<X, X>(part);
            part.in = codes;
            part.out = static_cast<X*>(job.out) + element;
            part.non_temporal = job.non_temporal;
            job.low < 0 ? dequantize_offset<i8, X>(part) : dequantize_offset<u8, X>(part);
        }
}

}  // namespace
