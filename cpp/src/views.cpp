#include "views.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "layout.h"

namespace zeropoint::core {

namespace {

constexpr std::size_t worth_tiles = 64;  // elements of the two axes of a transposition

std::size_t magnitude(std::ptrdiff_t step) noexcept {
    return static_cast<std::size_t>(step < 0 ? -step : step);
}

bool is_aligned(const char* first, const WalkAxis* axes, std::size_t count,
                std::ptrdiff_t WalkAxis::*step, const Array& array) noexcept {
    std::size_t bits = reinterpret_cast<std::uintptr_t>(first);
    for (std::size_t k = 0; k < count; ++k) bits |= magnitude(axes[k].*step);
    return array.memory.swapped || bits % array.size == 0;  // swap_bytes takes any address
}

// Whether two neighbours among the axes are one: `a` inside of `b`.
bool are_one(const WalkAxis& a, const WalkAxis& b) noexcept {
    const auto n = static_cast<std::ptrdiff_t>(a.length);
    return b.in == a.in * n && b.out == a.out * n && b.parameter == a.parameter * n;
}

}  // namespace

Tag bytes_as_tag(std::size_t size) noexcept {
    return size == 1 ? Tag::u8 : size == 2 ? Tag::u16 : size == 4 ? Tag::u32 : Tag::u64;
}

// ---- one array -------------------------------------------------------------------------------

void Side::open(const Array& array, char* first, const WalkAxis* axes, std::size_t count,
                std::ptrdiff_t WalkAxis::*step, Kernel move) noexcept {
    data_ = first;
    move_ = move;
    size_ = array.size;
    count_ = 0;
    plain_ = aligned_ = true;
    if (!first) return;
    aligned_ = is_aligned(first, axes, count, step, array);
    for (std::size_t k = 0; k < count; ++k) {
        const std::ptrdiff_t bytes = axes[k].*step;
        if (count_ &&
            bytes == step_[count_ - 1] * static_cast<std::ptrdiff_t>(length_[count_ - 1])) {
            length_[count_ - 1] *= axes[k].length;
            continue;
        }
        length_[count_] = axes[k].length;
        step_[count_++] = bytes;
    }
    if (count_ == 0) {  // one element
        length_[0] = count_ = 1;
        step_[0] = static_cast<std::ptrdiff_t>(size_);
    }
    plain_ = aligned_ && count_ == 1 && step_[0] == static_cast<std::ptrdiff_t>(size_);
}

std::size_t Side::run() const noexcept {
    if (plain_) return SIZE_MAX;
    return aligned_ && step_[0] == static_cast<std::ptrdiff_t>(size_) ? length_[0] : 0;
}

char* Side::at(std::size_t element, std::size_t* left) const noexcept {
    char* found = data_;
    if (plain_) {
        *left = SIZE_MAX;
        return found ? found + element * size_ : nullptr;
    }
    *left = length_[0] - element % length_[0];
    for (std::size_t k = 0; k < count_; element /= length_[k++])
        found += static_cast<std::ptrdiff_t>(element % length_[k]) * step_[k];
    return found;
}

void Side::move(std::size_t element, std::size_t n, void* beside, bool scatters) const noexcept {
    char* buffer = static_cast<char*>(beside);
    std::size_t index[Memory::most_dimensions + 1];
    char* row = data_;  // where the row of the element begins
    for (std::size_t k = 0; k < count_; element /= length_[k++]) {
        index[k] = element % length_[k];
        if (k) row += static_cast<std::ptrdiff_t>(index[k]) * step_[k];
    }
    while (n) {
        std::size_t rows = 1, cols = std::min(n, length_[0] - index[0]);
        if (count_ > 1 && cols == length_[0])
            rows = std::min(n / length_[0], length_[1] - index[1]);
        Job job;
        char* there = row + static_cast<std::ptrdiff_t>(index[0]) * step_[0];
        job.in = scatters ? buffer : there;
        job.out = scatters ? there : buffer;
        job.rows = rows;
        job.cols = cols;
        job.low = step_[0];
        job.high = count_ > 1 ? step_[1] : 0;
        move_(job);
        buffer += rows * cols * size_;
        n -= rows * cols;
        index[0] = 0;
        if (count_ == 1) continue;
        row += static_cast<std::ptrdiff_t>(rows) * step_[1];
        index[1] += rows;
        for (std::size_t k = 1; k + 1 < count_ && index[k] == length_[k]; ++k) {
            row += step_[k + 1] - static_cast<std::ptrdiff_t>(length_[k]) * step_[k];
            index[k] = 0;
            ++index[k + 1];
        }
    }
}

Side in_c_order(const Array& array, const Table& table) noexcept {
    WalkAxis axes[Memory::most_dimensions + 1];  // the innermost first
    std::size_t count = 0;
    const Memory& memory = array.memory;
    for (std::size_t k = memory.dimensions; k-- > 0;)
        if (memory.shape[k] != 1)
            axes[count++] = {static_cast<std::size_t>(memory.shape[k]), memory.strides[k], 0, 0};
    const Tag bytes = bytes_as_tag(array.size);
    Side side;
    side.open(array, array.first, axes, count, &WalkAxis::in, table.at(Op::gather, bytes, bytes));
    return side;
}

// ---- the walk --------------------------------------------------------------------------------

Walk::Walk(const Layout& layout, const Array& x, const Array& y, const Table& table) noexcept
    : layout_(layout), in_size_(x.size), out_size_(y.size) {
    const Memory& shaped = x.memory.strides ? x.memory : y.memory;
    const bool by_block = layout.kind == Layout::Kind::block;
    has_parameters_ = !by_block || layout.axis % layout.block == 0;
    std::ptrdiff_t in_step = static_cast<std::ptrdiff_t>(x.size);  // of plain arrays
    std::ptrdiff_t out_step = static_cast<std::ptrdiff_t>(y.size), parameters = 1;
    const auto add = [&](std::size_t length, std::ptrdiff_t in_bytes, std::ptrdiff_t out_bytes,
                         std::ptrdiff_t parameter) {
        if (length != 1) axes_[count_++] = {length, in_bytes, out_bytes, parameter};
    };
    for (std::size_t k = shaped.dimensions; k-- > 0;) {
        const auto length = static_cast<std::size_t>(shaped.shape[k]);
        const auto n = static_cast<std::ptrdiff_t>(length);
        const std::ptrdiff_t in_bytes = x.memory.strides ? x.memory.strides[k] : in_step;
        const std::ptrdiff_t out_bytes = y.memory.strides ? y.memory.strides[k] : out_step;
        in_step *= n;
        out_step *= n;
        const bool is_axis = layout.kind != Layout::Kind::tensor && k == layout.dimension;
        if (by_block && is_axis && has_parameters_) {
            const auto inside = static_cast<std::ptrdiff_t>(layout.block);
            add(layout.block, in_bytes, out_bytes, 0);
            add(layout.blocks(), in_bytes * inside, out_bytes * inside, parameters);
            parameters *= static_cast<std::ptrdiff_t>(layout.blocks());
        } else {
            add(length, in_bytes, out_bytes, by_block ? parameters : is_axis ? 1 : 0);
            if (by_block) parameters *= n;
        }
    }

    char *in_first = x.first, *out_first = y.first;
    if (!by_block) {
        for (std::size_t k = 0; k < count_; ++k) {  // backwards in both is forwards
            WalkAxis& axis = axes_[k];
            if (axis.parameter || axis.in >= 0 || (y.first && axis.out >= 0)) continue;
            const auto last = static_cast<std::ptrdiff_t>(axis.length - 1);
            in_first += last * axis.in;
            axis.in = -axis.in;
            if (!y.first) continue;
            out_first += last * axis.out;
            axis.out = -axis.out;
        }
        const auto step = y.first ? &WalkAxis::out : &WalkAxis::in;
        for (std::size_t k = 1; k < count_; ++k)  // few, and mostly in order
            for (std::size_t j = k;
                 j > 0 && magnitude(axes_[j].*step) < magnitude(axes_[j - 1].*step); --j)
                std::swap(axes_[j], axes_[j - 1]);
    }
    std::size_t merged = 0;
    for (std::size_t k = 0; k < count_; ++k) {
        if (merged && are_one(axes_[merged - 1], axes_[k]))
            axes_[merged - 1].length *= axes_[k].length;
        else
            axes_[merged++] = axes_[k];
    }
    count_ = merged;

    if (layout.kind == Layout::Kind::channel) {
        layout_ = Layout::tensor(1);
        for (std::size_t k = 0; k < count_; ++k) {
            if (axes_[k].parameter) {
                layout_.kind = Layout::Kind::channel;
                layout_.axis = axes_[k].length;
            } else {
                (layout_.kind == Layout::Kind::channel ? layout_.outer : layout_.inner) *=
                    axes_[k].length;
            }
        }
    }
    const Tag as_in = bytes_as_tag(x.size), as_out = bytes_as_tag(y.size);
    in.open(x, in_first, axes_, count_, &WalkAxis::in, table.at(Op::gather, as_in, as_in));
    out.open(y, out_first, axes_, count_, &WalkAxis::out, table.at(Op::scatter, as_out, as_out));
    if (!plain() && y.first) find_tiles(x, y, table);
}

std::size_t Walk::run_length() const noexcept {
    if (!transposes()) return core::run_length(layout_);
    const WalkAxis& inside = transposes_input() ? along() : across();
    return inside.parameter ? 0 : layout_.size() / layout_.parameters();
}

void Walk::find_tiles(const Array& x, const Array& y, const Table& table) noexcept {
    const auto in_bytes = static_cast<std::ptrdiff_t>(x.size);
    const auto out_bytes = static_cast<std::ptrdiff_t>(y.size);
    if (!has_parameters_ || count_ < 2 || axes_[0].out != out_bytes || axes_[0].in == in_bytes ||
        !is_aligned(in.data(), axes_, count_, &WalkAxis::in, x) ||
        !is_aligned(out.data(), axes_, count_, &WalkAxis::out, y))
        return;
    for (std::size_t k = 1; k < count_; ++k) {
        if (axes_[k].in != in_bytes || axes_[k].length * axes_[0].length < worth_tiles) continue;
        const std::ptrdiff_t inside = axes_[transposes_input() ? 0 : k].parameter;
        if (inside != 0 && inside != 1) return;  // the loops take neighbours
        across_ = k;
        const Tag narrow = bytes_as_tag(std::min(x.size, y.size));
        transpose_ = table.at(Op::transpose, narrow, narrow);
        return;
    }
}

}  // namespace zeropoint::core
