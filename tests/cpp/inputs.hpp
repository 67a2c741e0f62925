// Hard inputs: parameters of every size, data at and beside the boundaries between codes, NaN,
// Inf, subnormal and huge numbers.  The same bits on every machine: integer arithmetic, ldexp and
// nextafter alone.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "call.hpp"
#include "oracle.hpp"

namespace test {

/// Pseudorandom numbers: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", OOPSLA 2014).
class Random {
public:
    explicit Random(std::uint64_t seed) : state_(seed) {}
    std::uint64_t bits() {
        std::uint64_t z = state_ += 0x9E3779B97F4A7C15;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
        z = (z ^ z >> 27) * 0x94D049BB133111EB;
        return z ^ z >> 31;
    }
    std::uint64_t below(std::uint64_t n) { return bits() % n; }
    std::int64_t between(std::int64_t first, std::int64_t last) {
        return first + static_cast<std::int64_t>(below(static_cast<std::uint64_t>(last) -
                                                       static_cast<std::uint64_t>(first) + 1));
    }
    double unit() { return std::ldexp(static_cast<double>(bits() >> 11), -53); }  // [0, 1)

private:
    std::uint64_t state_;
};

/// Offsets of any size, and spans from the scales where the convention keeps those, some of 0.
inline void choose_offsets(Random& random, Call& c) {
    const auto stored = [&](double v) {
        return c.precision == DType::f64 ? v : static_cast<float>(v);
    };
    const bool near = random.below(3) > 0, some_empty = random.below(3) == 0;
    c.fused = *c.by_offset == OffsetConvention::faiss && random.below(2) == 0;
    c.offset.resize(c.scale.size());
    for (std::size_t p = 0; p < c.scale.size(); ++p) {
        const double digits = 2 * random.unit() - 1;
        const auto exponent = static_cast<int>(random.between(-130, 127));
        c.offset[p] = stored(near ? digits * 400 * c.scale[p] : std::ldexp(digits, exponent));
        if (!std::isfinite(c.offset[p])) c.offset[p] = 0;
        if (!keeps_span(*c.by_offset)) continue;
        const double span = stored(c.scale[p] * (c.qmax - c.qmin));
        c.scale[p] = some_empty && random.below(3) == 0 ? 0 : span;
    }
}

/// Any range of codes, scales of any size, any zero points; fit to compute with data of c.in.
inline void choose_parameters(Random& random, Call& c) {
    const int lowest = c.code == DType::i8 ? -128 : 0;
    c.qmin = lowest;
    c.qmax = lowest + 255;
    if (random.below(3) == 0) {
        c.qmin += static_cast<int>(random.below(100));
        c.qmax -= static_cast<int>(random.below(100));
    }
    if (c.nan_code) {  // an end of all codes; where it was one of the range, that moves in
        c.nan_code = random.below(2) == 0 ? lowest : lowest + 255;
        c.qmin += c.qmin == *c.nan_code;
        c.qmax -= c.qmax == *c.nan_code;
    }
    const bool reciprocal = !c.by_offset && by_reciprocal(c.convention);
    int exponent = static_cast<int>(random.between(-9, 2));
    if (random.below(8) == 0) exponent += 112;                 // x / s is mostly subnormal
    if (random.below(8) == 0 && !reciprocal) exponent -= 128;  // a subnormal scale in float32
    const bool power_of_two = random.below(3) == 0;            // exact half steps in every dtype
    const bool far = !c.by_offset && c.convention == Convention::numpy && random.below(6) == 0;
    const std::int64_t reach = random.below(2) == 0 ? 1000000 : 2147483647;
    const std::size_t n = c.layout.parameters();
    c.scale.resize(n);
    c.zero_point.resize(n);
    for (std::size_t p = 0; p < n; ++p) {
        const double s = std::ldexp(power_of_two ? 1 : 0.5 + random.unit(), exponent);
        c.scale[p] = c.precision == DType::f64 ? s : static_cast<float>(s);
        const std::int64_t z =
            far ? random.between(-reach - 1, reach) : random.between(c.qmin, c.qmax);
        c.zero_point[p] = static_cast<std::int32_t>(z);
    }
    if (c.by_offset) choose_offsets(random, c);
    if (c.op == Op::requantize) {
        c.multiplier.resize(random.below(2) == 0 ? 1 : n);
        for (float& m : c.multiplier) {
            const double digits = 0.5 + random.unit();  // apart, so that the order is one
            m = static_cast<float>(std::ldexp(digits, -static_cast<int>(random.below(30))));
        }
    }
}

/// Bins of any width that is a float in the working precision.
inline void choose_exponents(Random& random, Call& c) {
    const int most = c.in == DType::f64 ? 1022 : 126;
    c.exponents.resize(c.layout.parameters());
    for (std::int64_t& exponent : c.exponents)
        exponent = random.below(4) == 0 ? random.between(-most, most) : random.between(-12, 2);
}

/// All bytes in any order, for each parameter.
inline void choose_tables(Random& random, Call& c) {
    c.tables.resize(core::Tables::entries * c.layout.parameters());
    for (std::size_t i = 0; i < c.tables.size(); ++i) {
        const std::size_t first = i - i % core::Tables::entries,
                          other = first + random.below(i - first + 1);
        c.tables[i] = c.tables[other];
        c.tables[other] = static_cast<std::uint8_t>(i);
    }
}

namespace detail {

inline double special(Random& random) {
    constexpr double numbers[] = {0,
                                  0x1p-1074,
                                  1e-310,
                                  0x1p-149,
                                  1e-40,
                                  0x1p-133,
                                  0x1p-24,
                                  3e-5,  // subnormal somewhere
                                  0x1p-14,
                                  0x1p-126,
                                  0x1p-1022,  // the smallest normal
                                  0.5,
                                  1.5,
                                  2.5,
                                  254.5,
                                  0x1.fffffep-2,
                                  0x1.fffffffffffffp-2,
                                  0x1p23 - 0.5,
                                  0x1p23 + 1,
                                  0x1.8p23,
                                  0x1p24,
                                  0x1p52 - 0.5,
                                  0x1.8p52,
                                  0x1p31,
                                  0x1p63,
                                  65504,
                                  65520,
                                  1e30,
                                  0x1.fffffep127,
                                  1e300,
                                  0x1.fffffffffffffp1023,
                                  std::numeric_limits<double>::infinity()};
    const double v = numbers[random.below(sizeof numbers / sizeof *numbers)];
    return random.below(2) ? v : -v;
}

// x or one of its neighbours in float32 or float64.
inline double beside(Random& random, double x, bool wide) {
    const double to = random.below(2) ? std::numeric_limits<double>::infinity()
                                      : -std::numeric_limits<double>::infinity();
    const bool stay = random.below(3) == 0;
    if (wide) return stay ? x : std::nextafter(x, to);
    const float narrow = static_cast<float>(x);
    return stay ? narrow : std::nextafter(narrow, static_cast<float>(to));
}

inline void any_bits(Random& random, void* data, DType dtype, std::size_t i) {
    const std::uint64_t bits = random.bits();
    const std::size_t size = core::size_of(dtype);
    std::memcpy(static_cast<char*>(data) + i * size, &bits, size);
}

// Any NaN: quiet or signalling, of either sign.
inline void any_nan(Random& random, void* data, DType dtype, std::size_t i) {
    const std::uint64_t payload = random.bits() | 1;
    if (dtype == DType::f64)
        write(data, i, payload | 0x7FF0000000000000);
    else if (dtype == DType::f32)
        write(data, i, static_cast<std::uint32_t>(payload) | 0x7F800000u);
    else
        write(data, i, static_cast<std::uint16_t>(payload | half(dtype).infinity()));
}

inline void number(Random& random, const Call& c, void* data, std::size_t i) {
    const bool wide = c.in == DType::f64;
    if (!is_float(c.in)) {  // for saturate and saturate_cast
        if (random.below(4) == 0) return any_bits(random, data, c.in, i);
        const std::int64_t v = random.between(-300, 300);
        return with_integer(c.in,
                            [&](auto zero) { write(data, i, static_cast<decltype(zero)>(v)); });
    }
    switch (random.below(16)) {
        case 0:
            return any_nan(random, data, c.in, i);
        case 1:
            return any_bits(random, data, c.in, i);
        case 2:
            return store(data, c.in, i, special(random));
        default:
            break;
    }
    if (c.op != Op::quantize && c.op != Op::fake_quantize)  // halves
        return store(data, c.in, i,
                     beside(random, 0.5 * static_cast<double>(random.between(-600, 600)), wide));
    const std::size_t p = oracle::parameter(c.layout, i);
    const double half = static_cast<double>(random.between(c.qmin - 2, c.qmax + 1)) + 0.5;
    double x = (half - c.zero_point[p]) * c.scale[p];
    if (c.by_offset == OffsetConvention::cf)
        x = half * c.scale[p] + c.offset[p];
    else if (c.by_offset)
        x = (half + 0.5 - c.qmin) / (c.qmax - c.qmin) * c.scale[p] + c.offset[p];
    store(data, c.in, i, beside(random, x, wide));
}

// At and beside the ends of bins, most of them among the first.
inline void counted(Random& random, const Call& c, void* data, std::size_t i) {
    const std::int64_t reach = random.below(8) == 0 ? 0x3FFFFFF0 : 2000;
    const auto exponent = static_cast<int>(c.exponents[oracle::parameter(c.layout, i)]);
    double x = std::ldexp(static_cast<double>(random.between(-reach, reach)), exponent);
    if (random.below(2) == 0) x = std::ldexp(2 * random.unit() - 1, exponent + 10);
    store(data, c.in, i, beside(random, x, c.in == DType::f64));
}

inline void accumulator(Random& random, const Call& c, void* data, std::size_t i) {
    if (random.below(8) == 0) return any_bits(random, data, c.in, i);
    const std::size_t p = oracle::parameter(c.layout, i);
    const double half = static_cast<double>(random.between(c.qmin - 2, c.qmax + 1)) + 0.5;
    const double m = c.multiplier[c.multiplier.size() == 1 ? 0 : p];
    const double acc = (half - c.zero_point[p]) / m + static_cast<double>(random.between(-1, 1));
    write(data, i, static_cast<std::int32_t>(std::max(-0x1p31, std::min(acc, 0x1p31 - 1))));
}

}  // namespace detail

/// Fills the c.in_bytes() bytes at `data`.
inline void fill(Random& random, const Call& c, void* data) {
    const std::size_t n = c.layout.size();
    // one NaN or Inf says it all to min_max and histogram: none, one, any number
    const bool reduces = c.op == Op::min_max || c.op == Op::histogram;
    const std::uint64_t nonfinite = random.below(3);
    if (c.op == Op::histogram && random.below(4) == 0) {  // one bin holds them all
        const double all =
            random.below(2) ? 0 : std::ldexp(3, static_cast<int>(n > 0 ? c.exponents[0] : 0));
        for (std::size_t i = 0; i < n; ++i) store(data, c.in, i, all);
        return;
    }
    for (std::size_t i = 0; i < n; ++i) {
        if (c.op == Op::dequantize || c.op == Op::lookup)
            detail::any_bits(random, data, c.in, i);
        else if (c.op == Op::requantize)
            detail::accumulator(random, c, data, i);
        else if (c.op == Op::histogram && nonfinite < 2)
            detail::counted(random, c, data, i);
        else
            detail::number(random, c, data, i);
        if (reduces && nonfinite < 2 && !std::isfinite(load(data, c.in, i)))
            store(data, c.in, i, -0.0);
    }
    if (reduces && nonfinite == 1 && n > 0) {
        const std::size_t i = random.below(n);
        random.below(2) ? detail::any_nan(random, data, c.in, i)
                        : store(data, c.in, i, -std::numeric_limits<double>::infinity());
    }
}

}  // namespace test
