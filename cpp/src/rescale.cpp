// Codes to codes: tables of what each code becomes, with the bits of Python's _reference.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "fpstate.h"
#include "refuse.h"
#include "zeropoint/zeropoint.hpp"

namespace zeropoint {

using core::FpGuard;

namespace {

constexpr std::size_t entries = core::Tables::entries;

// Parameters of as many channels, checked.
struct Side {
    Side(const char* name, AxisParams given, core::DType dtype, std::size_t channels)
        : params(with(name, std::move(given), channels)),
          dtype(dtype),
          core(detail::checked(params, dtype)) {}

    static AxisParams with(const char* name, AxisParams p, std::size_t channels) {
        if (p.block_size != 0)
            refuse(name, " has block_size ", p.block_size,
                   ": tables work per tensor or per channel");
        if (p.scale.size() == 1) p.scale.assign(channels, float{p.scale[0]});
        if (p.zero_point.size() == 1) p.zero_point.assign(channels, std::int32_t{p.zero_point[0]});
        if (p.scale.size() != channels)
            refuse("the scale of ", name, " has ", p.scale.size(), " elements; it needs ", channels,
                   ", or one for all");
        return p;
    }

    // q - z of a byte, and the value that it stands for
    std::int64_t steps(std::uint8_t byte, std::size_t channel) const {
        const int code = dtype == core::DType::u8 ? byte : static_cast<std::int8_t>(byte);
        return std::int64_t{code} - params.zero_point[channel];
    }
    double value(std::uint8_t byte, std::size_t channel) const {
        return static_cast<double>(steps(byte, channel)) * double{params.scale[channel]};
    }
    bool uses(std::uint8_t byte) const {
        const int code = dtype == core::DType::u8 ? byte : static_cast<std::int8_t>(byte);
        return params.qmin <= code && code <= params.qmax;
    }
    std::uint8_t clipped(std::int64_t code) const {
        return static_cast<std::uint8_t>(std::clamp<std::int64_t>(code, params.qmin, params.qmax));
    }

    AxisParams params;
    core::DType dtype;
    core::Params core;
};

// What bytes become, and the values that they should stand for.
struct Bytes {
    explicit Bytes(std::size_t channels) : channels(channels), codes(channels * entries) {}

    core::Layout layout() const {
        const std::size_t shape[] = {channels, entries};
        return *core::Layout::along(shape, 2, 0, 0);
    }
    // `each` is told the byte and the channel.
    template <class Each>
    void fill(const Each& each) {
        for (std::size_t i = 0; i < codes.size(); ++i)
            codes[i] = each(static_cast<std::uint8_t>(i % entries), i / entries);
    }

    std::size_t channels;
    std::vector<std::uint8_t> codes;
};

detail::Table finished(const Bytes& bytes, const Side& source, const Side& target,
                       const std::vector<double>& wanted) {
    double worst = 0;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
        const double error = std::abs(wanted[i] - target.value(bytes.codes[i], i / entries));
        if (source.uses(static_cast<std::uint8_t>(i % entries)) && std::isfinite(error))
            worst = std::max(worst, error);
    }
    return {core::Tables(bytes.codes.data(), bytes.channels), worst};
}

// The values of all bytes of all channels.
std::vector<double> values_of(const Side& side, std::size_t channels) {
    std::vector<double> found(channels * entries);
    for (std::size_t i = 0; i < found.size(); ++i)
        found[i] = side.value(static_cast<std::uint8_t>(i % entries), i / entries);
    return found;
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

// In 32 bits, which wrap.
std::int64_t wrapped(std::int64_t n) {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(static_cast<std::uint64_t>(n)));
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
        if (multiplier == std::int64_t{1} << 31) {
            multiplier /= 2;
            ++shift;
        }
        if (shift < -31) multiplier = shift = 0;
    }
    std::int64_t operator()(std::int64_t steps) const {
        if (parts != 0) return (steps * parts + 128) >> 8;
        const int left = std::max(shift, 0), right = std::max(-shift, 0);
        const std::int64_t raised = wrapped(steps * (std::int64_t{1} << left)) * multiplier;
        const std::int64_t high = (raised + (std::int64_t{1} << 30)) >> 31;
        const bool away = reference && high < 0 && right > 0;
        return (high + ((std::int64_t{1} << right) >> 1) - away) >> right;
    }

    bool reference;
    std::int64_t parts = 0, multiplier = 0;
    int shift = 0;
};

void check_for_litert(const char* name, const AxisParams& p) {
    for (const std::int32_t zero : p.zero_point)
        if (zero < p.qmin || zero > p.qmax)
            refuse("zero_point ", zero, " of ", name, " must lie in [", p.qmin, ", ", p.qmax,
                   "] for LiteRT's arithmetic; use Arithmetic::exact");
}

