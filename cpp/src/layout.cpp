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
#include "machine.h"
#include "pool.h"
#include "tiles.h"

namespace zeropoint::core {

namespace {

constexpr std::size_t until_poll = std::size_t(1) << 20;  // elements between two polls
constexpr std::size_t until_mark = 8192;  // elements whose codes are still in the first cache
constexpr std::size_t narrow = 32;  // runs shorter than this are not worth a loop of their own
constexpr std::size_t wide = 256;   // rows with repeated parameters are made at least this long

// Elements from `first` on, up to but not including `last`.  A tile belongs to the span in which it
// starts.
struct Span {
    std::size_t first, last;
};

// Asks the caller's poll now and then whether to go on.
class Polls {
public:
    explicit Polls(Poll poll) : poll_(poll) {}
    bool go_on(std::size_t elements) {
        since_ += elements;
        if (since_ < until_poll || !poll_.keep_going) return true;
        since_ = 0;
        return poll_.keep_going(poll_.context);
    }

private:
    Poll poll_;
    std::size_t since_ = 0;
};

class Runner {
public:
    /// Tiles are cut to `limit` elements, or to what is staged where there are several stages or a
    /// mark, or to the stage's groups.
    Runner(const Places& places, const Stage* stages, std::size_t count, std::size_t limit,
           Span span)
        : in_(static_cast<const char*>(places.in)),
          out_(static_cast<char*>(places.out)),
          walk_(places.walk),
          stages_(stages),
          count_(count),
          moves_(walk_ && walk_->moves()),
          limit_(count > 1 || moves_ ? staged_elements(stages, count)
                 : stages->mark      ? std::min(limit, until_mark)
                 : stages->group     ? std::min(limit, stages->group)
                                     : limit),
          span_(span) {}

    // Cuts a tile into tiles of at most `limit_` elements: whole rows if they fit, else columns;
    // the same ones whatever the span is.  Executes those of the span.
    void operator()(const Tile& whole) {
        const std::size_t n = whole.rows * whole.cols;
        if (n == 0) return;
        if (n <= limit_) {
            if (whole.element >= span_.first && whole.element < span_.last) execute(whole);
            return;
        }
        const bool uncut = stages_->group && whole.per_column;
        const std::size_t rows_at_once =
            uncut ? whole.rows : std::max<std::size_t>(1, limit_ / whole.cols);
        const std::size_t cols_at_once = stages_->group ? whole.cols : std::min(whole.cols, limit_);
        const std::size_t before = span_.first - std::min(span_.first, whole.element);
        std::size_t r = before / whole.cols / rows_at_once * rows_at_once;
        std::size_t c = (before - r * whole.cols) % whole.cols / cols_at_once * cols_at_once;
        for (; r < whole.rows; r += rows_at_once, c = 0) {
            for (; c < whole.cols; c += cols_at_once) {
                Tile tile = whole;
                tile.element += r * whole.cols + c;
                if (tile.element < span_.first) continue;
                if (tile.element >= span_.last) return;
                tile.rows = std::min(rows_at_once, whole.rows - r);
                tile.cols = std::min(cols_at_once, whole.cols - c);
                tile.parameter += whole.per_column ? c : r;
                execute(tile);
            }
        }
    }

private:
    void execute(const Tile& tile) {
        if (!walk_)
            run_stages(stages_, count_, tile, in_ + tile.element * stages_[0].in_size,
                       out_ ? out_ + tile.element * stages_[count_ - 1].out_size : nullptr,
                       buffers_);
        else if (moves_)
            execute_beside(tile);
        else
            execute_by_rows(tile);
    }

    // The rows of a view are long: a piece of one after the other, where it lies; of a tile whose
    // own are short, as many as lie side by side.
    void execute_by_rows(const Tile& tile) {
        for (std::size_t r = 0, rows; r < tile.rows; r += rows) {
            rows = 1;
            for (std::size_t c = 0, n; c < tile.cols; c += n) {
                const std::size_t element = tile.element + r * tile.cols + c;
                std::size_t in_left, out_left;
                const char* in = walk_->in.at(element, &in_left);
                char* out = walk_->out.at(element, &out_left);
                const std::size_t left = std::min(in_left, out_left);
                n = std::min(tile.cols - c, left);
                if (c == 0 && left > n) rows = std::min(tile.rows - r, left / n);
                const std::size_t parameter = tile.parameter + (tile.per_column ? c : r);
                run_stages(stages_, count_, {element, rows, n, parameter, tile.per_column}, in, out,
                           buffers_);
            }
        }
    }

