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
#include "tiles.h"

#if defined(__unix__)
#include <unistd.h>
#endif

namespace zeropoint::core {

namespace {

constexpr std::size_t until_poll = std::size_t(1) << 20;  // elements between two polls
constexpr std::size_t in_place = 256;  // rows of views from which on are not copied to L1 first
constexpr std::size_t narrow = 32;     // runs shorter than this are not worth a loop of their own
constexpr std::size_t wide = 256;      // rows with repeated parameters are made at least this long

// Shared by the threads of one call: chunks of about `size` elements, which they take in
// turn.
struct Chunks {
    std::size_t size;
    std::atomic<std::size_t> next{0};
    std::atomic<bool> stop{false};
};

class Runner {
public:
    Runner(const void* in, void* out, const Stage* stages, std::size_t count, Chunks& chunks,
           Poll poll, const Walk* walk)
        : in_(static_cast<const char*>(in)),
          out_(static_cast<char*>(out)),
          stages_(stages),
          count_(count),
          walk_(walk),
          moves_(walk && std::min(walk->in.run(), walk->out.run()) < in_place),
          limit_(count > 1 || moves_ ? staged : std::min(until_poll, chunks.size)),
          chunks_(chunks),
          poll_(poll) {}

    // Cuts a tile into tiles of at most `limit_` elements: whole rows if they fit, else columns.
    // Every thread walks over all of them and executes those of its chunks.
    bool operator()(const Tile& whole) {
        if (whole.cols == 0) return true;
        const std::size_t rows_at_once = std::max<std::size_t>(1, limit_ / whole.cols);
        const std::size_t cols_at_once = std::min(whole.cols, limit_);
        for (std::size_t r = 0; r < whole.rows; r += rows_at_once) {
            for (std::size_t c = 0; c < whole.cols; c += cols_at_once) {
                Tile tile = whole;
                tile.rows = std::min(rows_at_once, whole.rows - r);
                tile.cols = std::min(cols_at_once, whole.cols - c);
                tile.element += r * whole.cols + c;
                tile.parameter += whole.per_column ? c : r;
                const bool mine = is_mine(seen_ / chunks_.size);
                seen_ += tile.rows * tile.cols;
                if (!mine) continue;
                execute(tile);
                if (!go_on(tile.rows * tile.cols)) return false;
            }
        }
        return true;
    }

private:
    void execute(const Tile& tile) {
        if (walk_) {
            if (moves_)
                execute_beside(tile);
            else
                execute_by_rows(tile);
            return;
        }
        run_stages(stages_, count_, tile, in_ + tile.element * stages_[0].in_size,
                   out_ ? out_ + tile.element * stages_[count_ - 1].out_size : nullptr, buffers_);
    }

    // The rows of a view are long: a piece of one after the other, where it lies.
    void execute_by_rows(const Tile& tile) {
        for (std::size_t r = 0; r < tile.rows; ++r) {
            for (std::size_t c = 0; c < tile.cols;) {
                const std::size_t element = tile.element + r * tile.cols + c;
                std::size_t in_left, out_left;
                const char* in = walk_->in.at(element, &in_left);
                char* out = walk_->out.at(element, &out_left);
                const std::size_t n = std::min({tile.cols - c, in_left, out_left});
                const Tile piece{element, 1, n, tile.parameter + (tile.per_column ? c : r),
                                 tile.per_column};
                run_stages(stages_, count_, piece, in, out, buffers_);
                c += n;
            }
        }
    }

    // Elements of a view that are not beside each other are moved there, and back.
    void execute_beside(const Tile& tile) {
        const std::size_t n = tile.rows * tile.cols;
        std::size_t left;
        const bool gathers = !walk_->in.plain(), scatters = !walk_->out.plain();
        char* in = gathers ? buffers_[1] : walk_->in.at(tile.element, &left);
        char* out = scatters ? buffers_[(count_ - 1) % 2] : walk_->out.at(tile.element, &left);
        if (gathers) walk_->in.move(tile.element, n, in, false);
        run_stages(stages_, count_, tile, in, out, buffers_);
        if (scatters) walk_->out.move(tile.element, n, out, true);
    }

