// The type-erased entry points: which kernels, one after the other, make up an operation.
#include "zeropoint/core.hpp"

#include <algorithm>
#include <atomic>
#include <limits>

#include "errors.h"
#include "fpstate.h"
#include "layout.h"
#include "params.h"
#include "targets.h"
#include "views.h"

namespace zeropoint::core {

static_assert(static_cast<int>(Tag::u64) == static_cast<int>(DType::u64), "Tag starts with DType");
static_assert(static_cast<int>(Tag::numpy) == static_cast<int>(Tag::u64) + 1, "conventions follow");

namespace {

std::vector<std::string> names_of(const Targets& targets) {
    std::vector<std::string> names;
    for (const Target& target : targets)
        if (names.empty() || names.back() != target.name) names.emplace_back(target.name);
    return names;
}

constexpr Tag tag(DType dtype) { return static_cast<Tag>(dtype); }
constexpr Tag tag(Convention c) {
    return static_cast<Tag>(static_cast<int>(Tag::numpy) + static_cast<int>(c));
}
constexpr DType working(DType x) { return x == DType::f64 ? DType::f64 : DType::f32; }
DType working(DType x, const Params::Data& p) {
    return p.has_offset() ? std::max(working(x), p.precision) : working(x);
}

// The proof that spares the division costs about as much as so many divisions.
constexpr std::size_t worth_a_proof = 8192;

Array input(const Input& x, DType dtype) {
    char* first = const_cast<char*>(static_cast<const char*>(x.data));
    return {first, x.memory, size_of(dtype)};
}
Array input(const ConstView& x) { return input(x, x.dtype); }
Array output(const Output& y, DType dtype) {
    return {static_cast<char*>(y.data), y.memory, size_of(dtype)};
}

// The kernels of one call, in order, and the arrays that they go over.
class Pipeline {
public:
    Pipeline(std::size_t isa, const Layout& layout, const Array& in, const Array& out = {})
        : table_(*targets().at(isa).table), layout_(layout), in_(in.first), out_(out.first) {
        if (in.memory.swapped && in.size > 1) {
            const Tag bytes = bytes_as_tag(in.size);
            Stage& stage = add(Op::swap_bytes, DType::u8, DType::u8, bytes, bytes);
            stage.in_size = stage.out_size = in.size;
        }
        if ((!in.memory.strides && !out.memory.strides) || layout.size() == 0) return;
        walk_.emplace(layout, in, out, table_);
        layout_ = walk_->layout();
        if (!walk_->plain()) return;
        in_ = walk_->in.data();
        out_ = walk_->out.data();
        walk_.reset();
    }