// Codes by `wanted`, the values that they should stand for.
detail::Table quantized(const Side& source, const Side& target, const std::vector<double>& wanted) {
    Bytes bytes(wanted.size() / entries);
    core::quantize(detail::isa(), {wanted.data(), core::DType::f64}, bytes.codes.data(),
                   bytes.layout(), target.core);
    return finished(bytes, source, target, wanted);
}

void check_numbers(const char* name, const std::vector<double>& numbers, std::size_t channels) {
    const bool zero_too = name[0] == 'm';  // the mean
    if (numbers.size() != 1 && numbers.size() != channels)
        refuse(name, " has ", numbers.size(), " elements; it needs ", channels,
               ", as many as there are channels, or one for all");
    for (const double number : numbers)
        if (!std::isfinite(number) || (number == 0 && !zero_too))
            refuse(name, " ", number, " must be finite", zero_too ? "" : " and not 0");
}

}  // namespace

namespace detail {

AxisParams along(const Params& p) {
    AxisParams found;
    found.scale = {p.scale};
    found.zero_point = {p.zero_point};
    found.qmin = p.qmin;
    found.qmax = p.qmax;
    found.convention = p.convention;
    found.include_zero = p.include_zero;
    return found;
}

core::Layout layout(const Shape& shape, const AxisParams& source, const AxisParams& target) {
    const bool several = source.scale.size() != 1;
    if (several && target.scale.size() != 1 && source.axis != target.axis)
        refuse("source has axis ", source.axis, " and target axis ", target.axis,
               "; they must be the same");
    AxisParams one = several ? source : target;
    one.block_size = 0;  // which Side refuses
    if (one.scale.size() == 1 && one.axis < shape.size()) one.scale.resize(shape[one.axis]);
    return layout(shape, one);
}

Table rescaling(const AxisParams& source_params, DType from, const AxisParams& target_params,
                DType to, std::size_t channels, Arithmetic arithmetic) {
    const FpGuard guard;
    const Side source("source", source_params, from, channels);
    const Side target("target", target_params, to, channels);
    const auto &s = source.params.scale, &into = target.params.scale;
    Bytes bytes(channels);
    switch (arithmetic) {
        case Arithmetic::exact:
            bytes.fill([&](std::uint8_t byte, std::size_t i) {
                return target.clipped(nearest(source.steps(byte, i), s[i], into[i],
                                              target.params.zero_point[i],
                                              target.params.convention));
            });
            break;
        case Arithmetic::in_float: {
            Bytes every(channels);
            every.fill([](std::uint8_t byte, std::size_t) { return byte; });
            std::vector<float> x(every.codes.size());
            core::dequantize(isa(), every.codes.data(), view(x.data()), every.layout(),
                             source.core);
            const float* values = x.data();
            core::quantize(isa(), view(values), bytes.codes.data(), bytes.layout(), target.core);
            break;
        }
        case Arithmetic::litert:
        case Arithmetic::litert_reference: {
            check_for_litert("source", source.params);
            check_for_litert("target", target.params);
            const bool reference = arithmetic == Arithmetic::litert_reference;
            std::vector<FixedPoint> multiply;
            for (std::size_t i = 0; i < channels; ++i)
                multiply.emplace_back(s[i], into[i], !reference && from == to, reference);
            bytes.fill([&](std::uint8_t byte, std::size_t i) {
                return target.clipped(
                    wrapped(multiply[i](source.steps(byte, i)) + target.params.zero_point[i]));
            });
            break;
        }
        default:
            refuse("arithmetic ", static_cast<int>(arithmetic),
                   " is unknown; choose one of exact, litert, litert_reference, in_float");
    }
    return finished(bytes, source, target, values_of(source, channels));
}

Table tabulated(Function function, void* context, const AxisParams& source_params, DType from,
                const AxisParams& target_params, DType to, std::size_t channels) {
    const FpGuard guard;
    const Side source("source", source_params, from, channels);
    const Side target("target", target_params, to, channels);
    std::vector<double> x = values_of(source, channels);
    for (double& value : x) value = function(value, context);
    return quantized(source, target, x);
}

Table tabulated(const std::vector<double>& mean, const std::vector<double>& std, double scale,
                const AxisParams& params, DType to, std::size_t channels) {
    const FpGuard guard;
    check_numbers("mean", mean, channels);
    check_numbers("std", std, channels);
    check_numbers("scale", {scale}, channels);
    const Side pixels("pixels", along(Params{}), DType::u8, channels);
    const Side target("params", params, to, channels);
    std::vector<double> x = values_of(pixels, channels);
    for (std::size_t i = 0; i < x.size(); ++i) {
        const std::size_t channel = i / entries;
        x[i] = (x[i] / scale - mean[mean.size() == 1 ? 0 : channel]) /
               std[std.size() == 1 ? 0 : channel];
    }
    return quantized(pixels, target, x);
}

}  // namespace detail

}  // namespace zeropoint
