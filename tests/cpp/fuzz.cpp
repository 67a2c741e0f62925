// Any bytes are a call: operation, types, layout, parameters, threads, data.  The core must give
// what the oracle gives, on every ISA, and touch nothing else.  libFuzzer looks for bytes that
// fail (check.py fuzz); replay.cpp runs those that it found worth keeping.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "choice.hpp"
#include "inputs.hpp"
#include "memory.hpp"
#include "oracle.hpp"

namespace test {

namespace {

[[noreturn]] void fail(const std::string& what) {
    std::fprintf(stderr, "FAILED: %s\n", what.c_str());
    std::abort();
}

// The bytes, read as numbers; zeros when they are at an end.
class Bytes {
public:
    Bytes(const unsigned char* data, std::size_t size) : next_(data), left_(size) {}
    template <class T>
    T take() {
        T value{};
        const std::size_t n = std::min(left_, sizeof value);
        std::memcpy(&value, next_, n);
        next_ += n;
        left_ -= n;
        return value;
    }
    std::size_t below(std::size_t n) { return take<std::uint16_t>() % n; }
    template <class T, std::size_t n>
    T one_of(const T (&list)[n]) {
        return list[take<std::uint8_t>() % n];
    }
    const unsigned char* rest() const { return next_; }
    std::size_t left() const { return left_; }

private:
    const unsigned char* next_;
    std::size_t left_;
};

constexpr DType reals[] = {DType::f16, DType::bf16, DType::f32, DType::f64};
constexpr DType codes[] = {DType::u8, DType::i8};

// Mostly small, now and then long enough for runs without a division, rarely for threads.
Layout take_layout(Bytes& bytes, std::size_t limit) {
    const auto kind = static_cast<Layout::Kind>(bytes.take<std::uint8_t>() % 3);
    Layout layout{kind, bytes.below(65), bytes.below(301), bytes.below(301), 1};
    if (kind == Layout::Kind::tensor) layout = tensor(bytes.below(20000));
    if (kind == Layout::Kind::block) layout.block = 1 + bytes.below(limit);
    std::size_t* const lengths[] = {&layout.inner, &layout.axis, &layout.outer};
    if (limit > 2048)
        *lengths[kind == Layout::Kind::tensor ? 0 : bytes.below(3)] *= 1 + bytes.below(400);
    for (std::size_t* length : lengths)
        while (layout.size() > limit && *length > 1) *length = (*length + 1) / 2;
    return layout;
}

template <class T>
bool usable_scale(T s, Convention convention) {
    return s > 0 && std::isfinite(s) && (!by_reciprocal(convention) || std::isfinite(1 / s));
}

// The first parameters are any bits that are valid, the others like those of the tests.
void take_parameters(Bytes& bytes, Random& random, Call& c) {
    choose_parameters(random, c);
    const int lowest = c.code == DType::i8 ? -128 : 0;
    const int a = lowest + bytes.take<std::uint8_t>(), b = lowest + bytes.take<std::uint8_t>();
    if (a != b && !c.nan_code) c.qmin = std::min(a, b), c.qmax = std::max(a, b);
    const std::size_t given = std::min<std::size_t>(c.scale.size(), bytes.below(4));
    for (std::size_t p = 0; p < c.scale.size(); ++p) {
        if (p < given) {
            const double s = c.precision == DType::f64 ? bytes.take<double>() : bytes.take<float>();
            if (c.by_offset) {  // a span may be 0
                if (std::isfinite(s) && s >= (keeps_span(*c.by_offset) ? 0 : 0x1p-1074))
                    c.scale[p] = s;
                const double o =
                    c.precision == DType::f64 ? bytes.take<double>() : bytes.take<float>();
                if (std::isfinite(o)) c.offset[p] = o;
                continue;
            }
            if (usable_scale(s, c.convention) && usable_scale(static_cast<float>(s), c.convention))
                c.scale[p] = s;
            c.zero_point[p] = bytes.take<std::int32_t>();
        }
        if (c.convention != Convention::numpy || c.op == Op::requantize)
            c.zero_point[p] = std::max(c.qmin, std::min(c.qmax, c.zero_point[p]));
    }
    if (c.op != Op::requantize || c.multiplier.empty()) return;
    const float m = bytes.take<float>();
    if (m > 0 && std::isfinite(m)) c.multiplier[0] = m;
}

Call take_call(Bytes& bytes, Random& random) {
    Call c;
    const auto op = bytes.take<std::uint8_t>();
    c.op = op % 23 == 22 ? Op::lookup : static_cast<Op>(op % 10);
    c.code = bytes.one_of(codes);
    c.precision = bytes.one_of({DType::f32, DType::f64});
    const auto convention = bytes.take<std::uint8_t>();
    c.convention = conventions[convention % std::size(conventions)];
    if (convention >= 128 && c.op <= Op::fake_quantize)
        c.by_offset = offset_conventions[convention % std::size(offset_conventions)];
    if (convention % 128 >= 96 && c.op <= Op::fake_quantize) c.nan_code = 0;
    c.in = bytes.one_of(reals);
    c.out = c.op == Op::dequantize ? bytes.one_of(reals) : c.code;
    if (c.op == Op::dequantize) c.in = c.code;
    if (c.op == Op::fake_quantize || c.op == Op::round) c.out = c.in;
    if (c.op == Op::requantize) c.in = DType::i32, c.precision = DType::f32;
    if (c.op == Op::min_max || c.op == Op::min_max_present)
        c.out = c.in == DType::f64 ? DType::f64 : DType::f32;
    if (c.op == Op::saturate)
        c.in = c.out = bytes.one_of(
            {DType::f16, DType::bf16, DType::f32, DType::f64, DType::i16, DType::i32, DType::i64});
    if (c.op == Op::saturate_cast) c.in = static_cast<DType>(bytes.take<std::uint8_t>() % 12);
    c.layout = take_layout(bytes, op >= 248 ? 400000 : op >= 224 ? 20000 : 2048);
    if (c.op == Op::histogram) c.out = DType::i64;
    const bool too_many = c.op == Op::histogram && c.layout.parameters() > 20;  // of 32 KiB each
    if (!has_layout(c.op) || too_many) c.layout = tensor(c.layout.size());
    if (c.op == Op::lookup) {
        c.in = c.out = DType::u8;
        if (c.layout.parameters() > 1000) c.layout = tensor(c.layout.size());
        if (c.layout.kind == Layout::Kind::block) c.layout.kind = Layout::Kind::channel;
        choose_tables(random, c);
    }
    if (has_parameters(c.op)) take_parameters(bytes, random, c);
    if (c.op == Op::histogram) choose_exponents(random, c);
    c.low = bytes.take<std::int16_t>() % 256;  // every type of saturate has these
    c.high = std::max<std::int64_t>(c.low, bytes.take<std::int16_t>() % 256);
    c.ties_away = bytes.take<std::uint8_t>() % 2;
    return c;
}

struct Stop {
    std::size_t after;
    static bool keep_going(void* self) { return static_cast<Stop*>(self)->after-- != 0; }
};

void check_call(Bytes& bytes) {
    Random random(bytes.take<std::uint32_t>());
    const Call c = take_call(bytes, random);
    const Parameters p(c);
    core::set_num_threads(1 + bytes.below(8));
    const auto in_place = bytes.one_of({Place::heap, Place::first, Place::last});
    const auto out_place = bytes.one_of({Place::heap, Place::first, Place::last});
    const Memory in(c.in_bytes(), in_place, core::size_of(c.in) * bytes.below(16));
    const std::size_t shift = core::size_of(c.out) * bytes.below(64);
    Stop stop{bytes.below(8)};
    fill(random, c, in.data());
    if (bytes.left() > 0) std::memcpy(in.data(), bytes.rest(), std::min(bytes.left(), in.size()));
    std::vector<unsigned char> expected = oracle::result(c, in.data());
    oracle::only_promised(c, expected.data());
    for (std::size_t isa = 0; isa < core::isas().size(); ++isa) {
        const std::string where = describe(c) + " on " + core::isas()[isa];
        const Memory out(c.out_bytes(), out_place, shift);
        const core::Poll poll{stop.after < 7 ? Stop::keep_going : nullptr, &stop};
        const bool finished = run(c, p, isa, in.data(), out.data(), poll);
        if (!finished && !poll.keep_going) fail(where + ": stopped");
        oracle::only_promised(c, out.data());
        for (std::size_t i = 0; finished && i < expected.size(); ++i)
            if (out.data()[i] != expected[i])
                fail(where + ": element " + std::to_string(i / core::size_of(c.out)) + " differs");
        if (!out.surroundings_intact()) fail(where + ": bytes beside the output written");
    }
}

template <class T>
void check_choice(Bytes& bytes) {
    core::Choice c;
    c.zero_point_from = bytes.one_of({core::ZeroPointFrom::default_rule, core::ZeroPointFrom::max,
                                      core::ZeroPointFrom::min, core::ZeroPointFrom::least_error});
    c.convention = bytes.one_of(conventions);
    const auto flags = bytes.take<std::uint8_t>();
    c.include_zero = flags & 1 || c.convention != Convention::numpy;
    c.symmetric = c.include_zero && flags & 2;
    if (c.symmetric) c.zero_point_from = core::ZeroPointFrom::default_rule;
    const int lowest = flags & 4 ? -128 : 0;
    const int a = lowest + bytes.take<std::uint8_t>(), b = lowest + bytes.take<std::uint8_t>();
    c.qmin = std::min(a, b);
    c.qmax = std::max(a, b);
    if (c.qmin == c.qmax) c.qmin = lowest, c.qmax = lowest + 255;
    const T low = bytes.take<T>(), high = bytes.take<T>();
    if (low > high) return;
    const std::string problem = problem_of_choice(low, high, c);
    if (!problem.empty()) fail("choose, " + describe(c) + ": " + problem);
}

}  // namespace

}  // namespace test

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    test::Bytes bytes(data, size);
    const auto what = bytes.take<std::uint8_t>();
    if (what % 8 == 7)
        what & 8 ? test::check_choice<float>(bytes) : test::check_choice<double>(bytes);
    else
        test::check_call(bytes);
    return 0;
}