    Stage& add(Op op, DType in, DType out, Tag a, Tag b, std::int64_t low = 0,
               std::int64_t high = 0) {
        Stage& stage = stages_[count_++] = Stage{};
        stage.kernel = table_.at(op, a, b);
        stage.in_size = size_of(in);
        stage.out_size = size_of(out);
        stage.low = low;
        stage.high = high;
        return stage;
    }
    void convert(DType from, DType to) {
        if (from != to) add(Op::convert, from, to, tag(from), tag(to));
    }
    template <class T>
    static void bind(Stage& stage, const T* scale, const T* zero) {
        stage.scale = scale;
        stage.zero = zero;
        stage.parameter_size = sizeof(T);
    }
    template <class T>
    static void bind(Stage& stage, const Stream<T>& stream) {
        bind(stage, stream.scale.data(), stream.zero.data());
    }
    template <class T>
    static void bind(Stage& stage, const Params::Data& p, bool divides) {
        bind(stage, divides ? p.quantizer<T>() : p.dequantizer<T>());
    }
    // In the precision of the data, or else of the scale.
    static void bind(Stage& stage, const Params::Data& p, DType precision, bool divides) {
        precision == DType::f64 ? bind<double>(stage, p, divides) : bind<float>(stage, p, divides);
        if (p.has_offset()) stage.context = const_cast<OffsetForm*>(&p.form);
    }
    // NaN among what the stage reads or writes have a code of their own.
    void mark(Stage& stage, const Params::Data& p, Tag from, Tag to) {
        if (!p.nan_code) return;
        stage.mark = table_.at(Op::mark, from, to);
        stage.marked = *p.nan_code;
    }
    Stage& add(Op op, DType in, DType out, Tag a, Tag b, const Params::Data& p) {
        return add(op, in, out, a, b, p.qmin, p.qmax);
    }
    void quantize(DType x, const Params::Data& p) {
        if (p.has_offset()) return quantize_by_offset(x, p);
        // Ctrl-C is not answered while they are made; and arrays with more runs of such a length
        // are bound by memory, where the division costs little
        constexpr std::size_t most_proofs = std::size_t(1) << 15;
        const Kernel certify = table_.at(Op::certify, tag(x), tag(p.convention));  // f32, or null
        const bool worth = certify && table_.multiplies && run_length() >= worth_a_proof &&
                           p.size() <= most_proofs;
        const Multiplier* multipliers = worth ? p.multipliers(certify) : nullptr;
        const Op op = multipliers ? Op::quantize_runs : Op::quantize;
        Stage& stage = add(op, x, p.code, tag(x), tag(p.convention), p);
        if (multipliers)
            bind(stage, multipliers, static_cast<const Multiplier*>(nullptr));
        else
            bind(stage, p, working(x), true);
        mark(stage, p, tag(x), Tag::u8);
    }
    // Data that are narrower than what is computed with are widened.
    void quantize_by_offset(DType x, const Params::Data& p) {
        const DType inner = working(x, p);
        convert(x, inner);
        Stage& stage = add(Op::quantize_offset, inner, p.code, tag(inner), tag(inner), p);
        bind(stage, p, inner, true);
        mark(stage, p, tag(inner), Tag::u8);
    }
    // Data in f32, or narrower where there are loops for that.
    void fake_quantize(DType x, const Params::Data& p) {
        const bool by_offset = p.has_offset();
        const Op op = by_offset ? Op::fake_quantize_offset : Op::fake_quantize;
        Stage& stage = add(op, x, x, tag(x), by_offset ? tag(x) : tag(p.convention), p);
        bind(stage, p, DType::f32, false);
    }
    void dequantize(const Params::Data& p) {
        const Op op = p.has_offset() ? Op::dequantize_offset : Op::dequantize;
        Stage& stage = add(op, p.code, p.precision, tag(p.code), tag(p.precision));
        bind(stage, p, p.precision, false);
        mark(stage, p, Tag::u8, tag(p.precision));
    }
    void clipped(DType x, const Params::Data& p) {
        const bool by_offset = p.has_offset();
        const Op op = by_offset ? Op::clipped_offset : Op::clipped;
        Stage& stage = add(op, x, x, tag(x), by_offset ? tag(x) : tag(p.convention), p);
        bind(stage, p, x, true);
    }
    // The only stage; none where there is nothing to do.
    Stage only() const { return count_ ? stages_[0] : Stage{}; }
    bool run(Poll poll) {
        Stage& last = stages_[count_ - 1];
        const Places places{in_, out_, walk_ ? &*walk_ : nullptr};
        // what has been marked is read and written again
        last.non_temporal = !last.mark && stores_past_caches(layout_, stages_[0], last, places);
        return core::run(layout_, places, stages_, count_, poll);
    }

    // The only stage, of `in` elements and `out` a block.
    bool run_blocks(Stage& stage, std::size_t in, std::size_t out, bool& finite, Poll poll) {
        std::uint32_t strange = 0;
        stage.in_size *= in;
        stage.out_size *= out;
        stage.state[0] = &strange;
        stage.parameter_size = sizeof strange;
        stage.fold = [](const Layout&, std::size_t, const State& from, const State& to) {
            *static_cast<std::uint32_t*>(to[0]) |= *static_cast<const std::uint32_t*>(from[0]);
        };
        const bool finished = run(poll);
        finite = !strange;
        return finished;
    }

private:
    std::size_t run_length() const noexcept {
        return walk_ ? walk_->run_length() : core::run_length(layout_);
    }