    bool is_mine(std::size_t chunk) {
        while (taken_ <= chunk) {
            chunk_ = chunks_.next.fetch_add(1, std::memory_order_relaxed);
            taken_ = chunk_ + 1;
        }
        return chunk_ == chunk;
    }

    bool go_on(std::size_t n) {
        since_poll_ += n;
        if (since_poll_ >= until_poll && poll_.keep_going) {
            since_poll_ = 0;
            if (!poll_.keep_going(poll_.context)) chunks_.stop = true;
        }
        return !chunks_.stop.load(std::memory_order_relaxed);
    }

    const char* in_;
    char* out_;
    const Stage* stages_;
    std::size_t count_;
    const Walk* walk_;
    bool moves_;
    std::size_t limit_;
    Chunks& chunks_;
    Poll poll_;
    std::size_t seen_ = 0, chunk_ = 0, taken_ = 0, since_poll_ = 0;
    alignas(64) Buffers buffers_;
};

bool repeatable(const Stage* stages, std::size_t count) noexcept {
    return std::none_of(stages, stages + count, [](const Stage& s) { return s.unrepeatable; });
}

// Short runs become long rows, if enough of them share the repeated parameters; runs of one element
// do so even where parameters may not be repeated.
bool goes_by_rows(const Layout& layout, bool repeatable = true) noexcept {
    return layout.kind == Layout::Kind::channel && layout.inner < narrow &&
           (layout.inner == 1 || (layout.outer >= 8 && repeatable));
}

// The parameters of short runs, repeated so that they lie beside their elements: `copies` rows of
// channels * inner elements, as if that many rows of the array were one.
class Repeated {
public:
    Repeated(const Layout& layout, const Stage* stages, std::size_t count)
        : layout_(layout),
          row_(layout.axis * layout.inner),
          copies_(repeatable(stages, count) ? std::min(layout.outer, (wide + row_ - 1) / row_) : 1),
          original_(stages, stages + count),
          stages_(original_) {
        if (copies_ * layout.inner == 1) return;  // long rows already: a parameter per element
        for (Stage& stage : stages_) {
            if (stage.scale) stage.scale = repeat(stage.scale, stage.parameter_size);
            if (stage.zero) stage.zero = repeat(stage.zero, stage.parameter_size);
            for (void*& state : stage.state)
                if (state) state = repeat(state, stage.parameter_size);
        }
    }
    std::size_t rows() const { return copies_; }
    std::size_t cols() const { return copies_ * row_; }
    Stage* stages() { return stages_.data(); }
    void fold() const {
        if (copies_ * layout_.inner == 1) return;
        for (std::size_t i = 0; i < stages_.size(); ++i)
            if (const auto fold = stages_[i].fold)
                fold(layout_, copies_, stages_[i].state, original_[i].state);
    }

private:
    void* repeat(const void* from, std::size_t size) {
        storage_.emplace_back(copies_ * row_ * size);
        char* to = storage_.back().data();
        for (std::size_t t = 0; t < copies_; ++t)
            for (std::size_t c = 0; c < layout_.axis; ++c)
                for (std::size_t i = 0; i < layout_.inner; ++i, to += size)
                    std::memcpy(to, static_cast<const char*>(from) + c * size, size);
        return storage_.back().data();
    }
    const Layout& layout_;
    std::size_t row_, copies_;
    std::vector<Stage> original_, stages_;
    std::vector<std::vector<char>> storage_;
};

// Every form of a layout as tiles: runs with one parameter each, or rows with one parameter per
// element.  `rows` of the array are one row of `cols` elements where parameters are repeated.
template <class Visit>
bool walk(const Layout& layout, std::size_t rows, std::size_t cols, Visit&& visit) {
    const std::size_t plane = layout.axis * layout.inner;
    switch (layout.kind) {
        case Layout::Kind::tensor:
            return visit(Tile{0, 1, layout.size(), 0, false});
        case Layout::Kind::channel:
            if (rows) {
                const std::size_t whole = layout.outer / rows, rest = layout.outer % rows;
                return visit(Tile{0, whole, cols, 0, true}) &&
                       visit(Tile{whole * cols, 1, rest * plane, 0, true});
            }
            for (std::size_t o = 0; o < layout.outer; ++o)
                if (!visit(Tile{o * plane, layout.axis, layout.inner, 0, false})) return false;
            return true;
        case Layout::Kind::block:
            if (layout.inner == 1 && layout.axis % layout.block == 0)
                return visit(Tile{0, layout.outer * layout.blocks(), layout.block, 0, false});
            for (std::size_t o = 0; o < layout.outer; ++o) {
                const std::size_t first = o * layout.blocks();
                const std::size_t whole = layout.axis / layout.block,
                                  rest = layout.axis % layout.block;
                if (layout.inner == 1) {
                    if (!visit(Tile{o * plane, whole, layout.block, first, false}) ||
                        !visit(
                            Tile{o * plane + whole * layout.block, 1, rest, first + whole, false}))
                        return false;
                    continue;
                }
                for (std::size_t b = 0; b < layout.blocks(); ++b) {
                    const std::size_t start = b * layout.block;
                    if (!visit(Tile{o * plane + start * layout.inner,
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

const void* at(const void* first, std::size_t offset) {
    return first ? static_cast<const char*>(first) + offset : nullptr;
}
void* at(void* first, std::size_t offset) {
    return first ? static_cast<char*>(first) + offset : nullptr;
}

}  // namespace

void run_stages(const Stage* stages, std::size_t count, const Tile& tile, const char* first,
                char* results, Buffers& buffers) noexcept {
    const void* in = first;
    for (std::size_t i = 0; i < count; ++i) {
        const Stage& stage = stages[i];
        void* out = i + 1 < count ? buffers[i % 2] : results;
        const std::size_t offset = tile.parameter * stage.parameter_size;
        stage.kernel({in,
                      out,
                      tile.rows,
                      tile.cols,
                      at(stage.scale, offset),
                      at(stage.zero, offset),
                      {at(stage.state[0], offset), at(stage.state[1], offset)},
                      tile.per_column,
                      stage.low,
                      stage.high,
                      stage.non_temporal});
        in = out;
    }
}

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
            return goes_by_rows(layout) ? 0 : layout.inner;
        case Layout::Kind::block:
            return layout.inner == 1 ? std::min(layout.block, layout.axis) : 0;
        default:
            return layout.size();
    }
}

namespace {

// The work of one thread: the stages, with repeated parameters if there is memory for them.
class Worker {
public:
    Worker(const Layout& layout, const Stage* stages, std::size_t count, const Walk* walk)
        : layout_(layout), stages_(stages), count_(count), walk_(walk) {}
    void repeat_parameters() {
        if (walk_ && walk_->transposes()) return;
        if (goes_by_rows(layout_, repeatable(stages_, count_)))
            repeated_.emplace(layout_, stages_, count_);
    }
    bool run(const void* in, void* out, Chunks& chunks, Poll poll) noexcept {
        const FpGuard guard;
        bool finished;
        if (walk_ && walk_->transposes()) {
            finished = run_tiles(chunks, poll);
        } else if (repeated_) {
            Runner runner(in, out, repeated_->stages(), count_, chunks, poll, walk_);
            finished = walk(layout_, repeated_->rows(), repeated_->cols(), runner);
            repeated_->fold();
        } else {
            Runner runner(in, out, stages_, count_, chunks, poll, walk_);
            finished = walk(layout_, 0, 0, runner);
        }
        fence_streams();
        return finished;
    }

private:
    bool run_tiles(Chunks& chunks, Poll poll) noexcept {  // placeholder until spans
        Tiles tiles(*walk_, stages_, count_);
        std::size_t since = 0;
        for (std::size_t t; (t = chunks.next.fetch_add(1)) < tiles.count();) {
            tiles.execute(t);
            since += layout_.size() / tiles.count();
            if (since >= until_poll && poll.keep_going) {
                since = 0;
                if (!poll.keep_going(poll.context)) chunks.stop = true;
            }
            if (chunks.stop) return false;
        }
        return true;
    }
    const Layout& layout_;
    const Stage* stages_;
    std::size_t count_;
    const Walk* walk_;
    std::optional<Repeated> repeated_;
};

// A call in several threads.  Each has a state of its own, folded in the end.  All memory is taken
// before the first element is touched.
class Call {
public:
    Call(const Layout& layout, const void* in, void* out, const Stage* stages, std::size_t count,
         std::size_t threads, Poll poll, const Walk* walk)
        : layout_(layout), in_(in), out_(out), poll_(poll) {
        chunks_.size = std::max(staged, layout.size() / (threads * 8));
        for (std::size_t t = 0; t < threads; ++t) {
            stages_.emplace_back(stages, stages + count);
            if (t == 0) continue;
            for (Stage& stage : stages_.back())
                for (void*& state : stage.state)
                    if (state) state = copy(state, stage.parameter_size);
        }
        for (const auto& own : stages_)
            workers_.emplace_back(layout, own.data(), count, walk).repeat_parameters();
    }

    bool run() {
        run_in_threads(
            workers_.size(), [](void* self, std::size_t t) { static_cast<Call*>(self)->work(t); },
            this);
        const FpGuard guard;  // comparisons too see 0 in place of subnormals under the host's DAZ
        Layout one;  // a parameter per element, in place of the short runs that fold is for
        one.kind = Layout::Kind::channel;
        one.axis = layout_.parameters();
        one.inner = 1;
        for (std::size_t t = 1; t < stages_.size(); ++t)
            for (std::size_t i = 0; i < stages_[t].size(); ++i)
                if (const auto fold = stages_[t][i].fold)
                    fold(one, 1, stages_[t][i].state, stages_[0][i].state);
        return !chunks_.stop;
    }

private:
    void work(std::size_t thread) noexcept {
        workers_[thread].run(in_, out_, chunks_, thread == 0 ? poll_ : Poll{});
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
    Chunks chunks_{};
    std::vector<std::vector<Stage>> stages_;
    std::vector<std::vector<char>> copies_;
    std::deque<Worker> workers_;
};

}  // namespace

bool run(const Layout& layout, const void* in, void* out, const Stage* stages, std::size_t count,
         Poll poll, const Walk* walk) noexcept {
    if (layout.size() == 0) return true;
    // a thread takes some microseconds to wake up: it is worth about so many bytes
    constexpr std::size_t worth_a_thread = std::size_t(1) << 19;
    const std::size_t bytes = layout.size() * (stages[0].in_size + stages[count - 1].out_size);
    std::size_t copied = 0;  // bytes, by each further thread: its state
    for (std::size_t i = 0; i < count; ++i)
        if (stages[i].fold) copied += layout.parameters() * stages[i].parameter_size;
    const std::size_t threads =
        std::min(get_num_threads(), bytes / std::max(worth_a_thread, 4 * copied));
    // Memory that is short costs threads, or long rows, and never the result.
    std::optional<Call> call;
    try {
        if (threads > 1) call.emplace(layout, in, out, stages, count, threads, poll, walk);
    } catch (const std::bad_alloc&) {
    }
    if (call) return call->run();
    Worker alone(layout, stages, count, walk);
    try {
        alone.repeat_parameters();
    } catch (const std::bad_alloc&) {
    }
    Chunks all;
    all.size = layout.size();
    return alone.run(in, out, all, poll);
}

}  // namespace zeropoint::core
