// Codes to codes: tables of what each code becomes, with the bits of Python's _reference.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "fpstate.h"
#include "refuse.h"
#include "zeropoint/zeropoint.hpp"

namespace zeropoint {

using core::FpGuard;

namespace {

constexpr std::size_t entries = core::Tables::entries;

// Of numbers for each channel, or one for all.
template <class T>
T at(const std::vector<T>& numbers, std::size_t channel) {
    return numbers[numbers.size() == 1 ? 0 : channel];
}

// Parameters, checked: of a number of channels, or one for all.
struct Side {
    Side(const char* name, const AxisParams& params, core::DType dtype, std::size_t channels)
        : params(params), dtype(dtype), core(detail::checked(params, dtype)) {
        if (params.block_size != 0)
            refuse(name, " has block_size ", params.block_size,
                   ": tables work per tensor or per channel");
        const std::size_t n = params.scale.size();
        if (n != 1 && n != channels)
            refuse("scale of ", name, " has ", n, " elements; it needs ", channels,
                   ", or one for all");
    }

    float scale(std::size_t channel) const { return at(params.scale, channel); }
    std::int32_t zero_point(std::size_t channel) const { return at(params.zero_point, channel); }
    int code(std::uint8_t byte) const {
        return dtype == core::DType::u8 ? byte : static_cast<std::int8_t>(byte);
    }
    std::int64_t steps(std::uint8_t byte, std::size_t channel) const {
        return std::int64_t{code(byte)} - zero_point(channel);
    }
    double value(std::uint8_t byte, std::size_t channel) const {
        return static_cast<double>(steps(byte, channel)) * double{scale(channel)};
    }
    // of `n` bytes, all codes of each channel
    core::Layout layout(std::size_t n) const {
        const std::size_t shape[] = {n / entries, entries};
        return params.scale.size() == 1 ? core::Layout::tensor(n)
                                        : *core::Layout::along(shape, 2, 0, 0);
    }

    const AxisParams& params;
    core::DType dtype;
    core::Params core;
};

// What all bytes of a source become, byte after byte for each channel.
struct Work {
    const Side &source, &target;
    std::size_t n;
    std::uint8_t* codes;
    double* wanted;  // the values that the codes should stand for; at first the source's

