#include "layout.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "fpstate.h"
#include "pool.h"

#if defined(__unix__)
#include <unistd.h>
#endif

namespace zeropoint::core {

namespace {

constexpr std::size_t slice = std::size_t(1) << 20;  // elements between two looks at Poll
constexpr std::size_t chunk = 1024;                  // elements staged through L1 at a time
constexpr std::size_t narrow = 32;  // runs shorter than this are not worth a loop of their own
constexpr std::size_t wide = 256;   // tiled rows are made at least this long

// A piece of the layout: `rows` x `cols` elements from `element` on, parameters from `parameter`
// on.
struct Piece {
    std::size_t element, rows, cols, parameter;
    bool per_column;
};

// What the threads of one call share: the work is cut into shares of about `size` elements, which
// the threads take in turn.
struct Shares {
    std::size_t size;
    std::atomic<std::size_t> next{0};
    std::atomic<bool> stop{false};
};

class Runner {
public:
    Runner(const void* in, void* out, const Stage* stages, std::size_t count, Shares& shares,
           Poll poll)
        : in_(static_cast<const char*>(in)),
          out_(static_cast<char*>(out)),
          stages_(stages),
          count_(count),
          limit_(count > 1 ? chunk : std::min(slice, shares.size)),
          shares_(shares),
          poll_(poll) {}

    // Cuts a piece into parts of at most `limit_` elements: whole rows if they fit, else columns.
    // Every thread walks over all parts and executes those of its shares.
    bool operator()(const Piece& piece) {
        if (piece.cols == 0) return true;
        const std::size_t rows_at_once = std::max<std::size_t>(1, limit_ / piece.cols);
        const std::size_t cols_at_once = std::min(piece.cols, limit_);
        for (std::size_t r = 0; r < piece.rows; r += rows_at_once) {
            for (std::size_t c = 0; c < piece.cols; c += cols_at_once) {
                Piece part = piece;
                part.rows = std::min(rows_at_once, piece.rows - r);
                part.cols = std::min(cols_at_once, piece.cols - c);
                part.element += r * piece.cols + c;
                part.parameter += piece.per_column ? c : r;
                const bool mine = is_mine(seen_ / shares_.size);
                seen_ += part.rows * part.cols;
                if (!mine) continue;
                execute(part);
                if (!go_on(part.rows * part.cols)) return false;
            }
        }
        return true;
    }

private:
    void execute(const Piece& part) {
        const void* in = in_ + part.element * stages_[0].in_size;
        for (std::size_t i = 0; i < count_; ++i) {
            const Stage& stage = stages_[i];
            const bool last = i + 1 == count_;
            void* out = !last  ? buffers_[i % 2]
                        : out_ ? out_ + part.element * stage.out_size
                               : nullptr;
            const std::size_t offset = part.parameter * stage.parameter_size;
            stage.kernel({in, out, part.rows, part.cols,
                          stage.scale ? static_cast<char*>(stage.scale) + offset : nullptr,
                          stage.zero ? static_cast<char*>(stage.zero) + offset : nullptr,
                          part.per_column, stage.low, stage.high, stage.non_temporal});
            in = out;
        }
    }

    bool is_mine(std::size_t share) {
        while (taken_ <= share) {
            share_ = shares_.next.fetch_add(1, std::memory_order_relaxed);
            taken_ = share_ + 1;
        }
        return share_ == share;
    }

    bool go_on(std::size_t n) {
        since_poll_ += n;
        if (since_poll_ >= slice && poll_.keep_going) {
            since_poll_ = 0;
            if (!poll_.keep_going(poll_.context)) shares_.stop = true;
        }
        return !shares_.stop.load(std::memory_order_relaxed);
    }

