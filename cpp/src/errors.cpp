#include "errors.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "fpstate.h"
#include "pool.h"

namespace zeropoint::core {

namespace {

constexpr std::size_t chunk = ErrorSums::chunk;
constexpr std::size_t slice = 64 * chunk;  // elements that one thread takes: a power of two chunks
constexpr std::size_t spread_below = 64;   // runs shorter than this have their parameters spread
constexpr std::size_t codes = 256;
// From the counts of one channel to those of the next: not a power of two, for a load waits for an
// earlier store whose address has the same low bits.
constexpr std::size_t row = codes + 8;
// Of one channel there are several tables, in turn: an increment waits for the one before it if
// both are of the same count.
constexpr std::size_t tables = 4;

ErrorSums both(const ErrorSums& a, const ErrorSums& b) noexcept {
    return {b.worst > a.worst ? b.worst : a.worst,
            a.absolute + b.absolute,
            a.noise + b.noise,
            a.signal + b.signal,
            a.back + b.back,
            a.dot + b.dot};
}

// Neighbours are added until one is left.
ErrorSums by_pairs(ErrorSums* sums, std::size_t n) noexcept {
    for (; n > 1; n = (n + 1) / 2)
        for (std::size_t i = 0; i < n; i += 2)
            sums[i / 2] = i + 1 < n ? both(sums[i], sums[i + 1]) : sums[i];
    return sums[0];
}

// Goes over the elements of a layout in C order, in runs whose parameters and whose channels are
// each one, or one after the other.
class Cursor {
public:
    Cursor(const Layout& layout, std::size_t element)
        : layout_(layout),
          outer_(element / (layout.axis * layout.inner)),
          along_(element / layout.inner % layout.axis),
          within_(element % layout.inner) {}

    static bool parameters_differ(const Layout& layout) {
        return layout.kind == Layout::Kind::channel
                   ? layout.inner == 1
                   : layout.kind == Layout::Kind::block && layout.inner > 1;
    }
    static bool channels_differ(const Layout& layout) {
        return layout.kind != Layout::Kind::tensor && layout.inner == 1;
    }
    /// That of a run that nothing cuts off.
    static std::size_t usual_length(const Layout& layout) {
        if (layout.kind == Layout::Kind::tensor || layout.inner > 1) return layout.inner;
        return layout.kind == Layout::Kind::channel ? layout.axis
                                                    : std::min(layout.block, layout.axis);
    }
    std::size_t channel() const { return along_; }
    std::size_t parameter() const {
        if (layout_.kind != Layout::Kind::block) return along_;
        return (outer_ * layout_.blocks() + along_ / layout_.block) * layout_.inner + within_;
    }
    std::size_t length() const {
        if (layout_.kind == Layout::Kind::tensor || layout_.inner > 1)
            return layout_.inner - within_;
        const std::size_t rest = layout_.axis - along_;
        if (layout_.kind == Layout::Kind::channel) return rest;
        return std::min(rest, layout_.block - along_ % layout_.block);
    }
    void advance(std::size_t n) {  // at most length()
        within_ += n;
        if (within_ < layout_.inner) return;
        along_ += within_ / layout_.inner;
        within_ %= layout_.inner;
        if (along_ < layout_.axis) return;
        outer_ += along_ / layout_.axis;
        along_ %= layout_.axis;
    }

private:
    const Layout& layout_;
    std::size_t outer_, along_, within_;
};

struct Run {
    std::size_t begin, length, parameter;
};

struct Room {
    alignas(64) char read[chunk * 8], wide[chunk * 8], fine[chunk * 8], values[chunk * 8],
        back[chunk * 8];
    alignas(64) char spread[4][chunk * 8];
    alignas(64) std::uint8_t codes[chunk];
    alignas(64) std::uint32_t rows[chunk];
    ErrorSums sums[slice / chunk];
    Run runs[chunk / spread_below *
             4];  // a full run may be followed by a short one, and begin short
};

// Where a stage has its parameters.
struct Source {
    const void* scale;
    const void* zero;
    std::size_t size;
};

Source of(const Stage& stage) { return {stage.scale, stage.zero, stage.parameter_size}; }

void spread(const void* from, std::size_t size, bool differ, const Run& run, char* to) {
    const char* first = static_cast<const char*>(from) + run.parameter * size;
    to += run.begin * size;
    if (differ) {
        std::memcpy(to, first, run.length * size);
    } else if (size == sizeof(float)) {
        float value;
        std::memcpy(&value, first, sizeof value);
        std::fill_n(reinterpret_cast<float*>(to), run.length, value);
    } else {
        double value;
        std::memcpy(&value, first, sizeof value);
        std::fill_n(reinterpret_cast<double*>(to), run.length, value);
    }
}

// The work of one thread.
class ErrorWorker {
public:
    ErrorWorker(const Layout& layout, const Side& x, const ErrorStages& stages, double inverse_unit,
                Room& room, char* gathered, std::uint32_t* counts, std::size_t channels)
        : layout_(layout),
          x_(x),
          gathered_(gathered),
          stages_(stages),
          room_(room),
          channels_(channels) {
        tile_.inverse_unit = inverse_unit;
        tile_.codes = room.codes;
        tile_.rows = room.rows;
        tile_.counts = counts;
        tile_.spare = static_cast<std::uint32_t>(std::max(channels, tables) * row);
        std::fill_n(zeros, codes, std::uint8_t(0));
        tile_.zeros = zeros;
        if (layout.axis == 1)
            for (std::size_t i = 0; i < chunk; ++i)
                room.rows[i] = static_cast<std::uint32_t>(i % tables * row);
    }

