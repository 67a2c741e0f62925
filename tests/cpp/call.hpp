// One call of the core as data: what to do, on what kind of arrays, with which parameters.  The
// expected results, the inputs, the tests and the fuzzer are all functions of it; `run` hands it to
// the core.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "zeropoint/core.hpp"

namespace test {

namespace core = zeropoint::core;
using core::Convention;
using core::DType;
using core::Layout;
using core::OffsetConvention;

enum class Op {
    quantize,
    dequantize,
    fake_quantize,
    requantize,
    saturate,
    saturate_cast,
    round,
    min_max,
    min_max_present,
    histogram,
    lookup
};
constexpr Convention conventions[] = {
#define ZEROPOINT_CONVENTION(name) Convention::name,
#include "zeropoint/conventions.def"
};
constexpr OffsetConvention offset_conventions[] = {
#define ZEROPOINT_OFFSET_CONVENTION(name, text) OffsetConvention::name,
#include "zeropoint/conventions.def"
};

inline bool has_parameters(Op op) { return op <= Op::requantize; }
inline bool has_layout(Op op) { return has_parameters(op) || op >= Op::min_max; }

struct Call {
    Op op = Op::quantize;
    // of the arrays; min_max: `out` is that of its results; histogram: of the words of its table
    DType in = DType::f32, out = DType::u8;
    Layout layout;

    // quantize, dequantize, fake_quantize, requantize
    DType code = DType::u8, precision = DType::f32;  // `precision` is that of the scale
    Convention convention = Convention::numpy;
    int qmin = 0, qmax = 255;
    std::vector<double> scale{1};  // numbers of `precision`
    std::vector<std::int32_t> zero_point{0};
    std::vector<float> multiplier{1};  // requantize: one, or one a parameter
    std::optional<int> nan_code = {};
    // in place of `convention` and `zero_point`, and `scale` is the span where that is kept
    std::optional<OffsetConvention> by_offset = {};
    std::vector<double> offset{0};  // numbers of `precision`
    bool fused = false;

    std::int64_t low = 0, high = 0;       // saturate
    bool ties_away = false;               // round
    std::vector<std::int64_t> exponents;  // histogram
    std::vector<std::uint8_t> tables;     // lookup: 256 bytes a parameter