    const Table& table_;
    Layout layout_;
    const void* in_;
    void* out_;
    std::optional<Walk> walk_;  // where it is not plain
    Stage stages_[5];
    std::size_t count_ = 0;
};

}  // namespace

std::size_t size_of(DType dtype) noexcept {
    constexpr unsigned char bytes[] = {2, 2, 4, 8, 1, 1, 2, 2, 4, 4, 8, 8};  // in DType's order
    return bytes[static_cast<int>(dtype)];
}

bool holds(DType dtype, std::int64_t value) noexcept {
    constexpr int significand[] = {11, 8, 24, 53};  // of the floats, in DType's order
    if (dtype > DType::f64) {
        const bool is_signed =
            dtype == DType::i8 || dtype == DType::i16 || dtype == DType::i32 || dtype == DType::i64;
        const std::size_t bits = 8 * size_of(dtype) - is_signed;
        if (value < 0)
            return is_signed &&
                   value >= -1 - static_cast<std::int64_t>((std::uint64_t(1) << bits) - 1);
        return bits > 63 || static_cast<std::uint64_t>(value) >> bits == 0;
    }
    constexpr std::uint64_t most_of_a_half = 65504;
    std::uint64_t magnitude =
        value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
    if (dtype == DType::f16 && magnitude > most_of_a_half) return false;
    while (magnitude != 0 && magnitude % 2 == 0) magnitude /= 2;
    return magnitude >> significand[static_cast<int>(dtype)] == 0;
}

const std::vector<std::string>& isas() {
    static const std::vector<std::string> names = names_of(targets());
    return names;
}

std::vector<std::string> compiled_isas() { return names_of(compiled_targets()); }

bool has_vbmi() noexcept { return targets().begin()->vbmi; }

std::vector<std::string> kernel_names() {
    // one text and a loop: a list of strings is code for each of them
    static constexpr char names[] =
#define ZP_KERNEL(op, a, b) #op " " #a " " #b "\0"
#include "kernels.def"
#undef ZP_KERNEL
        ;
    std::vector<std::string> found;
    for (const char* name = names; *name; name += found.back().size() + 1) found.emplace_back(name);
    return found;
}

std::uint64_t enter_ieee() noexcept { return FpGuard::enter(); }
void leave_ieee(std::uint64_t state) noexcept { FpGuard::leave(state); }

bool quantize(std::size_t isa, ConstView x, Output q, const Layout& layout, const Params& params,
              Poll poll) {
    Pipeline pipeline(isa, layout, input(x), output(q, params.code()));
    pipeline.quantize(x.dtype, params.data());
    return pipeline.run(poll);
}

bool dequantize(std::size_t isa, Input q, View x, const Layout& layout, const Params& params,
                Poll poll) {
    Pipeline pipeline(isa, layout, input(q, params.code()), output(x, x.dtype));
    pipeline.dequantize(params.data());
    pipeline.convert(params.precision(), x.dtype);
    return pipeline.run(poll);
}

bool fake_quantize(std::size_t isa, ConstView x, Output y, const Layout& layout,
                   const Params& params, Poll poll) {
    Pipeline pipeline(isa, layout, input(x), output(y, x.dtype));
    const Params::Data& p = params.data();
    if (working(x.dtype) == DType::f32 && p.precision == DType::f32 && !p.nan_code) {
        const DType inner = p.has_offset() ? DType::f32 : x.dtype;  // no narrow loops with one
        pipeline.convert(x.dtype, inner);
        pipeline.fake_quantize(inner, p);
        pipeline.convert(inner, x.dtype);
    } else {
        pipeline.quantize(x.dtype, p);
        pipeline.dequantize(p);
        pipeline.convert(p.precision, x.dtype);
    }
    return pipeline.run(poll);
}

bool requantize(std::size_t isa, Input acc, Output q, const Layout& layout,
                const Requantization& requantization, Poll poll) {
    // with x = float(acc) and the multiplier as the reciprocal this is the torch convention's loop
    const Requantization::Data& r = requantization.data();
    Pipeline pipeline(isa, layout, input(acc, DType::i32), output(q, r.code));
    pipeline.convert(DType::i32, DType::f32);
    Stage& stage =
        pipeline.add(Op::quantize, DType::f32, r.code, Tag::f32, Tag::torch, r.qmin, r.qmax);
    Pipeline::bind(stage, r.stream);
    return pipeline.run(poll);
}

bool saturate(std::size_t isa, ConstView x, Output y, std::size_t n, std::int64_t low,
              std::int64_t high, Poll poll) {
    const DType inner = x.dtype < DType::f32 ? DType::f32 : x.dtype;  // narrow floats come first
    Pipeline pipeline(isa, Layout::tensor(n), input(x), output(y, x.dtype));
    pipeline.convert(x.dtype, inner);
    pipeline.add(Op::saturate, inner, inner, tag(inner), tag(inner), low, high);
    pipeline.convert(inner, x.dtype);
    return pipeline.run(poll);
}

bool saturate_cast(std::size_t isa, ConstView x, View q, std::size_t n, Poll poll) {
    // The torch loop with an inverse of 1 and a zero point of 0.  Integers go through float32: the
    // conversion is monotone, and exact up to 2^24, far beyond the last code.
    static constexpr float one32 = 1, zero32 = 0;
    static constexpr double one64 = 1, zero64 = 0;
    const DType inner = working(x.dtype);
    Pipeline pipeline(isa, Layout::tensor(n), input(x), output(q, q.dtype));
    pipeline.convert(x.dtype, inner);
    const int low = q.dtype == DType::i8 ? -128 : 0;
    Stage& stage =
        pipeline.add(Op::quantize, inner, q.dtype, tag(inner), Tag::torch, low, low + 255);
    if (inner == DType::f32)
        Pipeline::bind(stage, &one32, &zero32);
    else
        Pipeline::bind(stage, &one64, &zero64);
    return pipeline.run(poll);
}

bool round(std::size_t isa, ConstView x, Output y, std::size_t n, bool ties_away, Poll poll) {
    const DType inner = working(x.dtype);
    Pipeline pipeline(isa, Layout::tensor(n), input(x), output(y, x.dtype));
    pipeline.convert(x.dtype, inner);
    pipeline.add(Op::round, inner, inner, tag(inner), ties_away ? Tag::away : Tag::even);
    pipeline.convert(inner, x.dtype);
    return pipeline.run(poll);
}

bool lookup(std::size_t isa, Input q, Output r, const Layout& layout, const Tables& tables,
            Poll poll) {
    Pipeline pipeline(isa, layout, input(q, DType::u8), output(r, DType::u8));
    Stage& stage = pipeline.add(Op::lookup, DType::u8, DType::u8, Tag::u8, Tag::u8);
    stage.scale = tables.bytes();
    stage.parameter_size = Tables::entries;
    stage.unrepeatable = true;  // they are large, and the loop knows columns
    return pipeline.run(poll);
}

bool to_q8_0(std::size_t isa, ConstView x, void* blocks, std::size_t n, bool& finite, Poll poll) {
    Pipeline pipeline(isa, Layout::tensor(n), input(x), output(blocks, DType::u8));
    return pipeline.run_blocks(pipeline.add(Op::to_q8_0, x.dtype, DType::u8, tag(x.dtype), Tag::u8),
                               q8_0_elements, q8_0_bytes, finite, poll);
}

bool from_q8_0(std::size_t isa, const void* blocks, View x, std::size_t n, bool& finite,
               Poll poll) {
    Pipeline pipeline(isa, Layout::tensor(n), input(blocks, DType::u8), output(x, x.dtype));
    return pipeline.run_blocks(
        pipeline.add(Op::from_q8_0, DType::u8, x.dtype, Tag::u8, tag(x.dtype)), q8_0_bytes,
        q8_0_elements, finite, poll);
}

namespace {

template <class T>
void fold_min_max(const Layout& layout, std::size_t copies, const State& from, const State& state) {
    const T* lows = static_cast<const T*>(from[0]);
    const T* highs = static_cast<const T*>(from[1]);
    T* l = static_cast<T*>(state[0]);
    T* h = static_cast<T*>(state[1]);
    for (std::size_t t = 0; t < copies; ++t)
        for (std::size_t c = 0; c < layout.axis; ++c)
            for (std::size_t i = 0; i < layout.inner; ++i, ++lows, ++highs) {
                const T nonfinite = *lows == *lows ? 0 : *lows;  // NaN, and then it stays
                l[c] = (*lows < l[c] ? *lows : l[c]) + nonfinite;
                h[c] = (*highs > h[c] ? *highs : h[c]) + nonfinite;
            }
}

template <class T>
bool min_max_in(std::size_t isa, Op op, ConstView x, T* low, T* high, const Layout& layout,
                Poll poll) {
    const DType inner = working(x.dtype);
    const std::size_t n = layout.parameters();
    std::fill(low, low + n, std::numeric_limits<T>::infinity());
    std::fill(high, high + n, -std::numeric_limits<T>::infinity());
    Pipeline pipeline(isa, layout, input(x));
    const DType from = op == Op::min_max ? x.dtype : inner;  // the other has no narrow loops
    pipeline.convert(x.dtype, from);
    Stage& stage = pipeline.add(op, from, inner, tag(from), tag(inner));
    stage.out_size = 0;
    stage.state[0] = low;
    stage.state[1] = high;
    stage.parameter_size = sizeof(T);
    stage.fold = fold_min_max<T>;
    return pipeline.run(poll);
}

void fold_histograms(const Layout& layout, std::size_t copies, const State& from,
                     const State& state) {
    Histogram* added = static_cast<Histogram*>(from[0]);
    Histogram* to = static_cast<Histogram*>(state[0]);
    for (std::size_t i = 0; i < copies * layout.axis; ++i) {  // inner is 1: nothing is repeated
        Histogram& h = to[i % layout.axis];
        fold_min_max<double>(Layout::tensor(1), 1, {&added[i].low, &added[i].high},
                             {&h.low, &h.high});
        for (std::size_t k = 0; k < Histogram::bins; ++k) h.counts[k] += added[i].counts[k];
    }
}

}  // namespace

bool histogram(std::size_t isa, ConstView x, const std::vector<std::int64_t>& exponents,
               void* table, const Layout& layout, Poll poll) {
    static_assert(sizeof(Histogram) == histogram_row * 8, "a row of the table is a Histogram");
    constexpr double inf = std::numeric_limits<double>::infinity();
    Histogram* histograms = static_cast<Histogram*>(table);
    for (std::size_t i = 0; i < exponents.size(); ++i) {
        histograms[i].low = inf;
        histograms[i].high = -inf;
        histograms[i].exponent = exponents[i];
        // the system may take its time over new pages
        if (i % 64 == 63 && poll.keep_going && !poll.keep_going(poll.context)) return false;
    }
    Pipeline pipeline(isa, layout, input(x));
    const DType inner = working(x.dtype);
    Stage& stage = pipeline.add(Op::histogram, x.dtype, inner, tag(x.dtype), tag(inner));
    stage.out_size = 0;
    stage.state[0] = histograms;
    stage.parameter_size = sizeof(Histogram);
    stage.unrepeatable = true;
    stage.fold = fold_histograms;
    return pipeline.run(poll);
}

// cold: it is small where what it calls takes longer
[[gnu::cold]] bool errors(std::size_t isa, ConstView x, const Layout& layout, const Params& params,
                          Errors& errors, Poll poll) {
    const Params::Data& p = params.data();
    const DType inner = working(x.dtype, p), finer = std::max(inner, p.precision);
    const auto stage = [&](auto&& add) {
        Pipeline pipeline(isa, layout, Array{});
        add(pipeline);
        return pipeline.only();
    };
    ErrorStages stages;
    const Array from = input(x);
    stages.swap = from.memory.swapped ? Pipeline(isa, layout, from).only() : Stage{};
    stages.widen = stage([&](Pipeline& to) { to.convert(x.dtype, inner); });
    stages.quantize = stage([&](Pipeline& to) { to.quantize(inner, p); });
    stages.clipped = stage([&](Pipeline& to) { to.clipped(inner, p); });
    stages.dequantize = stage([&](Pipeline& to) { to.dequantize(p); });
    stages.refine = stage([&](Pipeline& to) { to.convert(inner, finer); });
    stages.refine_back = stage([&](Pipeline& to) { to.convert(params.precision(), finer); });
    const Table& table = *targets().at(isa).table;
    stages.errors = table.at(Op::errors, tag(finer), tag(finer));
    stages.tally = table.at(Op::tally, tag(inner), tag(inner));
    stages.fewest = table.at(Op::fewest, Tag::u32, Tag::u32);
    stages.fewest_of_many = table.at(Op::fewest, Tag::u64, Tag::u64);
    return measure(layout, in_c_order(from, table), stages, errors, poll);
}

namespace {

bool min_max_by(std::size_t isa, Op op, ConstView x, void* low, void* high, const Layout& layout,
                Poll poll) {
    if (x.dtype == DType::f64)
        return min_max_in(isa, op, x, static_cast<double*>(low), static_cast<double*>(high), layout,
                          poll);
    return min_max_in(isa, op, x, static_cast<float*>(low), static_cast<float*>(high), layout,
                      poll);
}

}  // namespace

bool min_max(std::size_t isa, ConstView x, void* low, void* high, const Layout& layout, Poll poll) {
    return min_max_by(isa, Op::min_max, x, low, high, layout, poll);
}

bool min_max_present(std::size_t isa, ConstView x, void* low, void* high, const Layout& layout,
                     Poll poll) {
    return min_max_by(isa, Op::min_max_present, x, low, high, layout, poll);
}

// ---- quantize_dynamic --------------------------------------------------------------------------

namespace {

constexpr std::size_t group_bytes = std::size_t(1) << 17;  // of data: they stay in the second cache
constexpr std::size_t largest_group = std::size_t(1) << 20;  // bytes, where one parameter has more
constexpr std::size_t most_parameters = 2048;  // at once: their ranges lie on the stack
constexpr std::size_t most_proofs_at_once = 16;

// What the groups of one call share.
template <class T>
struct Dynamic {
    Kernel min_max, quantize, certify, quantize_runs;  // the last two null where they do not pay
    std::size_t size;                                  // bytes of an element
    const Choice& choice;
    T* scale;
    std::int32_t* zero_point;
    std::atomic<bool> fault{false};

