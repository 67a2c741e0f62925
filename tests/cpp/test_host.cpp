// What the core owes its host: the floating-point state as it was, whatever it was, results that do
// not depend on it, and calls that stop when asked to.  And what the core asks the system.
#include <algorithm>
#include <fstream>
#include <string>
#include <tuple>

#include "check.hpp"
#include "choice.hpp"
#include "sample.hpp"

#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>

#include "machine.h"
#endif

namespace test {

namespace {

// The control word of the floating-point unit and values that would change results: no subnormals,
// another rounding, every exception a trap, sticky flags.
#if defined(__SSE2__) || defined(_M_X64)
using State = unsigned;
State read_state() { return _mm_getcsr(); }
void write_state(State state) { _mm_setcsr(state); }
constexpr State hostile[] = {0xDFC0, 0xBFC0 | 0x3F, 0x2000, 0x7FC1};
#elif defined(__aarch64__)
using State = std::uint64_t;
State read_state() {
    State state;
    __asm__ volatile("mrs %0, fpcr" : "=r"(state));
    return state;
}
void write_state(State state) { __asm__ volatile("msr fpcr, %0" : : "r"(state) : "memory"); }
constexpr State hostile[] = {1u << 24 | 1u << 22, 1u << 25 | 2u << 22, 3u << 22};
#else
using State = int;
State read_state() { return 0; }
void write_state(State) {}
constexpr State hostile[] = {0};
#endif

// Data that all are 0 to a host that flushes subnormals.
Sample subnormal(const Call& c) {
    std::vector<unsigned char> in(c.in_bytes());
    Random random(3);
    for (std::size_t i = 0; i < c.layout.size(); ++i)
        write(in.data(), i, std::ldexp(static_cast<float>(random.between(-999, 999)), -149));
    return {c, in};
}

void test_state(const std::vector<Sample>& samples) {
    const State usual = read_state();
    for (const State wanted : hostile) {
        write_state(wanted);
        const State set = read_state();  // an emulator may not keep all of it
        write_state(usual);
        for (const std::size_t isa : options.isas)
            for (const Sample& sample : samples) {
                const Parameters p(sample.call);
                std::vector<unsigned char> out(sample.call.out_bytes());
                write_state(set);
                const bool finished = run(sample.call, p, isa, sample.in.data(), out.data());
                const State after = read_state();
                write_state(usual);
                check(after == set, describe(sample.call) + ": the host's floating-point state");
                counts.elements += sample.call.layout.size();
                check(finished && sample.matches(out),
                      describe(sample.call) + " in a hostile floating-point state");
            }
        core::Choice choice;
        choice.zero_point_from = core::ZeroPointFrom::least_error;
        const float low = -0x1.23456p-120f, high = 0x1.3579bp-127f;  // the scale is subnormal
        const Chosen<float> expected = chosen_by_core(low, high, choice);
        write_state(set);
        const Chosen<float> got = chosen_by_core(low, high, choice);
        const State after = read_state();
        write_state(usual);
        check(after == set, "choose: the host's floating-point state");
        check(describe(got) == describe(expected), "choose in a hostile floating-point state");
    }
}

void test_quotients() {
    const std::vector<double> a{1, 1e-310, 0x1p-149, 3, 0x1.fffffffp127};
    const std::vector<double> b{3, 7, 1.5, 0x1p130, 1};
    std::vector<float> expected, got(a.size());
    for (std::size_t i = 0; i < a.size(); ++i) expected.push_back(static_cast<float>(a[i] / b[i]));
    const State usual = read_state();
    for (const State wanted : hostile) {
        write_state(wanted);
        core::quotients(a.data(), b.data(), got.data(), a.size());
        write_state(usual);
        check(got == expected, "quotients in a hostile floating-point state");
    }
}

struct Asked {
    int times = 0, stop_at = 0;
    static bool keep_going(void* self) {
        Asked& asked = *static_cast<Asked*>(self);
        return ++asked.times != asked.stop_at;
    }
    core::Poll poll() { return {keep_going, this}; }
};

// With one thread the work is done in order, so that what lies behind the stop is untouched; with
// several the call ends all the same, and the next one is right.
void test_poll() {
    const Sample sample(call_of(Op::quantize, DType::f32, DType::u8, tensor(4500001)), 5);
    const Parameters p(sample.call);
    const std::size_t isa = options.isas[0];
    for (const std::size_t threads : {1, 2, 5}) {
        core::set_num_threads(threads);
        for (const int stop_at : {0, 1, 2}) {
            Asked asked{0, stop_at};
            std::vector<unsigned char> out(sample.call.out_bytes(), 0xA5);
            const bool finished =
                run(sample.call, p, isa, sample.in.data(), out.data(), asked.poll());
            // the caller's thread may have had too few chunks to ask as often as that
            check(finished == (stop_at == 0 || asked.times < stop_at), "poll: finished or not");
            check(!finished || sample.matches(out), "poll: the result");
            if (threads > 1) continue;
            check(asked.times == (stop_at ? stop_at : 4), "poll: asked once in 2^20 elements");
            const std::size_t done = stop_at ? std::size_t(stop_at) << 20 : out.size();
            check(std::equal(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(done),
                             sample.expected.begin()),
                  "poll: right up to the stop");
            check(std::all_of(out.begin() + static_cast<std::ptrdiff_t>(done), out.end(),
                              [](unsigned char byte) { return byte == 0xA5; }),
                  "poll: nothing written behind the stop");
        }
    }
    core::set_num_threads(0);
}

#if defined(__linux__)
void test_machine() {
    unsigned long largest = 0;  // of a CPU the last level is the largest
    for (int i = 0; i < 10; ++i) {
        std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(i) +
                           "/size");
        unsigned long number = 0;
        char unit = 0;
        if (file >> number) file >> unit;
        largest = std::max(largest, number << (unit == 'M' ? 20 : unit == 'K' ? 10 : 0));
    }
    check(largest == 0 || core::last_level_cache() == largest, "the last-level cache");
    check(core::usable_cpus() >= 1, "usable CPUs");