    void quantize(const void* x, core::DType dtype) {
        core::quantize(detail::isa(), core::ConstView{x, dtype}, codes, target.layout(n),
                       target.core);
    }
    void quantize_wanted() { quantize(wanted, core::DType::f64); }
    // `code` is told the steps of the source and the channel.
    template <class Code>
    void fill(const Code& code) {
        for (std::size_t i = 0; i < n; ++i) {
            const std::size_t channel = i / entries;
            const std::int64_t steps = source.steps(static_cast<std::uint8_t>(i), channel);
            codes[i] = static_cast<std::uint8_t>(std::clamp<std::int64_t>(
                code(steps, channel), target.params.qmin, target.params.qmax));
        }
    }
};

// `fill` has the codes from the wanted values, which it may change.
detail::Table table_of(const AxisParams& from, core::DType p, const AxisParams& to, core::DType q,
                       std::size_t channels, void (*fill)(Work&, const void*),
                       const void* context) {
    const FpGuard guard;
    const Side source("source", from, p, channels), target("target", to, q, channels);
    const std::size_t n = channels * entries;
    const auto codes = std::make_unique<std::uint8_t[]>(n);
    const auto wanted = std::make_unique<double[]>(n);
    Work work{source, target, n, codes.get(), wanted.get()};
    for (std::size_t i = 0; i < n; ++i)
        work.wanted[i] = source.value(static_cast<std::uint8_t>(i), i / entries);
    fill(work, context);
    double worst = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const int code = source.code(static_cast<std::uint8_t>(i));
        const double error = std::abs(work.wanted[i] - target.value(work.codes[i], i / entries));
        if (source.params.qmin <= code && code <= source.params.qmax && std::isfinite(error))
            worst = std::max(worst, error);
    }
    return {core::Tables(codes.get(), channels), worst};
}

int bits_of(std::uint64_t n) {
    int bits = 0;
    for (; n != 0; n >>= 1) ++bits;
    return bits;
}

// The code nearest to steps * scale / into + zero_point, exactly: a ratio of integers.
std::int64_t nearest(std::int64_t steps, float scale, float into, std::int32_t zero_point,
                     Convention convention) {
    constexpr int digits = 24, most = 62;
    int exponent, exponent_into;
    const auto whole = [](float s, int* exponent) {
        return static_cast<std::uint64_t>(std::ldexp(std::frexp(s, exponent), digits));
    };
    std::uint64_t above = static_cast<std::uint64_t>(std::abs(steps)) * whole(scale, &exponent);
    std::uint64_t below = whole(into, &exponent_into);
    const int shift = exponent - exponent_into;
    // beyond `most` bits the ratio is beyond all codes, or too small to count: `steps`, less than
    // 2^33, and the scales have 57
    std::uint64_t size, rest;
    if (above != 0 && shift >= 0 && bits_of(above) + shift > most) {
        size = std::uint64_t{1} << 40;
        rest = 0;
    } else if (above == 0 || (shift < 0 && bits_of(below) - shift > most)) {
        size = rest = 0;
    } else {
        (shift < 0 ? below : above) <<= std::abs(shift);
        size = above / below;
        rest = above % below;
    }
    bool up = 2 * rest > below;
    if (2 * rest == below) {
        const bool odd = size % 2 != 0;
        switch (convention) {
            case Convention::numpy:  // which rounds after it has added the zero point
                up = odd != (zero_point % 2 != 0);
                break;
            case Convention::onnx:
            case Convention::torch:
                up = odd;
                break;
            default:
                up = true;
        }
    }
    const auto rounded = static_cast<std::int64_t>(size + up);
    return (steps < 0 ? -rounded : rounded) + zero_point;
}

// LiteRT's arithmetic for one pair of scales: _reference.litert_codes.
struct FixedPoint {
    FixedPoint(float scale, float into, bool xnnpack, bool reference) : reference(reference) {
        const float narrow = scale / into;
        if (xnnpack && narrow >= 0x1p-8f && narrow <= 0x1p7f) {
            parts = static_cast<std::int64_t>(std::nearbyint(narrow * 256));
            return;
        }
        const double ratio = double{scale} / double{into};
        if (ratio >= 0x1p31)
            refuse("source.scale / target.scale is ", ratio,
                   ", and LiteRT's arithmetic is undefined from 2^31 on; use Arithmetic::exact");
        multiplier =
            static_cast<std::int64_t>(std::floor(std::ldexp(std::frexp(ratio, &shift), 31) + 0.5));
    }
    std::int64_t operator()(std::int64_t steps) const {
        if (parts != 0) return (steps * parts + 128) >> 8;
        const int left = std::max(shift, 0), right = std::clamp(-shift, 0, 31);
        // in 32 bits, which wrap
        const std::int64_t raised =
            std::int64_t{static_cast<std::int32_t>(steps * (std::int64_t{1} << left))} * multiplier;
        const std::int64_t high = (raised + (std::int64_t{1} << 30)) >> 31;
        const bool away = reference && high < 0 && right > 0;
        return (high + ((std::int64_t{1} << right) >> 1) - away) >> right;
    }

