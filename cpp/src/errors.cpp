#include "errors.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <vector>

#include "fpstate.h"
#include "pool.h"

namespace zeropoint::core {

namespace {

constexpr std::size_t chunk = ErrorSums::chunk;
constexpr std::size_t slice = 64 * chunk;  // elements that one thread takes: a power of two chunks
constexpr std::size_t narrow = 64;         // runs shorter than this have their parameters spread
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
    alignas(64) char wide[chunk * 8], fine[chunk * 8], values[chunk * 8], back[chunk * 8];
    alignas(64) char spread[4][chunk * 8];
    alignas(64) std::uint8_t codes[chunk];
    alignas(64) std::uint32_t rows[chunk];
    ErrorSums sums[slice / chunk];
    Run runs[chunk / narrow * 4];  // a full run may be followed by a short one, and begin short
};

// Where a stage has its parameters.
struct Source {
    const void* scale;
    const void* zero;
    std::size_t size;
};

Source of(const Stage& stage) { return {stage.scale, stage.zero, stage.parameter_size}; }

const void* at(const void* first, std::size_t bytes) {
    return first ? static_cast<const char*>(first) + bytes : nullptr;
}

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
class Worker {
public:
    Worker(const Layout& layout, const void* x, const ErrorStages& stages, const Errors& errors,
           Room& room, std::int64_t* counts)
        : layout_(layout), x_(x), stages_(stages), errors_(errors), room_(room) {
        tile_.inverse_unit = errors.inverse_unit;
        tile_.codes = room.codes;
        tile_.rows = room.rows;
        tile_.counts = counts;
        tile_.spare = static_cast<std::uint32_t>(std::max(errors.channels, tables) * row);
        std::fill_n(zeros, codes, std::uint8_t(0));
        tile_.zeros = zeros;
        if (errors.channels == 1)
            for (std::size_t i = 0; i < chunk; ++i)
                room.rows[i] = static_cast<std::uint32_t>(i % tables * row);
    }

    // Elements `begin` to `end` of the channels asked for; these are consecutive in C order if all
    // are asked for.
    ErrorSums run(std::size_t begin, std::size_t end) {
        const std::size_t plane = layout_.axis * layout_.inner;
        const bool all = errors_.sums || errors_.channels == layout_.axis;
        const std::size_t width = all ? layout_.size() : errors_.channels * layout_.inner;
        std::size_t done = 0;
        for (std::size_t i = begin, n; i < end; i += n) {
            n = std::min({chunk, end - i, width - i % width});
            const std::size_t skipped = all ? 0 : errors_.first * layout_.inner;
            measure(i / width * plane + skipped + i % width, n);
            if (errors_.sums) room_.sums[done++] = tile_.sums;
        }
        return errors_.sums ? by_pairs(room_.sums, done) : ErrorSums{};
    }