    const char* in_;
    char* out_;
    const Stage* stages_;
    std::size_t count_, limit_;
    Shares& shares_;
    Poll poll_;
    std::size_t seen_ = 0, share_ = 0, taken_ = 0, since_poll_ = 0;
    alignas(64) char buffers_[2][chunk * sizeof(double)];
};

bool repeatable(const Stage* stages, std::size_t count) noexcept {
    return std::all_of(stages, stages + count, [](const Stage& stage) { return stage.repeatable; });
}

// Short runs become long rows, if enough of them share the tiled parameters; runs of one element do
// so even where parameters may not be repeated.
bool tiled(const Layout& layout, bool repeatable = true) noexcept {
    return layout.kind == Layout::Kind::channel && layout.inner < narrow &&
           (layout.inner == 1 || (layout.outer >= 8 && repeatable));
}

// The parameters of short runs, repeated so that they lie beside their elements: `tiles` rows of
// channels * inner elements, as if that many rows of the array were one.
class Tiling {
public:
    Tiling(const Layout& layout, const Stage* stages, std::size_t count)
        : layout_(layout),
          row_(layout.axis * layout.inner),
          tiles_(repeatable(stages, count) ? std::min(layout.outer, (wide + row_ - 1) / row_) : 1),
          untiled_(stages, stages + count),
          stages_(untiled_) {
        if (tiles_ * layout.inner == 1) return;  // long rows already: a parameter an element
        for (Stage& stage : stages_) {
            if (!stage.parameter_size) continue;
            stage.scale = repeat(stage.scale, stage.parameter_size);
            stage.zero = repeat(stage.zero, stage.parameter_size);
        }
    }
    std::size_t rows() const { return tiles_; }
    std::size_t cols() const { return tiles_ * row_; }
    Stage* stages() { return stages_.data(); }
    void fold() const {
        if (tiles_ * layout_.inner == 1) return;
        for (std::size_t i = 0; i < stages_.size(); ++i)
            if (const auto fold = stages_[i].fold)
                fold(layout_, tiles_, stages_[i].scale, stages_[i].zero, untiled_[i].scale,
                     untiled_[i].zero);
    }

private:
    void* repeat(const void* from, std::size_t size) {
        storage_.emplace_back(tiles_ * row_ * size);
        char* to = storage_.back().data();
        for (std::size_t t = 0; t < tiles_; ++t)
            for (std::size_t c = 0; c < layout_.axis; ++c)
                for (std::size_t i = 0; i < layout_.inner; ++i, to += size)
                    std::memcpy(to, static_cast<const char*>(from) + c * size, size);
        return storage_.back().data();
    }
    const Layout& layout_;
    std::size_t row_, tiles_;
    std::vector<Stage> untiled_, stages_;
    std::vector<std::vector<char>> storage_;
};

// Every form of a layout as pieces: runs with one parameter each, or rows with one parameter an
// element.
template <class Visit>
bool walk(const Layout& layout, std::size_t tiled_rows, std::size_t tiled_cols, Visit&& visit) {
    const std::size_t plane = layout.axis * layout.inner;
    switch (layout.kind) {
        case Layout::Kind::tensor:
            return visit(Piece{0, 1, layout.size(), 0, false});
        case Layout::Kind::channel:
            if (tiled_rows) {
                const std::size_t whole = layout.outer / tiled_rows,
                                  rest = layout.outer % tiled_rows;
                return visit(Piece{0, whole, tiled_cols, 0, true}) &&
                       visit(Piece{whole * tiled_cols, 1, rest * plane, 0, true});
            }
            for (std::size_t o = 0; o < layout.outer; ++o)
                if (!visit(Piece{o * plane, layout.axis, layout.inner, 0, false})) return false;
            return true;
        case Layout::Kind::block:
            if (layout.inner == 1 && layout.axis % layout.block == 0)
                return visit(Piece{0, layout.outer * layout.blocks(), layout.block, 0, false});
            for (std::size_t o = 0; o < layout.outer; ++o) {
                const std::size_t first = o * layout.blocks();
                const std::size_t whole = layout.axis / layout.block,
                                  rest = layout.axis % layout.block;
                if (layout.inner == 1) {
                    if (!visit(Piece{o * plane, whole, layout.block, first, false}) ||
                        !visit(
                            Piece{o * plane + whole * layout.block, 1, rest, first + whole, false}))
                        return false;
                    continue;
                }
                for (std::size_t b = 0; b < layout.blocks(); ++b) {
                    const std::size_t start = b * layout.block;
                    if (!visit(Piece{o * plane + start * layout.inner,
                                     std::min(layout.block, layout.axis - start), layout.inner,
                                     (first + b) * layout.inner, true}))
                        return false;
                }
            }
            return true;
    }
    return true;
}

// A whole number in the environment: unset where the variable is or is empty, and not valid where
// it is anything but up to 20 digits, or beyond 64 bits.  _backend.number_from_environment is the
// same.
struct Setting {
    bool set = false, valid = true;
    std::uint64_t value = 0;
    explicit Setting(const char* name) noexcept {
        const char* text = std::getenv(name);
        if (!text || !*text) return;
        set = true;
        std::size_t digits = 0;
        for (; valid && text[digits]; ++digits) {
            const auto digit = static_cast<std::uint64_t>(text[digits] - '0');
            valid = digits < 20 && digit <= 9 && value <= (~std::uint64_t{0} - digit) / 10;
            value = 10 * value + digit;
        }
    }
};

const Setting& stream_from() noexcept {
    static const Setting setting("ZEROPOINT_STREAM_FROM");
    return setting;
}

}  // namespace

void check_environment() {
    if (stream_from().valid) return;
    const char* text = std::getenv("ZEROPOINT_STREAM_FROM");
    std::string shown(text ? text : "");
    if (shown.size() > 40) shown = shown.substr(0, 40) + "...";
    throw std::invalid_argument("ZEROPOINT_STREAM_FROM '" + shown +
                                "' is not a whole number below 2^64; give bytes, or unset it");
}

// Half of the last-level cache: what is larger has left it before anyone reads it again.  A virtual
// machine may report a cache that it shares, hence the environment's say.
std::size_t non_temporal_from() noexcept {
    static const std::size_t bytes = [] {
        if (stream_from().set && stream_from().valid)
            return static_cast<std::size_t>(stream_from().value);
        long cache = 0;
#if defined(_SC_LEVEL3_CACHE_SIZE)
        cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
        if (cache <= 0) cache = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
        return (cache > 0 ? static_cast<std::size_t>(cache) : std::size_t(32) << 20) / 2;
    }();
    return bytes;
}

std::size_t run_length(const Layout& layout) noexcept {
    switch (layout.kind) {
        case Layout::Kind::channel:
            return tiled(layout) ? 0 : layout.inner;
        case Layout::Kind::block:
            return layout.inner == 1 ? std::min(layout.block, layout.axis) : 0;
        default:
            return layout.size();
    }
}

namespace {

// One thread's part of a call: its stages, with tiled parameters if there is memory for them.
class Part {
public:
    Part(const Layout& layout, const Stage* stages, std::size_t count)
        : layout_(layout), stages_(stages), count_(count) {}
    void tile_parameters() {
        if (tiled(layout_, repeatable(stages_, count_))) tiling_.emplace(layout_, stages_, count_);
    }
    bool run(const void* in, void* out, Shares& shares, Poll poll) noexcept {
        const FpGuard guard;
        bool finished;
        if (tiling_) {
            Runner runner(in, out, tiling_->stages(), count_, shares, poll);
            finished = walk(layout_, tiling_->rows(), tiling_->cols(), runner);
            tiling_->fold();
        } else {
            Runner runner(in, out, stages_, count_, shares, poll);
            finished = walk(layout_, 0, 0, runner);
        }
        fence_streams();
        return finished;
    }

private:
    const Layout& layout_;
    const Stage* stages_;
    std::size_t count_;
    std::optional<Tiling> tiling_;
};

// A call in several threads.  Stages whose kernel writes its parameters get a copy for each thread,
// folded in the end.  All memory is taken before the first element is touched.
class Call {
public:
    Call(const Layout& layout, const void* in, void* out, const Stage* stages, std::size_t count,
         std::size_t threads, Poll poll)
        : layout_(layout), in_(in), out_(out), poll_(poll) {
        shares_.size = std::max(chunk, layout.size() / (threads * 8));
        for (std::size_t t = 0; t < threads; ++t) {
            stages_.emplace_back(stages, stages + count);
            if (t == 0) continue;
            for (Stage& stage : stages_.back()) {
                if (!stage.fold) continue;
                stage.scale = copy(stage.scale, stage.parameter_size);
                if (stage.zero) stage.zero = copy(stage.zero, stage.parameter_size);
            }
        }
        for (const auto& own : stages_)
            parts_.emplace_back(layout, own.data(), count).tile_parameters();
    }