    // Sums of the elements from `begin` to `end` in C order; counts too if there is room for those
    // of all channels.
    ErrorSums sum(std::size_t begin, std::size_t end) {
        const bool all = channels_ == layout_.axis;
        std::size_t done = 0;
        if (gathered_) gather(begin, end);
        for (std::size_t i = begin; i < end; i += chunk) {
            const std::size_t n = std::min(chunk, end - i);
            const void* x = quantize(i, n, true, all);
            sum(x, n);
            if (all) tally(x, n);
            room_.sums[done++] = tile_.sums;
        }
        return by_pairs(room_.sums, done);
    }

    // Counts the elements of some channels that lie from `begin` to `end` of one index before the
    // axis.
    void count(std::size_t outer, std::size_t first, std::size_t begin, std::size_t end) {
        first_ = first;
        const std::size_t start = (outer * layout_.axis + first) * layout_.inner;
        for (std::size_t i = begin; i < end; i += chunk) {
            const std::size_t n = std::min(chunk, end - i);
            const void* x = quantize(start + i, n, false, true);
            // all of this index: what comes next is behind other channels
            if (x_.plain() && n == end - begin)
                next_ += (layout_.axis * layout_.inner - n) * in_size();
            fetch_a_third();
            fetch_a_third();
            tally(x, n);
        }
    }

    std::uint32_t* counts() const { return tile_.counts; }

    std::int64_t clipped = 0;
    std::uint8_t zeros[codes];

private:
    std::size_t in_size() const {
        return stages_.widen.kernel ? stages_.widen.in_size : stages_.quantize.in_size;
    }

    // All elements of a slice, in parts of rows: what lies beside a part is read while it is in a
    // cache, whose sets hold few lines that are a power of two apart.
    void gather(std::size_t begin, std::size_t end) {
        constexpr std::size_t part = 256;
        const std::size_t row = x_.row();
        for (std::size_t within = 0; within < row; within += part)
            for (std::size_t start = begin - begin % row; start < end; start += row) {
                const std::size_t first = std::max(begin, start + within);
                const std::size_t last = std::min(end, start + std::min(row, within + part));
                if (first < last)
                    x_.move(first, last - first, gathered_ + (first - begin) * in_size(), false);
            }
    }

    // The codes of n elements; returns these in the working precision.
    const void* quantize(std::size_t element, std::size_t n, bool with_values, bool counted) {
        const void* x = room_.read;
        if (x_.plain()) {
            x = x_.data() + element * in_size();
            next_ = static_cast<const char*>(x) + n * in_size();
            a_third_ = n * in_size() / 3;
        } else if (gathered_ && with_values) {
            x = gathered_ + element % slice * in_size();
        } else {
            x_.move(element, n, room_.read, false);
        }
        x = through(stages_.swap, x, room_.read, n);
        x = through(stages_.widen, x, room_.wide, n);
        find_runs(element, n, with_values, counted);
        each_run(stages_.quantize, quantize_, x, room_.codes);
        return x;
    }

