// Arrays in any layout of memory, and the order in which a call walks over them.
#pragma once

#include <algorithm>
#include <cstddef>

#include "types.h"
#include "zeropoint/core.hpp"

namespace zeropoint::core {

/// One of the arrays of a call; no first element: the call writes none.
struct Array {
    char* first = nullptr;
    Memory memory{};
    std::size_t size = 0;  // bytes an element
};

/// What moves elements of so many bytes.
Tag bytes_as_tag(std::size_t size) noexcept;

/// An axis of a walk: bytes from element to element of input and output, and parameters.
struct WalkAxis {
    std::size_t length;
    std::ptrdiff_t in, out, parameter;
};

/// One array in the order of a walk, as the rows of its memory.  Without initial values, as Stage.
class Side {
public:
    void open(const Array&, char* first, const WalkAxis* axes, std::size_t count,
              std::ptrdiff_t WalkAxis::*step, Kernel move) noexcept;
    bool plain() const noexcept { return plain_; }
    char* data() const noexcept { return data_; }
    /// Elements of a row of the memory, which have one step.
    std::size_t row() const noexcept { return length_[0]; }
    /// Elements that lie side by side, aligned, wherever a row of them starts.
    std::size_t run() const noexcept;
    /// Element `element` of the walk, and how many lie behind it in its row.
    char* at(std::size_t element, std::size_t* left) const noexcept;
    /// Moves n elements from `element` on to `beside`, or from there to where they belong.
    void move(std::size_t element, std::size_t n, void* beside, bool scatters) const noexcept;

private:
    char* data_;
    Kernel move_;
    std::size_t size_, count_;
    bool aligned_, plain_;
    std::size_t length_[Memory::most_dimensions + 1];  // the innermost first
    std::ptrdiff_t step_[Memory::most_dimensions + 1];
};

/// An array in C order, whatever order its memory has.
Side in_c_order(const Array&, const Table&) noexcept;

/// The order in which a call goes over its arrays.  That of the output's memory, or of the input's
/// where there is no output; so axes that are only permuted, in both in the same way, cost nothing.
/// Blocks keep the order of their indices.
class Walk {
public:
    Walk(const Layout&, const Array& in, const Array& out, const Table&) noexcept;
    /// That of the parameters, in the order of the walk.
    const Layout& layout() const noexcept { return layout_; }
    bool plain() const noexcept { return in.plain() && out.plain(); }

    /// Elements that share one parameter as runs; 0 where parameters go by the column.
    std::size_t run_length() const noexcept;

    /// Whether the input's memory has another order than the output's, and is best read in tiles
    /// of two axes: `across`, side by side in the input, and the first, so in the output.
    bool transposes() const noexcept { return across_ != 0; }
    const WalkAxis& along() const noexcept { return axes_[0]; }
    const WalkAxis& across() const noexcept { return axes_[across_]; }
    /// Else: whether the rows of one of them are so short that elements are moved to L1, and back.
    bool moves() const noexcept { return std::min(in.run(), out.run()) < in_place; }
    /// Whether results are written to where they stay, and not moved there afterwards.
    bool writes_in_place() const noexcept {
        return transposes() ? transposes_input() : out.plain() || !moves();
    }
    /// Calls f(axis) for the other axes.
    template <class F>
    void for_others(const F& f) const {
        for (std::size_t k = 1; k < count_; ++k)
            if (k != across_) f(axes_[k]);
    }
    /// Whether input (or else output) is moved before (or after) the other kernels: what is narrow.
    bool transposes_input() const noexcept { return in_size_ <= out_size_; }
    Kernel transpose() const noexcept { return transpose_; }

    Side in, out;

private:
    static constexpr std::size_t in_place =
        256;  // elements of a row that pay for a loop of its own
    void find_tiles(const Array& in, const Array& out, const Table&) noexcept;
    Layout layout_;
    std::size_t in_size_, out_size_, count_ = 0, across_ = 0;
    bool has_parameters_;  // whether the axes tell those of every element
    Kernel transpose_ = nullptr;
    WalkAxis axes_[Memory::most_dimensions + 1];  // the innermost first
};

}  // namespace zeropoint::core
