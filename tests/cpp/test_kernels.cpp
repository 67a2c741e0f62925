// Every operation, type, convention, layout and ISA, at sizes around the ends of vectors and cache
// lines, beside the oracle's results: the same bytes, and none beside the arrays touched.
#include <algorithm>
#include <set>

#include "check.hpp"
#include "inputs.hpp"
#include "memory.hpp"
#include "oracle.hpp"
#include "targets.h"

namespace test {

namespace {

// A vector holds 2 to 64 elements, and a loop takes up to four at a time.
std::vector<std::size_t> sizes() {
    std::set<std::size_t> found{0, 1025, 1100};
    for (std::size_t k = 1; k <= 6; ++k)
        for (std::size_t j = 1; j <= 4; ++j)
            for (std::size_t d = 0; d < 3; ++d) found.insert((j << k) + d - 1);
    return {found.begin(), found.end()};
}

std::vector<Layout> tensors() {
    std::vector<Layout> found;
    for (const std::size_t n : sizes()) found.push_back(tensor(n));
    // about where the division goes (8192), and past a chunk of the staging
    for (const std::size_t n : {4099, 8191, 8192, 8193, 20011}) found.push_back(tensor(n));
    return found;
}

std::vector<Layout> all_layouts() {
    std::vector<Layout> found = tensors();
    for (const std::size_t n : sizes()) {
        found.push_back(channel(1, 3, n));
        found.push_back(channel(2, 3, n));  // runs, however short
        found.push_back(channel(3, n, 1));  // a parameter an element, rows tiled
        found.push_back(channel(n, 5, 1));
        found.push_back(channel(9, 3, n % 40));  // short runs tiled (below 32), or not
        found.push_back(channel(n, 3, 7));
        found.push_back(blocks(2, n, 1, 16));
        found.push_back(blocks(2, n, 1, 5));
        found.push_back(blocks(3, n, 1, 1000));  // one block, longer than the axis
        found.push_back(blocks(1, 5, n, 2));
        found.push_back(blocks(2, n % 40, 3, 4));
    }
    // runs long enough for the proof that spares the division
    found.push_back(channel(2, 2, 8201));
    found.push_back(blocks(1, 20011, 1, 8209));
    found.push_back(blocks(2, 16384, 1, 8192));
    // nothing, in every direction
    for (const std::size_t zero : {0, 1, 2}) {
        const std::size_t a = zero != 0, b = zero != 1, c = zero != 2;
        found.push_back(channel(a * 3, b * 4, c * 5));
        found.push_back(blocks(a * 3, b * 4, c * 5, 2));
    }
    return found;
}

// Compares and says where the first difference is.
bool same(const Call& c, const std::string& where, const std::vector<unsigned char>& expected,
          unsigned char* got) {
    oracle::only_promised(c, got);
    std::size_t byte = 0;
    while (byte < expected.size() && expected[byte] == got[byte]) ++byte;
    counts.elements += c.layout.size();
    if (byte == expected.size()) return check(true, where);
    const std::size_t size = core::size_of(c.out), i = byte / size;
    std::string what = where + ": element " + std::to_string(i) + " is";
    char hex[4];
    for (std::size_t k = size; k-- > 0;) {
        std::snprintf(hex, sizeof hex, " %02x", got[i * size + k]);
        what += hex;
    }
    what += " and not";
    for (std::size_t k = size; k-- > 0;) {
        std::snprintf(hex, sizeof hex, " %02x", expected[i * size + k]);
        what += hex;
    }
    return check(false, what);
}

// One call on every ISA.  The places of the arrays and their shifts off alignment take turns.
void compare(const Call& c, Random& random) {
    constexpr Place places[] = {Place::heap, Place::first, Place::last};
    const std::size_t turn = random.below(9);
    const Memory in(c.in_bytes(), places[turn % 3], core::size_of(c.in) * random.below(3));
    fill(random, c, in.data());
    const std::vector<unsigned char> before(in.data(), in.data() + in.size());
    std::vector<unsigned char> expected = oracle::result(c, in.data());
    oracle::only_promised(c, expected.data());
    const Parameters p(c);
    const std::string words = describe(c);
    for (const std::size_t isa : options.isas) {
        const std::string where = words + " on " + core::isas()[isa];
        const Memory out(c.out_bytes(), places[(turn / 3 + isa) % 3],
                         core::size_of(c.out) * random.below(3));
        check(run(c, p, isa, in.data(), out.data()), where, ": stopped");
        same(c, where, expected, out.data());
        check(out.surroundings_intact(), where, ": bytes beside the output written");
        if (options.digests) digests.add(kind(c), core::isas()[isa], out.data(), out.size());
        if (c.may_be_in_place() && isa == options.isas[turn % options.isas.size()]) {
            std::copy(before.begin(), before.end(), out.data());
            run(c, p, isa, out.data(), out.data());
            same(c, where, expected, out.data());
        }
    }
    check(in.surroundings_intact() && std::equal(before.begin(), before.end(), in.data()), words,
          ": the input changed");
}

constexpr DType reals[] = {DType::f16, DType::bf16, DType::f32, DType::f64};
constexpr DType codes[] = {DType::u8, DType::i8};
constexpr DType precisions[] = {DType::f32, DType::f64};

void add_quantizing(std::vector<Call>& found, Call c) {
    for (const DType real : reals) {
        c.op = Op::quantize, c.in = real, c.out = c.code;
        found.push_back(c);
        c.op = Op::fake_quantize, c.in = real, c.out = real;
        found.push_back(c);
    }
}
void add_dequantizing(std::vector<Call>& found, Call c) {
    for (const DType real : reals) {
        c.op = Op::dequantize, c.in = c.code, c.out = real;
        found.push_back(c);
    }
}

// Every operation with every combination of types, conventions and rules; no layout yet.
std::vector<Call> operations() {
    std::vector<Call> found;
    Call c;
    for (const DType code : codes) {
        c.code = code;
        for (const DType precision : precisions) {
            c.precision = precision;
            for (const bool nan : {false, true}) {
                c.nan_code = nan ? std::optional<int>(0) : std::nullopt;  // which, `prepare` says
                for (const Convention convention : conventions) {
                    c.convention = convention;
                    add_quantizing(found, c);
                }
                add_dequantizing(found, c);
                for (const OffsetConvention convention : offset_conventions) {
                    c.by_offset = convention;
                    add_quantizing(found, c);
                    add_dequantizing(found, c);
                }
                c.by_offset.reset();
            }
            c.nan_code.reset();
        }
        c.precision = DType::f32;
        c.op = Op::requantize, c.in = DType::i32, c.out = code;
        found.push_back(c);
        for (int in = 0; in <= static_cast<int>(DType::u64); ++in) {
            c.op = Op::saturate_cast, c.in = static_cast<DType>(in), c.out = code;
            found.push_back(c);
        }
    }
    c = Call();
    c.op = Op::lookup, c.in = c.out = DType::u8;
    found.push_back(c);
    for (const DType real : reals) {
        c.op = Op::round, c.in = c.out = real;
        for (const bool away : {false, true}) {
            c.ties_away = away;
            found.push_back(c);
        }
        for (const Op op : {Op::min_max, Op::min_max_present}) {
            c.op = op, c.out = real == DType::f64 ? DType::f64 : DType::f32;
            found.push_back(c);
        }
        c.op = Op::histogram, c.out = DType::i64;
        found.push_back(c);
    }
    c.op = Op::saturate;
    for (const DType dtype :
         {DType::f16, DType::bf16, DType::f32, DType::f64, DType::i16, DType::i32, DType::i64}) {
        c.in = c.out = dtype;
        found.push_back(c);
    }
    return found;
}

void prepare(Random& random, Call& c) {
    if (has_parameters(c.op)) choose_parameters(random, c);
    if (c.op == Op::histogram) choose_exponents(random, c);
    if (c.op == Op::lookup) choose_tables(random, c);
    if (c.op == Op::saturate) {
        constexpr int ranges[][2] = {{-128, 127}, {0, 255}, {-3, 5}};
        const auto& range = ranges[random.below(3)];
        c.low = range[0];
        c.high = range[1];
    }
}

// Of no blocks; more than one chunk of channels in turn, and in rows.
std::vector<Layout> lookup_layouts() {
    std::vector<Layout> found;
    for (const Layout& layout : all_layouts())
        if (layout.kind != Layout::Kind::block) found.push_back(layout);
    for (std::size_t channels = 1; channels < 10; ++channels)
        for (const std::size_t rows : {21, 63, 64, 65, 2731})
            found.push_back(channel(rows, channels, 1));
    for (const std::size_t channels : {64, 65}) {
        found.push_back(channel(130, channels, 1));
        found.push_back(channel(2, channels, 33));
    }
    return found;
}

// A histogram has 32 KiB, so there are few of them, and longer runs.
std::vector<Layout> histogram_layouts() {
    std::vector<Layout> found;
    for (const Layout& layout : all_layouts())
        if (layout.parameters() <= 7) found.push_back(layout);
    // columns about a block of them, rows of several chunks, more than a table of 16 bits counts
    for (const std::size_t n : {63, 64, 65, 200}) found.push_back(channel(9, n, 1));
    found.push_back(channel(3, 2, 4100));
    for (int i = 0; i < 6; ++i) found.push_back(tensor(300001));
    return found;
}

void test_every_layout() {
    const std::vector<Layout> flat = tensors(), all = all_layouts(), few = histogram_layouts(),
                              no_blocks = lookup_layouts();
    std::uint64_t number = 0;
    for (Call c : operations())
        for (const Layout& layout : c.op == Op::histogram ? few
                                    : c.op == Op::lookup  ? no_blocks
                                    : has_layout(c.op)    ? all
                                                          : flat) {
            Random random(++number);  // a call has the same inputs however many are left out
            if (number % options.every != 0) continue;
            c.layout = layout;
            prepare(random, c);
            compare(c, random);
        }
}

// Runs long enough to be written in whole cache lines, from every address in a line.
void test_every_alignment() {
    std::uint64_t number = 1000000000;
    for (Call c : operations()) {
        const std::size_t size = core::size_of(c.out);
        for (std::size_t shift = 0; shift < 64; shift += size) {
            Random random(++number);
            if (number % options.every != 0) continue;
            c.layout = tensor(1024 + random.below(200));
            prepare(random, c);
            const Memory in(c.in_bytes(), Place::first, core::size_of(c.in) * random.below(64));
            fill(random, c, in.data());
            std::vector<unsigned char> expected = oracle::result(c, in.data());
            oracle::only_promised(c, expected.data());
            const Parameters p(c);
            for (const std::size_t isa : options.isas) {
                const std::string where = describe(c) + " on " + core::isas()[isa];
                const Memory out(c.out_bytes(), Place::first, shift);
                run(c, p, isa, in.data(), out.data());
                same(c, where, expected, out.data());
                check(out.surroundings_intact(), where, ": bytes beside the output written");
            }
        }
    }
}

// AVX-512 has AVX2's loop of lookup, where it is without VBMI, and with it one of its own.
void test_avx512_without_vbmi() {
    std::vector<core::Kernel> found;
    for (const core::Target& target : core::compiled_targets())
        found.push_back(target.table->at(core::Op::lookup, core::Tag::u8, core::Tag::u8));
    if (found.size() == 1) return;  // no x86-64
    check(found.size() == 4 && found[1] == found[2], "AVX-512 has the lookup of AVX2");
    check(found[0] != found[1] && found[2] != found[3], "VBMI, AVX2 and the baseline have theirs");
}

}  // namespace

void test_kernels() {
    test_avx512_without_vbmi();
    test_every_layout();
    test_every_alignment();
}

}  // namespace test