    void sum(const void* x, std::size_t n) {
        const auto has = [&](std::int64_t code) {
            return std::memchr(room_.codes, static_cast<int>(code & 0xFF), n) != nullptr;
        };
        if (has(stages_.clipped.low) || has(stages_.clipped.high))  // only these can be clipped
            each_run(stages_.clipped, clipped_, x, nullptr);
        fetch_a_third();
        each_run(stages_.dequantize, dequantize_, room_.codes, room_.values);
        fetch_a_third();
        tile_.back = through(stages_.refine_back, room_.values, room_.back, n);
        kernel(stages_.errors, through(stages_.refine, x, room_.fine, n), n);
    }

    void tally(const void* x, std::size_t n) {
        fetch_a_third();
        kernel(stages_.tally, x, n);
    }

    // From memory what comes next: the kernels that take the most time do not read it.
    void fetch_a_third() {
        const char* end = next_ + a_third_;
        for (; next_ < end; next_ += 64) __builtin_prefetch(next_);
    }

    void kernel(Kernel kernel, const void* x, std::size_t n) {
        Job job;
        job.in = x;
        job.rows = 1;
        job.cols = n;
        job.state[0] = &tile_;
        kernel(job);
    }

    static const void* through(const Stage& stage, const void* from, void* to, std::size_t n) {
        if (!stage.kernel) return from;
        Job job;
        job.in = from;
        job.out = to;
        job.rows = 1;
        job.cols = n;
        stage.kernel(job);
        return to;
    }

    void each_run(const Stage& stage, const Source& source, const void* in, void* out) {
        for (std::size_t k = 0; k < runs_; ++k) {
            const Run& run = room_.runs[k];
            Job job;
            job.in = at(in, run.begin * stage.in_size);
            job.out = out ? static_cast<char*>(out) + run.begin * stage.out_size : nullptr;
            job.rows = 1;
            job.cols = run.length;
            job.scale = at(source.scale, run.parameter * source.size);
            job.zero = at(source.zero, run.parameter * source.size);
            job.state[0] = &clipped;
            job.state[1] = layout_.kind == Layout::Kind::tensor ? &unclipped_ : nullptr;
            job.per_column = differ_;
            job.low = stage.low;
            job.high = stage.high;
            job.context = stage.context;
            run_stage(stage, job);
        }
    }

    // The runs of n elements; of short ones the parameters are spread, and then they are one.
    void find_runs(std::size_t element, std::size_t n, bool with_values, bool counted) {
        quantize_ = of(stages_.quantize);
        clipped_ = of(stages_.clipped);
        dequantize_ = of(stages_.dequantize);
        if (layout_.kind == Layout::Kind::tensor) {
            room_.runs[0] = {0, n, 0};
            runs_ = 1;
            return;
        }
        const bool differ = Cursor::parameters_differ(layout_);
        const bool is_short = Cursor::usual_length(layout_) < spread_below;
        differ_ = differ || is_short;
        runs_ = 0;
        Cursor cursor(layout_, element);
        for (std::size_t i = 0, length; i < n; i += length) {
            length = std::min(cursor.length(), n - i);
            const Run run{i, length, cursor.parameter()};
            if (counted && layout_.axis > 1) set_rows(cursor.channel() - first_, run);
            if (is_short) {
                spread(quantize_.scale, quantize_.size, differ, run, room_.spread[0]);
                spread(quantize_.zero, quantize_.size, differ, run, room_.spread[1]);
                if (with_values) {
                    spread(dequantize_.scale, dequantize_.size, differ, run, room_.spread[2]);
                    spread(dequantize_.zero, dequantize_.size, differ, run, room_.spread[3]);
                }
            } else {
                room_.runs[runs_++] = run;
            }
            cursor.advance(length);
        }
        if (!is_short) return;
        runs_ = 1;
        room_.runs[0] = {0, n, 0};
        quantize_ = {room_.spread[0], room_.spread[1], quantize_.size};
        clipped_ = quantize_;
        dequantize_ = {room_.spread[2], room_.spread[3], dequantize_.size};
    }