    // Ranges, parameters and codes of a group, or of a part of it.
    bool run(Job job, std::size_t first) const noexcept {
        constexpr T inf = std::numeric_limits<T>::infinity();
        constexpr DType precision = sizeof(T) == sizeof(float) ? DType::f32 : DType::f64;
        alignas(64) T low[most_parameters], high[most_parameters];
        const std::size_t n = job.per_column ? job.cols : job.rows;
        std::fill_n(low, n, inf);
        std::fill_n(high, n, -inf);
        job.state[0] = low;
        job.state[1] = high;
        min_max(job);
        if (!choose(precision, low, high, n, choice, scale + first, zero_point + first))
            return false;
        T* const divisor = low;
        T* const zero = high;
        const bool reciprocal = by_reciprocal(choice.convention);
        for (std::size_t i = 0; i < n; ++i) {
            divisor[i] = reciprocal ? 1 / scale[first + i] : scale[first + i];
            zero[i] = static_cast<T>(zero_point[first + i]);
        }
        job.scale = divisor;
        job.zero = zero;
        job.low = choice.qmin;
        job.high = choice.qmax;
        if (!certify) {
            quantize(job);
            return true;
        }
        Multiplier multipliers[most_proofs_at_once];
        Job proof = job;
        proof.out = multipliers;
        certify(proof);
        job.scale = multipliers;
        quantize_runs(job);
        return true;
    }
};

// In a kernel's place: job.scale points to the scale of the group's first parameter.
template <class T>
void quantize_group(const Job& group) noexcept {
    auto& call = *static_cast<Dynamic<T>*>(group.context);
    const std::size_t first = static_cast<const T*>(group.scale) - call.scale;
    const std::size_t at_once = group.per_column ? group.rows
                                : call.certify   ? most_proofs_at_once
                                                 : most_parameters;
    Job part = group;
    for (std::size_t row = 0; row < group.rows; row += at_once) {
        if (call.fault.load(std::memory_order_relaxed)) return;
        part.rows = std::min(at_once, group.rows - row);
        if (!call.run(part, first + row)) call.fault = true;
        const std::size_t done = part.rows * part.cols;
        part.in = static_cast<const char*>(part.in) + done * call.size;
        part.out = static_cast<char*>(part.out) + done;
    }
}

// Whether elements that share parameters lie together, and are few enough.
bool at_once(const Layout& layout, std::size_t size) noexcept {
    const bool columns = layout.kind == Layout::Kind::block && layout.inner > 1;
    if (layout.kind == Layout::Kind::tensor || (columns && layout.inner > most_parameters))
        return false;
    if (layout.kind == Layout::Kind::channel)
        return layout.outer == 1 && layout.inner > 1 && layout.inner <= largest_group / size;
    return std::min(layout.block, layout.axis) <= largest_group / size / layout.inner;
}

template <class T>
Outcome quantize_dynamic_in(std::size_t isa, ConstView x, void* q, const Layout& layout,
                            const Choice& choice, T* scale, std::int32_t* zero_point,
                            Poll poll) noexcept {
    const Table& table = *targets().at(isa).table;
    const DType inner = working(x.dtype);
    const auto kernel = [&](Op op) { return table.at(op, tag(x.dtype), tag(choice.convention)); };
    const bool proves =
        table.multiplies && kernel(Op::certify) && run_length(layout) >= worth_a_proof;
    Dynamic<T> call{table.at(Op::min_max, tag(x.dtype), tag(inner)),
                    kernel(Op::quantize),
                    proves ? kernel(Op::certify) : nullptr,
                    proves ? kernel(Op::quantize_runs) : nullptr,
                    size_of(x.dtype),
                    choice,
                    scale,
                    zero_point};
    Stage stage{};
    stage.in_size = call.size;
    stage.out_size = 1;
    const bool plain = !x.memory.strides && !x.memory.swapped;
    if (!plain || !call.quantize || !at_once(layout, call.size)) return Outcome::apart;
    stage.kernel = &quantize_group<T>;
    stage.scale = scale;
    stage.parameter_size = sizeof(T);
    stage.group = group_bytes / stage.in_size;
    stage.context = &call;
    const Places places{x.data, q, nullptr};
    stage.non_temporal = stores_past_caches(layout, stage, stage, places);
    if (!run(layout, places, &stage, 1, poll)) return Outcome::stopped;
    return call.fault ? Outcome::fault : Outcome::done;
}

}  // namespace

Outcome quantize_dynamic(std::size_t isa, ConstView x, void* q, const Layout& layout,
                         const Choice& choice, void* scale, std::int32_t* zero_point,
                         Poll poll) noexcept {
    return x.dtype == DType::f64
               ? quantize_dynamic_in(isa, x, q, layout, choice, static_cast<double*>(scale),
                                     zero_point, poll)
               : quantize_dynamic_in(isa, x, q, layout, choice, static_cast<float*>(scale),
                                     zero_point, poll);
}

}  // namespace zeropoint::core