    std::int64_t clipped = 0;
    std::uint8_t zeros[codes];

private:
    void measure(std::size_t element, std::size_t n) {
        const void* x = at(x_, element * (stages_.widen.kernel ? stages_.widen.in_size
                                                               : stages_.quantize.in_size));
        x = through(stages_.widen, x, room_.wide, n);
        const std::size_t count = find_runs(element, n);
        each_run(stages_.quantize, quantize_, x, room_.codes, count);
        if (errors_.sums) {
            if (std::memchr(room_.codes, static_cast<int>(stages_.clipped.low & 0xFF), n) ||
                std::memchr(room_.codes, static_cast<int>(stages_.clipped.high & 0xFF), n))
                each_run(stages_.clipped, clipped_, x, nullptr, count);
            each_run(stages_.dequantize, dequantize_, room_.codes, room_.values, count);
            tile_.back = through(stages_.refine_back, room_.values, room_.back, n);
            kernel(stages_.errors, through(stages_.refine, x, room_.fine, n), n);
        }
        if (errors_.channels) kernel(stages_.tally, x, n);
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

    void each_run(const Stage& stage, const Source& source, const void* in, void* out,
                  std::size_t count) {
        for (std::size_t k = 0; k < count; ++k) {
            const Run& run = room_.runs[k];
            Job job;
            job.in = at(in, run.begin * stage.in_size);
            job.out = out ? static_cast<char*>(out) + run.begin * stage.out_size : nullptr;
            job.rows = 1;
            job.cols = run.length;
            job.scale = at(source.scale, run.parameter * source.size);
            job.zero = at(source.zero, run.parameter * source.size);
            job.state[0] = &clipped;
            job.per_column = differ_;
            job.low = stage.low;
            job.high = stage.high;
            stage.kernel(job);
        }
    }

    // The runs of n elements; of short ones the parameters are spread, and then they are one.
    std::size_t find_runs(std::size_t element, std::size_t n) {
        quantize_ = of(stages_.quantize);
        clipped_ = of(stages_.clipped);
        dequantize_ = of(stages_.dequantize);
        if (layout_.kind == Layout::Kind::tensor) {
            room_.runs[0] = {0, n, 0};
            return 1;
        }
        const bool differ = Cursor::parameters_differ(layout_);
        const bool is_short = Cursor::usual_length(layout_) < narrow;
        differ_ = differ || is_short;
        std::size_t count = 0;
        Cursor cursor(layout_, element);
        for (std::size_t i = 0, length; i < n; i += length) {
            length = std::min(cursor.length(), n - i);
            const Run run{i, length, cursor.parameter()};
            if (errors_.channels > 1) set_rows(cursor.channel() - errors_.first, run);
            if (is_short) {
                spread(quantize_.scale, quantize_.size, differ, run, room_.spread[0]);
                spread(quantize_.zero, quantize_.size, differ, run, room_.spread[1]);
                if (errors_.sums) {
                    spread(dequantize_.scale, dequantize_.size, differ, run, room_.spread[2]);
                    spread(dequantize_.zero, dequantize_.size, differ, run, room_.spread[3]);
                }
            } else {
                room_.runs[count++] = run;
            }
            cursor.advance(length);
        }
        if (!is_short) return count;
        room_.runs[0] = {0, n, 0};
        quantize_ = {room_.spread[0], room_.spread[1], quantize_.size};
        clipped_ = quantize_;
        dequantize_ = {room_.spread[2], room_.spread[3], dequantize_.size};
        return 1;
    }

    void set_rows(std::size_t channel, const Run& run) {
        const auto first = static_cast<std::uint32_t>(channel * row);
        const auto step = static_cast<std::uint32_t>(Cursor::channels_differ(layout_) ? row : 0);
        std::uint32_t* rows = room_.rows + run.begin;
        for (std::size_t i = 0; i < run.length; ++i)
            rows[i] = first + static_cast<std::uint32_t>(i) * step;
    }

    const Layout& layout_;
    const void* x_;
    const ErrorStages& stages_;
    const Errors& errors_;
    Room& room_;
    ErrorTile tile_{};
    Source quantize_{}, clipped_{}, dequantize_{};
    bool differ_ = false;  // whether every element of a run has parameters of its own
};

class Call {
public:
    Call(const Layout& layout, const void* x, const ErrorStages& stages, Errors& errors, Poll poll)
        : errors_(errors), poll_(poll) {
        const bool all = errors.sums || errors.channels == layout.axis;
        n_ = all ? layout.size() : layout.outer * errors.channels * layout.inner;
        const std::size_t slices = (n_ + slice - 1) / slice;
        const std::size_t threads = std::max<std::size_t>(1, std::min(get_num_threads(), slices));
        if (errors.sums) sums_.resize(slices);
        table_ = errors.channels ? std::max(errors.channels, tables) * row + ErrorTile::spares : 0;
        counts_.resize(threads * table_);
        rooms_.reset(new Room[threads]);
        workers_.reserve(threads);
        for (std::size_t t = 0; t < threads; ++t)
            workers_.emplace_back(layout, x, stages, errors, rooms_[t],
                                  counts_.data() + t * table_);
    }

    bool run() {
        run_in_threads(
            workers_.size(), [](void* self, std::size_t t) { static_cast<Call*>(self)->work(t); },
            this);
        if (stop_) return false;
        const FpGuard guard;
        if (errors_.sums) {
            const ErrorSums s = by_pairs(sums_.data(), sums_.size());
            errors_.worst = s.worst;
            errors_.absolute = s.absolute;
            errors_.noise = s.noise;
            errors_.signal = s.signal;
            errors_.back = s.back;
            errors_.dot = s.dot;
            errors_.clipped = 0;
            for (const Worker& worker : workers_) errors_.clipped += worker.clipped;
        }
        for (std::size_t t = 0; t < workers_.size() && errors_.channels; ++t) {
            const std::int64_t* counts = counts_.data() + t * table_;
            const std::size_t copies = errors_.channels == 1 ? tables : 1;
            const std::size_t rows = std::max(errors_.channels, tables);
            for (std::size_t i = 0; i < rows; ++i)
                for (std::size_t k = 0; k < codes; ++k)
                    errors_.counts[i % errors_.channels * codes + k] += counts[i * row + k];
            for (std::size_t k = 0; k < codes; ++k) errors_.zeros[k] |= workers_[t].zeros[k];
        }
        return true;
    }

private:
    void work(std::size_t thread) noexcept {
        const FpGuard guard;
        for (;;) {
            const std::size_t i = next_.fetch_add(1, std::memory_order_relaxed);
            if (i * slice >= n_ || stop_) return;
            const ErrorSums found = workers_[thread].run(i * slice, std::min(n_, (i + 1) * slice));
            if (errors_.sums) sums_[i] = found;
            if (thread == 0 && poll_.keep_going && !poll_.keep_going(poll_.context)) stop_ = true;
        }
    }

    Errors& errors_;
    Poll poll_;
    std::size_t n_, table_;
    std::atomic<std::size_t> next_{0};
    std::atomic<bool> stop_{false};
    std::vector<ErrorSums> sums_;
    std::vector<std::int64_t> counts_;
    std::unique_ptr<Room[]> rooms_;
    std::vector<Worker> workers_;
};

}  // namespace

bool measure(const Layout& layout, const void* x, const ErrorStages& stages, Errors& errors,
             Poll poll) {
    if (errors.counts) std::fill_n(errors.counts, errors.channels * codes, 0);
    if (errors.zeros) std::fill_n(errors.zeros, codes, std::uint8_t(0));
    if (layout.size() == 0) return true;
    return Call(layout, x, stages, errors, poll).run();
}

}  // namespace zeropoint::core