    void set_rows(std::size_t channel, const Run& run) {
        const auto first = static_cast<std::uint32_t>(channel * row);
        const auto step = static_cast<std::uint32_t>(Cursor::channels_differ(layout_) ? row : 0);
        std::uint32_t* rows = room_.rows + run.begin;
        for (std::size_t i = 0; i < run.length; ++i)
            rows[i] = first + static_cast<std::uint32_t>(i) * step;
    }

    const Layout& layout_;
    const Side& x_;
    char* gathered_;  // the slice, or null: it is read chunk by chunk
    const ErrorStages& stages_;
    Room& room_;
    std::size_t channels_, first_ = 0;  // whose counts there is room for, and the first of them
    ErrorTile tile_{};
    std::size_t runs_ = 0;
    const char* next_ = nullptr;
    std::size_t a_third_ = 0;
    Source quantize_{}, clipped_{}, dequantize_{};
    Unclipped unclipped_;  // where all elements share their parameters
    bool differ_ = false;  // whether every element of a run has parameters of its own
};

// A call in several threads.  All memory is taken before the first element is touched.
class ErrorCall {
public:
    ErrorCall(const Layout& layout, const Side& x, const ErrorStages& stages, Errors& errors,
              Poll poll)
        : layout_(layout),
          stages_(stages),
          errors_(errors),
          poll_(poll),
          // few channels are counted while they are summed, and the many in a pass of their own; if
          // the count of one could exceed 32 bits, the table is flushed, which goes for the first
          at_once_(layout.axis <= few(layout) || layout.outer * layout.inner >= until_flush),
          together_(std::clamp(largest_piece / (layout.outer * layout.inner), std::size_t(16),
                               few(layout))),
          slices_((layout.size() + slice - 1) / slice),
          sums_(slices_) {
        const std::size_t threads = std::max<std::size_t>(1, std::min(get_num_threads(), slices_));
        channels_ = at_once_ ? layout.axis : std::min(together_, layout.axis);
        const std::size_t table = std::max(channels_, tables) * row + ErrorTile::spares;
        counts_.resize(threads * table);
        since_flush_.resize(threads);
        if (at_once_) totals_ = std::vector<std::atomic<std::uint64_t>>(layout.axis * codes);
        rooms_.reset(new Room[threads]);
        // rows of a transposed array, of which a slice has several
        if (!x.plain() && x.run() == 0 && x.row() >= chunk / 4 && x.row() <= slice / 4)
            gathered_.reset(new char[threads * slice * sizeof(double)]);
        workers_.reserve(threads);
        for (std::size_t t = 0; t < threads; ++t)
            workers_.emplace_back(layout, x, stages, errors.inverse_unit, rooms_[t],
                                  gathered_ ? &gathered_[t * slice * sizeof(double)] : nullptr,
                                  counts_.data() + t * table, channels_);
    }

    bool run() {
        in_threads<&ErrorCall::sum>();
        if (stop_) return false;
        const FpGuard guard;
        const ErrorSums s = by_pairs(sums_.data(), sums_.size());
        errors_.worst = s.worst;
        errors_.absolute = s.absolute;
        errors_.noise = s.noise;
        errors_.signal = s.signal;
        errors_.back = s.back;
        errors_.dot = s.dot;
        errors_.clipped = 0;
        for (const ErrorWorker& worker : workers_) errors_.clipped += worker.clipped;
        if (at_once_) {
            for (const ErrorWorker& worker : workers_) flush(worker);
            for (std::size_t i = 0; i < layout_.axis; ++i) {
                std::uint64_t counts[codes];
                for (std::size_t k = 0; k < codes; ++k) counts[k] = totals_[i * codes + k];
                finish(i, counts, errors_.used);
            }
        } else {
            next_ = 0;
            in_threads<&ErrorCall::count>();
            if (stop_) return false;
        }
        for (const ErrorWorker& worker : workers_)
            for (std::size_t k = 0; k < codes; ++k) errors_.used[k] |= worker.zeros[k];
        return true;
    }

private:
    static constexpr std::size_t until_flush = std::size_t(1) << 31;
    // Elements of a group of channels: a caller waits for the last group of others, without a poll.
    static constexpr std::size_t largest_piece = std::size_t(1) << 25;
    // Channels whose counts stay in the cache.
    static std::size_t few(const Layout& layout) { return layout.inner == 1 ? 1024 : 256; }