    const std::size_t size = std::size_t(8) << 20;
    void* mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char* bytes = static_cast<char*>(mapped);
    madvise(mapped, size, MADV_NOHUGEPAGE);
    bytes[0] = 1;
    const auto is = [&](bool first, bool middle, bool last) {
        return core::has_page(bytes) == first && core::has_page(bytes + size / 2) == middle &&
               core::has_page(bytes + size - 1) == last;
    };
    check(is(true, false, false), "new memory has no pages but the first, which was written to");
    std::fill_n(bytes, size, 'x');
    check(is(true, true, true), "then it has all");
    munmap(mapped, size);
    check(is(true, true, true), "and where there is no answer it has");
}
#endif

}  // namespace

void test_host() {
    std::vector<Sample> samples;
    std::uint64_t seed = 7;
    using D = DType;
    for (const auto& [op, in, out] : {std::tuple{Op::quantize, D::f32, D::u8},
                                      {Op::quantize, D::f64, D::i8},
                                      {Op::quantize, D::f16, D::u8},
                                      {Op::dequantize, D::i8, D::f16},
                                      {Op::dequantize, D::u8, D::bf16},
                                      {Op::fake_quantize, D::bf16, D::bf16},
                                      {Op::fake_quantize, D::f64, D::f64},
                                      {Op::requantize, D::i32, D::u8},
                                      {Op::saturate, D::f32, D::f32},
                                      {Op::saturate_cast, D::f64, D::i8},
                                      {Op::round, D::f16, D::f16},
                                      {Op::min_max, D::f32, D::f32},
                                      {Op::histogram, D::f16, D::i64}})
        for (const Layout& layout : {tensor(9001), channel(300, 3, 7)}) {
            if (!has_layout(op) && layout.kind != Layout::Kind::tensor) continue;
            Call c = call_of(op, in, out, layout);
            for (const Convention convention : {Convention::numpy, Convention::tflite}) {
                c.convention = convention;
                samples.emplace_back(c, ++seed);
            }
        }
    // and in the threads of the pool
    samples.emplace_back(call_of(Op::fake_quantize, D::f32, D::f32, tensor(400003)), ++seed);
    samples.emplace_back(subnormal(call_of(Op::min_max, D::f32, D::f32, channel(5, 3, 40001))));
    core::set_num_threads(3);
    test_state(samples);
    test_quotients();
    core::set_num_threads(0);
    test_poll();
#if defined(__linux__)
    test_machine();
#endif
}

}  // namespace test
