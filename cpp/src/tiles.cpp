#include "tiles.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace zeropoint::core {

namespace {

constexpr std::size_t vector = 16;  // bytes; rows of at least that are moved where they are

// The length of about equal parts of an axis, each at most `most`, which is at least a vector of
// bytes; where there are several, they are whole vectors of them.
std::size_t part_of(std::size_t length, std::size_t most) noexcept {
    if (length <= most) return length;
    most -= most % vector;
    const std::size_t parts = (length + most - 1) / most;
    return ((length + parts - 1) / parts + vector - 1) / vector * vector;
}

void copy_rows(const char* from, std::ptrdiff_t from_row, char* to, std::ptrdiff_t to_row,
               std::size_t rows, std::size_t bytes) noexcept {
    const auto size = static_cast<std::ptrdiff_t>(bytes);
    if (from_row == size && to_row == size) {
        std::memcpy(to, from, rows * bytes);
        return;
    }
    for (; rows > 0; --rows, from += from_row, to += to_row) std::memcpy(to, from, bytes);
}

}  // namespace

Tiles::Tiles(const Walk& walk, const Stage* stages, std::size_t count) noexcept
    : walk_(walk),
      stages_(stages),
      stage_count_(count),
      staged_(staged_elements(stages, count)),
      in_size_(stages[0].in_size),
      out_size_(stages[count - 1].out_size),
      narrow_(std::min(in_size_, out_size_)) {
    constexpr std::size_t a_line = 64;  // elements: enough to write, or read, whole cache lines
    const std::size_t room = bytes / narrow_;
    const std::size_t along = walk.along().length, across = walk.across().length;
    if (along < 2 * a_line) {
        along_ = along;
        across_ = part_of(across, std::min(staged_, room / along));
    } else {
        across_ = part_of(across, 4 * a_line);
        along_ = part_of(along, std::min(staged_, std::max(a_line, room / across_)));
        across_ = std::min(across_, room / along_);
    }
    along_tiles_ = (along + along_ - 1) / along_;
    across_tiles_ = (across + across_ - 1) / across_;
    walk.for_others([&](const WalkAxis& axis) { count_ *= axis.length; });
    assert(along_ * across_ * narrow_ <= bytes);
}

void Tiles::execute(std::size_t tile) noexcept {
    const std::size_t i = tile % along_tiles_ * along_;
    tile /= along_tiles_;
    const std::size_t j = tile % across_tiles_ * across_;
    tile /= across_tiles_;
    const char* in = walk_.in.data();
    char* out = walk_.out.data();
    std::ptrdiff_t parameter = 0;
    const auto go_to = [&](const WalkAxis& axis, std::size_t index) {
        const auto n = static_cast<std::ptrdiff_t>(index);
        in += n * axis.in;
        out += n * axis.out;
        parameter += n * axis.parameter;
    };
    go_to(walk_.along(), i);
    go_to(walk_.across(), j);
    walk_.for_others([&](const WalkAxis& axis) {
        go_to(axis, tile % axis.length);
        tile /= axis.length;
    });
    const std::size_t along = std::min(along_, walk_.along().length - i);
    const std::size_t across = std::min(across_, walk_.across().length - j);
    if (walk_.transposes_input())
        read_transposed(in, out, along, across, static_cast<std::size_t>(parameter));
    else
        write_transposed(in, out, along, across, static_cast<std::size_t>(parameter));
}

void Tiles::read_transposed(const char* in, char* out, std::size_t along, std::size_t across,
                            std::size_t parameter) noexcept {
    const auto row = static_cast<std::ptrdiff_t>(along * in_size_);
    std::ptrdiff_t from_row = walk_.along().in;
    if (across * in_size_ < vector) {  // short rows, which the loop reads beyond
        const std::size_t length = across * in_size_;
        copy_rows(in, from_row, rows_, static_cast<std::ptrdiff_t>(length), along, length);
        in = rows_;
        from_row = static_cast<std::ptrdiff_t>(length);
    }
    transpose(in, from_row, along, tile_, row, across);
    run_rows(tile_, row, out, walk_.across().out, across, along, parameter,
             walk_.across().parameter, walk_.along().parameter != 0);
}

void Tiles::write_transposed(const char* in, char* out, std::size_t along, std::size_t across,
                             std::size_t parameter) noexcept {
    const auto row = static_cast<std::ptrdiff_t>(across * out_size_);
    run_rows(in, walk_.along().in, tile_, row, along, across, parameter, walk_.along().parameter,
             walk_.across().parameter != 0);
    const std::size_t length = along * out_size_;
    const bool beyond = length < vector && along > 4;  // no more than 4 rows are interleaved
    const auto packed = static_cast<std::ptrdiff_t>(length);
    if (!beyond) return transpose(tile_, row, along, out, walk_.across().out, across);
    transpose(tile_, row, along, rows_, packed, across);
    copy_rows(rows_, packed, out, walk_.across().out, across, length);
}

void Tiles::transpose(const char* from, std::ptrdiff_t from_row, std::size_t rows, char* to,
                      std::ptrdiff_t to_row, std::size_t cols) const noexcept {
    Job job;
    job.in = from;
    job.out = to;
    job.rows = rows;
    job.cols = cols;
    job.low = from_row;
    job.high = to_row;
    walk_.transpose()(job);
}

// Rows that lie side by side in both go through the stages together.
void Tiles::run_rows(const char* in, std::ptrdiff_t in_row, char* out, std::ptrdiff_t out_row,
                     std::size_t rows, std::size_t cols, std::size_t parameter,
                     std::ptrdiff_t row_parameter, bool per_column) noexcept {
    const bool adjacent = in_row == static_cast<std::ptrdiff_t>(cols * in_size_) &&
                          out_row == static_cast<std::ptrdiff_t>(cols * out_size_);
    const bool together = adjacent && row_parameter == (per_column ? 0 : 1);
    const bool one = adjacent && row_parameter == 0 && !per_column;
    std::size_t at_once = 1;
    if (together || one) at_once = std::max<std::size_t>(1, staged_ / cols);
    for (std::size_t r = 0; r < rows; r += at_once) {
        const std::size_t n = std::min(at_once, rows - r);
        const auto skipped = static_cast<std::ptrdiff_t>(r);
        Tile tile{0, n, cols, parameter + r * static_cast<std::size_t>(row_parameter), per_column};
        if (one) tile = {0, 1, n * cols, parameter, false};
        run_stages(stages_, stage_count_, tile, in + skipped * in_row, out + skipped * out_row,
                   buffers_);
    }
}

}  // namespace zeropoint::core
