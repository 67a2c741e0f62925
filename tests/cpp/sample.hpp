// Calls large enough for several threads and for polling, with their inputs and results.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "check.hpp"
#include "inputs.hpp"
#include "oracle.hpp"

namespace test {

struct Sample {
    Call call;
    std::vector<unsigned char> in, expected;

    Sample(Call c, std::uint64_t seed) : call(std::move(c)) {
        Random random(seed);
        if (has_parameters(call.op)) choose_parameters(random, call);
        if (call.op == Op::histogram) choose_exponents(random, call);
        if (call.op == Op::lookup) choose_tables(random, call);
        call.low = -2, call.high = 100;  // of saturate
        in.resize(call.in_bytes());
        fill(random, call, in.data());
        oracle();
    }
    Sample(Call c, std::vector<unsigned char> data) : call(std::move(c)), in(std::move(data)) {
        oracle();
    }
    /// Whether the core gives the expected result; safe to call from many threads.
    bool is_right(const Parameters& p, std::size_t isa) const {
        std::vector<unsigned char> out(call.out_bytes(), 0xA5);
        if (!run(call, p, isa, in.data(), out.data())) return false;
        return matches(out);
    }
    bool matches(std::vector<unsigned char>& out) const {
        oracle::only_promised(call, out.data());
        return out == expected;
    }

private:
    void oracle() {
        expected = oracle::result(call, in.data());
        oracle::only_promised(call, expected.data());
    }
};

/// A check for each element.
inline bool check_right(const Sample& sample, const Parameters& p, std::size_t isa,
                        const std::string& what) {
    counts.elements += sample.call.layout.size();
    return check(sample.is_right(p, isa),
                 describe(sample.call) + " on " + core::isas()[isa] + what);
}

inline Call call_of(Op op, DType in, DType out, const Layout& layout) {
    Call c;
    c.op = op;
    c.in = in;
    c.out = out;
    c.code = op == Op::dequantize ? in : op == Op::fake_quantize ? DType::i8 : out;
    c.layout = layout;
    return c;
}

/// One of each operation, over every kind of layout; each large enough for two threads or more,
/// most for eight.  One in --every of them.
inline std::vector<Sample> large_samples() {
    using D = DType;
    const std::pair<Op, std::pair<D, D>> operations[] = {
        {Op::quantize, {D::f32, D::u8}},       {Op::quantize, {D::f64, D::i8}},
        {Op::dequantize, {D::u8, D::f64}},     {Op::fake_quantize, {D::f16, D::f16}},
        {Op::fake_quantize, {D::f32, D::f32}}, {Op::requantize, {D::i32, D::i8}},
        {Op::min_max, {D::f32, D::f32}},       {Op::min_max, {D::f64, D::f64}}};
    std::vector<Sample> samples;
    std::uint64_t seed = 77, made = 0;
    const auto add = [&](const Call& c) {
        ++seed;
        if (made++ % options.every == 0) samples.emplace_back(c, seed);
    };
    for (const Layout& layout :
         {tensor(480007), channel(40, 3, 4001), channel(160000, 3, 1), channel(20011, 3, 8),
          channel(1, 480007, 1), blocks(6, 80000, 1, 32), blocks(7, 68573, 1, 1000),
          blocks(3, 401, 400, 16)})
        for (const auto& [op, types] : operations)
            add(call_of(op, types.first, types.second, layout));
    for (const Layout& layout : {tensor(480007), channel(40, 3, 4001), channel(160000, 3, 1)})
        add(call_of(Op::histogram, D::f64, D::i64, layout));
    for (const Layout& layout :
         {tensor(1048583), channel(40, 30, 1001), channel(400000, 3, 1), channel(300000, 4, 1)})
        add(call_of(Op::lookup, D::u8, D::u8, layout));
    add(call_of(Op::saturate, D::i64, D::i64, tensor(300001)));
    add(call_of(Op::saturate_cast, D::u16, D::i8, tensor(480007)));
    add(call_of(Op::round, D::bf16, D::bf16, tensor(480007)));
    return samples;
}

}  // namespace test