    template <bool (ErrorCall::*piece)(ErrorWorker&, std::size_t) noexcept>
    void in_threads() {
        run_in_threads(
            workers_.size(),
            [](void* self, std::size_t t) {
                const FpGuard guard;
                ErrorCall& call = *static_cast<ErrorCall*>(self);
                return !call.stop_ && (call.*piece)(call.workers_[t], t);
            },
            this);
    }

    bool sum(ErrorWorker& worker, std::size_t thread) noexcept {
        const std::size_t i = next_.fetch_add(1, std::memory_order_relaxed);
        if (i >= slices_) return false;
        sums_[i] = worker.sum(i * slice, std::min(layout_.size(), (i + 1) * slice));
        if (at_once_ && (since_flush_[thread] += slice) >= until_flush) {
            flush(worker);
            since_flush_[thread] = 0;
        }
        return go_on(thread);
    }

    // All of a group of channels.
    bool count(ErrorWorker& worker, std::size_t thread) noexcept {
        const std::size_t first = next_.fetch_add(together_, std::memory_order_relaxed);
        if (first >= layout_.axis) return false;
        const std::size_t n = std::min(together_, layout_.axis - first);
        const std::size_t length = n * layout_.inner;
        for (std::size_t outer = 0, done = 0; outer < layout_.outer; ++outer)
            for (std::size_t i = 0, step; i < length; i += step) {
                step = std::min(slice, length - i);
                worker.count(outer, first, i, i + step);
                if ((done += step) < slice) continue;
                done = 0;
                if (stop_ || !go_on(thread)) return false;
            }
        for (std::size_t i = 0; i < n; ++i) {
            std::uint32_t* counts = worker.counts() + i * row;
            finish(first + i, counts, worker.zeros);
            std::fill_n(counts, codes, 0);  // for the next group, while they are in the first cache
        }
        return go_on(thread);
    }

    void flush(const ErrorWorker& worker) noexcept {
        std::uint32_t* counts = worker.counts();
        for (std::size_t i = 0; i < std::max(channels_, tables); ++i)
            for (std::size_t k = 0; k < codes; ++k) {
                const std::uint32_t n = std::exchange(counts[i * row + k], 0);
                if (n) totals_[i % channels_ * codes + k].fetch_add(n, std::memory_order_relaxed);
            }
    }

    template <class Count>
    void finish(std::size_t channel, const Count* counts, std::uint8_t* used) noexcept {
        for (std::size_t k = 0; k < codes; ++k) used[k] |= counts[k] != 0;
        Job job;
        job.in = counts;
        job.state[0] = errors_.nonzero + channel;
        job.state[1] = errors_.most + channel;
        (sizeof(Count) == 4 ? stages_.fewest : stages_.fewest_of_many)(job);
    }

    bool go_on(std::size_t thread) noexcept {
        if (thread == 0 && poll_.keep_going && !poll_.keep_going(poll_.context)) stop_ = true;
        return !stop_;
    }

    const Layout& layout_;
    const ErrorStages& stages_;
    Errors& errors_;
    Poll poll_;
    bool at_once_;
    std::size_t together_, channels_ = 0;
    std::size_t slices_;
    std::atomic<std::size_t> next_{0};
    std::atomic<bool> stop_{false};
    std::vector<ErrorSums> sums_;
    std::vector<std::uint32_t> counts_;
    std::vector<std::size_t> since_flush_;
    std::vector<std::atomic<std::uint64_t>> totals_;
    std::unique_ptr<Room[]> rooms_;
    std::unique_ptr<char[]> gathered_;
    std::vector<ErrorWorker> workers_;
};

}  // namespace

bool measure(const Layout& layout, const Side& x, const ErrorStages& stages, Errors& errors,
             Poll poll) {
    if (layout.size() == 0) return true;
    return ErrorCall(layout, x, stages, errors, poll).run();
}

}  // namespace zeropoint::core