    bool reference;
    std::int64_t parts = 0, multiplier = 0;
    int shift = 0;
};

void rescale_exactly(Work& work) {
    work.fill([&](std::int64_t steps, std::size_t i) {
        return nearest(steps, work.source.scale(i), work.target.scale(i), work.target.zero_point(i),
                       work.target.params.convention);
    });
}

void rescale_in_float(Work& work) {
    const auto x = std::make_unique<float[]>(work.n);
    for (std::size_t i = 0; i < work.n; ++i) work.codes[i] = static_cast<std::uint8_t>(i);
    core::dequantize(detail::isa(), work.codes, core::View{x.get(), core::DType::f32},
                     work.source.layout(work.n), work.source.core);
    work.quantize(x.get(), core::DType::f32);
}

void rescale_as_litert(Work& work, bool reference) {
    for (const Side* side : {&work.source, &work.target})
        for (const std::int32_t zero : side->params.zero_point)
            if (zero < side->params.qmin || zero > side->params.qmax)
                refuse("zero_point ", zero, " must lie in [", side->params.qmin, ", ",
                       side->params.qmax, "] for LiteRT's arithmetic; use Arithmetic::exact");
    const bool xnnpack = !reference && work.source.dtype == work.target.dtype;
    work.fill([&](std::int64_t steps, std::size_t i) {
        const FixedPoint multiply(work.source.scale(i), work.target.scale(i), xnnpack, reference);
        return multiply(steps) + work.target.zero_point(i);
    });
}

void rescale(Work& work, const void* context) {
    const auto arithmetic = *static_cast<const Arithmetic*>(context);
    switch (arithmetic) {
        case Arithmetic::exact:
            return rescale_exactly(work);
        case Arithmetic::in_float:
            return rescale_in_float(work);
        case Arithmetic::litert:
        case Arithmetic::litert_reference:
            return rescale_as_litert(work, arithmetic == Arithmetic::litert_reference);
    }
    refuse("arithmetic ", static_cast<int>(arithmetic),
           " is unknown; choose one of exact, litert, litert_reference, in_float");
}

struct Called {
    detail::Function function;
    void* context;
};
void tabulate(Work& work, const void* context) {
    const auto& called = *static_cast<const Called*>(context);
    for (std::size_t i = 0; i < work.n; ++i)
        work.wanted[i] = called.function(work.wanted[i], called.context);
    work.quantize_wanted();
}

struct Image {
    const std::vector<double>&mean, &std;
    double scale;
};
void normalize(Work& work, const void* context) {
    const auto& image = *static_cast<const Image*>(context);
    const std::size_t channels = work.n / entries;
    const auto check = [&](const char* name, const double* numbers, std::size_t size) {
        if (size != 1 && size != channels)
            refuse(name, " has ", size, " elements; it needs ", channels,
                   ", as many as there are channels, or one for all");
        const bool divides = *name == 's';
        for (const double* x = numbers; x != numbers + size; ++x)
            if (!std::isfinite(*x) || (*x == 0 && divides))
                refuse(name, " ", *x, " must be finite", divides ? " and not 0" : "");
    };
    check("mean", image.mean.data(), image.mean.size());
    check("std", image.std.data(), image.std.size());
    check("scale", &image.scale, 1);
    for (std::size_t i = 0; i < work.n; ++i) {
        const std::size_t channel = i / entries;
        double& x = work.wanted[i];
        x = (x / image.scale - at(image.mean, channel)) / at(image.std, channel);
    }
    work.quantize_wanted();
}

}  // namespace

namespace detail {

Table rescaling(const AxisParams& source, DType from, const AxisParams& target, DType to,
                std::size_t channels, Arithmetic arithmetic) {
    return table_of(source, from, target, to, channels, &rescale, &arithmetic);
}

Table tabulated(Function function, void* context, const AxisParams& source, DType from,
                const AxisParams& target, DType to, std::size_t channels) {
    const Called called{function, context};
    return table_of(source, from, target, to, channels, &tabulate, &called);
}

std::pair<core::Layout, Table> image(const std::vector<double>& mean,
                                     const std::vector<double>& std, double scale,
                                     const AxisParams& target, DType to, const Shape& shape,
                                     std::size_t channel_axis) {
    const core::Layout found = layout(shape, channel_axis, 0);
    if (target.scale.size() != 1 && target.axis != channel_axis)
        refuse("params has axis ", target.axis, " and the channels lie along axis ", channel_axis,
               "; they must be the same");
    const Image image{mean, std, scale};
    return {found,
            table_of(along(Params{}), DType::u8, target, to, found.axis, &normalize, &image)};
}

}  // namespace detail

}  // namespace zeropoint