    // The elements of a view are not side by side: they are moved to L1, and from there.
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

    const char* in_;
    char* out_;
    const Walk* walk_;
    const Stage* stages_;
    std::size_t count_;
    bool moves_;
    std::size_t limit_;
    Span span_;
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
// Visits, in the order of memory, at least the tiles of which a part belongs to the span, and not
// many more.
template <class Visit>
void walk(const Layout& layout, std::size_t rows, std::size_t cols, Span span, Visit&& visit) {
    const std::size_t plane = layout.axis * layout.inner;
    switch (layout.kind) {
        case Layout::Kind::tensor:
            return visit(Tile{0, 1, layout.size(), 0, false});
        case Layout::Kind::channel:
            if (rows) {
                const std::size_t whole = layout.outer / rows, rest = layout.outer % rows;
                visit(Tile{0, whole, cols, 0, true});
                return visit(Tile{whole * cols, 1, rest * plane, 0, true});
            }
            for (std::size_t o = span.first / plane; o * plane < span.last; ++o)
                visit(Tile{o * plane, layout.axis, layout.inner, 0, false});
            return;
        case Layout::Kind::block:
            if (layout.inner == 1 && layout.axis % layout.block == 0)
                return visit(Tile{0, layout.outer * layout.blocks(), layout.block, 0, false});
            for (std::size_t o = span.first / plane; o * plane < span.last; ++o) {
                const std::size_t first = o * layout.blocks();
                const std::size_t whole = layout.axis / layout.block,
                                  rest = layout.axis % layout.block;
                if (layout.inner == 1) {
                    visit(Tile{o * plane, whole, layout.block, first, false});
                    visit(Tile{o * plane + whole * layout.block, 1, rest, first + whole, false});
                    continue;
                }
                const std::size_t step = layout.block * layout.inner;
                std::size_t b = (span.first - std::min(span.first, o * plane)) / step;
                for (; b < layout.blocks() && o * plane + b * step < span.last; ++b) {
                    const std::size_t start = b * layout.block;
                    visit(Tile{o * plane + start * layout.inner,
                               std::min(layout.block, layout.axis - start), layout.inner,
                               (first + b) * layout.inner, true});
                }
            }
    }
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

std::size_t staged_elements(const Stage* stages, std::size_t count) noexcept {
    std::size_t widest = 1;
    for (std::size_t i = 0; i < count; ++i)
        widest = std::max({widest, stages[i].in_size, stages[i].out_size});
    return staged / widest;
}

void run_stage(const Stage& stage, const Job& job) noexcept {
    stage.kernel(job);
    if (!stage.mark) return;
    Job marks;
    marks.in = job.in;
    marks.out = job.out;
    marks.rows = job.rows;
    marks.cols = job.cols;
    marks.low = stage.marked;
    marks.high = stage.low;
    stage.mark(marks);
}

void run_stages(const Stage* stages, std::size_t count, const Tile& tile, const char* first,
                char* results, Buffers& buffers) noexcept {
    const void* in = first;
    for (std::size_t i = 0; i < count; ++i) {
        const Stage& stage = stages[i];
        void* out = i + 1 < count ? buffers[i % 2] : results;
        const std::size_t offset = tile.parameter * stage.parameter_size;
        run_stage(stage, {in,
                          out,
                          tile.rows,
                          tile.cols,
                          at(stage.scale, offset),
                          at(stage.zero, offset),
                          {at(stage.state[0], offset), at(stage.state[1], offset)},
                          tile.per_column,
                          stage.low,
                          stage.high,
                          stage.non_temporal,
                          stage.context});
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

bool stores_past_caches(const Layout& layout, const Stage& first, const Stage& last,
                        const Places& places) noexcept {
    if (!places.out || (places.walk && !places.walk->writes_in_place())) return false;
    // What is larger than half of the last-level cache has left it before anyone reads it again.
    // Large caches are shared by many CPUs, and by virtual machines that are told of the whole:
    // a process can count on little of them.
    static const std::size_t from = [] {
        constexpr std::size_t most = std::size_t(64) << 20;
        const std::size_t cache = last_level_cache();
        return std::min(cache ? cache : most / 2, most) / 2;
    }();
    const std::size_t n = layout.size(), bytes = n * (first.in_size + last.out_size);
    const Setting& named = stream_from();
    if (named.set && named.valid) return bytes > named.value;
    if (bytes <= from) return false;
    // The system has just put new pages into the caches: to write past those would cost twice.  The
    // allocator writes to the first page, and a caller perhaps to the next ones.
    const auto has_page_of = [&](std::size_t element) {
        std::size_t left;
        return has_page(places.walk ? places.walk->out.at(element, &left)
                                    : at(places.out, element * last.out_size));
    };
    return has_page_of(n / 2) && has_page_of(n - 1);
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
    Worker(const Layout& layout, const Places& places, const Stage* stages, std::size_t count,
           std::size_t limit)
        : layout_(layout), places_(places), stages_(stages), count_(count), limit_(limit) {}
    void repeat_parameters() {
        if (!transposes() && goes_by_rows(layout_, repeatable(stages_, count_)))
            repeated_.emplace(layout_, stages_, count_);
    }
    void run(Span span) noexcept {
        const FpGuard guard;
        if (transposes())
            run_tiles(span);
        else if (repeated_)
            walk(layout_, repeated_->rows(), repeated_->cols(), span,
                 Runner(places_, repeated_->stages(), count_, limit_, span));
        else
            walk(layout_, 0, 0, span, Runner(places_, stages_, count_, limit_, span));
        fence_streams();
    }
    /// Joins what reductions have found for the copies of a parameter.
    void finish() noexcept {
        if (!repeated_) return;  // a guard takes as long as a small call
        const FpGuard guard;  // comparisons too see 0 in place of subnormals under the host's DAZ
        repeated_->fold();
    }

private:
    bool transposes() const { return places_.walk && places_.walk->transposes(); }
    // Each tile stands for as many elements as the others.
    void run_tiles(Span span) noexcept {
        Tiles tiles(*places_.walk, stages_, count_);
        const std::size_t each = std::max<std::size_t>(1, layout_.size() / tiles.count());
        for (std::size_t t = (span.first + each - 1) / each;
             t < tiles.count() && t * each < span.last; ++t)
            tiles.execute(t);
    }

    const Layout& layout_;
    const Places& places_;
    const Stage* stages_;
    std::size_t count_, limit_;
    std::optional<Repeated> repeated_;
};

// Chunks of one size that the threads of a call share.  Each has a range of its own, the same one
// in every call of that shape, so that its part of the data may still be in its CPU's caches.  It
// takes them from the front; when it has done its own, it takes those of others from the back.
class Chunks {
public:
    Chunks(std::size_t elements, std::size_t threads) : elements_(elements), ranges_(threads) {
        // small enough that nobody waits long for the last one, large enough to be worth a
        // hand-over
        const std::size_t wanted = std::min(largest, elements / (threads * 8));
        size_ = std::max(smallest, (wanted + smallest - 1) / smallest * smallest);
        const std::size_t count = (elements + size_ - 1) / size_;
        for (std::size_t t = 0; t < threads; ++t)
            ranges_[t].left = count * t / threads << 32 | count * (t + 1) / threads;
    }
    std::size_t size() const { return size_; }
    /// An empty span where nothing is left.
    Span next(std::size_t thread) noexcept {
        for (std::size_t i = 0; i < ranges_.size(); ++i) {
            auto& left = ranges_[(thread + i) % ranges_.size()].left;
            std::uint64_t now = left.load(std::memory_order_relaxed);
            while (now >> 32 < (now & end)) {
                const std::uint64_t taken = i == 0 ? now + front : now - 1;
                if (!left.compare_exchange_weak(now, taken, std::memory_order_relaxed)) continue;
                const std::size_t first = (i == 0 ? now >> 32 : taken & end) * size_;
                return {first, std::min(elements_, first + size_)};
            }
        }
        return {0, 0};
    }

private:
    static constexpr std::size_t smallest = std::size_t(1) << 10, largest = std::size_t(1) << 16;
    static constexpr std::uint64_t front = std::uint64_t(1) << 32, end = front - 1;
    struct alignas(64) Range {               // one cache line each
        std::atomic<std::uint64_t> left{0};  // the first chunk, and the one after the last
    };
    std::size_t elements_, size_;
    std::vector<Range> ranges_;
};

// A call in several threads.  Each has a state of its own, folded in the end.  All memory is taken
// before the first element is touched.
class Call {
public:
    Call(const Layout& layout, const Places& places, const Stage* stages, std::size_t count,
         std::size_t threads, Poll poll)
        : layout_(layout), poll_(poll), chunks_(layout.size(), threads) {
        for (std::size_t t = 0; t < threads; ++t) {
            stages_.emplace_back(stages, stages + count);
            if (t == 0) continue;
            for (Stage& stage : stages_.back())
                for (void*& state : stage.state)
                    if (state) state = copy(state, stage.parameter_size);
        }
        for (const auto& own : stages_)
            workers_.emplace_back(layout, places, own.data(), count, chunks_.size())
                .repeat_parameters();
    }

    bool run() {
        run_in_threads(
            workers_.size(),
            [](void* self, std::size_t t) { return static_cast<Call*>(self)->work(t); }, this);
        for (Worker& worker : workers_) worker.finish();
        const FpGuard guard;
        for (std::size_t t = 1; t < stages_.size(); ++t)
            for (std::size_t i = 0; i < stages_[t].size(); ++i)
                if (stages_[t][i].fold) fold(stages_[t][i], stages_[0][i].state);
        return !stop_;
    }

private:
    bool work(std::size_t thread) noexcept {
        if (stop_.load(std::memory_order_relaxed)) return false;
        const Span span = chunks_.next(thread);
        if (span.first == span.last) return false;
        workers_[thread].run(span);
        if (thread == 0 && !poll_.go_on(span.last - span.first)) stop_ = true;
        return true;
    }
    // Adds the state of one thread to another's, some parameters at a time.
    void fold(const Stage& from, const State& to) noexcept {
        constexpr std::size_t bytes = std::size_t(1) << 20;
        const std::size_t n = layout_.parameters(), size = from.parameter_size;
        const std::size_t at_once = std::max<std::size_t>(1, bytes / size);
        Layout one;  // a parameter per element, in place of the short runs that fold is for
        one.kind = Layout::Kind::channel;
        one.inner = 1;
        for (std::size_t i = 0; i < n && !stop_; i += at_once) {
            one.axis = std::min(at_once, n - i);
            from.fold(one, 1, {at(from.state[0], i * size), at(from.state[1], i * size)},
                      {at(to[0], i * size), at(to[1], i * size)});
            if (!poll_.go_on(one.axis * size / sizeof(double))) stop_ = true;
        }
    }
    void* copy(const void* from, std::size_t size) {
        const char* bytes = static_cast<const char*>(from);
        copies_.emplace_back(bytes, bytes + layout_.parameters() * size);
        return copies_.back().data();
    }

    const Layout& layout_;
    Polls poll_;
    Chunks chunks_;
    std::atomic<bool> stop_{false};
    std::vector<std::vector<Stage>> stages_;
    std::vector<std::vector<char>> copies_;
    std::deque<Worker> workers_;
};

}  // namespace

bool run(const Layout& layout, const Places& places, const Stage* stages, std::size_t count,
         Poll poll) noexcept {
    if (layout.size() == 0) return true;
    // a thread takes some microseconds to wake up: it is worth about so many bytes
    constexpr std::size_t worth_a_thread = std::size_t(1) << 19;
    const std::size_t bytes = layout.size() * (stages[0].in_size + stages[count - 1].out_size);
    std::size_t state = 0;  // bytes, which each further thread copies
    for (std::size_t i = 0; i < count; ++i)
        if (stages[i].fold) state += layout.parameters() * stages[i].parameter_size;
    const std::size_t threads =
        std::min(get_num_threads(), bytes / std::max(worth_a_thread, 4 * state));
    // Memory that is short costs threads, or long rows, and never the result.
    std::optional<Call> call;
    try {
        if (threads > 1) call.emplace(layout, places, stages, count, threads, poll);
    } catch (const std::bad_alloc&) {
    }
    if (call) return call->run();
    // where an element brings much state, the system may take longer over its pages than we do
    const std::size_t weight = 1 + state / layout.size() / 16, until = until_poll / weight;
    Worker alone(layout, places, stages, count, until);
    try {
        alone.repeat_parameters();
    } catch (const std::bad_alloc&) {
    }
    Polls polls(poll);
    bool finished = true;
    for (std::size_t i = 0; finished && i < layout.size(); i += until) {
        const Span span{i, std::min(layout.size(), i + until)};
        alone.run(span);
        finished = polls.go_on((span.last - span.first) * weight);
    }
    alone.finish();
    return finished;
}

}  // namespace zeropoint::core