    bool run() {
        run_in_threads(
            parts_.size(), [](void* self, std::size_t t) { static_cast<Call*>(self)->work(t); },
            this);
        const FpGuard guard;  // comparisons too see 0 in place of subnormals under the host's DAZ
        Layout one;           // a parameter an element, in place of the short runs that fold is for
        one.kind = Layout::Kind::channel;
        one.axis = layout_.parameters();
        one.inner = 1;
        for (std::size_t t = 1; t < stages_.size(); ++t)
            for (std::size_t i = 0; i < stages_[t].size(); ++i)
                if (const auto fold = stages_[t][i].fold)
                    fold(one, 1, stages_[t][i].scale, stages_[t][i].zero, stages_[0][i].scale,
                         stages_[0][i].zero);
        return !shares_.stop;
    }

private:
    void work(std::size_t thread) noexcept {
        parts_[thread].run(in_, out_, shares_, thread == 0 ? poll_ : Poll{});
    }
    void* copy(const void* from, std::size_t size) {
        const char* bytes = static_cast<const char*>(from);
        copies_.emplace_back(bytes, bytes + layout_.parameters() * size);
        return copies_.back().data();
    }

    const Layout& layout_;
    const void* in_;
    void* out_;
    Poll poll_;
    Shares shares_{};
    std::vector<std::vector<Stage>> stages_;
    std::vector<std::vector<char>> copies_;
    std::deque<Part> parts_;
};

}  // namespace

bool run(const Layout& layout, const void* in, void* out, const Stage* stages, std::size_t count,
         Poll poll) noexcept {
    if (layout.size() == 0) return true;
    // a thread takes some microseconds to wake up: it is worth about so many bytes
    constexpr std::size_t worth_a_thread = std::size_t(1) << 19;
    const std::size_t bytes = layout.size() * (stages[0].in_size + stages[count - 1].out_size);
    std::size_t copied = 0;  // bytes, by each further thread: the parameters that it writes
    for (std::size_t i = 0; i < count; ++i)
        if (stages[i].fold) copied += layout.parameters() * stages[i].parameter_size;
    const std::size_t threads =
        std::min(get_num_threads(), bytes / std::max(worth_a_thread, 4 * copied));
    // Memory that is short costs threads, or the tiles, and never the result.
    std::optional<Call> call;
    try {
        if (threads > 1) call.emplace(layout, in, out, stages, count, threads, poll);
    } catch (const std::bad_alloc&) {
    }
    if (call) return call->run();
    Part whole(layout, stages, count);
    try {
        whole.tile_parameters();
    } catch (const std::bad_alloc&) {
    }
    Shares all;
    all.size = layout.size();
    return whole.run(in, out, all, poll);
}

}  // namespace zeropoint::core