    std::size_t in_bytes() const { return layout.size() * core::size_of(in); }
    std::size_t out_bytes() const {
        const bool reduces = op == Op::min_max || op == Op::min_max_present;
        const std::size_t n = op == Op::histogram ? core::histogram_row * layout.parameters()
                              : reduces           ? 2 * layout.parameters()
                                                  : layout.size();
        return n * core::size_of(out);
    }
    bool may_be_in_place() const {
        return in == out && (op == Op::fake_quantize || op == Op::saturate || op == Op::round ||
                             op == Op::lookup);
    }
};

inline Layout tensor(std::size_t n) { return Layout::tensor(n); }
inline Layout channel(std::size_t outer, std::size_t axis, std::size_t inner) {
    return {Layout::Kind::channel, outer, axis, inner, 1};
}
inline Layout blocks(std::size_t outer, std::size_t axis, std::size_t inner, std::size_t block) {
    return {Layout::Kind::block, outer, axis, inner, block};
}

// ---- in words --------------------------------------------------------------------------------

inline const char* name(Op op) {
    constexpr const char* names[] = {
        "quantize", "dequantize", "fake_quantize",   "requantize", "saturate", "saturate_cast",
        "round",    "min_max",    "min_max_present", "histogram",  "lookup"};
    return names[static_cast<int>(op)];
}
inline const char* name(DType dtype) {
    constexpr const char* names[] = {"f16", "bf16", "f32", "f64", "i8",  "u8",
                                     "i16", "u16",  "i32", "u32", "i64", "u64"};
    return names[static_cast<int>(dtype)];
}
inline const char* name(Convention convention) {
    return core::convention_names[static_cast<int>(convention)];
}
inline const char* name(OffsetConvention convention) {
    return core::offset_convention_names[static_cast<int>(convention)];
}
inline const char* name(Layout::Kind kind) {
    constexpr const char* names[] = {"tensor", "channel", "block"};
    return names[static_cast<int>(kind)];
}

/// Operation, types, convention and layout, without sizes: "quantize f32 u8 numpy f32 channel".
inline std::string kind(const Call& c) {
    std::string words = std::string(name(c.op)) + ' ' + name(c.in) + ' ' + name(c.out);
    if (c.op == Op::fake_quantize) words += std::string(" by ") + name(c.code);
    if (c.by_offset)
        words += std::string(" ") + name(*c.by_offset) + (c.fused ? " fused" : "");
    else if (c.op == Op::quantize || c.op == Op::fake_quantize)
        words += std::string(" ") + name(c.convention);
    if (c.nan_code) words += " with a code for NaN";
    if (c.op == Op::quantize || c.op == Op::dequantize || c.op == Op::fake_quantize)
        words += std::string(" scale ") + name(c.precision);
    if (c.op == Op::round) words += c.ties_away ? " away" : " even";
    return words + ' ' + name(c.layout.kind);
}

inline std::string describe(const Call& c) {
    return kind(c) + " {" + std::to_string(c.layout.outer) + ", " + std::to_string(c.layout.axis) +
           ", " + std::to_string(c.layout.inner) + "} block " + std::to_string(c.layout.block) +
           " codes " + std::to_string(c.qmin) + ".." + std::to_string(c.qmax);
}

// ---- to the core -----------------------------------------------------------------------------

/// The parameters of a call as the core takes them: casts and proofs are made at their first use.
class Parameters {
public:
    explicit Parameters(const Call& c)
        : params(made(c)),
          requantization(params, c.multiplier),
          tables(c.tables.data(), c.tables.size() / core::Tables::entries) {}
    const core::Params params;
    const core::Requantization requantization;
    const core::Tables tables;

private:
    static core::Params made(const Call& c) {
        if (c.precision == DType::f64) return made(c, c.scale, c.offset);
        const std::vector<float> scale(c.scale.begin(), c.scale.end());
        return made(c, scale, std::vector<float>(c.offset.begin(), c.offset.end()));
    }
    template <class T>
    static core::Params made(const Call& c, const std::vector<T>& scale,
                             const std::vector<T>& offset) {
        if (c.by_offset)
            return {scale, offset, c.qmin, c.qmax, c.code, *c.by_offset, c.fused, c.nan_code};
        return {scale, c.zero_point, c.qmin, c.qmax, c.code, c.convention, c.nan_code};
    }
};

/// Whether the core finished.
inline bool run(const Call& c, const Parameters& p, std::size_t isa, const void* in, void* out,
                core::Poll poll = {}) {
    switch (c.op) {
        case Op::quantize:
            return core::quantize(isa, {in, c.in}, out, c.layout, p.params, poll);
        case Op::dequantize:
            return core::dequantize(isa, in, {out, c.out}, c.layout, p.params, poll);
        case Op::fake_quantize:
            return core::fake_quantize(isa, {in, c.in}, out, c.layout, p.params, poll);
        case Op::requantize:
            return core::requantize(isa, static_cast<const std::int32_t*>(in), out, c.layout,
                                    p.requantization, poll);
        case Op::saturate:
            return core::saturate(isa, {in, c.in}, out, c.layout.size(), c.low, c.high, poll);
        case Op::saturate_cast:
            return core::saturate_cast(isa, {in, c.in}, {out, c.out}, c.layout.size(), poll);
        case Op::round:
            return core::round(isa, {in, c.in}, out, c.layout.size(), c.ties_away, poll);
        case Op::min_max:
        case Op::min_max_present: {
            char* const high = static_cast<char*>(out) + c.out_bytes() / 2;
            const auto function = c.op == Op::min_max ? core::min_max : core::min_max_present;
            return function(isa, {in, c.in}, out, high, c.layout, poll);
        }
        case Op::histogram:
            std::memset(out, 0, c.out_bytes());
            return core::histogram(isa, {in, c.in}, c.exponents, out, c.layout, poll);
        case Op::lookup:
            return core::lookup(isa, in, out, c.layout, p.tables, poll);
    }
    return false;
}

}  // namespace test
